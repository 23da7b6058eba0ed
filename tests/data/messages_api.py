"""A stand-in of the Messages API on loopback: it answers each request with the next step of a script.

Real HTTP and real server-sent events, so that the SDK's own retries, streams and errors run. What was asked is kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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
    """One batch that was sent: its questions, and when."""

    id: str
    requests: list[dict[str, Any]]
    made: str


@dataclass
class MessagesApi:
    url: str
    script: list[Step]
    """The last step is repeated when the script is at its end."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    batches: dict[str, Batch] = field(default_factory=dict)
    lose_next_answer: bool = False
    """The next batch is taken, but whoever sent it never hears so."""
    pending: threading.Event = field(default_factory=threading.Event)
    """While set, batches do not end."""

    def next(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        self.requests.append(body)
        self.headers.append(headers)
        step = self.script[min(len(self.requests), len(self.script)) - 1]
        return step(body) if callable(step) and not isinstance(step, Hang) else step


@contextmanager
def serve(*script: Step) -> Iterator[MessagesApi]:
    api = MessagesApi("", list(script))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path.startswith("/v1/messages/batches"):
                made = datetime.now(UTC).isoformat().replace("+00:00", "Z")
                batch = Batch(f"msgbatch_{len(api.batches) + 1}", body["requests"], made)
                api.batches[batch.id] = batch
                if api.lose_next_answer:
                    api.lose_next_answer = False
                    self.close_connection = True
                    return
                send_json(self, batch_state(api, batch))
                return
            answer = api.next(body, {key.lower(): value for key, value in self.headers.items()})
            if body.get("stream") or not isinstance(answer, Say | Use):
                respond(self, api, answer)
            else:
                whole(self, 200, json.dumps(message(answer)).encode(), "application/json", {})

        def do_GET(self) -> None:
            parts = self.path.split("?")[0].removeprefix("/v1/messages/batches").strip("/").split("/")
            if parts == [""]:
                listed = [batch_state(api, batch) for batch in reversed(api.batches.values())]
                send_json(self, {"data": listed, "has_more": False, "first_id": None, "last_id": None})
            elif parts[-1] == "results":
                lines = [json.dumps(result_of(api, one)) for one in reversed(api.batches[parts[0]].requests)]
                whole(self, 200, "\n".join(lines).encode() + b"\n", "application/x-jsonl", {})
            else:
                send_json(self, batch_state(api, api.batches[parts[0]]))

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


def batch_state(api: MessagesApi, batch: Batch) -> dict[str, Any]:
    ended = not api.pending.is_set()
    counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
    counts["succeeded" if ended else "processing"] = len(batch.requests)
    return {
        "id": batch.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
        "created_at": batch.made, "expires_at": batch.made, "ended_at": batch.made if ended else None,
        "archived_at": None, "cancel_initiated_at": None, "request_counts": counts,
        "results_url": f"{api.url}/v1/messages/batches/{batch.id}/results" if ended else None,
    }  # fmt: skip


def result_of(api: MessagesApi, asked: dict[str, Any]) -> dict[str, Any]:
    """Each question of a batch is answered by the script, like any other."""
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
