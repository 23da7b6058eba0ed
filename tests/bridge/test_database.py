"""The bridge's memory in PostgreSQL: a person's tasks are seen from every machine of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from quarterdeck.bridge import tasks
from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings

Start = Callable[..., Awaitable[Any]]


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    return result.structured_content


@pytest.fixture
def database(postgres: str, tmp_path: Path) -> str:
    """An empty database; what the bridge wrote stays in it, as between two machines."""
    name = f"bridge_{abs(hash(str(tmp_path)))}"
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return f"{postgres}/{name}"


def machine(settings: Settings, home: Path) -> Client[Any]:
    """The bridge of another machine: its own home, the same database."""
    return Client(create_server(settings.model_copy(update={"home": home})))


async def test_a_task_begun_on_one_machine_is_gone_on_with_on_another(
    ship: Start, database: str, tmp_path: Path
) -> None:
    started = await ship(database=database)
    async with machine(started.settings, tmp_path / "one") as one, machine(started.settings, tmp_path / "two") as two:
        view = await call(one, "delegate", agent="crew", text="ask", key="monday")
        assert (await call(two, "delegate", agent="crew", text="ask", key="monday"))["task"] == view["task"]
        (row,) = (await call(two, "list_tasks", state="input_required"))["tasks"]
        done = await call(two, "answer_task", task=row["task"], text="blue")
        assert done["output"] == "answered: blue"
        assert (await call(one, "check_task", task=view["task"]))["state"] == "completed"
        page = await call(one, "read_artifact", task=view["task"])
        assert page["text_of_it"] == "answered: blue"
    assert [message["parts"][0]["text"] for message in started.crew.received] == ["ask", "blue"]
    files = [tmp_path / home / "bridge.db" for home in ("one", "two")]
    assert not any(file.exists() for file in files), "nothing is kept in a file"


async def test_two_machines_answer_one_question_once(ship: Start, database: str, tmp_path: Path) -> None:
    started = await ship(database=database)
    async with machine(started.settings, tmp_path / "one") as one, machine(started.settings, tmp_path / "two") as two:
        view = await call(one, "delegate", agent="crew", text="ask")
        arguments = {"task": view["task"], "text": "me"}
        results = await asyncio.gather(
            *(client.call_tool("answer_task", arguments, raise_on_error=False) for client in (one, two))
        )
        assert any(not result.is_error for result in results)
        assert (await call(two, "wait_for_task", task=view["task"]))["state"] == "completed"
    assert len(started.crew.received) == 2


async def test_a_hundred_tasks_at_once_and_as_many_with_one_key(ship: Start, database: str, tmp_path: Path) -> None:
    started = await ship(database=database)
    async with machine(started.settings, tmp_path / "one") as one, machine(started.settings, tmp_path / "two") as two:
        texts = [f"piece {n}" for n in range(100)]
        view = await call(one, "delegate_many", agents=["crew"], texts=texts, wait_s=45)
        assert "100 completed" in view["summary"]
        same = [call(client, "delegate", agent="crew", text="once", key="k") for client in (one, two) * 10]
        assert len({view["task"] for view in await asyncio.gather(*same)}) == 1
    assert len(started.crew.received) == 101


async def test_a_database_that_is_away_is_a_sentence_and_nothing_is_sent_until_it_is_back(
    ship: Start, database: str, tmp_path: Path
) -> None:
    started = await ship(database=database)
    async with machine(started.settings, tmp_path / "one") as client:
        await call(client, "delegate", agent="crew", text="hello")
        with psycopg.connect(database.rpartition("/")[0] + "/postgres", autocommit=True) as db:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            assert db.execute(others, (database.rpartition("/")[2],)).fetchall(), "the bridge is connected"
        view = await call(client, "delegate", agent="crew", text="again")  # a broken connection is opened anew
        assert view["state"] == "completed"
    nowhere = {"agents": {"crew": started.url}, "database": "postgresql://keel:hunter2secret@127.0.0.1:1/none"}
    away = Settings.model_validate({"home": tmp_path, "bridge": nowhere})
    async with machine(away, tmp_path / "two") as client:
        with pytest.raises(ToolError, match="bridge\\.database") as told:
            await client.call_tool("delegate", {"agent": "crew", "text": "x"})
        assert "hunter2secret" not in str(told.value)
    assert len(started.crew.received) == 2


async def test_a_task_queued_on_another_machine_is_only_given_up_after_a_day(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quarterdeck.keel.identity import local_user

    agents = {"crew": "http://127.0.0.1:9"}
    settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": agents, "database": database}})
    memory = tasks.Memory.of(settings)
    caller, place = f"local:{local_user()}", "process 1 of another-machine"
    await memory.begin(tasks.Record("t-queued", caller, "crew", "x", place, "m1", state="queued"))
    memory.close()
    async with Client(create_server(settings)) as client:
        assert (await call(client, "check_task", task="t-queued"))["state"] == "queued"
        monkeypatch.setattr(tasks, "STALE_S", 0.0)
        assert (await call(client, "check_task", task="t-queued"))["state"] == "failed"
