"""Flows that live only as long as this process: the same face as the durable engine, without a database.

For tests, for trying an agent out, and for work that costs nothing to start again. Nothing survives a restart.
"""

from __future__ import annotations

import asyncio
import builtins
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flows import FLOWS, Body, Flow, FlowFailed, Item, Question, State, StepFailed, asks, current

MOST = 10_000
"""Flows kept, if nobody says otherwise; the oldest that ended are forgotten first."""
LONGEST_PAUSE_S = 30.0


@dataclass
class MemoryRun:
    """One flow: what the body sees of it (`flows.step` and so on), and what is known about it."""

    id: str
    name: str
    argument: dict[str, Any]
    state: State = "working"
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    question: Question | None = None
    result: dict[str, Any] | None = None
    error: str = ""
    items: list[Item] = field(default_factory=list)
    others: dict[str, MemoryRun] = field(default_factory=dict, repr=False)
    task: asyncio.Task[None] | None = None
    _waiters: set[asyncio.Future[None]] = field(default_factory=set)
    _answer: asyncio.Future[dict[str, Any]] | None = None
    _steps: int = 0

    async def step(
        self,
        name: str,
        do: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tries: int,
        timeout_s: float,
        pause_s: float,
        retry_refusals: bool,
        waits: bool,
    ) -> Any:
        self._steps += 1
        problem = ""
        for attempt in range(tries):
            try:
                async with asyncio.timeout(timeout_s):
                    return await do(*args, **kwargs)
            except Refusal as error:
                if not retry_refusals:
                    raise
                problem = str(error)
            except TimeoutError:
                problem = f"no answer within {timeout_s:g} s"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if attempt + 1 < tries:
                await asyncio.sleep(min(pause_s * 2**attempt, LONGEST_PAUSE_S))
        raise StepFailed(f"The step {name!r} failed: {problem}")

    def step_key(self) -> str:
        return f"{self.id}/{self._steps}"

    async def progress(self, text: str, share: float | None, data: dict[str, Any]) -> None:
        self.say("progress", text, share, data)

    async def ask(self, text: str, data: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        now = time.time()
        number = sum(item.kind == "question" for item in self.items) + 1
        self.question = Question(f"{self.id}/q{number}", self.id, text, data, now, now + timeout_s)
        self._answer = asyncio.get_running_loop().create_future()
        self.state = "waiting"
        self.say("question", text, None, data, self.question.id)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError:
            return None
        finally:
            self.question, self._answer = None, None
            self.state = "working"

    def answer(self, question: str, answer: dict[str, Any]) -> None:
        if self.question is None or self.question.id != question or self._answer is None or self._answer.done():
            raise Refusal("That question is not open any more; the first answer counts.")
        self._answer.set_result(answer)
        self.question, self.state = None, "working"
        self.say("answer", str(answer.get("text") or ""), None, answer, question)

    async def over(self, id: str) -> bool:
        return id not in self.others or self.others[id].seen().ended

    async def now(self) -> float:
        return time.time()

    def say(
        self,
        kind: Literal["progress", "question", "answer", "end"],
        text: str,
        share: float | None = None,
        data: dict[str, Any] | None = None,
        question: str = "",
    ) -> None:
        self.updated = time.time()
        self.items.append(Item(len(self.items) + 1, kind, text, self.updated, share, data or {}, question))
        self.wake()

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def news(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        await waiter

    def seen(self) -> Flow:
        return Flow(
            self.id, self.name, self.state, self.created, self.updated, "here",
            self.question, self.result, self.error, self.argument,
        )  # fmt: skip


class MemoryEngine:
    def __init__(self, most: int = MOST) -> None:
        self._runs: dict[str, MemoryRun] = {}
        self._most = most

    async def start(self, name: str, argument: dict[str, Any], id: str = "") -> str:
        body = FLOWS.get(name)
        if body is None:
            raise Refusal(f"There is no flow {name!r} here.")
        id = id or str(uuid.uuid4())
        if id not in self._runs:
            self._forget()
            run = self._runs[id] = MemoryRun(id, name, argument, others=self._runs)
            run.task = asyncio.create_task(self._go(run, body), name=f"flow {id}")
        return id

    async def _go(self, run: MemoryRun, body: Body) -> None:
        current.set(run)  # type: ignore[arg-type]
        try:
            run.result = await body(run.argument)
            run.state = "completed"
        except asyncio.CancelledError:
            run.state = "cancelled"
        except Refusal as error:
            run.state, run.error = "failed", str(error)
        except Exception as error:
            run.state, run.error = "failed", f"The flow broke off ({type(error).__name__}: {error})."
        run.question = None
        run.say("end", run.error)

    def _forget(self) -> None:
        if len(self._runs) >= self._most:
            ended = [id for id, run in self._runs.items() if run.seen().ended]
            for id in ended[: max(1, self._most // 10)]:
                del self._runs[id]

    async def forget(self, ids: builtins.list[str]) -> int:
        ended = [id for id in ids if id in self._runs and self._runs[id].seen().ended]
        for id in ended:
            del self._runs[id]
        return len(ended)

    def _run(self, id: str) -> MemoryRun:
        run = self._runs.get(id)
        if run is None:
            raise Refusal(f"There is no flow {id!r}.")
        return run

    async def status(self, id: str) -> Flow:
        return self._run(id).seen()

    async def items(self, id: str, after: int = 0) -> builtins.list[Item]:
        return self._run(id).items[after:]

    async def whole(self, id: str) -> tuple[Flow, builtins.list[Item]]:
        run = self._run(id)
        return run.seen(), run.items[:]

    async def settled(self, id: str, after: int = 0) -> tuple[Flow, builtins.list[Item]]:
        run = self._run(id)
        while not run.seen().ended and not asks(run.seen(), run.items, after):
            await run.news()
        return run.seen(), run.items[:]

    async def result(self, id: str) -> dict[str, Any]:
        run = self._run(id)
        while not run.seen().ended:
            await run.news()
        if run.result is None:
            raise FlowFailed(run.error or "The flow was cancelled.")
        return run.result

    async def list(
        self, *, name: str = "", state: str = "", prefix: str = "", limit: int = 100, offset: int = 0
    ) -> builtins.list[Flow]:
        found = [
            run.seen()
            for run in reversed(self._runs.values())
            if run.id.startswith(prefix) and name in ("", run.name) and state in ("", run.state)
        ]
        return found[offset : offset + limit]

    async def watch(self, id: str, after: int = 0) -> AsyncGenerator[Item, None]:
        run = self._run(id)
        while True:
            while after < len(run.items):
                item = run.items[after]
                after += 1
                yield item
                if item.kind == "end":
                    return
            await run.news()

    async def answer(self, id: str, question: str, answer: dict[str, Any]) -> None:
        self._run(id).answer(question, answer)

    async def cancel(self, id: str) -> Flow:
        run = self._run(id)
        if run.task is not None and not run.seen().ended:
            run.task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([run.task], timeout=5)
        return run.seen()

    async def close(self) -> None:
        tasks = [run.task for run in self._runs.values() if run.task is not None and not run.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def memory_engine(most: int = MOST) -> AsyncIterator[MemoryEngine]:
    running = MemoryEngine(most)
    try:
        yield running
    finally:
        await running.close()
