"""Flows outlive the processes that run them: killed, stopped and restarted ones, on SQLite and on PostgreSQL."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import own_postgres
import pytest
import sqlalchemy as sa

from quarterdeck.keel import flows
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowdesk import Desk

WORKER = Path(__file__).with_name("flow_worker.py")
PATIENCE_S = 30.0


@dataclass
class Fleet:
    """Worker processes on one database, and what their flows did."""

    database: str
    home: Path
    dead_s: float = 1.5
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def worker(self, host: str = "") -> subprocess.Popen[str]:
        with (self.home / f"log-{len(self.workers)}").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, str(WORKER), self.database, str(self.home), host, str(self.dead_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.workers.append(process)
        return process

    async def ready(self) -> None:
        for process in self.workers:
            assert process.stdout is not None
            if process.poll() is None and not hasattr(process, "was_ready"):
                line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), PATIENCE_S)
                assert line == "ready\n", self.logs()
                process.was_ready = True  # type: ignore[attr-defined]

    def start(self, process: subprocess.Popen[str], id: str, **argument: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{id} {json.dumps(argument)}\n")
        process.stdin.flush()

    def happened(self, id: str) -> list[tuple[str, str, int]]:
        """What the flow did: the step, its key, the process."""
        try:
            lines = (self.home / "happened").read_text().splitlines()
        except FileNotFoundError:
            return []
        rows = [line.split() for line in lines]
        return [(what, key, int(pid)) for flow, what, key, pid in rows if flow == id]

    def times(self, id: str) -> Counter[str]:
        return Counter(what for what, _, _ in self.happened(id))

    def open_gate(self, id: str) -> None:
        (self.home / f"gate-{id}").touch()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():  # noqa: ASYNC110 (other processes make it so)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {PATIENCE_S:.0f} s: {what}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.home.glob("log-*")))

    def end(self) -> None:
        for process in self.workers:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        pass


@pytest.fixture(params=["sqlite", "postgres"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    database = ""
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        name = f"flows_{os.urandom(4).hex()}"
        engine = sa.create_engine(
            f"postgresql+psycopg{server.removeprefix('postgresql')}/postgres", isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        database = f"{server}/{name}"
    made = Fleet(database, tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
async def open_desk(fleet: Fleet) -> AsyncIterator[Callable[[], Awaitable[Desk]]]:
    """A process that looks, answers and cancels, but runs nothing."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(flows.desk(fleet.database, fleet.home))


async def test_the_flow_of_a_killed_process_goes_on_in_exactly_one_other(fleet: Fleet, open_desk: Any) -> None:
    first, second, third = (fleet.worker(host) for host in ("a", "b", "c"))
    await fleet.ready()
    onlooker = await open_desk()
    fleet.start(first, "f1")
    await fleet.until(lambda: fleet.times("f1")["two-begins"] == 1, "step two begins")
    first.kill()
    await fleet.until(lambda: fleet.times("f1")["two-begins"] == 2, "another process takes step two up")
    fleet.open_gate("f1")
    result = await onlooker.result("f1", timeout_s=PATIENCE_S)
    assert result["by"] in (second.pid, third.pid)
    assert fleet.times("f1") == {"one": 1, "two-begins": 2, "two": 1, "three": 1}
    begun = [(key, pid) for what, key, pid in fleet.happened("f1") if what == "two-begins"]
    assert [key for key, _ in begun] == ["f1/2", "f1/2"]
    assert [pid for _, pid in begun] == [first.pid, result["by"]]
    said = [item.text async for item in onlooker.watch("f1") if item.kind == "progress"]
    assert said == ["on its way"]


async def test_a_question_outlives_its_process_and_is_answered_meanwhile(fleet: Fleet, open_desk: Any) -> None:
    worker = fleet.worker()
    await fleet.ready()
    onlooker = await open_desk()
    fleet.open_gate("f2")
    fleet.start(worker, "f2", asks=True)
    await fleet.until(lambda: fleet.times("f2")["two"] == 1, "it did step two")
    async for item in onlooker.watch("f2"):
        if item.kind == "question":
            break
    worker.kill()
    worker.wait(10)
    assert (await onlooker.status("f2")).state == "waiting"
    await onlooker.answer("f2", item.question, {"by": "kim", "text": "yes"})
    fleet.worker()
    await fleet.ready()
    assert (await onlooker.result("f2", timeout_s=PATIENCE_S))["answer"]["by"] == "kim"
    assert fleet.times("f2") == {"one": 1, "two-begins": 1, "two": 1, "three": 1}
    with pytest.raises(Refusal, match="first answer counts"):
        await onlooker.answer("f2", item.question, {"by": "lee"})


