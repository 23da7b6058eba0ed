"""A stand-in of the Messages API on loopback: it answers each request with the next step of a script.

Real HTTP and real server-sent events, so that the SDK's own retries, streams and errors run. What was asked is kept.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Say:
    """A text, streamed in pieces; or several, as JSON, when it is not a string."""

    what: Any
    stop: str = "end_turn"

    def blocks(self) -> list[dict[str, Any]]:
        return [{"type": "text", "text": self.what if isinstance(self.what, str) else json.dumps(self.what)}]


@dataclass(frozen=True)
class Use:
    """Calls of tools: (name, arguments) each. Arguments given as a string go out as they are, broken or not."""

    calls: tuple[tuple[str, Any], ...]
    stop: str = "tool_use"

    def blocks(self) -> list[dict[str, Any]]:
        return [{"type": "tool_use", "name": name, "input": arguments} for name, arguments in self.calls]


@dataclass(frozen=True)
class Fail:
    status: int
    type: str
    headers: dict[str, str] = field(default_factory=lambda: {"retry-after-ms": "5"})
    message: str = "no"


@dataclass(frozen=True)
class Cut:
    """The answer, until the connection breaks after so many events; `clean` ends it as if nothing were wrong."""

    answer: Say | Use
    after: int
    clean: bool = False


@dataclass(frozen=True)
class ErrorEvent:
    """An error in the middle of a stream that began well."""

    type: str


@dataclass(frozen=True)
class Raw:
    body: bytes
    content_type: str = "text/event-stream"


class Hang:
    """No answer until the server is closed."""


Answer = Say | Use | Fail | Cut | ErrorEvent | Raw | Hang
Step = Answer | Callable[[dict[str, Any]], Answer]


@dataclass
class Batch:
    """One batch that was sent: its questions, when, and what became of it."""

    id: str
    requests: list[dict[str, Any]]
    made: str
    results: list[dict[str, Any]] | None = None
    """One for each request, in no order; None until it has ended."""
    cancelled: str = ""
    """When somebody asked for that."""


@dataclass
class MessagesApi:
    url: str
    script: list[Step]
    """The last step is repeated when the script is at its end."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    batches: dict[str, Batch] = field(default_factory=dict)
    listed: int = 0
    """How often somebody wanted to know which batches there are."""
    bad_keys: set[str] = field(default_factory=set)
    lose_next_answer: bool = False
    """The next batch is taken, but whoever sent it never hears so."""
    hold: threading.Event = field(default_factory=threading.Event)
    """While set, batches are taken, but whoever sent one waits to hear so."""
    pending: threading.Event = field(default_factory=threading.Event)
    """While set, batches do not end, unless they are cancelled."""
    before_cancelled: int = 0
    """Requests of a cancelled batch that were answered before."""

    def end(self, batch: Batch) -> None:
        """Each question of a batch is answered once, by the script like any other, if it was not cancelled before."""
        if batch.results is None and (batch.cancelled or not self.pending.is_set()):
            kept = self.before_cancelled if batch.cancelled else len(batch.requests)
            results = [result_of(self, one) for one in batch.requests[:kept]]
            results += [
                {"custom_id": one["custom_id"], "result": {"type": "canceled"}} for one in batch.requests[kept:]
            ]
            batch.results = results[::-1]

    def next(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        self.requests.append(body)
        self.headers.append(headers)
        step = self.script[min(len(self.requests), len(self.script)) - 1]
        return step(body) if callable(step) and not isinstance(step, Hang) else step


@contextmanager
def serve(*script: Step) -> Iterator[MessagesApi]:
    api = MessagesApi("", list(script))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            if self.path.endswith("/cancel"):
                batch = api.batches[self.path.split("/")[-2]]
                if batch.results is None:
                    batch.cancelled = batch.cancelled or now()
                    send_json(self, batch_state(api, batch))
                    with lock:
                        api.end(batch)
                else:
                    problem(self, 400, "invalid_request_error", "Batch cannot be canceled once it has ended.")
                return
            if self.path.startswith("/v1/messages/batches"):
                if (wrong := unfit(body)) or refused(self, api):
                    if wrong:
                        problem(self, 400, "invalid_request_error", wrong)
                    return
                batch = Batch(f"msgbatch_{len(api.batches) + 1}", body["requests"], now())
                api.batches[batch.id] = batch
                if api.lose_next_answer:
                    api.lose_next_answer = False
                    self.close_connection = True
                    return
                while api.hold.is_set() and not api.over.wait(0.02):
                    pass
                send_json(self, batch_state(api, batch))
                return
            answer = api.next(body, {key.lower(): value for key, value in self.headers.items()})
            if body.get("stream") or not isinstance(answer, Say | Use):
                respond(self, api, answer)
            else:
                whole(self, 200, json.dumps(message(answer)).encode(), "application/json", {})

        def do_GET(self) -> None:
            parts = self.path.split("?")[0].removeprefix("/v1/messages/batches").strip("/").split("/")
            if refused(self, api):
                return
            if parts == [""]:
                query = parse_qs(urlsplit(self.path).query)
                with lock:
                    api.listed += 1
                    for batch in api.batches.values():
                        api.end(batch)
                send_json(self, page(api, int(query.get("limit", ["20"])[0]), query.get("after_id", [""])[0]))
                return
            batch = api.batches.get(parts[0])
            if batch is None:
                problem(self, 404, "not_found_error", f"Message batch not found: {parts[0]}")
                return
            with lock:
                api.end(batch)
            if parts[-1] != "results":
                send_json(self, batch_state(api, batch))
            elif batch.results is None:
                problem(self, 400, "invalid_request_error", "The batch has not ended.")
            else:
                lines = [json.dumps(one) for one in batch.results]
                whole(self, 200, "\n".join(lines).encode() + b"\n", "application/x-jsonl", {})

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256  # many callers at once

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield api
    finally:
        api.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def respond(handler: BaseHTTPRequestHandler, api: MessagesApi, answer: Answer) -> None:
    match answer:
        case Fail():
            error = {"type": "error", "error": {"type": answer.type, "message": answer.message}}
            whole(handler, answer.status, json.dumps(error).encode(), "application/json", answer.headers)
        case Raw():
            whole(handler, 200, answer.body, answer.content_type, {})
        case Hang():
            api.over.wait(30)
            handler.close_connection = True
        case ErrorEvent():
            first = next(iter(events(Say(""))))
            stream(handler, [first, {"type": "error", "error": {"type": answer.type, "message": "no"}}])
        case Cut():
            stream(handler, list(events(answer.answer))[: answer.after], broken=not answer.clean)
        case _:
            stream(handler, list(events(answer)))


def send_json(handler: BaseHTTPRequestHandler, value: Any) -> None:
    whole(handler, 200, json.dumps(value).encode(), "application/json", {})


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def problem(handler: BaseHTTPRequestHandler, status: int, kind: str, said: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": said}}
    whole(handler, status, json.dumps(body).encode(), "application/json", {})


def refused(handler: BaseHTTPRequestHandler, api: MessagesApi) -> bool:
    """Whether the key is none that the service knows."""
    given = handler.headers.get("authorization", "").removeprefix("Bearer ") or handler.headers.get("x-api-key")
    if given not in api.bad_keys:
        return False
    problem(handler, 401, "authentication_error", "invalid x-api-key")
    return True


def unfit(body: dict[str, Any]) -> str:
    """What the service would not take; empty when it would."""
    names = [one.get("custom_id") for one in body.get("requests", ())]
    if not names or len(names) > 100_000:
        return "requests: 1 to 100000"
    if len(set(names)) < len(names):
        return "requests: custom_id must be unique"
    if not all(isinstance(name, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names):
        return "requests: custom_id must match ^[a-zA-Z0-9_-]{1,64}$"
    if not all({"model", "max_tokens", "messages"} <= set(one.get("params", ())) for one in body["requests"]):
        return "requests: params must be those of a message"
    return ""


def page(api: MessagesApi, limit: int, after: str) -> dict[str, Any]:
    newest = list(api.batches.values())[::-1]
    if after:
        newest = newest[[one.id for one in newest].index(after) + 1 :]
    shown = newest[:limit]
    return {
        "data": [batch_state(api, one) for one in shown], "has_more": len(newest) > limit,
        "first_id": shown[0].id if shown else None, "last_id": shown[-1].id if shown else None,
    }  # fmt: skip


def batch_state(api: MessagesApi, batch: Batch) -> dict[str, Any]:
    ended = batch.results is not None
    counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
    for one in batch.results or ():
        if one["result"] is not None:
            counts[one["result"]["type"]] += 1
    counts["processing"] = 0 if ended else len(batch.requests)
    expires = datetime.fromisoformat(batch.made) + timedelta(hours=24)
    state = "ended" if ended else "canceling" if batch.cancelled else "in_progress"
    return {
        "id": batch.id, "type": "message_batch", "processing_status": state,
        "created_at": batch.made, "expires_at": expires.isoformat().replace("+00:00", "Z"),
        "ended_at": now() if ended else None,
        "archived_at": None, "cancel_initiated_at": batch.cancelled or None, "request_counts": counts,
        "results_url": f"{api.url}/v1/messages/batches/{batch.id}/results" if ended else None,
    }  # fmt: skip


def result_of(api: MessagesApi, asked: dict[str, Any]) -> dict[str, Any]:
    answer = api.next(asked["params"], {})
    match answer:
        case Fail(type="expired"):
            result: dict[str, Any] = {"type": "expired"}
        case Fail():
            error = {"type": "error", "error": {"type": answer.type, "message": answer.message}, "request_id": "r"}
            result = {"type": "errored", "error": error}
        case Say() | Use():
            result = {"type": "succeeded", "message": message(answer)}
        case _:
            raise AssertionError("no such answer in a batch")
    return {"custom_id": asked["custom_id"], "result": result}


def message(answer: Say | Use) -> dict[str, Any]:
    """An answer in one piece, as a caller gets it that did not ask for a stream."""
    used = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "content": answer.blocks(),
        "stop_reason": answer.stop, "stop_sequence": None, "usage": used,
    }  # fmt: skip


def whole(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def stream(handler: BaseHTTPRequestHandler, sent: list[dict[str, Any]], *, broken: bool = False) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for event in sent:
        data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()
    if broken:
        handler.close_connection = True  # without the last chunk
    else:
        handler.wfile.write(b"0\r\n\r\n")


def events(answer: Say | Use) -> Iterator[dict[str, Any]]:
    start = {"input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10}
    yield {
        "type": "message_start",
        "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": start,
        },
    }  # fmt: skip
    for index, block in enumerate(answer.blocks()):
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            kind, key, text = "text_delta", "text", block["text"]
        else:
            empty = {"type": "tool_use", "id": f"toolu_{index}", "name": block["name"], "input": {}}
            raw = block["input"]
            kind, key, text = "input_json_delta", "partial_json", raw if isinstance(raw, str) else json.dumps(raw)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for at in range(0, len(text), 200):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: text[at : at + 200]}}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": answer.stop, "stop_sequence": None},
        "usage": {"output_tokens": 20},
    }
    yield {"type": "message_stop"}
