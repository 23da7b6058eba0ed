"""Push notifications as a receiver meets them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from a2a.types.a2a_pb2 import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    SendMessageRequest,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import A2AError, InvalidParamsError, TaskNotFoundError
from receiver import CUT, DRIP, ENDLESS, HANG, Receiver, receiver

from quarterdeck.agents.runtime import push, pushes
from quarterdeck.keel import guard

from .conftest import Serve, said
from .test_runtime import HTTP, last

DURABLE = pytest.mark.parametrize("serve", ["durable"], indirect=True)
IN_MEMORY = pytest.mark.parametrize("serve", ["memory"], indirect=True)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(push, "LOOK_S", 0.1)


@pytest.fixture
async def inbox() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def allow(*receivers: Receiver) -> dict[str, Any]:
    return {"push_allow": [one.url for one in receivers]}


def told(
    text: str, inbox: Receiver, *, path: str = "/hook", message_id: str = "m", **config: Any
) -> SendMessageRequest:
    request = said(text, message_id=message_id)
    request.configuration.return_immediately = True
    request.configuration.task_push_notification_config.CopyFrom(
        TaskPushNotificationConfig(url=f"{inbox.url}/hook", **config)
    )
    return request


async def test_progress_questions_artifacts_and_the_end_are_posted_in_order(serve: Serve, inbox: Receiver) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        await last(client, told("talk", inbox))
        assert await inbox.ended() == [
            "working: part 0",
            "working: part 1",
            "working: part 2",
            "page",
            "result-1",
            "completed: You said talk",
        ]
        inbox.notes.clear()
        task = await last(client, told("ask", inbox, message_id="m-2"))
        await inbox.has(1)
        await last(client, said("blue", task_id=task.id))
        assert await inbox.ended() == [
            "input_required: Which colour?",
            "working:",
            "completed: blue by http:anyone-on-this-machine",
        ]
        assert {note.event["statusUpdate"]["taskId"] for note in inbox.notes} == {task.id}


@IN_MEMORY
async def test_each_post_is_signed_and_carries_what_the_receiver_asked_for(serve: Serve, inbox: Receiver) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        login = AuthenticationInfo(scheme="Bearer", credentials="s3cret")
        await last(client, told("talk", inbox, token="t0ken", authentication=login))
        await inbox.ended()
        keys = jwt.PyJWKSet.from_dict((await http.get("/.well-known/jwks.json")).json())
        for note in inbox.notes:
            signature = note.headers["x-a2a-signature"]
            head = jwt.get_unverified_header(signature)
            assert head["alg"] == "ES256"
            claims = jwt.decode(signature, keys[head["kid"]].key, algorithms=["ES256"], issuer="quarterdeck")
            assert claims["request_body_sha256"] == hashlib.sha256(note.body).hexdigest()
            assert claims["exp"] - claims["iat"] <= 300 and abs(claims["iat"] - time.time()) < 60
            assert note.headers["x-a2a-notification-token"] == "t0ken"
            assert note.headers["authorization"] == "Bearer s3cret"
            assert note.headers["content-type"] == "application/a2a+json"
        assert "d" not in (await http.get("/.well-known/jwks.json")).json()["keys"][0], "the private half stays here"


@IN_MEMORY
async def test_the_key_stays_the_same_and_only_its_owner_can_read_it(serve: Serve) -> None:
    found = []
    for _ in range(2):
        async with serve() as served, served.http() as http:
            found.append((await http.get("/.well-known/jwks.json")).json())
            for name in ("push.key", "push.db"):
                path = served.settings.home / name
                assert not path.exists() or path.stat().st_mode & 0o077 == 0
    assert found[0] == found[1]


@IN_MEMORY
@pytest.mark.parametrize("trouble", [500, 503, 429, 408, CUT])
async def test_a_failed_post_is_tried_again_until_it_is_taken(
    serve: Serve, inbox: Receiver, trouble: int | str
) -> None:
    inbox.answers = [trouble] * 3
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        await last(client, told("talk", inbox))
        seen = await inbox.ended()
        assert seen[:5] == ["working: part 0"] * 4 + ["working: part 1"]
        assert len(seen) == 9


@IN_MEMORY
async def test_pauses_between_tries_grow(serve: Serve, inbox: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if asyncio.current_task().get_name().startswith("push "):  # type: ignore[union-attr]
            pauses.append(seconds)
        await sleep(0)

    inbox.answers = [500] * 5
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        monkeypatch.setattr(push.asyncio, "sleep", noted)
        await last(client, told("hello", inbox))
        await inbox.ended()
        await inbox.has(7)
        monkeypatch.undo()
    assert pauses[:5] == [0.01, 0.02, 0.04, 0.08, 0.16]


@IN_MEMORY
@pytest.mark.parametrize("refusal", [400, 401, 404, 410])
async def test_a_refused_post_is_not_sent_again(serve: Serve, inbox: Receiver, refusal: int) -> None:
    inbox.always = refusal
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        await last(client, told("talk", inbox))
        assert len(await inbox.ended()) == len(set(inbox.said)) == 6


@IN_MEMORY
async def test_a_receiver_that_never_answers_is_given_up(
    serve: Serve, inbox: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "GIVE_UP_S", 0.05)
    inbox.always = 500
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        task = await last(client, told("talk", inbox))
        store = pushes.Pushes(served.settings.home, "test")
        async with asyncio.timeout(20):
            while await asyncio.to_thread(_open, store, task.id):  # noqa: ASYNC110  another process's view
                await asyncio.sleep(0.02)
        assert set(inbox.said) == {"working: part 0"}


def _open(store: pushes.Pushes, task: str) -> int:
    with store._db() as db:
        return int(db.execute("SELECT count(*) FROM pushes WHERE task = ? AND done = 0", (task,)).fetchone()[0])


@IN_MEMORY
async def test_a_redirect_is_not_followed(serve: Serve, inbox: Receiver) -> None:
    async with receiver() as other:
        inbox.always, inbox.location = 307, f"{other.url}/elsewhere"
        async with serve(agents=allow(inbox, other)) as served, served.http() as http:
            client = await served.client(http, streaming=False)
            await last(client, told("hello", inbox))
            await inbox.ended()
            assert other.notes == []


@IN_MEMORY
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/hook",
        "http://localhost:9/hook",
        "http://[::1]:9/hook",
        "http://[::ffff:127.0.0.1]/hook",
        "http://10.0.0.1/hook",
        "http://192.168.1.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/hook",
        "http://2130706433/hook",
        "http://0x7f.1/hook",
        "http://user:password@127.0.0.1/hook",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "hook",
        "",
        "http://",
        "https://" + "a" * 3000,
    ],
)
async def test_addresses_inside_are_refused_and_nothing_starts(serve: Serve, url: str) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        request = said("hello")
        request.configuration.task_push_notification_config.url = url
        with pytest.raises(InvalidParamsError) as refused:
            await last(client, request)
        assert "password" not in str(refused.value) or "Leave them out" in str(refused.value)
        task = await last(client, said("hello", message_id="fine"))
        with pytest.raises(InvalidParamsError):
            await client.create_task_push_notification_config(TaskPushNotificationConfig(task_id=task.id, url=url))


@IN_MEMORY
async def test_only_the_named_origin_may_be_inside(serve: Serve, inbox: Receiver) -> None:
    async with receiver() as other, serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        with pytest.raises(InvalidParamsError, match="inside"):
            await last(client, told("hello", other))
        await last(client, told("hello", inbox))
        await inbox.ended()
        assert other.notes == []


@IN_MEMORY
async def test_a_name_that_leads_inside_a_moment_later_is_not_called(
    serve: Serve, inbox: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        if host != "rebinding.example":
            return ["127.0.0.1"]
        looked.append(host)
        return ["93.184.216.34"] if len(looked) == 1 else ["127.0.0.1"]

    port = inbox.url.rpartition(":")[2]
    monkeypatch.setattr(guard.addresses, "__defaults__", (rebinding,))
    monkeypatch.setattr(guard.check_url, "__kwdefaults__", {"allow": (), "resolver": rebinding})
    monkeypatch.setattr(guard.GuardedTransport.__init__, "__kwdefaults__", {
        "allow": (), "resolver": rebinding, "connections": 100, "keep": 20,
    })  # fmt: skip
    monkeypatch.setattr(guard.guarded_client, "__kwdefaults__", {
        "allow": (), "headers": None, "resolver": rebinding,
    })  # fmt: skip
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        request = said("hello", message_id="re")
        request.configuration.task_push_notification_config.url = f"http://rebinding.example:{port}/hook"
        await last(client, request)
        async with asyncio.timeout(20):
            while len(looked) < 4:  # noqa: ASYNC110  refused, and tried again with pauses
                await asyncio.sleep(0.01)
        await last(client, told("hello", inbox))
        await inbox.ended()
        assert {note.headers["host"] for note in inbox.notes} == {inbox.url.removeprefix("http://")}


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_configurations_are_made_read_listed_and_deleted(serve: Serve, inbox: Receiver, binding: str) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, binding=binding, streaming=False)
        task = await last(client, said("ask"))
        made = await client.create_task_push_notification_config(
            TaskPushNotificationConfig(task_id=task.id, id="mine", url=f"{inbox.url}/hook", token="t")
        )
        assert (made.id, made.task_id, made.token) == ("mine", task.id, "t")
        await inbox.has(1)
        read = GetTaskPushNotificationConfigRequest(task_id=task.id, id="mine")
        assert await client.get_task_push_notification_config(read) == made
        listed = ListTaskPushNotificationConfigsRequest(task_id=task.id)
        assert list((await client.list_task_push_notification_configs(listed)).configs) == [made]
        await client.delete_task_push_notification_config(
            DeleteTaskPushNotificationConfigRequest(task_id=task.id, id="mine")
        )
        with pytest.raises(A2AError):
            await client.get_task_push_notification_config(read)
        assert not (await client.list_task_push_notification_configs(listed)).configs
        await last(client, said("blue", task_id=task.id))
        assert inbox.said == ["input_required: Which colour?"], "a deleted configuration gets nothing more"


@IN_MEMORY
async def test_clients_of_the_older_protocol_subscribe_too(serve: Serve, inbox: Receiver) -> None:
    message = {"messageId": "old", "role": "user", "kind": "message", "parts": [{"kind": "text", "text": "ask"}]}
    config = {"url": f"{inbox.url}/inline", "token": "t", "authentication": {"schemes": ["Basic"], "credentials": "c"}}
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        http.headers.pop("a2a-version")

        async def rpc(method: str, params: dict[str, Any]) -> Any:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return (await http.post("/echo/", json=body)).json()

        sent = {"message": message, "configuration": {"pushNotificationConfig": config}}
        task = (await rpc("message/send", sent))["result"]["id"]
        await inbox.has(1)
        assert inbox.notes[0].headers["authorization"] == "Basic c"
        named = {"taskId": task, "pushNotificationConfig": {"id": "two", "url": f"{inbox.url}/two"}}
        assert (await rpc("tasks/pushNotificationConfig/set", named))["result"]["pushNotificationConfig"]["id"] == "two"
        which = {"id": task, "pushNotificationConfigId": "two"}
        got = (await rpc("tasks/pushNotificationConfig/get", which))["result"]
        assert got["pushNotificationConfig"]["url"] == f"{inbox.url}/two"
        assert len((await rpc("tasks/pushNotificationConfig/list", {"id": task}))["result"]) == 2
        await rpc("tasks/pushNotificationConfig/delete", which)
        assert len((await rpc("tasks/pushNotificationConfig/list", {"id": task}))["result"]) == 1
        place = f"tasks/{task}/pushNotificationConfigs"
        config = {"name": f"{place}/rest", "pushNotificationConfig": {"id": "rest", "url": f"{inbox.url}/rest"}}
        made = await http.post(f"/echo/v1/{place}", json={"parent": f"tasks/{task}", "config": config})
        assert made.json()["pushNotificationConfig"]["url"] == f"{inbox.url}/rest", made.text
        assert (await http.get(f"/echo/v1/{place}/rest")).json() == made.json()


@IN_MEMORY
async def test_a_task_has_at_most_ten_and_the_same_one_again_is_the_same(serve: Serve, inbox: Receiver) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        task = await last(client, told("ask", inbox))
        await last(client, told("ask", inbox))
        listed = ListTaskPushNotificationConfigsRequest(task_id=task.id)
        assert len((await client.list_task_push_notification_configs(listed)).configs) == 1
        for number in range(9):
            config = TaskPushNotificationConfig(task_id=task.id, url=f"{inbox.url}/{number}")
            await client.create_task_push_notification_config(config)
        with pytest.raises(InvalidParamsError, match="Delete one first"):
            await client.create_task_push_notification_config(
                TaskPushNotificationConfig(task_id=task.id, url=f"{inbox.url}/too-many")
            )
        await inbox.has(10)
        await last(client, said("blue", task_id=task.id))
        await inbox.has(30)
        assert inbox.said.count("input_required: Which colour?") == 10


@IN_MEMORY
@pytest.mark.parametrize(
    "config",
    [
        {"token": "a\r\nx-evil: 1"},
        {"token": "열쇠"},
        {"token": "x" * 9000},
        {"id": "x" * 300},
        {"authentication": AuthenticationInfo(scheme="Bearer\n", credentials="x")},
        {"authentication": AuthenticationInfo(scheme="Bearer", credentials="x\0")},
    ],
)
async def test_what_cannot_stand_in_a_header_is_refused(serve: Serve, inbox: Receiver, config: dict[str, Any]) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        with pytest.raises(InvalidParamsError):
            await last(client, told("hello", inbox, **config))


@DURABLE
async def test_deliveries_go_on_after_a_restart_where_they_were(serve: Serve, inbox: Receiver) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        task = await last(client, told("ask", inbox))
        await inbox.has(1)
        inbox.always = 503
        await last(client, said("blue", task_id=task.id))
        await inbox.has(2)
    refused = len(inbox.notes)
    inbox.always = 204
    async with serve(agents=allow(inbox)):
        await inbox.ended()
    assert inbox.said[0] == "input_required: Which colour?"
    assert inbox.said[refused:] == ["working:", "completed: blue by http:anyone-on-this-machine"]
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        done = len(inbox.notes)
        await last(client, told("hello", inbox, message_id="another"))
        await inbox.has(done + 2)
        assert inbox.said[done:] == ["result-1", "completed: You said hello"], "what is over is not sent again"


@IN_MEMORY
async def test_what_another_process_held_is_taken_over_when_it_is_gone(
    serve: Serve, inbox: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(agents=allow(inbox)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        task = await last(client, said("ask"))
        dead = pushes.Pushes(served.settings.home, "a dead process")
        monkeypatch.setattr(pushes, "HOLD_S", 0.5)
        config = TaskPushNotificationConfig(task_id=task.id, id="left", url=f"{inbox.url}/hook")
        assert dead.save(config) is not None
        assert await inbox.has(1) == ["input_required: Which colour?"]
        await asyncio.to_thread(dead.held)
        await last(client, said("blue", task_id=task.id))
        await inbox.ended()
        assert len(inbox.notes) == 3, "it is delivered by one process"


@IN_MEMORY
@pytest.mark.parametrize("trouble", [HANG, ENDLESS, DRIP])
async def test_a_receiver_cannot_hold_the_process_nor_other_receivers(
    serve: Serve, inbox: Receiver, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "POST_S", 0.5 if trouble != HANG else 3600.0)
    async with receiver(always=trouble) as bad, serve(agents=allow(inbox, bad)) as served, served.http() as http:
        client = await served.client(http, streaming=False)
        for number in range(100):
            await last(client, told("hello", bad, message_id=f"bad-{number}"))
        await bad.has(2)
        await last(client, told("talk", inbox, message_id="good"))
        assert len(await inbox.ended()) == 6
        if trouble == ENDLESS:  # its status was good: nobody waits for the rest
            await bad.has(200, seconds=30)
        if trouble == DRIP:
            await bad.has(6)


@IN_MEMORY
async def test_nobody_sees_or_changes_another_ones_configurations(serve: Serve, inbox: Receiver) -> None:
    async with serve(http=HTTP, agents=allow(inbox)) as served, served.http("kim") as kim, served.http("lee") as lee:
        mine, other = await served.client(kim, streaming=False), await served.client(lee, streaming=False)
        task = await last(mine, told("ask", inbox, id="one"))
        named: dict[str, Any] = {"task_id": task.id, "id": "one"}
        for attempt in (
            other.create_task_push_notification_config(TaskPushNotificationConfig(**named, url=f"{inbox.url}/x")),
            other.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(**named)),
            other.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=task.id)),
            other.delete_task_push_notification_config(DeleteTaskPushNotificationConfigRequest(**named)),
        ):
            with pytest.raises(TaskNotFoundError):
                await attempt
        listed = ListTaskPushNotificationConfigsRequest(task_id=task.id)
        assert len((await mine.list_task_push_notification_configs(listed)).configs) == 1
