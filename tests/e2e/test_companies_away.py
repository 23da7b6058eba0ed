"""Company research while its database is killed: callers are told to come again, and the job waits and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import own_postgres
import pytest
import research_standin
from grown import Agent, Process, free_port, until
from research_standin import SCHEMA, facts

pytestmark = pytest.mark.timeout(120)
ALERT = {
    "version": "4", "groupKey": "g", "status": "firing", "receiver": "r",
    "alerts": [{"labels": {"alertname": "Down", "service": "blog"}, "status": "firing",
                "startsAt": "2026-01-01T00:00:00Z"}],
}  # fmt: skip
NAMES = [f"Company {n}" for n in range(40)]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[tuple[Agent, own_postgres.Postgres]]:
    """A coordinator with its workers in one process, and the PostgreSQL that it works on."""
    with ExitStack() as stack:
        database = own_postgres.Postgres()
        stack.callback(database.stop)
        database.start()
        port, own = free_port(), free_port()
        base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        command = [sys.executable, research_standin.__file__, str(port), str(tmp_path / "calls"), "0.2"]
        standin = Process("standin", command, base, port, tmp_path / "standin.log")
        environment = base | {
            "QUARTERDECK_HOME": str(tmp_path),
            "QUARTERDECK_FLOWS_DATABASE": f"{database.address}/postgres",
            "QUARTERDECK_AGENTS_SERVERS": f"research=http://127.0.0.1:{port}/research",
            "QUARTERDECK_COMPANIES_WINDOW": "8",
        }
        command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "agents", "--port", str(own)]
        agent = Agent("coordinator", command, environment, own, tmp_path / "agent.log")
        database.wait()
        for one in (standin, agent):
            stack.callback(one.kill)
            one.start()
        until(lambda: standin.serves() and agent.serves(), "all of them serve", 60)
        yield agent, database


@pytest.mark.parametrize("outage_s", [0.0, pytest.param(20.0, marks=pytest.mark.weather)])
def test_a_killed_database_costs_time_and_nothing_else(
    office: tuple[Agent, own_postgres.Postgres], tmp_path: Path, outage_s: float
) -> None:
    agent, database = office
    agent.ask("POST", "/research/batch", {"companies": NAMES, "extraction_schema": SCHEMA, "id": "j"})

    def job() -> dict[str, Any]:
        answer = agent.ask("GET", "/jobs/j")
        return dict(answer.json()) if answer.status_code == 200 else {}

    until(lambda: job().get("done", 0) >= 8, "it is under way", 30)
    database.kill()
    away = until(
        lambda: answer if (answer := agent.ask("GET", "/jobs/j")).status_code != 200 else None, "it is seen", 9
    )
    assert (away.status_code, away.json()["error"][:9]) == (503, "Try again")
    assert int(away.headers["retry-after"]) > 0
    if outage_s:
        told = agent.ask("POST", "/agent/alerts", ALERT, timeout=40)
        assert told.status_code == 503, "Alertmanager sends it again then, and only then"
        time.sleep(outage_s)
    database.start()
    until(lambda: job().get("state") not in ("running", None), "it ends", 60)
    assert (job()["state"], job()["why"], job()["good"]) == ("completed", "", len(NAMES))
    found = agent.ask("GET", "/jobs/j/results?limit=100").json()["results"]
    assert {one["company_name"]: one["data"] for one in found} == {name: facts(name) for name in NAMES}
    twice = {line: n for line, n in Counter((tmp_path / "calls").read_text().splitlines()).items() if n > 1}
    assert len([line for line in twice if line.startswith("research")]) <= 8, "what was in flight, and no more"
    assert "Traceback" not in (tmp_path / "agent.log").read_text()


@pytest.mark.parametrize("worker", ["", "storage"])
def test_who_starts_while_the_database_is_away_says_so_in_a_sentence_and_ends(tmp_path: Path, worker: str) -> None:
    place = f"postgresql://keel:hidden@127.0.0.1:{free_port()}/postgres"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "QUARTERDECK_HOME": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "agents", "--port", "0", *worker.split()]
    ran = subprocess.run(
        command, env=environment | {"QUARTERDECK_FLOWS_DATABASE": place}, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode != 0
    assert "onnection refused" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "hidden" not in ran.stderr
