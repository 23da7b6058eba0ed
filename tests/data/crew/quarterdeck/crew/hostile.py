"""Agents that break every rule, one way each. A card is served for all of them unless the card is what is wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WELL_KNOWN = "/.well-known/agent-card.json"


def card(url: str, *, streaming: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "name": "hostile",
        "description": "x",
        "version": "1",
        "capabilities": {"streaming": streaming},
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "x", "name": "x", "description": "x", "tags": ["x"]}],
        **more,
    }


def status(task: str = "r1", state: str = "TASK_STATE_WORKING", text: str = "more") -> dict[str, Any]:
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    return {"statusUpdate": {"taskId": task, "contextId": "c1", "status": {"state": state, "message": message}}}


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"jsonrpc": "2.0", "id": "1", "result": body}).encode() + b"\n\n"


def app(url: str, how: str) -> Starlette:
    """`how` names what is wrong with it."""

    async def show_card(request: Request) -> Response:
        match how:
            case "card of 10 MB":
                return JSONResponse(card(url, description="x" * 10_000_000))
            case "card in HTML":
                return Response("<html>hello</html>", media_type="text/html")
            case "card is a list":
                return JSONResponse([1, 2, 3])
            case "card is a wrong object":
                return JSONResponse({"name": {"a": 1}, "skills": "many"})
            case "card without an address":
                return JSONResponse(card(url, supportedInterfaces=[]))
            case "card is nested too deep":
                return Response("[" * 100_000, media_type="application/json")
            case "card redirects to metadata":
                return Response(status_code=302, headers={"location": "http://169.254.169.254/latest/"})
            case "card points to metadata":
                return JSONResponse(card("http://169.254.169.254/"))
            case "card points inside":
                return JSONResponse(card("http://127.0.0.1:9/"))
            case "card is not there":
                return Response("no", status_code=404)
            case "card asks for a credential":
                return Response("no", status_code=401)
            case "card drips":
                return StreamingResponse(drip(), media_type="application/json")
            case "card says a strange binding":
                interfaces = [{"url": url, "protocolBinding": "PIGEON", "protocolVersion": "1.0"}]
                return JSONResponse(card(url, supportedInterfaces=interfaces))
        return JSONResponse(card(url, streaming=not how.startswith("answer")))

    async def drip() -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async def talk(request: Request) -> Response:
        body = await request.json()
        if how.startswith("ever new streams"):
            if body["method"] == "GetTask":
                task = {"id": "r1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING"}}
                return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": task})
            return Response(more(), media_type="text/event-stream")
        if body["method"] in ("GetTask", "ListTasks", "SubscribeToTask"):
            return JSONResponse({"jsonrpc": "2.0", "id": "1", "error": {"code": -32001, "message": "Task not found"}})
        match how:
            case "endless stream":
                return StreamingResponse(endless(0.0), media_type="text/event-stream")
            case "endless line":
                return StreamingResponse(one_line(), media_type="text/event-stream")
            case "huge artifact":
                return StreamingResponse(huge(), media_type="text/event-stream")
            case "stream of HTML" | "answer in HTML":
                return Response("<html>hello</html>", media_type="text/html")
            case "wrong content type" | "answer of a wrong content type":
                return Response(event(status()), media_type="application/octet-stream")
            case "answer packed":
                return Response(b"x", media_type="application/json", headers={"content-encoding": "gzip"})
            case "redirect to metadata" | "answer redirects to metadata":
                return Response(status_code=307, headers={"location": "http://169.254.169.254/latest/"})
            case "answer drips":
                return StreamingResponse(drip(), media_type="application/json")
            case "answer of 3 MB":
                big = {
                    "task": {"id": "r1", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}},
                    "x": "y" * 3_000_000,
                }
                return JSONResponse({"jsonrpc": "2.0", "id": "1", "result": big})
            case "answer is a list":
                return JSONResponse([1, 2])
            case "answer is no task":
                return JSONResponse({"jsonrpc": "2.0", "id": "1", "result": {"task": {"id": 7, "status": "fine"}}})
            case "answer is an error with a secret":
                error = {"code": -32000, "message": "db password=hunter2hunter2 failed\x1b[2J"}
                return JSONResponse({"jsonrpc": "2.0", "id": "1", "error": error})
            case "another task":
                return Response(event(status("r1")) + event(status("r2")), media_type="text/event-stream")
            case "nonsense events":
                return Response(b"data: {nonsense\n\n", media_type="text/event-stream")
        raise AssertionError(how)

    def more() -> bytes:
        part = {"data": {"x": "x" * 300_000}} if how.endswith("data") else {"text": "x" * 300_000}
        artifact = {"artifactId": "a", "name": "huge", "parts": [part]}
        update = {"taskId": "r1", "contextId": "c1", "artifact": artifact, "append": True}
        task = {"id": "r1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING"}}
        return event({"task": task}) + event({"artifactUpdate": update})

    async def endless(pause: float) -> Any:
        while True:
            yield event(status()) * 50
            await asyncio.sleep(pause)

    async def one_line() -> Any:
        yield b"data: "
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    async def huge() -> Any:
        number = 0
        while True:
            part = {"text": "x" * 50_000}
            artifact = {"artifactId": "a", "name": "huge", "parts": [part]}
            body = {"taskId": "r1", "contextId": "c1", "artifact": artifact, "append": number > 0}
            yield event({"artifactUpdate": body})
            number += 1
            await asyncio.sleep(0)

    return Starlette(
        routes=[
            Route(WELL_KNOWN, show_card),
            Route("/.well-known/agent.json", show_card),
            Route("/", talk, methods=["POST"]),
        ]
    )
