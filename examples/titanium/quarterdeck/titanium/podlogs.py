"""`GET …/pods/NAME/log`, with everything `kubectl logs` asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from quarterdeck.titanium.kubelet import Kubelet, Log, Run
from quarterdeck.titanium.status import bad_request
from quarterdeck.titanium.store import Object

FOLLOW_S = 600.0


def answer(pod: Object, kubelet: Kubelet, query: Any) -> Response:
    run = _run(pod, kubelet, query.get("container") or "")
    if query.get("previous") in ("true", "1"):
        name = pod["metadata"]["name"]
        if run.previous is None and not (run.state == "backoff" and run.was_run):
            raise bad_request(f'previous terminated container "{run.name}" in pod "{name}" not found')
        log = run.log if run.state == "backoff" else run.previous
        return PlainTextResponse(_text(log or run.log, query))
    if not run.was_run:
        if run.reason in ("ErrImagePull", "ImagePullBackOff"):
            problem = "trying and failing to pull image"
        else:
            problem = f"waiting to start: {run.reason or 'ContainerCreating'}"
        words = f'container "{run.name}" in pod "{pod["metadata"]["name"]}" is {problem}'
        raise bad_request(words)
    if query.get("follow") in ("true", "1"):
        return StreamingResponse(_follow(run, query), media_type="text/plain")
    return PlainTextResponse(_text(run.log, query))


def _run(pod: Object, kubelet: Kubelet, container: str) -> Run:
    name = pod["metadata"]["name"]
    names = [c["name"] for c in pod["spec"].get("containers") or []]
    inits = [c["name"] for c in pod["spec"].get("initContainers") or []]
    if not container:
        if len(names) > 1:
            listed = " ".join(names)
            said = f"a container name must be specified for pod {name}, choose one of: [{listed}]"
            if inits:
                said += f" or one of the init containers: [{' '.join(inits)}]"
            raise bad_request(said)
        container = names[0]
    if container not in (*names, *inits):
        raise bad_request(f"container {container} is not valid for pod {name}")
    held = kubelet.held.get(pod["metadata"]["uid"])
    if held is None:
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {name} does not have a host assigned")
        return Run(container, {}, was_run=True)  # loaded from outside: it runs, and never said anything
    return next(run for run in held.runs if run.name == container)


def _text(log: Log, query: Any) -> str:
    lines = list(log)
    if (seconds := query.get("sinceSeconds")) is not None:
        edge = datetime.now(UTC) - timedelta(seconds=int(seconds))
        lines = [line for line in lines if line[0] >= edge]
    if since := query.get("sinceTime"):
        edge = datetime.fromisoformat(since)
        lines = [line for line in lines if line[0] >= edge]
    if (tail := query.get("tailLines")) is not None:
        lines = lines[-int(tail) :] if int(tail) > 0 else []
    stamped = query.get("timestamps") in ("true", "1")
    text = "".join(_line(line, stamped) for line in lines)
    if (limit := query.get("limitBytes")) is not None:
        text = text.encode()[: int(limit)].decode("utf-8", "ignore")
    return text


def _line(line: tuple[datetime, str], stamped: bool) -> str:
    if not stamped:
        return f"{line[1]}\n"
    return f"{line[0].strftime('%Y-%m-%dT%H:%M:%S.%f')}000Z {line[1]}\n"


async def _follow(run: Run, query: Any) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    ends = loop.time() + FOLLOW_S
    log = run.log
    yield _text(log, query).encode()
    last = log[-1] if log else None
    stamped = query.get("timestamps") in ("true", "1")
    while loop.time() < ends and run.log is log:
        await asyncio.sleep(0.1)
        newest = log[-1] if log else None
        if newest is not last:
            lines = list(log)
            start = next((i for i in range(len(lines) - 1, -1, -1) if lines[i] is last), -1)
            yield "".join(_line(line, stamped) for line in lines[start + 1 :]).encode()
            last = newest
        elif run.state != "running":
            return
