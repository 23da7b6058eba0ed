"""`quarterdeck companies` as a person at a terminal meets it: real processes, real workers, real storage."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from companies_command import COMMAND, EXAMPLE, ROOT, Searx, companies, rows, run, searching, start, status, until_done

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def searx() -> Iterator[Searx]:
    made = Searx()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A person who has set nothing."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "QUARTERDECK_HOME": str(tmp_path / "home")}


def test_the_example_works_with_nothing_set_and_the_same_command_again_only_writes_its_table(
    environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    command = ("run", "examples/companies/companies.csv", *EXAMPLE, "--out", str(out))
    done = run(environment, *command)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "No model key is set: rules read the pages." in done.stderr
    found = rows(out)
    with (ROOT / "examples/companies/companies.csv").open(encoding="utf-8-sig", newline="") as file:
        names = [one["company_name"] for one in csv.DictReader(file)]
    (tmp_path / "mine").touch()
    assert out.stat().st_mode == (tmp_path / "mine").stat().st_mode, "whoever may read a file of mine may read this one"
    assert [one["company_name"] for one in found] == list(dict.fromkeys(names))
    assert sum(1 for one in found if one["ceo"]) > len(found) / 3, "rules find some of it"
    assert all(json.loads(one["sources"]) for one in found if one["ceo"]), "each with where it stands"
    out.unlink()
    again = run(environment, *command)
    assert again.returncode == done.returncode
    assert "is done already; --again would do it anew." in again.stderr
    assert rows(out) == found
    written = run(environment, "results", status(environment)["id"], "--out", str(tmp_path / "r.xlsx"))
    assert written.stdout == f"{len(found)} results stand in {tmp_path / 'r.xlsx'}.\n", written.stderr


def test_a_killed_run_goes_on_by_the_same_command_and_does_no_company_twice(
    environment: dict[str, str], searx: Searx, tmp_path: Path
) -> None:
    environment = searching(environment, searx)
    command = companies(tmp_path, *(f"Known {n}" for n in range(120)))
    searx.delay_s = 0.3
    killed = start(environment | {"QUARTERDECK_COMPANIES_AT_ONCE": "research=4"}, *command)
    until_done(environment, 8, killed)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "results.csv").exists()
    before = status(environment)["done"]
    assert 8 <= before < 120
    searx.delay_s = 0.0
    done = run(environment, *command)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"goes on: {before} of 120 companies are done", done.stderr)
    found = rows(tmp_path / "results.csv")
    assert [one["company_name"] for one in found] == [f"Known {n}" for n in range(120)]
    assert {one["state"] for one in found} == {"complete"}
    assert sum(searx.asked.values()) <= 120 + 8, "only what was in flight was asked again"


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            cwd=ROOT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def until(self, pattern: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, self.said
            if not self._read() and self.process.poll() is not None:
                self._read()
                assert re.search(pattern, self.said), self.said
                return

    def end(self, seconds: float = 40) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said
            self._read()
        while self._read():
            pass
        return int(self.process.returncode)

    def type(self, text: str) -> None:
        os.write(self.ours, f"{text}\n".encode())

    def _read(self) -> bool:
        if not select.select([self.ours], [], [], 0.2)[0]:
            return False
        try:
            self.said += os.read(self.ours, 65536).decode(errors="replace")
        except OSError:
            return False
        return True


def test_ctrl_c_stops_and_says_how_to_go_on(environment: dict[str, str], searx: Searx, tmp_path: Path) -> None:
    environment = searching(environment, searx)
    command = companies(tmp_path, *(f"Known {n} 한빛" for n in range(100)))
    searx.delay_s = 0.3
    with Terminal(environment | {"QUARTERDECK_COMPANIES_AT_ONCE": "research=4"}, *command) as terminal:
        terminal.until(r"█+░+  \d+/100 \d+%")
        terminal.until(r"[1-9]\d?/100 \d+%")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130, terminal.said
        assert re.search(r"Stopped with \d+ of 100 done and kept. The same command goes on", terminal.said)
        assert "Traceback" not in terminal.said
    assert not (tmp_path / "results.csv").exists()
    searx.delay_s = 0.0
    (tmp_path / "other.csv").write_text("company_name\nKnown 7\n")
    other = run(environment, command[0], str(tmp_path / "other.csv"), *command[2:-1], str(tmp_path / "other-out.csv"))
    assert re.search(r"\(list.csv, \d+ of 100 done\) is unfinished and goes on meanwhile", other.stderr), other.stderr
    assert len(rows(tmp_path / "other-out.csv")) == 1
    done = run(environment, *command)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "results.csv")) == 100


@pytest.mark.weather
def test_a_folder_that_went_away_costs_no_result(environment: dict[str, str], searx: Searx, tmp_path: Path) -> None:
    environment = searching(environment, searx)
    command = companies(tmp_path, *(f"Known {n}" for n in range(20)))
    (tmp_path / "out").mkdir()
    command[-1] = str(tmp_path / "out" / "results.csv")
    searx.delay_s = 0.3
    running = start(environment | {"QUARTERDECK_COMPANIES_AT_ONCE": "research=2"}, *command)
    until_done(environment, 2, running)
    (tmp_path / "out").rmdir()
    said = running.communicate(timeout=60)[1].decode()
    assert running.returncode == 2, said
    assert "there is no folder" in said
    assert "Nothing is lost: the same command writes the table later" in said
    (tmp_path / "out").mkdir()
    asked = sum(searx.asked.values())
    again = run(environment, *command)
    assert again.returncode == 0, again.stderr
    assert len(rows(tmp_path / "out" / "results.csv")) == 20
    assert sum(searx.asked.values()) == asked, "nothing is searched again"


def test_what_failed_is_grouped_and_tried_again_when_asked(
    environment: dict[str, str], searx: Searx, tmp_path: Path
) -> None:
    environment = searching(environment, searx)
    command = companies(tmp_path, "Known 1", "Known 2", "한빛전자")
    searx.down = True
    failed = run(environment | {"QUARTERDECK_COMPANIES_AT_ONCE": "research=1"}, *command)  # one after another
    assert failed.returncode == 1, failed.stderr
    assert re.search(r"  3 × .+  \(Known 1, Known 2, 한빛전자\)", failed.stderr), failed.stderr
    assert "--retry-failed tries them once more" in failed.stderr
    assert {one["state"] for one in rows(tmp_path / "results.csv")} == {"failed"}
    searx.down = False
    assert run(environment, *command).returncode == 1, "it is done; the table is only written anew"
    again = run(environment, *command, "--retry-failed")
    states = {one["company_name"]: one["state"] for one in rows(tmp_path / "results.csv")}
    assert (states["Known 1"], states["Known 2"]) == ("complete", "complete"), again.stderr


def test_while_no_provider_answers_what_was_found_earlier_is_used_and_the_table_says_so(
    environment: dict[str, str], searx: Searx, tmp_path: Path
) -> None:
    environment = searching(environment, searx) | {"QUARTERDECK_RESEARCH_SEARCH_TTL_S": "0.001"}
    command = companies(tmp_path, "Known 1", "Known 2")
    assert run(environment, *command).returncode == 0
    searx.down = True
    old = run(environment, *command, "--again")
    assert old.returncode == 0, old.stderr
    for one in rows(tmp_path / "results.csv"):
        assert (one["state"], one["ceo"]) == ("complete", "Ann Lee")
        assert "stale: search providers did not answer" in one["problem"]
    assert run(environment | {"QUARTERDECK_RESEARCH_STALE_S": "0"}, *command, "--again").returncode == 1
    assert {one["state"] for one in rows(tmp_path / "results.csv")} == {"failed"}


def test_jobs_are_listed_shown_and_remembered_by_company(
    environment: dict[str, str], searx: Searx, tmp_path: Path
) -> None:
    environment = searching(environment, searx)
    assert run(environment, "list").stdout.startswith("There is no job yet.")
    command = companies(tmp_path, "Known 7", "Nobody knows")
    assert run(environment, *command).returncode in (0, 1)
    job = status(environment)
    assert (job["total"], job["done"], job["state"], job["label"]) == (2, 2, "completed", "list.csv")
    assert job["id"] in run(environment, "list").stdout
    shown = run(environment, "results", job["id"]).stdout
    assert re.search(r"complete\s+Known 7\s+100%\s+ceo Ann Lee, founded 1999$", shown, re.MULTILINE), shown
    assert "Nobody knows" in shown
    history = run(environment, "history", "known  7", "--json").stdout.splitlines()
    assert [json.loads(line)["company_name"] for line in history] == ["Known 7"]
    assert "Nothing was found out about 'Acme' yet." in run(environment, "history", "Acme").stdout
    again = run(environment, *command, "--again")
    assert again.returncode in (0, 1), again.stderr
    assert status(environment)["id"] == f"{job['id']}-2"
    assert len(run(environment, "history", "Known 7", "--json").stdout.splitlines()) == 2


@pytest.mark.weather
def test_a_job_is_cancelled_from_another_terminal_and_taken_up_again(
    environment: dict[str, str], searx: Searx, tmp_path: Path
) -> None:
    environment = searching(environment, searx)
    command = companies(tmp_path, *(f"Known {n}" for n in range(200)))
    searx.delay_s = 0.3
    running = start(environment | {"QUARTERDECK_COMPANIES_AT_ONCE": "research=2"}, *command)
    until_done(environment, 2, running)
    said = run(environment, "cancel", status(environment)["id"])
    assert "is cancelled" in said.stdout, said.stderr
    told = running.communicate(timeout=60)[1].decode()
    assert running.returncode == 1, told
    assert "is cancelled" in told
    searx.delay_s = 0.0
    done = run(environment, *command)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "results.csv")) == 200


def test_a_dry_run_says_what_it_takes_and_does_nothing(environment: dict[str, str], searx: Searx) -> None:
    done = run(environment, "run", "examples/companies/companies.csv", *EXAMPLE, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"companies +\d+\n", done.stdout)
    assert "model calls  none" in done.stdout
    assert run(environment, "list").stdout.startswith("There is no job yet.")


def test_money_is_spent_only_by_a_yes(environment: dict[str, str], searx: Searx, tmp_path: Path) -> None:
    environment = environment | {
        "QUARTERDECK_RESEARCH_PROVIDER": "tavily",
        "QUARTERDECK_RESEARCH_TAVILY_KEY": "tvly-test",
        "QUARTERDECK_RESEARCH_TAVILY_URL": searx.url,
    }
    command = companies(tmp_path, "Known 1")
    refused = run(environment, *command)
    assert refused.returncode == 2
    assert "This will cost an unknown sum: --dry-run shows why, --yes begins." in refused.stderr
    with Terminal(environment, *command) as terminal:
        terminal.until("Type yes to begin: ")
        assert "no price of tavily is set" in terminal.said
        terminal.type("no")
        assert terminal.end() == 2
        assert "Nothing was begun." in terminal.said
    assert "--budget needs prices" in run(environment, *command, "--budget", "1").stderr
    assert not searx.asked
    assert run(environment, "list").stdout.startswith("There is no job yet.")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "nowhere.csv", "--schema", "s.json"), "There is no file s.json. `quarterdeck companies schema basics"),
        (("run", "nowhere.csv", *EXAMPLE), "There is no file nowhere.csv"),
        (("run", "README.md", "--schema", "README.md"), "README.md is not JSON"),
        (("run", "examples/companies/companies.csv", "--schema", "examples/companies/schema.json"),
         "Nothing to search is set up"),
        (("run", "examples/companies/companies.csv", *EXAMPLE, "--out", "x.doc"), "should end in .csv"),
        (("run", "examples/companies/companies.csv", *EXAMPLE, "--out", "/nowhere/x.csv"), "there is no folder"),
        (("run", "examples/companies/companies.csv", *EXAMPLE, "--mode", "model"), "set ANTHROPIC_API_KEY"),
        (("run", "examples/companies/companies.csv", *EXAMPLE, "--iterations", "9"), "--iterations takes a number"),
        (("run", "examples/companies/companies.csv", "--schema", "examples/companies/schema.json",
          "--provider", "tavily"), "--provider tavily is not set up: set QUARTERDECK_RESEARCH_TAVILY_KEY"),
        (("results",), "There is no job yet"),
        (("results", "job-nothere"), "There is no job 'job-nothere'. `quarterdeck companies list`"),
        (("cancel", "job-nothere"), "There is no job 'job-nothere'"),
        (("status",), "There is no job yet"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_sentence(
    environment: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    done = run(environment, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_the_bare_command_says_what_it_can_do(environment: dict[str, str]) -> None:
    done = run(environment)
    assert done.returncode == 0
    assert "research the companies of a file" in done.stdout
    assert "examples/companies/companies.csv" in done.stdout


def test_a_schema_to_start_from_can_be_used_as_it_is(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("basics", "people", "finance"):
        printed = run(environment, "schema", name)
        assert printed.returncode == 0
        (tmp_path / f"{name}.json").write_text(printed.stdout)
        more = ("--schema", str(tmp_path / f"{name}.json"), "--corpus", "examples/companies/pages", "--dry-run")
        done = run(environment, "run", "-", *more, stdin="company\nAlder Logistics\n")
        assert done.returncode == 0, done.stderr
        assert "stdin: 1 company in column 'company'." in done.stderr


def test_what_waits_for_the_workers_is_told_to_prometheus(environment: dict[str, str]) -> None:
    command = [*COMMAND[:-1], "agents", "--port", "0"]
    serving = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert serving.stderr is not None
        line = next(line for line in serving.stderr if line.startswith("A2A"))
        url = line.split()[1].removesuffix("/remediation")
        page = ""
        deadline = time.monotonic() + 40
        while not page:
            assert time.monotonic() < deadline
            with suppress(httpx.TransportError):
                page = httpx.get(f"{url}/metrics", timeout=10).text
        for worker in ("research", "extraction", "reflection", "storage"):
            assert f'quarterdeck_pool_waiting{{agent="{worker}"}} 0.0' in page
            assert f'quarterdeck_pool_instances{{agent="{worker}",state="up"}} 1.0' in page
    finally:
        serving.terminate()
        serving.communicate(timeout=30)
