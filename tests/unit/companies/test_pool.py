"""A pool of worker agents: the least loaded gets the call, jobs take turns, what fails is tried elsewhere or later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck.agents.companies import asked, hop, pool
from quarterdeck.agents.companies.errors import Busy, Passing, refusal
from quarterdeck.agents.companies.pool import Instance, Pool
from quarterdeck.agents.companies.queue import Queue
from quarterdeck.agents.runtime.agent import Agent, Skill
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.keel import flows
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import Settings


@dataclass
class Worker:
    """An agent of this process whose line can be cut, and what it does next."""

    name: str
    says: list[str] = field(default_factory=list)
    """Errors of its next calls; "hang" never answers."""
    gate: asyncio.Event | None = None
    cut: bool = False
    sick: bool = False
    began: list[str] = field(default_factory=list)
    stopped: int = 0
    now: int = 0
    most: int = 0


WORKERS: dict[str, Worker] = {}


def agent(name: str) -> Agent:
    @flows.flow(f"test.pool.{name}")
    async def work(argument: dict[str, Any]) -> dict[str, Any]:
        worker = WORKERS[name]
        given = argument["input"]["company_name"]
        worker.began.append(given)
        worker.now += 1
        worker.most = max(worker.most, worker.now)
        try:
            said = worker.says.pop(0) if worker.says else ""
            if said == "hang":
                await asyncio.sleep(60)
            if said:
                raise Refusal(said)
            if worker.gate is not None:
                await worker.gate.wait()
            return {"artifacts": [{"name": "result", "data": {"by": name, "company": given}}]}
        except asyncio.CancelledError:
            worker.stopped += 1
            raise
        finally:
            worker.now -= 1

    skill = Skill("work", "Work", "Works.", ("test",))
    read = lambda message: {"input": asked.read(asked.Extract, message)}  # noqa: E731
    return Agent("worker", name, "Works.", "1.0.0", (skill,), f"test.pool.{name}", read, durable=False)


AGENTS = {name: agent(name) for name in ("a", "b")}


class Line(hop.Inside):
    def __init__(self, app: Any, worker: Worker) -> None:
        super().__init__(app)
        self.worker = worker

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.worker.cut:
            raise httpx.ConnectError("refused")
        if self.worker.sick:
            return httpx.Response(500)
        return await super().handle_async_request(request)


Open = Callable[..., AbstractAsyncContextManager[tuple[Pool, dict[str, Worker]]]]


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setattr(pool, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(pool, "SWEEP_S", 0.02)

    @asynccontextmanager
    async def opened(*names: str, at_once: int = 2, **more: Any) -> AsyncIterator[tuple[Pool, dict[str, Worker]]]:
        async with AsyncExitStack() as stack:
            WORKERS.clear()
            instances = []
            for name in names:
                WORKERS[name] = Worker(name)
                app = create_app([AGENTS[name]], Settings(home=tmp_path / name), memory_engine, f"http://{name}")
                await stack.enter_async_context(app.router.lifespan_context(app))
                http = httpx.AsyncClient(transport=Line(app, WORKERS[name]), headers=hop.HEADERS)
                instances.append(Instance("http://127.0.0.1/worker", http, at_once))
            made = Pool("worker", instances, **{"timeout_s": 5.0, "floor_s": 0.1, **more})
            yield await stack.enter_async_context(made), WORKERS

    return opened


def asks(company: str) -> dict[str, Any]:
    return {"company_name": company, "extraction_schema": {}}


async def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within 5 s: {what}")


async def test_the_least_loaded_instance_gets_the_call_and_none_more_than_its_limit(workers: Open) -> None:
    async with workers("a", "b", at_once=3) as (made, two):
        for worker in two.values():
            worker.gate = asyncio.Event()
        calls = [asyncio.create_task(made.call("j", f"j/{n}", asks(f"c{n}"))) for n in range(10)]
        await until(lambda: two["a"].now == two["b"].now == 3, "both have their hands full")
        assert len(two["a"].began) == len(two["b"].began) == 3
        for worker in two.values():
            assert worker.gate is not None
            worker.gate.set()
        found = await asyncio.gather(*calls)
        assert [one["company"] for one in found] == [f"c{n}" for n in range(10)]
        assert two["a"].most == two["b"].most == 3


async def test_jobs_take_turns_by_their_weight_however_long_their_queues_are(workers: Open) -> None:
    async with workers("a", at_once=1) as (made, one):
        gate = one["a"].gate = asyncio.Event()
        first = asyncio.create_task(made.call("big", "first", asks("first")))
        await until(lambda: one["a"].now == 1, "it is busy")
        calls = [asyncio.create_task(made.call("big", f"b/{n}", asks("big"))) for n in range(40)]
        await asyncio.sleep(0)
        calls += [asyncio.create_task(made.call("small", f"s/{n}", asks("small"))) for n in range(5)]
        calls += [asyncio.create_task(made.call("dear", f"d/{n}", asks("dear"), weight=2.0)) for n in range(10)]
        await until(lambda: len(made._queue) == 55, "all of them wait")
        gate.set()
        await asyncio.gather(first, *calls)
        begun = one["a"].began[1:21]
        assert (begun.count("big"), begun.count("small"), begun.count("dear")) == (5, 5, 10)


async def test_a_passing_error_is_tried_elsewhere_and_a_final_one_is_not_tried_again(workers: Open) -> None:
    async with workers("a", "b") as (made, two):
        two["a"].says, two["b"].says = ["Try again: 429."], []
        assert (await made.call("j", "j/1", asks("c1")))["by"] == "b"
        two["a"].says = two["b"].says = ["That cannot be."]
        with pytest.raises(Refusal, match=r"^That cannot be\.$"):
            await made.call("j", "j/2", asks("c2"))
        assert [*two["a"].began, *two["b"].began].count("c2") == 1
        two["a"].says, two["b"].says = ["Try again."] * 4, ["Try again."] * 4
        with pytest.raises(Refusal, match="That was so 8 times"):
            await made.call("j", "j/3", asks("c3"))


async def test_a_call_gives_up_soon_when_it_was_not_told_when_to_come_again(workers: Open) -> None:
    async with workers("a", vain_s=0.02) as (made, one):
        one["a"].says = ["Try again: it answered 503."] * 8
        with pytest.raises(Refusal, match=r"it answered 503\. That was so [2-5] times"):
            await made.call("j", "j/1", asks("c"))


async def test_a_call_waits_as_it_is_told_unless_nobody_gets_through(
    workers: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "DOWN_S", 0.15)
    async with workers("a") as (made, one):
        one["a"].says = ["Try again in 0.1 s: it is left alone."] * 8
        with pytest.raises(Refusal, match=r"left alone\. That was so 3 times"):
            await made.call("j", "j/1", asks("c1"))
        one["a"].says = ["Try again in 0.1 s: the limit is used up."] * 9
        waits = asyncio.create_task(made.call("j", "j/2", asks("c2")))
        await until(lambda: len(one["a"].says) < 9, "it was told to wait")
        said, one["a"].says = one["a"].says, []
        await made.call("j", "j/3", asks("another gets through"))
        one["a"].says = said
        assert (await waits)["company"] == "c2"


async def test_a_call_that_hangs_is_stopped_and_made_again(workers: Open) -> None:
    async with workers("a") as (made, one):
        for n in range(pool.FEW):
            await made.call("j", f"j/{n}", asks("quick"))
        assert made.cut_off_s() < 1.0
        one["a"].says = ["hang"]
        assert (await made.call("j", "j/hangs", asks("slow")))["company"] == "slow"
        assert (one["a"].began.count("slow"), made.cut) == (2, 1)
        await until(lambda: one["a"].stopped == 1, "what hung is cancelled there")


async def test_work_that_was_cut_off_before_its_coordinator_died_is_begun_anew_by_the_next(workers: Open) -> None:
    async with workers("a", timeout_s=0.3) as (first, one):
        one["a"].says = ["hang", "hang"]
        call = asyncio.create_task(first.call("j", "j/1", asks("slow")))
        await until(lambda: one["a"].stopped == 1 and len(one["a"].began) == 2, "one is cut off, and begun again")
        call.cancel()  # as a coordinator that is killed
        async with Pool("worker", first.instances, timeout_s=5.0) as heir:
            assert (await heir.call("j", "j/1", asks("slow")))["company"] == "slow"


async def test_a_dead_instance_is_left_alone_until_it_is_back(workers: Open) -> None:
    async with workers("a", "b") as (made, two):
        two["a"].cut = True
        found = await asyncio.gather(*[made.call("j", f"j/{n}", asks(f"c{n}")) for n in range(20)])
        assert {one["by"] for one in found} == {"b"}
        two["a"].cut = False
        await until(lambda: not made.instances[0].down, "it is taken back")
        await asyncio.gather(*[made.call("j", f"k/{n}", asks(f"k{n}")) for n in range(20)])
        assert two["a"].began


async def test_calls_wait_while_nobody_can_be_reached_but_not_for_ever(workers: Open) -> None:
    async with workers("a", patience_s=0.3) as (made, one):
        one["a"].cut = True
        with pytest.raises(Refusal, match=r"No worker agent could be reached for 0\.3 s"):
            await made.call("j", "j/1", asks("c1"))
        made.patience_s = 30.0
        call = asyncio.create_task(made.call("j", "j/2", asks("c2")))
        await asyncio.sleep(0)
        one["a"].cut = False
        assert (await call)["company"] == "c2"


async def test_an_instance_that_does_wrong_all_the_time_is_left_alone(workers: Open) -> None:
    async with workers("a", "b", at_once=1) as (made, two):
        two["a"].sick = True
        found = await asyncio.gather(*[made.call("j", f"j/{n}", asks(f"c{n}")) for n in range(12)])
        assert {one["by"] for one in found} == {"b"}
        assert made.instances[0].down


async def test_the_same_work_sent_again_is_begun_once(workers: Open) -> None:
    async with workers("a", at_once=5) as (made, one):
        gate = one["a"].gate = asyncio.Event()
        calls = [asyncio.create_task(made.call("j", "j/1/1/extraction", asks("same"))) for _ in range(4)]
        await until(lambda: made.instances[0].busy == 4, "all are sent")
        gate.set()
        await asyncio.gather(*calls)
        assert one["a"].began == ["same"]


async def test_a_caller_who_gives_up_gives_back_its_place(workers: Open) -> None:
    async with workers("a", at_once=1) as (made, one):
        gate = one["a"].gate = asyncio.Event()
        calls = [asyncio.create_task(made.call("j", f"j/{n}", asks(f"c{n}"))) for n in range(6)]
        await until(lambda: len(made._queue) == 5, "the others wait")
        for call in calls[:5]:
            call.cancel()
        gate.set()
        assert (await calls[5])["company"] == "c5"
        assert made.instances[0].busy == 0


async def test_a_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterdeck.agents.companies.queue.MOST", 2)
    queue: Queue[int] = Queue()
    queue.wait("j", 1.0)
    queue.wait("j", 1.0)
    with pytest.raises(Refusal, match=r"^Try again in 30 s"):
        queue.wait("j", 1.0)


@pytest.mark.parametrize(
    ("text", "kind", "after"),
    [
        ("Try again in 12 s: Tavily answered 429.", Passing, 12.0),
        ("Try again: no answer.", Passing, 0.0),
        ("Try again in 999999 s: closed.", Passing, 120.0),
        ("Try again in 1 s: this research agent is busy with 5 calls.", Busy, 1.0),
        ("The key is wrong. Try again with another one.", Refusal, None),
    ],
)
def test_errors_are_told_apart_by_how_they_begin(text: str, kind: type[Refusal], after: float | None) -> None:
    found = refusal(text)
    assert type(found) is kind
    assert getattr(found, "after_s", None) == after
