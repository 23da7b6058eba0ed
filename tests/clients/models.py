"""A stand-in of the model services on loopback: it calls one tool, keeps what the client answers, and says done."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Model:
    """Scripted: `tool` is the end of the tool's name as the client calls it; `result` is what came back."""

    def __init__(self, tool: str, arguments: dict[str, Any]) -> None:
        self.tool, self.arguments = tool, arguments
        self.offered: list[str] = []
        self.result = ""
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
                events = model._reply(self.path, body)
                data = json.dumps(events).encode() if isinstance(events, dict) else "".join(events).encode()
                self.send_response(200)
                kind = "application/json" if isinstance(events, dict) else "text/event-stream"
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.do_POST()

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Model:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _reply(self, path: str, body: dict[str, Any]) -> list[str] | dict[str, Any]:
        if "count_tokens" in path:
            return {"input_tokens": 10}
        if path.partition("?")[0].endswith("/messages"):
            return self._anthropic(body)
        if path.partition("?")[0].endswith("/responses"):
            return self._responses(body)
        if path.endswith("/chat/completions"):
            return self._chat(body)
        if "generateContent" in path or "GenerateContent" in path:
            return self._gemini(path, body)
        return {}

    def _choose(self, names: list[str]) -> str | None:
        if names:
            self.offered = names
        return next((name for name in names if name.endswith(self.tool)), None)

    def _anthropic(self, body: dict[str, Any]) -> list[str] | dict[str, Any]:
        results = [
            block
            for message in body.get("messages") or []
            if isinstance(message.get("content"), list)
            for block in message["content"]
            if block.get("type") == "tool_result"
        ]
        if results:
            self.result = json.dumps(results[-1].get("content"), ensure_ascii=False)
        name = self._choose([tool["name"] for tool in body.get("tools") or []])
        call = name is not None and not results
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta: dict[str, Any] = {"type": "text_delta", "text": "done"}
        if call:
            block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(self.arguments)}
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "x"), "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        reason = "tool_use" if call else "end_turn"
        if not body.get("stream"):
            content = [{**block, "input": self.arguments}] if call else [{"type": "text", "text": "done"}]
            return {**message, "content": content, "stop_reason": reason}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 1},
            },
            {"type": "message_stop"},
        ]
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]

    def _responses(self, body: dict[str, Any]) -> list[str]:
        results = [item for item in body.get("input") or [] if item.get("type") == "function_call_output"]
        if results:
            self.result = json.dumps(results[-1].get("output"), ensure_ascii=False)
        names, spaces = [], {}
        for tool in body.get("tools") or []:
            for inner in tool.get("tools") or [tool]:  # Codex groups a server's tools in a namespace
                if inner.get("name"):
                    names.append(inner["name"])
                    if inner is not tool:
                        spaces[inner["name"]] = tool.get("name")
        name = self._choose(names)
        item: dict[str, Any] = {
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "done", "annotations": []}],
        }  # fmt: skip
        if name and not results:
            item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "status": "completed"}
            item["arguments"] = json.dumps(self.arguments)
            if spaces.get(name):
                item["namespace"] = spaces[name]
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        whole = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": usage}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {"id": "resp_1", "object": "response", "status": "in_progress"}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]

    def _chat(self, body: dict[str, Any]) -> list[str]:
        results = [message for message in body.get("messages") or [] if message.get("role") == "tool"]
        if results:
            self.result = str(results[-1].get("content"))
        name = self._choose([tool["function"]["name"] for tool in body.get("tools") or []])
        delta: dict[str, Any] = {"role": "assistant", "content": "done"}
        reason = "stop"
        if name and not results:
            function = {"name": name, "arguments": json.dumps(self.arguments)}
            delta = {
                "role": "assistant",
                "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}],
            }
            reason = "tool_calls"
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model", "x")}
        chunks = [
            {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        ]
        return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]

    def _gemini(self, path: str, body: dict[str, Any]) -> list[str] | dict[str, Any]:
        parts = [part for content in body.get("contents") or [] for part in content.get("parts") or []]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if results:
            self.result = json.dumps(results[-1], ensure_ascii=False)
        declared = [
            function["name"]
            for tool in body.get("tools") or []
            for function in tool.get("functionDeclarations") or tool.get("function_declarations") or []
        ]
        name = self._choose(declared)
        part: dict[str, Any] = {"text": "done"}
        if body.get("generationConfig", {}).get("responseMimeType") == "application/json":
            # Before each turn it has a model rate the work; an answer that is no such JSON is asked for over and over.
            part = {"text": json.dumps({"complexity_reasoning": "one tool call", "complexity_score": 1})}
        elif name and not results:
            part = {"functionCall": {"name": name, "args": self.arguments}}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        answer = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2}}
        return [f"data: {json.dumps(answer)}\n\n"] if "stream" in path else answer