async def test_a_process_that_slept_while_its_flow_was_taken_does_nothing_more(fleet: Fleet, open_desk: Any) -> None:
    sleeper, other = fleet.worker("a"), fleet.worker("b")
    await fleet.ready()
    onlooker = await open_desk()
    fleet.start(sleeper, "f3")
    await fleet.until(lambda: fleet.times("f3")["two-begins"] == 1, "step two begins")
    sleeper.send_signal(signal.SIGSTOP)
    await fleet.until(lambda: fleet.times("f3")["two-begins"] == 2, "the other process takes it")
    sleeper.send_signal(signal.SIGCONT)
    fleet.start(sleeper, "f4")  # it is of use again
    await fleet.until(lambda: fleet.times("f4")["two-begins"] == 1, "the sleeper works again")
    log = fleet.home / "log-0"
    await fleet.until(lambda: "f3 was taken over" in log.read_text(), "the sleeper lets go of the flow")
    for id in ("f3", "f4"):
        fleet.open_gate(id)
    assert (await onlooker.result("f3", timeout_s=PATIENCE_S))["by"] == other.pid
    assert (await onlooker.result("f4", timeout_s=PATIENCE_S))["by"] == sleeper.pid
    assert fleet.times("f3") == {"one": 1, "two-begins": 2, "two": 1, "three": 1}
    assert {pid for what, _, pid in fleet.happened("f3") if what in ("two", "three")} == {other.pid}


async def test_another_process_can_cancel_and_answer_and_an_orderly_end_hands_over(
    fleet: Fleet, open_desk: Any
) -> None:
    worker, heir = fleet.worker("a"), fleet.worker("b")
    await fleet.ready()
    onlooker = await open_desk()
    for id in ("f5", "f6", "f7"):
        fleet.start(worker, id, asks=id == "f6")
    fleet.open_gate("f6")
    await fleet.until(lambda: fleet.times("f5")["two-begins"] == 1, "step two begins")
    assert (await onlooker.cancel("f5")).state == "cancelled"
    async for item in onlooker.watch("f6"):
        if item.kind == "question":
            await onlooker.answer("f6", item.question, {"text": "yes"})
    assert (await onlooker.result("f6"))["answer"]["text"] == "yes"
    await fleet.until(lambda: "f5 was cancelled" in (fleet.home / "log-0").read_text(), "the worker lets go of it")
    fleet.open_gate("f5")
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(PATIENCE_S) == 0, fleet.logs()
    await fleet.until(lambda: fleet.times("f7")["two-begins"] == 2, "the heir takes the unfinished one")
    fleet.open_gate("f7")
    assert (await onlooker.result("f7", timeout_s=PATIENCE_S))["by"] == heir.pid
    assert fleet.times("f5") == {"one": 1, "two-begins": 1}
    assert fleet.times("f7") == {"one": 1, "two-begins": 2, "two": 1, "three": 1}


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[tuple[Fleet, own_postgres.Postgres]]:
    """Workers on a database that can be killed."""
    server = own_postgres.Postgres()
    server.start()
    made = Fleet(f"{server.address}/postgres", tmp_path)
    try:
        server.wait()
        yield made, server
    finally:
        made.end()
        server.stop()


async def test_flows_wait_for_a_database_that_was_killed_and_do_no_step_twice(
    mortal: tuple[Fleet, own_postgres.Postgres],
) -> None:
    fleet, server = mortal
    fleet.dead_s = 30.0  # longer than the outage: others cannot have them
    worker = fleet.worker("a")
    await fleet.ready()
    fleet.start(worker, "f8")
    await fleet.until(lambda: fleet.times("f8")["two-begins"] == 1, "step two begins")
    server.kill()
    fleet.open_gate("f8")
    await fleet.until(lambda: "cannot be stored" in fleet.logs(), "the worker notices")
    server.start()
    server.wait()
    async with flows.desk(fleet.database, fleet.home) as onlooker:
        assert (await onlooker.result("f8", timeout_s=PATIENCE_S))["by"] == worker.pid
    assert fleet.times("f8") == {"one": 1, "two-begins": 1, "two": 1, "three": 1}


@pytest.mark.weather
async def test_who_waited_long_for_the_database_is_not_taken_for_dead_when_it_is_back(
    mortal: tuple[Fleet, own_postgres.Postgres],
) -> None:
    fleet, server = mortal
    worker, _ = fleet.worker("a"), fleet.worker("b")
    await fleet.ready()
    ids = [f"g{n}" for n in range(8)]  # more than there are threads to wait for the database
    for id in ids:
        fleet.start(worker, id)
    for id in ids:
        await fleet.until(lambda id=id: fleet.times(id)["two-begins"] == 1, "step two begins")  # type: ignore[misc]
    server.kill()
    for id in ids:
        fleet.open_gate(id)
    await asyncio.sleep(10)  # the outage: several times as long as it takes to be counted as dead
    server.start()
    server.wait()
    async with flows.desk(fleet.database, fleet.home) as onlooker:
        for id in ids:
            assert (await onlooker.result(id, timeout_s=PATIENCE_S))["by"] == worker.pid
            assert fleet.times(id) == {"one": 1, "two-begins": 1, "two": 1, "three": 1}
