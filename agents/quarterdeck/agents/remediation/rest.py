"""The plain REST face: POST /agent/diagnose, GET /agent/report/{id}, and Alertmanager's POST /agent/alerts."""

from __future__ import annotations

import asyncio
import functools
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from quarterdeck.agents.remediation import alerts
from quarterdeck.agents.remediation.card import asked
from quarterdeck.agents.remediation.flow import NAME
from quarterdeck.agents.remediation.reports import PAGE, Reports
from quarterdeck.agents.runtime import body, tasks
from quarterdeck.agents.runtime.app import Runtime
from quarterdeck.agents.runtime.handler import Engine
from quarterdeck.keel.errors import Away, Refusal
from quarterdeck.keel.flows import Flow
from quarterdeck.keel.identity import Caller

LONGEST_WAIT_S = 300.0
ASKED = ("text", "service", "alert", "act")
KNOWN = frozenset((*ASKED, "wait_s", "id"))
Face = Callable[[Request], Awaitable[Response]]


def routes(runtime: Runtime) -> Iterable[BaseRoute]:
    """The routes, over the runtime's engine and reports."""
    store, known = Reports.of(runtime.settings), alerts.Alerts(runtime.settings.home)

    def engine() -> Engine:
        assert runtime.engine is not None
        return runtime.engine

    @_answering
    async def diagnose(request: Request) -> Response:
        """`{"service"?, "text"?, "act"?, "alert"?, "wait_s"?, "id"?}` → the task, and its report once there is one."""
        sent = await _json(request)
        caller: Caller = request.state.caller
        given = asked(str(sent.get("text") or ""), sent)
        own = str(sent.get("id") or uuid.uuid4())
        context = f"rest-{own}"
        id = f"{tasks.beginning(caller.id, context)}{tasks.mark(own)}"
        message = {"messageId": own[:200], "role": "ROLE_USER", "parts": [{"text": given["text"] or "diagnose"}]}
        argument = {**given, "message": message, "context": context, "caller": caller.id}
        await engine().start(NAME, {**argument, "scopes": sorted(caller.scopes)}, id=id)
        begun = (await engine().status(id)).argument
        if {key: begun.get(key) for key in ASKED} != {key: given.get(key) for key in ASKED}:
            raise Refusal("Another request was already sent under this id. Send this one under a new id.")
        flow = await _wait(engine(), id, sent.get("wait_s", 0))
        return JSONResponse(_said(flow), 200 if flow.ended else 202, {"location": f"/agent/report/{id}"})

    @_answering
    async def report(request: Request) -> Response:
        """A report by its own id or its task's; Markdown when that is asked for, JSON otherwise."""
        id: str = request.path_params["id"]
        caller: Caller = request.state.caller
        if id.startswith(tasks.beginning(caller.id)):
            try:
                flow = await engine().status(id)
                if not flow.ended or not (flow.result or {}).get("report"):
                    return JSONResponse(_said(flow), 200 if flow.ended else 202)
                id = (flow.result or {})["report"]
            except Away:
                raise
            except Refusal:
                pass  # its flow is forgotten; its report may be there
        found = (await asyncio.to_thread(store.get, id)).cleaned()
        if "text/markdown" in request.headers.get("accept", ""):
            return PlainTextResponse(found.markdown_text(), media_type="text/markdown")
        return Response(found.json_text(), media_type="application/json")

    @_answering
    async def listed(request: Request) -> Response:
        query = request.query_params
        limit, offset = _whole(query.get("limit", "50")), _whole(query.get("offset", "0"))
        chosen = (min(limit, PAGE), offset, query.get("service", ""), query.get("kind", ""))
        if words := query.get("q"):
            rows = await asyncio.to_thread(store.search, words, *chosen)
        else:
            rows = await asyncio.to_thread(store.list, *chosen)
        return JSONResponse({"reports": [asdict(row) for row in rows]})

    @_answering
    async def alerted(request: Request) -> Response:
        notification = alerts.parse(await request.body())
        caller: Caller = request.state.caller
        ended = set()
        prefix = tasks.beginning(caller.id, "alerts")
        if task := await asyncio.to_thread(known.running, notification, prefix):
            with suppress(Refusal):
                if (await engine().status(task)).ended:
                    ended.add(task)
        taken = await asyncio.to_thread(known.take, notification, prefix, ended)
        if not taken.task:
            return JSONResponse({"task": None, "new": 0, "said": "Nothing is firing."})
        message = {"messageId": taken.task, "role": "ROLE_USER", "parts": [{"text": taken.argument["text"]}]}
        argument = {**taken.argument, "message": message, "context": "alerts", "caller": caller.id}
        await engine().start(NAME, {**argument, "scopes": sorted(caller.scopes)}, id=taken.task)
        return JSONResponse({"task": taken.task, "new": taken.fresh}, 202)

    return [
        Route("/agent/diagnose", diagnose, methods=["POST"]),
        Route("/agent/report/{id}", report, methods=["GET"]),
        Route("/agent/reports", listed, methods=["GET"]),
        Route("/agent/alerts", alerted, methods=["POST"]),
    ]


def _answering(face: Face) -> Face:
    """A caller's mistake is an answer in a sentence."""

    @functools.wraps(face)
    async def answer(request: Request) -> Response:
        try:
            return await face(request)
        except Away as error:  # Alertmanager sends again after such an answer, and after no other
            return JSONResponse({"error": str(error)}, 503, {"retry-after": "5"})
        except Refusal as error:
            status = 404 if str(error).startswith("There is no") else 400
            return JSONResponse({"error": str(error)}, status)

    return answer


async def _json(request: Request) -> dict[str, Any]:
    raw = await request.body() or b"{}"
    body.check(raw)
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise Refusal('The body must be an object, for example {"service": "blog-service"}.')
    if strange := sorted(set(found) - KNOWN):
        raise Refusal(f"There is no field {strange[0][:60]!r}. The fields are: {', '.join(sorted(KNOWN))}.")
    return found


async def _wait(engine: Engine, id: str, wait_s: Any) -> Flow:
    """The task after it ended, asked something, or `wait_s` are over."""
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 <= wait_s <= LONGEST_WAIT_S:
        raise Refusal(f"`wait_s` must be a number from 0 to {LONGEST_WAIT_S:g}.")
    if wait_s:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                async for item in engine.watch(id):
                    if item.kind in ("question", "end"):
                        break
    return await engine.status(id)


def _said(flow: Flow) -> dict[str, Any]:
    found: dict[str, Any] = {"id": flow.id, "state": flow.state}
    if flow.question is not None:
        found["question"] = {"text": flow.question.text, **flow.question.data}
    if flow.result:
        found |= {"outcome": flow.result.get("outcome"), "report": flow.result.get("report")}
        found["text"] = flow.result.get("text")
    if flow.error:
        found["error"] = flow.error
    return found


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise Refusal("`limit` and `offset` must be whole numbers.")
    return int(text)
