"""Push notifications: what happens to a task is posted to an address its caller named.

Addresses pass the SSRF guard and each body is signed (a JWT over its SHA-256, keys at `/.well-known/jwks.json`). Posts
of one configuration go out in order, each at least once: one that fails is tried again with growing pauses for an hour,
and whatever process delivers after a crash goes on where the last delivery ended. A receiver that answers 4xx has
refused that notification and gets the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import httpx
from a2a.types.a2a_pb2 import TaskPushNotificationConfig
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict

from quarterdeck.agents.runtime import tasks
from quarterdeck.agents.runtime.pushes import HOLD_S, Delivery, Pushes
from quarterdeck.agents.runtime.signing import Signer
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flows import Flow
from quarterdeck.keel.guard import check_url, guarded_client, place_of

if TYPE_CHECKING:
    from quarterdeck.agents.runtime.handler import Engine

log = logging.getLogger(__name__)
POST_S = 10.0
"""One post, however slowly the other side reads and answers."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
GIVE_UP_S = 3600.0
AT_ONCE, AT_ONCE_TO_ONE = 80, 4
"""Posts in flight: in all, and to one receiver, so that a slow one only holds up itself."""
LOOK_S = HOLD_S / 3
LONGEST_URL, LONGEST_SECRET, LONGEST_ID = 2000, 8000, 256


