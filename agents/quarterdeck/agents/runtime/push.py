"""Push notifications: what happens to a task is posted to an address its caller named.

Addresses pass the SSRF guard, each body is signed (a JWT over its SHA-256, keys at `/.well-known/jwks.json`), a failed
post is tried again with growing pauses, and a restart goes on where the last delivery ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from a2a.types.a2a_pb2 import TaskPushNotificationConfig
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict, MessageToJson, Parse

from quarterdeck.agents.runtime import tasks
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import check_url, guarded_client

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from quarterdeck.agents.runtime.handler import Engine

log = logging.getLogger(__name__)
MOST_OF_ONE = 10
"""Configurations that one task may have."""
TRIES = 6
FIRST_PAUSE_S = 0.5
AT_ONCE = 20
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS push (task TEXT NOT NULL, id TEXT NOT NULL, config TEXT NOT NULL,"
    " seen INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (task, id))"
)


class Push:
    def __init__(self, home: Path, allow: Iterable[str] = ()) -> None:
        self._home, self._allow = home, tuple(allow)
        self._engine: Engine | None = None
        self._following: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._http: httpx.AsyncClient | None = None
        self._key: EllipticCurvePrivateKey | None = None

    async def start(self, engine: Engine) -> None:
        """Go on with what was not delivered when the last process ended."""
        self._engine = engine
        self._http = guarded_client(10.0, allow=self._allow)
        for task, config, seen in await asyncio.to_thread(self._open):
            self._follow(task, config, seen)

    async def close(self) -> None:
        for following in self._following.values():
            following.cancel()
        await asyncio.gather(*self._following.values(), return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    # Configurations

    async def add(self, task: str, given: TaskPushNotificationConfig) -> TaskPushNotificationConfig:
        if not given.url:
            raise Refusal("A push configuration needs a url.")
        await check_url(given.url, allow=self._allow)
        config = TaskPushNotificationConfig()
        config.CopyFrom(given)
        config.task_id, config.id = task, config.id[:200] or str(uuid.uuid4())
        await asyncio.to_thread(self._save, task, config)
        if self._engine is not None:
            self._follow(task, config, 0)
        return config

    async def of(self, task: str) -> list[TaskPushNotificationConfig]:
        return await asyncio.to_thread(self._read, task)

    async def remove(self, task: str, id: str) -> None:
        following = self._following.pop((task, id), None)
        if following is not None:
            following.cancel()
        await asyncio.to_thread(self._run, "DELETE FROM push WHERE task = ? AND id = ?", task, id)

    # Delivery

    def _follow(self, task: str, config: TaskPushNotificationConfig, seen: int) -> None:
        known = self._following.pop((task, config.id), None)
        if known is not None:
            known.cancel()
        following = asyncio.create_task(self._deliver(task, config, seen), name=f"push {task}")
        self._following[task, config.id] = following

    async def _deliver(self, task: str, config: TaskPushNotificationConfig, seen: int) -> None:
        assert self._engine is not None
        engine = self._engine
        try:
            for _ in range(100):  # the configuration is stored just before its flow begins
                try:
                    flow = await engine.status(task)
                    break
                except Refusal:
                    await asyncio.sleep(0.05)
            else:
                return
            async with aclosing(engine.watch(task, seen)) as items:  # type: ignore[type-var]
                async for item in items:
                    ended = item.kind == "end"
                    events = tasks.ending(await engine.status(task)) if ended else tasks.events(flow, item)
                    for event in events:
                        await self._post(config, event)
                    await asyncio.to_thread(
                        self._run,
                        "UPDATE push SET seen = ?, done = ? WHERE task = ? AND id = ?",
                        item.cursor, int(ended), task, config.id,
                    )  # fmt: skip
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("push notifications of %s broke off", task)
        finally:
            self._following.pop((task, config.id), None)

    async def _post(self, config: TaskPushNotificationConfig, event: tasks.Event) -> None:
        body = json.dumps(MessageToDict(to_stream_response(event)), ensure_ascii=False).encode()
        headers = {"content-type": "application/a2a+json", "x-a2a-signature": self._signature(body)}
        if config.token:
            headers["x-a2a-notification-token"] = config.token
        if config.authentication.scheme and config.authentication.credentials:
            headers["authorization"] = f"{config.authentication.scheme} {config.authentication.credentials}"
        assert self._http is not None
        for attempt in range(TRIES):
            problem: object
            try:
                async with (
                    self._slots,
                    self._http.stream("POST", config.url, content=body, headers=headers) as response,
                ):
                    if response.status_code < 300:
                        return
                    problem = response.status_code
                if isinstance(problem, int) and problem < 500 and problem not in (408, 429):
                    break
            except Refusal as error:
                log.warning("a push notification is not sent: %s", error)
                return
            except httpx.HTTPError as error:
                problem = type(error).__name__
            await asyncio.sleep(FIRST_PAUSE_S * 2**attempt)
        log.warning("a push notification of task %s was not accepted (%s)", config.task_id, problem)

    # Signing

    def _signature(self, body: bytes) -> str:
        import jwt

        now = int(time.time())
        claims = {"iss": "quarterdeck", "iat": now, "exp": now + 300, "request_body_sha256": _hash(body)}
        return jwt.encode(claims, self._private(), algorithm="ES256", headers={"kid": self._kid()})

    def keys(self) -> dict[str, Any]:
        """The public keys, as a JSON web key set."""
        from jwt.algorithms import ECAlgorithm

        public = json.loads(ECAlgorithm.to_jwk(self._private().public_key()))
        return {"keys": [{**public, "kid": self._kid(), "use": "sig", "alg": "ES256"}]}

    def _kid(self) -> str:
        numbers = self._private().public_key().public_numbers()
        return _hash(f"{numbers.x}.{numbers.y}".encode())[:16]

    def _private(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        if self._key is None:
            path = self._home / "push.key"
            if not path.exists():
                made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
                self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
                own = path.with_name(f"push.key.{os.getpid()}")
                own.touch(mode=0o600)
                own.write_bytes(made)
                try:
                    os.link(own, path)  # the first of two processes that start together gives the key
                except FileExistsError:
                    pass
                own.unlink()
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
        return self._key

    # The database

    def _db(self) -> sqlite3.Connection:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self._home / "push.db", timeout=10, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(SCHEMA)
        return db

    def _run(self, statement: str, *values: Any) -> None:
        with closing(self._db()) as db:
            db.execute(statement, values)

    def _save(self, task: str, config: TaskPushNotificationConfig) -> None:
        with closing(self._db()) as db:
            others = db.execute("SELECT count(*) FROM push WHERE task = ? AND id <> ?", (task, config.id)).fetchone()[0]
            if others >= MOST_OF_ONE:
                raise Refusal(f"A task may have {MOST_OF_ONE} push configurations. Delete one first.")
            db.execute(
                "INSERT INTO push (task, id, config) VALUES (?, ?, ?)"
                " ON CONFLICT (task, id) DO UPDATE SET config = excluded.config",
                (task, config.id, MessageToJson(config)),
            )
            recent = "SELECT rowid FROM push ORDER BY rowid DESC LIMIT 5000"
            db.execute(f"DELETE FROM push WHERE done = 1 AND rowid NOT IN ({recent})")
        (self._home / "push.db").chmod(0o600)

    def _read(self, task: str) -> list[TaskPushNotificationConfig]:
        with closing(self._db()) as db:
            rows = db.execute("SELECT config FROM push WHERE task = ? ORDER BY rowid", (task,)).fetchall()
        return [Parse(row[0], TaskPushNotificationConfig()) for row in rows]

    def _open(self) -> list[tuple[str, TaskPushNotificationConfig, int]]:
        if not (self._home / "push.db").exists():
            return []
        with closing(self._db()) as db:
            rows = db.execute("SELECT task, config, seen FROM push WHERE done = 0 LIMIT 5000").fetchall()
        return [(row[0], Parse(row[1], TaskPushNotificationConfig()), row[2]) for row in rows]


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
