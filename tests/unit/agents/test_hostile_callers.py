"""What callers send who mean no good, or cannot do better."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from a2a.types.a2a_pb2 import ListTasksRequest, Message, Part, Role, SendMessageRequest, SubscribeToTaskRequest
from a2a.utils.errors import A2AError, InvalidParamsError, UnsupportedOperationError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from quarterdeck.agents.runtime import body
from quarterdeck.keel.changes import Change, Changes, Target
from quarterdeck.keel.identity import Caller

from .conftest import Serve, runs, said
from .test_runtime import HTTP, last

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)


def rpc(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def message(*parts: dict[str, Any], id: str = "m", **more: Any) -> dict[str, Any]:
    return {"message": {"messageId": id, "role": "ROLE_USER", "parts": list(parts), **more}}


def with_data(text: str) -> bytes:
    """A message whose data part is this text, JSON or not."""
    return json.dumps(rpc("SendMessage", message({"data": "@"}))).replace('"@"', text).encode("utf-8", "surrogatepass")


NO_MESSAGES = {
    "no UTF-8": b'{"jsonrpc": "2.0", "id": "\xff"}',
    "UTF-16": '{"jsonrpc": "2.0"}'.encode("utf-16"),
    "half": b'{"jsonrpc": "2.0",',
    "NaN": with_data('{"a": NaN}'),
    "-Infinity": with_data('{"a": -Infinity}'),
    "1e999": with_data('{"a": 1e999}'),
    "a number of 5000 digits": with_data("9" * 5000),
    "half a character": with_data('"\\ud800"'),
    "101 levels": with_data("[" * 101 + "]" * 101),
    "100000 levels": with_data("[" * 100_000),
    "100000 levels of objects": with_data('{"a":' * 100_000),
    "10000 parts": json.dumps(rpc("SendMessage", message(*[{"text": "x"}] * 10_000))).encode(),
    "a million numbers": with_data("[" + "1," * 900_000 + "1]"),
}


@pytest.mark.parametrize("binding", ["JSON-RPC", "REST", "older JSON-RPC", "older REST"])
async def test_what_cannot_be_a_message_is_refused_at_once_and_in_words(serve: Serve, binding: str) -> None:
    path = {"REST": "/echo/message:send", "older REST": "/echo/v1/message:stream"}.get(binding, "/echo/")
    async with serve() as served, served.http() as http:
        http.headers["a2a-version"] = "0.3" if binding.startswith("older") else "1.0"
        runs.clear()
        for name, content in NO_MESSAGES.items():
            response = await http.post(path, content=content, timeout=5)
            error = response.json()["error"]
            assert error["message"].startswith("The request "), name
            assert response.status_code == (200 if path.endswith("/") else 400)
            assert len(response.text) < 500
        assert runs == []
        assert (await http.get("/healthz")).text == "ok\n"


@pytest.mark.parametrize(
    "request_",
    [
        rpc("GetTask", {"id": ["a"]}),
        rpc("GetTask", {"id": ""}),
        rpc("GetTask", {"id": "y" * 100_000}),
        rpc("GetTask", {"id": "' OR 1=1 --"}),
        rpc("GetTask", [1]),
        rpc("GetTask", "x"),
        rpc("GetTask", None),
        rpc("__class__", {}),
        rpc("SendMessage", message({"text": "x"}, id="y" * 300)),
        rpc("SendMessage", message({"text": "x"}, contextId="y" * 300)),
        rpc("SendMessage", message({"text": "x" * 1_900_000})),
        rpc("SendMessage", message()),
        rpc("SendStreamingMessage", {}),
        rpc("SubscribeToTask", {"id": "0000000000000000-0000000000000000-0000000000000000"}),
        rpc("ListTasks", {"pageSize": -1}),
        rpc("ListTasks", {"pageSize": 10**12}),
        rpc("ListTasks", {"pageToken": "열쇠"}),
        rpc("ListTasks", {"pageToken": base64.urlsafe_b64encode(b'[1e999,"x"]').decode()}),
        rpc("ListTasks", {"pageToken": base64.urlsafe_b64encode(b'[1.5,{"a":1}]').decode()}),
        rpc("ListTasks", {"pageToken": base64.urlsafe_b64encode(b"[" * 100_000).decode()}),
        rpc("ListTasks", {"statusTimestampAfter": "yesterday"}),
        [rpc("GetTask", {"id": "x"})],
        [],
        5,
        "x",
        None,
        {"jsonrpc": "1.0", "id": 1, "method": "GetTask", "params": {"id": "x"}},
        {"jsonrpc": "2.0", "id": {"a": 1}, "method": "GetTask", "params": {"id": "x"}},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
    ],
    ids=lambda given: json.dumps(given)[:60],
)
async def test_a_wrong_request_is_answered_with_an_error(serve: Serve, request_: Any) -> None:
    async with serve() as served, served.http() as http:
        response = await http.post("/echo/", json=request_, timeout=5)
        assert response.status_code == 200
        assert response.json()["error"]["code"] < 0
        assert "Traceback" not in response.text and 'File "' not in response.text


async def test_a_body_that_trickles_in_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "READ_S", 0.3)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async with serve() as served, served.http() as http:
        response = await http.post("/echo/", content=trickle())
        assert response.status_code == 413
        assert "did not arrive" in response.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/echo/tasks/healthz",
        "/echo/anyone/tasks/healthz",
        "/echo/tasks/x/pushNotificationConfigs/healthz",
        "/echo/tasks/.well-known/agent-card.json",
        "/echo/extendedAgentCard?x=/healthz",
        "/echo/v1/card",
        "/echo/tasks",
        "/echo/%2e%2e/healthz",
        "//healthz",
    ],
)
async def test_only_what_is_public_is_open(serve: Serve, path: str) -> None:
    async with serve(http=HTTP) as served, served.http() as http:
        assert (await http.get(path)).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        ["Bearer kim", "Bearer boss"],
        ["Bearer boss, Bearer kim"],
        ["Basic a2ltOmtpbQ=="],
        ["Bearer"],
        ["kim"],
        ["Bearer " + "x" * 60_000],
        [b"Bearer \xe9"],
    ],
    ids=lambda given: str(given)[:30],
)
async def test_a_doubtful_token_opens_nothing(serve: Serve, authorization: list[Any]) -> None:
    headers = [(b"authorization", given if isinstance(given, bytes) else given.encode()) for given in authorization]
    async with serve(http=HTTP) as served, served.http() as http:
        response = await http.get("/echo/tasks", headers=headers)
        assert response.status_code == 401
        assert not any(str(given)[8:] in response.text for given in authorization if len(given) > 12)


def yes_in_every_form(task: str) -> list[dict[str, Any]]:
    parts: list[list[dict[str, Any]]] = [
        [{"text": "yes"}],
        [{"text": " YES! "}],
        [{"text": "승인"}],
        [{"data": {"approve": True}}],
        [{"data": {"approve": "yes"}}],
        [{"data": {"decision": "approved"}}],
        [{"text": "no"}, {"data": {"approve": True}}],
        [{"data": {"approve": False}}, {"data": {"approve": True}}],
        [{"raw": base64.b64encode(b"yes").decode(), "mediaType": "text/plain"}],
        [{"url": "data:,yes"}, {"text": "yes"}],
    ]
    found = [message(*form, id=f"f-{number}", taskId=task) for number, form in enumerate(parts)]
    meta = {"approve": True, "scopes": ["approve"], "caller": "boss"}
    found.append(message({"text": "yes", "metadata": meta}, id="meta", taskId=task, metadata=meta))
    found.append({**message({"text": "yes"}, id="meta-2", taskId=task), "metadata": meta, "tenant": "boss"})
    return found


@pytest.mark.parametrize("way", ["plain", "streaming", "at once", "REST", "REST stream", "older"])
async def test_no_form_of_yes_grants_without_the_scope(serve: Serve, way: str) -> None:
    async with serve(http=HTTP) as served, served.http("kim") as http:
        changes = Changes.of(served.settings)
        change = Change("lever", "pull", "pull it", (Target("Lever", "one"),), "down", "up", "push it", "up")
        pending = changes.request(change, Caller("agent:echo"))
        client = await served.client(http, streaming=False)
        task = await last(client, said(f"change {pending.id}"))
        for params in yes_in_every_form(task.id):
            match way:
                case "plain":
                    response = await http.post("/echo/", json=rpc("SendMessage", params))
                case "streaming":
                    response = await http.post("/echo/", json=rpc("SendStreamingMessage", params))
                case "at once":
                    configured = {**params, "configuration": {"returnImmediately": True}}
                    response = await http.post("/echo/", json=rpc("SendMessage", configured))
                case "REST":
                    response = await http.post("/echo/boss/message:send", json=params)
                case "REST stream":
                    response = await http.post("/echo/message:stream", json=params)
                case _:
                    response = await _older(http, params)
            assert "error" in response.text, params
            assert changes.get(pending.id).state == "pending", params
        assert [item.status.state for item in (await client.list_tasks(ListTasksRequest())).tasks] == [
            task.status.state
        ]


async def _older(http: httpx.AsyncClient, params: dict[str, Any]) -> httpx.Response:
    parts: list[dict[str, Any]] = []
    for part in params["message"]["parts"]:
        if "text" in part:
            parts.append({"kind": "text", "text": part["text"]})
        elif "data" in part:
            parts.append({"kind": "data", "data": part["data"]})
        else:
            parts.append({"kind": "file", "file": {"bytes": part.get("raw", "eWVz")}})
    old = {**params["message"], "role": "user", "kind": "message", "parts": parts}
    return await http.post("/echo/", json=rpc("message/send", {"message": old}), headers={"a2a-version": "0.3"})


async def test_another_message_under_a_used_id_is_refused_and_not_mistaken_for_the_first(serve: Serve) -> None:
    async with serve(http=HTTP) as served, served.http("kim") as kim, served.http("lee") as lee:
        client, other = await served.client(kim, streaming=False), await served.client(lee, streaming=False)
        runs.clear()
        first = await last(client, said("first", message_id="same"))
        for streaming in (False, True):
            again = await served.client(kim, streaming=streaming)
            with pytest.raises(InvalidParamsError, match="under a new id"):
                await last(again, said("second", message_id="same"))
        theirs = await last(other, said("second", message_id="same"))
        assert theirs.id != first.id and theirs.context_id != first.context_id
        assert runs == ["first", "second"]
        asked = await last(client, said("ask", message_id="ask"))
        await last(client, said("blue", message_id="reply", task_id=asked.id))
        with pytest.raises(InvalidParamsError, match="under a new id"):
            await last(client, said("red", message_id="reply", task_id=asked.id))


async def test_a_working_task_takes_no_message(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        request = said("slow")
        request.configuration.return_immediately = True
        task = await last(client, request)
        with pytest.raises(UnsupportedOperationError, match="asks nothing now"):
            await last(client, said("more", message_id="more", task_id=task.id))
        with pytest.raises(InvalidParamsError, match="another context"):
            await last(client, said("more", message_id="more", task_id=task.id, context_id="other"))


async def test_a_context_and_a_page_of_another_caller_show_nothing_of_theirs(serve: Serve) -> None:
    async with serve(http=HTTP) as served, served.http("kim") as kim, served.http("lee") as lee:
        mine, other = await served.client(kim, streaming=False), await served.client(lee, streaming=False)
        for number in range(3):
            await last(mine, said(f"secret {number}", context_id="shared"))
        page = await mine.list_tasks(ListTasksRequest(page_size=1, context_id="shared"))
        assert page.next_page_token
        own = await last(other, said("hello", context_id="shared"))
        for request in (
            ListTasksRequest(context_id="shared"),
            ListTasksRequest(context_id="shared", page_token=page.next_page_token),
            ListTasksRequest(context_id=page.tasks[0].id),
            ListTasksRequest(context_id="%"),
        ):
            assert {task.id for task in (await other.list_tasks(request)).tasks} <= {own.id}
        assert (await mine.list_tasks(ListTasksRequest(context_id="shared"))).total_size == 3


async def test_many_streams_left_open_hold_nobody_up(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        task = await last(client, said("ask"))
        port = int(served.url.rpartition(":")[2])
        content = json.dumps(rpc("SubscribeToTask", {"id": task.id}))
        request = (
            f"POST /echo/ HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\na2a-version: 1.0\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n{content}"
        ).encode()

        async def left_open() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(task.id.encode())
            return reader, writer

        streams = [await left_open() for _ in range(300)]
        done = await last(client, said("blue", message_id="reply", task_id=task.id))
        assert done.status.message.parts[0].text.startswith("blue")
        for reader, writer in streams:
            assert b"TASK_STATE_COMPLETED" in await asyncio.wait_for(reader.read(), 20)
            writer.close()


@pytest.fixture
async def issuer() -> AsyncIterator[tuple[str, rsa.RSAPrivateKey]]:
    """A place that publishes the keys of those who may sign tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keys = {"keys": [{**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": "k1", "use": "sig", "alg": "RS256"}]}
    app = Starlette(routes=[Route("/jwks.json", lambda _: JSONResponse(keys))])
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  uvicorn offers no event
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", key
        server.should_exit = True
        await task


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": "https://id.example", "aud": "quarterdeck", "sub": "kim", "client_id": "app", "iat": now,
            "exp": now + 60, "scope": "read change", **more}  # fmt: skip


def by_hand(said: dict[str, Any], secret: bytes) -> str:
    """HS256 with the published key as its secret: libraries refuse to make that."""

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    head = {"alg": "HS256", "kid": "k1", "typ": "JWT"}
    start = f"{part(json.dumps(head).encode())}.{part(json.dumps(said).encode())}"
    return f"{start}.{part(hmac.digest(secret, start.encode(), 'sha256'))}"


async def test_only_a_jwt_for_us_that_is_fresh_and_rightly_signed_comes_in(
    serve: Serve, issuer: tuple[str, rsa.RSAPrivateKey]
) -> None:
    url, key = issuer
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = {"kid": "k1"}
    settings = {"jwks_url": f"{url}/jwks.json", "issuer": "https://id.example", "audience": "quarterdeck"}
    bad = {
        "expired": jwt.encode(claims(exp=int(time.time()) - 600), key, "RS256", head),
        "for somebody else": jwt.encode(claims(aud="other"), key, "RS256", head),
        "of another issuer": jwt.encode(claims(iss="https://evil.example"), key, "RS256", head),
        "signed by nobody": jwt.encode(claims(), None, "none", head),
        "signed by somebody else": jwt.encode(claims(), other, "RS256", head),
        "signed with the public key": by_hand(claims(), public),
        "of an unknown key": jwt.encode(claims(), other, "RS256", {"kid": "k2"}),
        "without an end": "x.y.z",
    }
    async with serve(http=settings) as served:
        for name, token in bad.items():
            async with served.http(token) as http:
                response = await http.get("/echo/tasks")
                assert response.status_code == 401, name
                assert token not in response.text
        async with served.http(jwt.encode(claims(), key, "RS256", head)) as kim:
            mine = await last(await served.client(kim, streaming=False), said("hello"))
        async with served.http(jwt.encode(claims(sub="lee"), key, "RS256", head)) as lee:
            client = await served.client(lee, streaming=False)
            assert (await client.list_tasks(ListTasksRequest())).total_size == 0
            with pytest.raises(A2AError):
                await anext((await served.client(lee)).subscribe(SubscribeToTaskRequest(id=mine.id)))


async def test_when_the_keys_cannot_be_had_nobody_comes_in(serve: Serve) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode(claims(), key, "RS256", {"kid": "k1"})
    gone = {"jwks_url": "http://127.0.0.1:9/jwks.json", "issuer": "https://id.example", "audience": "quarterdeck"}
    async with serve(http=gone) as served, served.http(token) as http:
        assert (await http.get("/echo/tasks")).status_code == 401


async def test_tokens_stand_in_no_log_error_or_card(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    secrets = ("boss", "s3cret-credential", "t0ken-of-mine")
    caplog.set_level(logging.DEBUG)
    async with serve(http=HTTP) as served, served.http("boss") as http:
        texts = []
        request = message({"text": "hello"})
        request["configuration"] = {"taskPushNotificationConfig": {
            "url": "http://10.0.0.1/hook", "token": secrets[2],
            "authentication": {"scheme": "Bearer", "credentials": secrets[1]},
        }}  # fmt: skip
        texts.append((await http.post("/echo/", json=rpc("SendMessage", request))).text)
        texts.append((await http.post("/echo/", json=rpc("SendMessage", {"message": 5}))).text)
        texts.append((await http.get("/echo/extendedAgentCard")).text)
        texts.append((await http.get("/echo/.well-known/agent-card.json")).text)
    for text in texts:
        assert not any(secret in text for secret in secrets)
    for record in caplog.records:
        if not record.name.startswith(("httpcore", "httpx", "asyncio", "hpack")):  # the test's own client
            assert not any(f"Bearer {secret}" in record.getMessage() or (secret == secrets[1] and secret in
                           record.getMessage()) for secret in secrets), record  # fmt: skip


def test_a_message_of_reasonable_size_is_let_through(serve: Serve) -> None:
    rows = [{"name": f"pod-{n}", "ready": True, "restarts": n, "age": 1.5, "note": "그렇다"} for n in range(900)]
    body.check(json.dumps(rpc("SendMessage", message({"data": {"rows": rows}}))).encode())
    value = ParseDict({"rows": rows}, Value())
    made = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(data=value)])
    assert SendMessageRequest(message=made).ByteSize() < body.LARGEST
