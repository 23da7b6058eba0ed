"""Run one obliging agent: python -m quarterdeck.crew PORT LOG [STORE]. With a store its tasks survive kill -9."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from a2a.server.tasks import TaskStore
from a2a.types.a2a_pb2 import ListTasksResponse, Task
from google.protobuf.json_format import MessageToDict, ParseDict

from quarterdeck.crew.obliging import Crew, app, card
from quarterdeck.crew.ports import free_socket


class FileStore(TaskStore):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._tasks: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    async def save(self, task: Task, context: Any) -> None:
        self._tasks[task.id] = MessageToDict(task)
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self._tasks))
        temporary.replace(self._path)

    async def get(self, task_id: str, context: Any) -> Task | None:
        known = self._tasks.get(task_id)
        return ParseDict(known, Task()) if known else None

    async def list(self, params: Any, context: Any) -> ListTasksResponse:
        tasks = [ParseDict(one, Task()) for one in self._tasks.values()]
        return ListTasksResponse(tasks=tasks, page_size=len(tasks), total_size=len(tasks))

    async def delete(self, task_id: str, context: Any) -> None:
        self._tasks.pop(task_id, None)


def main() -> None:
    port, log = int(sys.argv[1]), Path(sys.argv[2])
    store = FileStore(Path(sys.argv[3])) if len(sys.argv) > 3 else None
    crew = Crew(log)
    listener = free_socket(port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    config = uvicorn.Config(app(crew, card(url), store=store), log_level="critical")
    print(url, flush=True)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


main()
