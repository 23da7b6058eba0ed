"""One A2A call: a data part to an agent by JSON-RPC, its data artifact back. Over a socket or in this process."""

from __future__ import annotations

import asyncio
import contextvars
import json
from typing import Any

import httpx
from starlette.types import ASGIApp

from quarterdeck.agents.companies.errors import Faulty, Lost, Passing, Stopped, refusal
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

HERE = "http://in-this-process"
BESIDE = "http://127.0.0.1"
"""What a process beside this one is called: its socket says which it is."""
HEADERS = {"a2a-version": "1.0", "content-type": "application/json"}
ENDED_WELL, STOPPED = "TASK_STATE_COMPLETED", "TASK_STATE_CANCELED"
CONNECT_S = 5.0
SLACK_S = 5.0


class Inside(httpx.ASGITransport):
    """An app of this process. It runs apart from its caller's context, for it is no part of that flow."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        work = super().handle_async_request(request)
        return await asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def client(app: ASGIApp | str | None, token: str, connections: int) -> httpx.AsyncClient:
    """For an app of this process, for a process beside it by its socket's path, or for addresses."""
    headers = HEADERS | ({"authorization": f"Bearer {token}"} if token else {})
    limits = httpx.Limits(max_connections=connections + 10, max_keepalive_connections=connections + 10)
    transport: httpx.AsyncBaseTransport
    if app is None or isinstance(app, str):
        transport = httpx.AsyncHTTPTransport(limits=limits, retries=0, uds=app)
    else:
        transport = Inside(app)
    # How long a call may take is the pool's to say.
    return httpx.AsyncClient(transport=transport, headers=headers, timeout=httpx.Timeout(None, connect=CONNECT_S))


async def send(http: httpx.AsyncClient, url: str, message_id: str, text: str) -> dict[str, Any]:
    """What the agent at `url` makes of `text`, which is JSON. The same message id again does not start its work twice;
    it names the context too, so that the work can be found when nobody waits for it any more."""
    # As text it is not taken apart into protobuf values and put together again three times on its way.
    part = {"text": text, "mediaType": "application/json"}
    message = {"messageId": message_id, "contextId": message_id, "role": "ROLE_USER", "parts": [part]}
    said = await _rpc(http, url, "SendMessage", {"message": message, "configuration": {"historyLength": 0}})
    task: Any = said.get("task")
    try:
        status = task["status"]
        if status["state"] == ENDED_WELL:
            found = task["artifacts"][0]["parts"][0]["data"]
            if isinstance(found, dict):
                return {name: _whole(value) for name, value in found.items()}
            raise TypeError
        if status["state"] == STOPPED:
            raise Stopped(f"Try again: the agent at {url} was told to stop this work.")
        why = "\n".join(part.get("text", "") for part in status.get("message", {}).get("parts", ()))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Faulty(f"The agent at {url} answered with something else than a task and its data.") from None
    raise refusal(clip(redact(one_line(why)), 1000) or f"The agent ended with {status['state']}.")


def _whole(value: Any) -> Any:
    """A2A's data part knows numbers with a point only: 1999.0 was 1999 when it was sent."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return {name: _whole(one) for name, one in value.items()} if isinstance(value, dict) else value


async def stop(http: httpx.AsyncClient, url: str, context: str) -> None:
    """Cancel what still works on in a context: nobody waits for it any more."""
    found = await _rpc(http, url, "ListTasks", {"contextId": context, "pageSize": 10, "historyLength": 0})
    for task in found.get("tasks", ()):
        if task["status"]["state"] == "TASK_STATE_WORKING":
            await _rpc(http, url, "CancelTask", {"id": task["id"]})


async def well(http: httpx.AsyncClient, url: str) -> bool:
    """Whether the process that serves the agent at `url` says that it is well."""
    try:
        async with asyncio.timeout(CONNECT_S):
            answer = await http.get(f"{url.rsplit('/', 1)[0]}/healthz")
            return answer.status_code == 200 and answer.text.startswith("ok")
    except (httpx.HTTPError, TimeoutError):
        return False


async def _rpc(http: httpx.AsyncClient, url: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, ensure_ascii=False)
    try:
        answer = await http.post(f"{url}/", content=body.encode("utf-8", "replace"))
    except httpx.HTTPError as error:
        raise Lost(f"The agent at {url} cannot be reached ({type(error).__name__}).") from None
    if answer.status_code in (401, 403):
        raise Refusal(f"The agent at {url} refused the call ({answer.status_code}): check companies.token.")
    if answer.status_code == 429:
        raise Passing(f"Try again: the agent at {url} has too much to do.", _seconds(answer.headers.get("retry-after")))
    if answer.status_code >= 500:
        raise Faulty(f"The agent at {url} answered {answer.status_code}.")
    try:
        said = json.loads(answer.content)
        if "error" in said:
            problem = said["error"]
            text = problem["message"] if isinstance(problem, dict) else str(problem)
            code = problem.get("code") if isinstance(problem, dict) else None
        else:
            result = said["result"]
            if isinstance(result, dict):
                return result
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise Faulty(f"The agent at {url} answered with something else than JSON-RPC.") from None
    if code == -32603:
        raise Faulty(f"The agent at {url} broke off: {clip(redact(one_line(str(text))), 300)}")
    raise refusal(clip(redact(one_line(str(text))), 1000))


def _seconds(text: str | None) -> float:
    return min(float(text), 120.0) if text and text.isdigit() else 0.0
