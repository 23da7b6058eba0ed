"""Durable flows: work that outlives the process it runs in.

A flow is an async function of one JSON object that returns one. Whatever it does to the world it does in steps; a
finished step is never repeated, whichever process goes on with the flow.

    from quarterdeck.keel import flows

    @flows.flow("remediation")                                    # the name is stored: keep it stable
    async def remediate(alert: dict[str, Any]) -> dict[str, Any]:
        await flows.progress("collecting logs", 0.2)              # seen by everybody who watches
        logs = await flows.step("collect logs", collect, alert["service"], tries=3, timeout_s=30)
        answer = await flows.ask("Restart it?", data={"change": "ch-1"}, timeout_s=3600)     # None: nobody answered
        ...

    async with flows.engine(settings.flows, settings.home) as engine:     # runs, recovers and answers for flows
        id = await engine.start("remediation", {"service": "blog"}, id="alert-7")   # the same id starts once
        async for item in engine.watch(id):
            print(item.kind, item.text)                           # progress, question, answer, end
        await engine.answer(id, question_id, {"by": "kim", "text": "yes"})          # the first answer wins
        print(await engine.result(id))

    async with flows.desk(settings.flows, settings.home) as desk:         # for a command line: looks, answers, cancels
        print(await desk.list(state="waiting"))

What is guaranteed
  - A flow that was started ends, if any process that knows its name lives: the flows of a process that was killed
    are taken over by a living one in about fifteen seconds, at once when the dead one ran on the same host. Each is
    taken by exactly one.
  - The body runs again from its beginning after a crash, with the recorded results of its finished steps; so it must
    do the same steps in the same order. Time, chance and the world belong into steps (`now()` is one).
  - The step that was in flight at a crash runs again. `step_key()` is then the same as before: hand it to the other
    side as an idempotency key, or look first whether the work is done.
  - A process that was stopped for a while and wakes after its flows were taken starts no further step and records
    nothing: ownership is checked before each step and with each write. The step it was in the middle of is cancelled
    within a second; only `step_key()` keeps an effect that was already on its way from happening twice.
  - Cancelling wakes a flow that asks and stops the step in flight: at once in the same process, within two seconds
    in another one.
  - When the database cannot be written (full disk) a flow stops where it is, and goes on when it can be written again.

Steps take and return JSON. A step that fails is tried again with growing pauses, then raises `StepFailed`; a `Refusal`
is an answer and not a failure: it is not tried again unless `retry_refusals=True`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import FlowsSettings

if TYPE_CHECKING:
    from quarterdeck.keel.flowdesk import Desk
    from quarterdeck.keel.flowengine import Engine
    from quarterdeck.keel.flowrun import Run

State = Literal["working", "waiting", "completed", "failed", "cancelled"]
Body = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
T = TypeVar("T")
B = TypeVar("B", bound=Body)


class StepFailed(Refusal):
    """A step failed every time it was tried."""


class FlowTaken(Refusal):
    """A flow of another kind has this id."""


class FlowFailed(Refusal):
    """The flow ended without a result."""


@dataclass(frozen=True)
class Question:
    """What a flow waits for a person to say."""

    id: str
    flow: str
    text: str
    data: dict[str, Any]
    asked: float
    until: float


@dataclass(frozen=True)
class Flow:
    """A flow as it stands. Times are seconds since 1970; `result` and `argument` are only filled in by `status`."""

    id: str
    name: str
    state: State
    created: float
    updated: float
    executor: str
    question: Question | None = None
    result: dict[str, Any] | None = None
    error: str = ""
    argument: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Item:
    """One thing that happened in a flow. `cursor` grows; hand the last one to `watch(after=…)` to go on from there."""

    cursor: int
    kind: Literal["progress", "question", "answer", "end"]
    text: str
    at: float
    share: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    question: str = ""
    """The id of the question that was asked or answered."""


def asks(flow: Flow, items: list[Item], after: int) -> bool:
    """Whether a question is open that was asked after the cursor `after`."""
    open = flow.question.id if flow.question is not None else ""
    return any(item.kind == "question" and item.question == open and item.cursor > after for item in reversed(items))


FLOWS: dict[str, Body] = {}
"""Every flow of this process by its name."""

current: ContextVar[Run | None] = ContextVar("quarterdeck_flow", default=None)


def flow(name: str) -> Callable[[B], B]:
    """Make an async function a flow under a name that stays the same for good."""

    def record(body: B) -> B:
        known = FLOWS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (body.__module__, body.__qualname__):
            raise ValueError(f"There are two flows named {name!r}: rename one.")
        FLOWS[name] = body
        return body

    return record


async def step(
    name: str,
    do: Callable[..., Awaitable[T]],
    /,
    *args: Any,
    tries: int = 1,
    timeout_s: float = 60.0,
    pause_s: float = 1.0,
    retry_refusals: bool = False,
    waits: bool = False,
    **kwargs: Any,
) -> T:
    """Do something to the world, once. Each try may take `timeout_s`; the pauses between tries double from `pause_s`.

    Several steps may run side by side with asyncio.gather, when they are always started in the same order.
    `waits`: it mostly waits for others, and something else bounds how many do; so it is not one of the steps that
    `[flows] concurrency` lets run at once.
    """
    result: T = await _run().step(name, do, args, kwargs, tries, timeout_s, pause_s, retry_refusals, waits)
    return result


def step_key() -> str:
    """Inside a step: `<flow id>/<step number>`, the same when the step is run again after a crash."""
    return _run().step_key()


async def progress(text: str, share: float | None = None, data: dict[str, Any] | None = None) -> None:
    """Tell everybody who watches how far it is (`share` from 0 to 1). Said once, however often the flow is replayed."""
    await _run().progress(text, share, data or {})


async def ask(text: str, data: dict[str, Any] | None = None, timeout_s: float = 3600.0) -> dict[str, Any] | None:
    """Wait for a person's answer: `{"by": …, "text": …, "data": …}`, or None when nobody answers in time."""
    return await _run().ask(text, data or {}, timeout_s)


