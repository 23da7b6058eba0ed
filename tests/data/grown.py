"""The grown set-up as deploy/ has it, on loopback: PostgreSQL, Redis, coordinators and four kinds of workers, each a
process of its own that can be killed and that comes up again as under a supervisor; around a simulated internet."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import own_postgres
from simulated import internet
from simulated_web import SCHEMA, names

TOKEN = "qd_fleet"
SOON_S = 1.0
"""What a supervisor waits before it starts again what did not start."""


class Member(Protocol):
    name: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def serves(self) -> bool: ...
    def tend(self) -> None: ...


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(look: Callable[[], Any], what: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


@dataclass
class Process:
    """A process on its port. One that ends by itself is started again, a moment later."""

    name: str
    command: list[str]
    environment: dict[str, str]
    port: int
    log: Path
    ended: float = 0.0
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.ended = 0.0
        self.starts += 1

    def tend(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.ended = self.ended or time.monotonic()
            if time.monotonic() - self.ended >= SOON_S:
                self.start()

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def serves(self) -> bool:
        with socket.socket() as one:
            one.settimeout(1)
            return one.connect_ex(("127.0.0.1", self.port)) == 0


class Agent(Process):
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serves(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz", timeout=2).text == "ok\n"
        return False

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 20) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=timeout)


class Database(own_postgres.Postgres):
    name = "postgres"

    def kill(self) -> None:
        with suppress(FileNotFoundError):
            super().kill()

    def serves(self) -> bool:
        with suppress(AssertionError, Exception):
            self.wait()
            return True
        return False

    def tend(self) -> None:
        """It stays up."""


@dataclass
class Fleet:
    web: str
    calls: Path
    """What the simulated internet was asked: a line for each call."""
    home: Path
    members: list[Member] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    """Members that stay down until they are started by hand."""

    def named(self, kind: str) -> list[Any]:
        return [one for one in self.members if one.name.rpartition("-")[0] == kind or one.name == kind]

    def tend(self) -> None:
        for one in self.members:
            if one.name not in self.down:
                one.tend()

    def kill(self, one: Member) -> None:
        self.down.add(one.name)
        one.kill()

    def start(self, one: Member) -> None:
        one.start()
        self.down.discard(one.name)

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """What a coordinator answers; None when none does just now."""
        for one in self.named("coordinator"):
            with suppress(httpx.TransportError):
                answer: httpx.Response = one.ask(method, path, body)
                if answer.status_code < 400:
                    return answer
                self.refused.append(f"{answer.status_code} {answer.text[:200]}")
                assert answer.status_code == 503, f"{method} {path}: {answer.status_code} {answer.text}"
        return None

    refused: list[str] = field(default_factory=list)

    def submit(self, job: str, count: int) -> None:
        body = {"companies": names(count), "extraction_schema": SCHEMA, "id": job}
        until(lambda: self.ask("POST", "/research/batch", body), "the job is taken", 60)

    def job(self, id: str) -> dict[str, Any]:
        """How the job stands; empty while nobody says."""
        answer = self.ask("GET", f"/jobs/{id}")
        return {} if answer is None else dict(answer.json())

    def results(self, id: str) -> list[dict[str, Any]]:
        text = until(lambda: self.ask("GET", f"/jobs/{id}/results?stream=1"), "results come", 60).text
        return [json.loads(line) for line in text.splitlines()]

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []


@contextmanager
def fleet(
    home: Path, *, coordinators: int, workers: dict[str, int], at_once: str, window: int = 200, **web: float
) -> Iterator[Fleet]:
    """All of them up. `workers`: how many of each kind; `at_once`: as QUARTERDECK_COMPANIES_AT_ONCE has it."""
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        calls = home / "calls"
        own = Fleet(stack.enter_context(internet(log=calls, **web)), calls, home)
        postgres = Database()
        stack.callback(postgres.stop)
        postgres.start()
        postgres.wait()
        port = free_port()
        (home / "redis").mkdir()
        kept = ["--dir", str(home / "redis"), "--appendonly", "yes", "--save", ""]
        redis = Process(
            "redis", ["redis-server", "--bind", "127.0.0.1", "--port", str(port), *kept],
            {"PATH": os.environ["PATH"]}, port, home / "redis.log",
        )  # fmt: skip
        settings = home / "quarterdeck.toml"
        settings.write_text(
            f'[[http.tokens]]\nname = "fleet"\nsha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n'
            f'scopes = ["read", "spend"]\n[companies]\ntoken = "{TOKEN}"\n'
            f'[flows]\ndatabase = "{postgres.address}/postgres"\n'
            f'[research]\nprovider = "tavily"\norder = ["tavily"]\nredis_url = "redis://127.0.0.1:{port}/0"\n'
            f'tavily_url = "{own.web}"\ntavily_key = "tvly-simulated"\nlimits = {{tavily = "100000/min"}}\n'
            f'[model]\napi_key = "sk-simulated"\nbase_url = "{own.web}"\n'
        )
        places = {kind: [free_port() for _ in range(number)] for kind, number in workers.items()}
        shared = {"QUARTERDECK_COMPANIES_WINDOW": str(window)}
        for kind, ports in places.items():
            shared[f"QUARTERDECK_COMPANIES_{kind.upper()}"] = " ".join(f"http://127.0.0.1:{one}" for one in ports)
        places["coordinator"] = [free_port() for _ in range(coordinators)]
        agents = []
        for kind, ports in places.items():
            for n, port in enumerate(ports):
                name = f"{kind}-{n + 1}"
                (home / name).mkdir()
                environment = {
                    "PATH": os.environ["PATH"],
                    "HOME": str(home / name),
                    "QUARTERDECK_HOME": str(home / name),
                    "QUARTERDECK_CONFIG": str(settings),
                    "QUARTERDECK_COMPANIES_AT_ONCE": at_once,
                    **(shared if kind == "coordinator" else {}),
                }
                command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "agents"]
                command += ["--port", str(port), *([] if kind == "coordinator" else [kind])]
                agents.append(Agent(name, command, environment, port, home / f"{name}.log"))
        for one in (redis, *agents):
            stack.callback(one.kill)
            one.start()
        own.members = [postgres, redis, *agents]

        def up() -> bool:
            own.tend()
            return all(one.serves() for one in own.members)

        until(up, "the fleet is up", 180)
        yield own