class Push:
    def __init__(self, home: Path, allow: Iterable[str] = ()) -> None:
        self._allow = tuple(allow)
        self._pushes, self._signer = Pushes(home, secrets.token_hex(8)), Signer(home)
        self._engine: Engine | None = None
        self._http = guarded_client(POST_S, allow=self._allow)
        self._following: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._slots_of: WeakValueDictionary[Any, asyncio.Semaphore] = WeakValueDictionary()

    async def start(self, engine: Engine) -> None:
        """Go on with what was not delivered when the last process ended."""
        self._engine = engine
        self._looking = asyncio.create_task(self._look(), name="push")

    async def close(self) -> None:
        running = [*self._following.values(), *([self._looking] if self._looking else [])]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(self._pushes.let_go)
        await self._http.aclose()

    def keys(self) -> dict[str, Any]:
        return self._signer.keys()

    # Configurations

    async def add(self, task: str, given: TaskPushNotificationConfig) -> TaskPushNotificationConfig:
        """Keep a configuration; the same one again, as in a message that is sent again, changes nothing."""
        _check(given)
        await check_url(given.url, allow=self._allow)
        config = TaskPushNotificationConfig()
        config.CopyFrom(given)
        config.task_id, config.id = task, given.id or _name(given)
        delivery = await asyncio.to_thread(self._pushes.save, config)
        if delivery is not None:
            self._follow(delivery)
        return config

    async def of(self, task: str) -> list[TaskPushNotificationConfig]:
        return await asyncio.to_thread(self._pushes.of, task)

    async def remove(self, task: str, id: str) -> None:
        await asyncio.to_thread(self._pushes.remove, task, id)
        following = self._following.pop((task, id), None)
        if following is not None:
            following.cancel()

    # Delivery

    async def _look(self) -> None:
        """Keep hold of what is delivered here; take up what another process left, and what broke off."""
        while True:
            try:
                for delivery in await asyncio.to_thread(self._pushes.held):
                    self._follow(delivery)
            except Exception:
                log.exception("looking for push notifications failed; it is tried again")
            await asyncio.sleep(LOOK_S)

    def _follow(self, delivery: Delivery) -> None:
        key = (delivery.task, delivery.config.id)
        if self._engine is None or key in self._following:
            return
        following = asyncio.create_task(self._deliver(self._engine, delivery), name=f"push {delivery.task}")
        self._following[key] = following
        following.add_done_callback(lambda _: self._over(key, following))

    def _over(self, key: tuple[str, str], following: asyncio.Task[None]) -> None:
        if self._following.get(key) is following:
            del self._following[key]

    async def _deliver(self, engine: Engine, delivery: Delivery) -> None:
        task = delivery.task
        try:
            flow = await _begun(engine, task)
            if flow is None:
                log.warning("task %s never began; its push configuration is dropped", task)
                await asyncio.to_thread(self._pushes.remove, task, delivery.config.id)
                return
            async with aclosing(engine.watch(task, delivery.seen)) as items:
                async for item in items:
                    ended = item.kind == "end"
                    for event in tasks.ending(await engine.status(task)) if ended else tasks.events(flow, item):
                        if not await self._post(delivery, event):
                            return
                    await asyncio.to_thread(self._pushes.delivered, delivery, item.cursor, done=ended)
        except Exception as error:  # the flows' database, for one; it is taken up again soon
            log.warning("push notifications of %s broke off (%s: %s)", task, type(error).__name__, error)

    async def _post(self, delivery: Delivery, event: tasks.Event) -> bool:
        """Whether to go on: the notification was taken or refused, and the configuration is still there."""
        body = json.dumps(MessageToDict(to_stream_response(event)), ensure_ascii=False).encode()
        pause, waited, problem = FIRST_PAUSE_S, 0.0, ""
        while waited < GIVE_UP_S:
            config = await asyncio.to_thread(self._pushes.ours, delivery)
            if config is None:
                return False
            status, problem = await self._send(config, body)
            if 200 <= status < 300:
                return True
            if 0 < status < 500 and status not in (408, 429):
                log.warning("a push notification of task %s was refused (%s)", delivery.task, problem)
                return True
            await asyncio.sleep(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE_S)
        log.warning("push notifications of task %s are given up (%s)", delivery.task, problem)
        await asyncio.to_thread(self._pushes.give_up, delivery)
        return False

    async def _send(self, config: TaskPushNotificationConfig, body: bytes) -> tuple[int, str]:
        """The receiver's status, 0 when there was none, and what is to be said of it. Its body is never read."""
        headers = {"content-type": "application/a2a+json", "x-a2a-signature": self._signer.sign(body)}
        if config.token:
            headers["x-a2a-notification-token"] = config.token
        if config.authentication.scheme and config.authentication.credentials:
            headers["authorization"] = f"{config.authentication.scheme} {config.authentication.credentials}"
        receiver = place_of(config.url)
        slots = self._slots_of.setdefault(receiver, asyncio.Semaphore(AT_ONCE_TO_ONE))
        async with slots, self._slots:
            try:
                async with (
                    asyncio.timeout(POST_S),
                    self._http.stream("POST", config.url, content=body, headers=headers) as response,
                ):
                    return response.status_code, str(response.status_code)
            except (httpx.HTTPError, TimeoutError) as error:
                return 0, type(error).__name__
            except Refusal as error:  # it leads inside now, or its name is not found: perhaps not for long
                return 0, str(error)


async def _begun(engine: Engine, task: str) -> Flow | None:
    """Its flow. The configuration is stored just before the flow begins; None when it never did."""
    for _ in range(100):
        try:
            return await engine.status(task)
        except Refusal:
            await asyncio.sleep(0.1)
    found = await engine.list(prefix=task, limit=1)  # raises when it is the database that is not there
    return found[0] if found else None


def _check(given: TaskPushNotificationConfig) -> None:
    if not given.url:
        raise Refusal("A push configuration needs a url.")
    if len(given.url) > LONGEST_URL or len(given.id) > LONGEST_ID:
        raise Refusal(f"A url may have {LONGEST_URL} characters and an id {LONGEST_ID}. Choose shorter ones.")
    login = given.authentication
    for name, value in (("token", given.token), ("scheme", login.scheme), ("credentials", login.credentials)):
        if len(value) > LONGEST_SECRET or not (value.isascii() and (value.isprintable() or not value)):
            raise Refusal(f"The {name} of a push configuration must be printable ASCII, {LONGEST_SECRET} at most.")


def _name(given: TaskPushNotificationConfig) -> str:
    """The same configuration has the same name, so that it is the same one when it is sent again."""
    bare = TaskPushNotificationConfig()
    bare.CopyFrom(given)
    bare.ClearField("task_id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()[:32]