async def now() -> float:
    """The time, the same when the flow is replayed. Seconds since 1970 by the database's clock."""
    return await _run().now()


async def over(id: str) -> bool:
    """Whether another flow has ended, or is not known here. For a step: it may change from one look to the next."""
    return await _run().over(id)


def flow_id() -> str:
    """The id of the flow that runs here."""
    return _run().id


def _run() -> Run:
    run = current.get()
    if run is None:
        raise RuntimeError("This only works inside a flow that an engine runs.")
    return run


@asynccontextmanager
async def engine(
    settings: FlowsSettings | str,
    home: Path,
    *,
    executor: str = "",
    beat_s: float = 3.0,
    dead_s: float = 12.0,
    adopt: bool = True,
) -> AsyncIterator[Engine]:
    """Run flows in this process, and look after those of processes that died. One engine a process.

    `settings` is the section `[flows]` or a database address; without one the flows live in `<home>/flows.db`.
    `executor` names this process in `status`. A process that has not been heard of for `dead_s` counts as dead.
    A command that is soon over should not `adopt` what others left behind.
    """
    from quarterdeck.keel.flowlaunch import launch  # brings DBOS along: 0.8 s

    if isinstance(settings, str):
        settings = FlowsSettings.model_validate({"database": settings})
    running = await launch(settings, home, executor=executor, beat_s=beat_s, dead_s=dead_s, adopt=adopt)
    try:
        yield running
    finally:
        await running.close()


@asynccontextmanager
async def desk(settings: FlowsSettings | str, home: Path) -> AsyncIterator[Desk]:
    """Look at flows, answer and cancel them, without running any: opens in a fraction of the time."""
    from quarterdeck.keel.flowlaunch import open_desk

    if isinstance(settings, str):
        settings = FlowsSettings.model_validate({"database": settings})
    opened = await open_desk(settings, home)
    try:
        yield opened
    finally:
        await opened.close()
