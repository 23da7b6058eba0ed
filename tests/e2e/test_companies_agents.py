"""Company research as processes: coordinator and workers apart, killed in the middle of a job; A2A and REST."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from research_standin import SCHEMA, facts

pytestmark = pytest.mark.timeout(240)
DATA = Path(__file__).parents[1] / "data"
NAMES = [f"Company {n}" for n in range(60)]
WORKERS = ("research", "extraction", "reflection", "storage")


def until(look: Callable[[], Any], what: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Process:
    """`quarterdeck agents …` that can be killed and started again on its port."""

    def __init__(self, home: Path, worker: str, **settings: str) -> None:
        self.worker, self.home, self.port = worker, home, free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "QUARTERDECK_HOME": str(home),
            **{f"QUARTERDECK_{name}": value for name, value in settings.items()},
        }
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "agents", "--port", str(self.port)]
        command += [self.worker] if self.worker else []
        log = (self.home / f"{self.worker or 'coordinator'}.log").open("ab")
        self.process = subprocess.Popen(command, env=self.environment, stderr=log, stdin=subprocess.DEVNULL)
        log.close()

    def wait(self) -> None:
        def up() -> bool:
            try:
                return httpx.get(f"{self.url}/healthz", timeout=2).text == "ok\n"
            except httpx.TransportError:
                return False

        until(up, f"{self.worker or 'the coordinator'} serves", 60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=30)

    def post(self, path: str, body: Any, timeout: float = 60) -> httpx.Response:
        headers = {"a2a-version": "1.0", "content-type": "application/json"}
        return httpx.post(f"{self.url}{path}", content=json.dumps(body), headers=headers, timeout=timeout)

    def job(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/jobs/{id}").json()
        return found


@contextmanager
def standin(home: Path, latency_s: float) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, str(DATA / "research_standin.py"), str(port), str(home / "calls"), str(latency_s)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def up() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(up, "the stand-in serves", 30)
        yield f"http://127.0.0.1:{port}/research"
    finally:
        process.kill()
        process.wait()


def calls(home: Path) -> Counter[str]:
    """How often each piece of work was done."""
    return Counter((home / "calls").read_text().splitlines())


def check(coordinator: Process, home: Path, in_flight: int) -> None:
    found = [json.loads(line) for line in coordinator.get("/jobs/j/results?stream=1").text.splitlines()]
    assert [one["n"] for one in found] == list(range(len(NAMES)))
    assert {one["company_name"]: one["data"] for one in found} == {name: facts(name) for name in NAMES}
    assert {one["state"] for one in found} == {"complete"}
    job = coordinator.job("j")
    assert (job["done"], job["good"], job["failed"]) == (60, 60, 0)
    done = calls(home)
    assert job["iterations"] == sum(1 for line in done if line.startswith("research"))
    again = sum(number - 1 for line, number in done.items() if line.startswith("research"))
    assert again <= in_flight, "only what was in flight at a kill is done again"


def test_a_job_survives_the_kill_of_its_coordinator_and_of_workers(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(standin(tmp_path, 0.2))
        apart = {
            name: Process(tmp_path, name, AGENTS_SERVERS=f"research={server}", COMPANIES_AT_ONCE="research=4")
            for name in ("research", "extraction")
        }
        places = {f"COMPANIES_{name.upper()}": one.url for name, one in apart.items()}
        limits = "research=4,extraction=4,reflection=4"
        coordinator = Process(tmp_path, "", AGENTS_SERVERS=f"research={server}", COMPANIES_AT_ONCE=limits, **places)
        everybody = [*apart.values(), coordinator]
        for one in everybody:
            stack.callback(one.kill)
        for one in everybody:
            one.wait()
        body = {"companies": NAMES, "extraction_schema": SCHEMA, "id": "j"}
        assert coordinator.post("/research/batch", body).json()["total_companies"] == 60
        kills = 0
        for done, victim in ((8, apart["extraction"]), (20, coordinator), (32, apart["research"]), (44, coordinator)):
            until(lambda done=done: coordinator.job("j")["done"] >= done, f"{done} are done", 60)
            victim.kill()
            kills += 1
            victim.start()
            victim.wait()
        until(lambda: coordinator.job("j")["state"] == "completed", "the job is completed", 60)
        check(coordinator, tmp_path, in_flight=4 * kills)
        again = coordinator.post("/research/batch", body)
        assert (again.status_code, again.json()["status"]) == (202, "completed")
        log = (tmp_path / "coordinator.log").read_text()
        assert "Traceback" not in log


def rpc(one: Process, method: str, params: dict[str, Any]) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    found: dict[str, Any] = one.post("/companies/", body, 100).json()
    assert "error" not in found, found
    return dict(found["result"])


def test_a_person_starts_a_batch_over_a2a_and_reads_the_table_and_rest_does_one_company(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(standin(tmp_path, 0.02))
        coordinator = Process(tmp_path, "", AGENTS_SERVERS=f"research={server}")
        stack.callback(coordinator.kill)
        coordinator.wait()
        card = coordinator.get("/companies/.well-known/agent-card.json").json()
        assert [skill["id"] for skill in card["skills"]] == ["research_companies"]
        text = "research ACME, =Foo GmbH and Bar with fields ceo, founded"
        message = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}
        task = rpc(coordinator, "SendMessage", {"message": message})["task"]
        assert task["status"]["state"] == "TASK_STATE_COMPLETED", task
        said = task["status"]["message"]["parts"][0]["text"]
        assert re.match(r"Job a2a-\w+: 3 of 3 companies done", said)
        summary, table = task["artifacts"]
        assert [one["company_name"] for one in summary["parts"][0]["data"]["results"]] == ["ACME", "=Foo GmbH", "Bar"]
        rows = list(csv.DictReader(io.StringIO(table["parts"][0]["text"])))
        assert [row["company_name"] for row in rows] == ["ACME", "'=Foo GmbH", "Bar"]
        assert rows[0]["ceo"] == facts("ACME")["ceo"]
        assert "city" not in rows[0]
        wrong = {"message": {"messageId": "m-2", "role": "ROLE_USER", "parts": [{"text": "What is the weather?"}]}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": wrong}
        assert "research ACME" in coordinator.post("/companies/", body).json()["error"]["message"]

        one = coordinator.post("/research/single", {"company_name": "Solo", "extraction_schema": SCHEMA})
        assert (one.status_code, one.json()["data"]) == (200, facts("Solo"))
        for body, said in (
            (
                {"company_name": "Solo", "extraction_schema": {"properties": {"a": {"type": "odd"}}}},
                "no valid JSON schema",
            ),
            ({"company_name": 7}, "must be the name"),
            ({"company_name": "Solo", "priority": float("inf")}, "`priority` must be a whole number"),
            ({"company_name": "Solo", "extraction_schema": {"properties": {"a\ud800": {}}}}, "must be plain JSON"),
            ({"company_name": "Solo", "colour": 1}, "no field 'colour'"),
        ):
            wrong_one = coordinator.post("/research/single", body)
            assert (wrong_one.status_code, said in wrong_one.json()["error"]) == (400, True), wrong_one.text
        assert coordinator.get("/jobs/nothing").status_code == 404
        names = [f"Company {n}" for n in range(30)]
        coordinator.post("/research/batch", {"companies": names, "fields": ["ceo"], "id": "pages"})
        until(lambda: coordinator.job("pages")["state"] == "completed", "it is completed", 30)
        page = coordinator.get("/jobs/pages/results?limit=20").json()
        rest = coordinator.get(f"/jobs/pages/results?limit=20&after={page['next_after']}").json()
        assert [one["n"] for one in page["results"] + rest["results"]] == list(range(30))
        assert rest["next_after"] is None
        assert {job["id"] for job in coordinator.get("/jobs").json()["jobs"]} >= {"pages"}
        assert len(coordinator.get("/research/history?company=solo").json()["results"]) == 1
