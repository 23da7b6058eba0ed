"""The engine behind `flows`: DBOS runs and records, we wake, cancel, fence and take over.

DBOS's database work goes through threads of its own (one on SQLite, where writers only wait for one another), so that
blocking code of a step never stands in its way, and what ends in this process is heard of without asking the database.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.flows import FLOWS, Flow, FlowFailed, Item, StepFailed, current
from quarterdeck.keel.flowstore import APP, LEFT, Other, Store, born, this_host
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import FlowsSettings

MOST_RUNNING = 10_000
"""Flows that one process holds at once; most of them wait for a person."""
MOST_BYTES = 4_000_000
"""Of JSON that a flow is given, a step returns or a person answers."""
MOST_CRASHES = 50
"""After this many crashed processes a flow counts as what kills them."""
LOOK_S = 1.0
"""How soon it is seen what another process did to a flow that runs or is watched here."""

T = TypeVar("T")
Names = list[str]
log = logging.getLogger(__name__)
_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,199}")
_step: contextvars.ContextVar[int] = contextvars.ContextVar("quarterdeck_step", default=0)


class Threads(ThreadPoolExecutor):
    """DBOS makes its executor the loop's default one; so this keeps its work apart from everybody else's."""

    def __init__(self, width: int) -> None:
        super().__init__(max_workers=width, thread_name_prefix="flows-db")
        self.others = ThreadPoolExecutor(thread_name_prefix="flows-other")

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        inner: Any = fn
        while isinstance(inner, functools.partial):
            inner = inner.args[0] if inner.args and getattr(inner.func, "__name__", "") == "run" else inner.func
        theirs = (getattr(inner, "__module__", None) or "").startswith("dbos")
        return super().submit(fn, *args, **kwargs) if theirs else self.others.submit(fn, *args, **kwargs)

    def in_db(self, fn: Callable[..., T], /, *args: Any) -> Future[T]:
        return super().submit(fn, *args)


@dataclass
class Local:
    """A flow that runs in this process."""

    ended: asyncio.Future[Any]
    task: asyncio.Task[Any] | None = None
    run: Run | None = None


@dataclass
class Run:
    """One execution of a flow's body: what `flows.step` and the like do."""

    id: str
    owner: str
    engine: Engine
    said: int = 0
    asking: dict[str, asyncio.Event] = field(default_factory=dict)

    async def step(
        self,
        name: str,
        do: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tries: int,
        timeout_s: float,
        pause_s: float,
        retry_refusals: bool,
    ) -> T:
        if _step.get():
            raise RuntimeError(f"Step {name!r} is inside another step; a step is done as a whole.")

        async def once() -> dict[str, Any]:
            """`value`, or why there is none: `failed` is the kind."""
            async with self.engine.slots:
                await self._still_ours()
                try:
                    async with asyncio.timeout(timeout_s) as limit:
                        value = await do(*args, **kwargs)
                    return {"value": _jsonable(value, f"step {name!r} returned")}
                except Refusal as error:
                    return {"failed": "Denied" if isinstance(error, Denied) else "Refusal", "why": _said(str(error))}
                except Exception as error:
                    log.debug("step %s of %s failed", name, self.id, exc_info=True)
                    late = isinstance(error, TimeoutError) and limit.expired()
                    why = f"it took longer than {timeout_s:g} s" if late else f"{type(error).__name__}: {error}"
                    return {"failed": "StepFailed", "why": _said(why)}

        async def attempts() -> dict[str, Any]:
            for number in range(1, tries + 1):
                outcome = await once()
                refused = outcome.get("failed") in ("Refusal", "Denied")
                if "value" in outcome or (refused and not retry_refusals):
                    return outcome
                if number < tries:
                    await asyncio.sleep(min(pause_s * 2 ** (number - 1), 60.0))
            if refused:
                return outcome
            times = f" after {tries} tries" if tries > 1 else ""
            return {"failed": "StepFailed", "why": _said(f"Step {name!r} failed{times}: {outcome['why']}")}

        outcome = await self._recorded(name, attempts)
        if "failed" in outcome:
            kind = {"Denied": Denied, "Refusal": Refusal}.get(outcome["failed"], StepFailed)
            raise kind(outcome["why"])
        value: T = outcome["value"]
        return value

    def step_key(self) -> str:
        if not _step.get():
            raise RuntimeError("step_key() only works inside a step.")
        return f"{self.id}/{_step.get()}"

    async def progress(self, text: str, share: float | None, data: dict[str, Any]) -> None:
        text = plain(text)
        if number := _step.get():  # a step that runs again says it again
            place = f"step {number} {secrets.token_hex(4)}"
        else:
            self.said += 1
            place = f"body {self.said}"
        payload = _dumps(data, "progress data")
        await self._stored(self.engine.store.say, self.id, self.owner, place, "progress", text, share, payload)
        self.engine.ring(self.id)

    async def ask(self, text: str, data: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        text, payload = plain(text), _dumps(data, "question data")
        answer: dict[str, Any] | None = (await self._recorded("ask", lambda: self._ask(text, payload, timeout_s)))[
            "value"
        ]
        return answer

    async def _ask(self, text: str, data: str, timeout_s: float) -> dict[str, Any]:
        store, id = self.engine.store, self.step_key()
        answered = self.asking[id] = asyncio.Event()
        try:
            left_s, answer = await self._stored(store.ask, id, self.id, self.owner, text, data, timeout_s)
            self.engine.ring(self.id)
            if answer is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(answered.wait(), max(0.0, left_s))
                answer = await self._stored(store.expire, id)
                self.engine.ring(self.id)
        finally:
            self.asking.pop(id, None)
        return {"value": None if answer is None else json.loads(answer)}

    async def now(self) -> float:
        async def read() -> dict[str, Any]:
            return {"value": await self._stored(self.engine.store.now)}

        return float((await self._recorded("now", read))["value"])

    async def _recorded(self, name: str, do: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Done once: a step of DBOS. What it says about ownership or its database ends this execution, not the flow."""
        from dbos import DBOS
        from dbos._error import DBOSBaseException, DBOSException, DBOSUnexpectedStepError

        async def body() -> dict[str, Any]:
            token = _step.set(DBOS.step_id or 0)
            try:
                return await do()
            finally:
                _step.reset(token)

        try:
            return await DBOS.run_step_async({"name": name}, body)
        except DBOSUnexpectedStepError:
            raise FlowFailed(
                f"The flow's code changed since it began: {name!r} is not the step that it did then. Start it anew."
            ) from None
        except (DBOSException, DBOSBaseException) as error:
            return await self._stop(error)
        except SQLAlchemyError as error:
            return await self._stop(error)

    async def _stored(self, do: Callable[..., T], *args: Any) -> T:
        try:
            return await self.engine.in_db(do, *args)
        except SQLAlchemyError as error:
            await self._stop(error)
            raise

    async def _still_ours(self) -> None:
        """A process that slept may have lost its flows: then it looks before it does anything."""
        if self.engine.fresh():
            return
        owners = await self._stored(self.engine.store.owners, [self.id])
        if owners.get(self.id) != ("PENDING", self.owner):
            await self._stop(RuntimeError("another process has it"))

    async def _stop(self, error: BaseException) -> dict[str, Any]:
        """End this execution without an outcome. Cancellation is the one thing that a flow's own `except` lets pass."""
        log.warning("flow %s stops here for now: %s", self.id, _said(str(error).split("\n")[0]))
        local = self.engine.running.get(self.id)
        if local is not None and local.task is not None:
            local.task.cancel()
        await asyncio.sleep(3600)
        raise asyncio.CancelledError from error


class Engine:
    """Starts flows, runs them, answers for them. Made by `flows.engine`."""

    def __init__(self, store: Store, settings: FlowsSettings, executor: str, beat_s: float, dead_s: float) -> None:
        self.store = store
        self.executor = executor
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.running: dict[str, Local] = {}
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._beat_s, self._dead_s = beat_s, dead_s
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(1 if store.sqlite else 4)
        self._unrecorded: set[str] = set()
        self._bodies: dict[str, Any] = {}
        self._beaten = _clock()
        self._heard: dict[str, tuple[int | None, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # Flows

    async def start(self, name: str, argument: dict[str, Any], id: str = "") -> str:
        """Start a flow and return its id. The same id again starts nothing and returns the same flow."""
        from dbos import DBOS, SetWorkflowID
        from dbos._core import WorkflowHandleAsyncTask
        from dbos._error import DBOSConflictingWorkflowError

        body = self._body(name)
        _dumps(argument, "argument")
        id = id or secrets.token_hex(16)
        if not _id.fullmatch(id):
            raise Refusal(f"{plain(id)[:40]!r} cannot be a flow's id: up to 200 letters, digits and ._:@/+=-, please.")
        while id in self.running:
            flow = await self._asked(self.store.flow, id)
            if flow is not None and flow.name != name:
                raise Refusal(f"There is already a flow {id!r} of another kind.")
            if flow is not None:
                return id
            await asyncio.sleep(0.01)  # it is being stored just now
        if len(self.running) >= MOST_RUNNING:
            raise Refusal(f"{MOST_RUNNING} flows run here already. Wait for some to end, or start another process.")
        local = self.running[id] = Local(self._loop.create_future())

        async def begin() -> Any:
            with SetWorkflowID(id):
                return await DBOS.start_workflow_async(body, argument)

        try:
            handle = await _apart(begin)
        except DBOSConflictingWorkflowError:
            self._drop(id, local)
            raise Refusal(f"There is already a flow {id!r} of another kind.") from None
        except SQLAlchemyError as error:
            self._drop(id, local)
            raise self.store.unusable(error) from None
        except BaseException:
            self._drop(id, local)
            raise
        if not isinstance(handle, WorkflowHandleAsyncTask):  # it was there before
            self._drop(id, local)
        return id

    async def result(self, id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for a flow's result. Raises FlowFailed when it failed or was cancelled, Refusal when time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if local := self.running.get(id):
                        outcome = await asyncio.shield(local.ended)
                        if outcome is not None:
                            return dict(outcome)
                    flow = await self.status(id)
                    if flow.state == "completed":
                        return flow.result or {}
                    if flow.ended and id not in self._unrecorded:
                        raise FlowFailed(flow.error or f"Flow {id} was {flow.state}.")
                    await self._hear(id)
        except TimeoutError:
            raise Refusal(f"Flow {id} has not ended in {timeout_s:g} s. It goes on; ask again later.") from None

    async def status(self, id: str) -> Flow:
        flow = await self._asked(self.store.flow, id)
        if flow is None:
            raise Refusal(f"There is no flow {plain(id)[:60]!r}.")
        return flow

    async def list(self, name: str = "", state: str = "", limit: int = 50, offset: int = 0) -> list[Flow]:
        """Newest first, at most 500, without arguments and results."""
        return await self._asked(self.store.flows, name, state, max(1, min(limit, 500)), max(0, offset))

    async def watch(self, id: str, after: int = 0) -> AsyncIterator[Item]:
        """What happened after the cursor `after` and what goes on happening, until the flow ends."""
        bell = asyncio.Event()
        self._bells.setdefault(id, set()).add(bell)
        try:
            while True:
                bell.clear()
                flow = await self.status(id)
                items = await self._asked(self.store.items, id, after)
                for item in items:
                    after = item.cursor
                    yield item
                if items:
                    continue
                if flow.ended:
                    text = flow.error or flow.state
                    data = {"state": flow.state, "result": flow.result, "error": flow.error}
                    yield Item(after, "end", text, flow.updated, None, data)
                    return
                if self._closed:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), 15.0 if id in self.running else LOOK_S / 2)
        finally:
            self._unbell(id, bell)

    async def answer(self, id: str, question: str, answer: dict[str, Any]) -> None:
        """Answer a question of a flow: {"by", "text", "data"}. The first answer counts, others are refused."""
        kept = {"by": str(answer.get("by", "")), "text": str(answer.get("text", "")), "data": answer.get("data")}
        text = _dumps(kept, "answer")
        await self._asked(self.store.answer, id, question, text, kept["text"])
        self._answered(id, question)
        self.ring(id)

    async def cancel(self, id: str) -> Flow:
        """Stop a flow that has not ended, and return it as it then stands."""
        from dbos import DBOS

        await self.status(id)
        try:
            await _apart(lambda: DBOS.cancel_workflow_async(id))
        except SQLAlchemyError as error:
            raise self.store.unusable(error) from None
        flow = await self.status(id)
        if flow.state == "cancelled":
            await self._asked(self.store.withdraw, id)
            self._stop_here(id)
            flow = await self.status(id)
        self.ring(id)
        return flow

    async def resume(self, id: str) -> Flow:
        """Go on with a flow that was cancelled or failed: from its last finished step; a failed step is done again."""
        flow = await self.status(id)
        if flow.state == "completed":
            raise Refusal(f"Flow {id} is completed; there is nothing to resume.")
        if not flow.ended:
            return flow
        self._body(flow.name)
        if local := self.running.get(id):  # its last execution is just being cancelled
            await asyncio.wait([local.ended], timeout=10)
        if flow.state == "failed":
            await self._asked(self.store.forget_failure, id)
        await self._take_up(id, ("CANCELLED", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"))
        self.ring(id)
        return await self.status(id)

    # Waking

    def ring(self, id: str) -> None:
        for bell in self._bells.get(id, ()):
            bell.set()

    async def _hear(self, id: str) -> None:
        """Until something happened in a flow, or it is time to look again."""
        bell = asyncio.Event()
        self._bells.setdefault(id, set()).add(bell)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), LOOK_S / 2)
        finally:
            self._unbell(id, bell)

    def _unbell(self, id: str, bell: asyncio.Event) -> None:
        bells = self._bells.get(id, set())
        bells.discard(bell)
        if not bells:
            self._bells.pop(id, None)

    def _answered(self, id: str, question: str) -> None:
        local = self.running.get(id)
        if local and local.run and (event := local.run.asking.get(question)):
            event.set()

    def _stop_here(self, id: str) -> None:
        local = self.running.get(id)
        if local and local.task:
            local.task.cancel()

    # Running

    def _body(self, name: str) -> Any:
        """The flow as DBOS knows it."""
        from dbos import DBOS
        from dbos._serialization import WorkflowSerializationFormat

        if name not in self._bodies:
            if name not in FLOWS:
                known = ", ".join(sorted(FLOWS)) or "none"
                raise Refusal(f"There is no flow named {plain(name)[:60]!r} in this process; there are: {known}.")
            flow = FLOWS[name]

            async def run(argument: dict[str, Any]) -> dict[str, Any]:
                return await self._run(name, flow, argument)

            run.__qualname__ = run.__name__ = f"flow_{len(self._bodies)}"
            decorate = DBOS.workflow(
                name=name,
                max_recovery_attempts=MOST_CRASHES,
                serialization_type=WorkflowSerializationFormat.PORTABLE,
            )
            self._bodies[name] = decorate(run)
        return self._bodies[name]

    async def _run(self, name: str, body: Callable[[Any], Awaitable[Any]], argument: dict[str, Any]) -> dict[str, Any]:
        from dbos._context import assert_current_dbos_context

        context = assert_current_dbos_context()
        run = Run(context.workflow_id, context.owner_xid or "", self)
        local = self.running.setdefault(run.id, Local(self._loop.create_future()))
        local.run, local.task = run, asyncio.current_task()
        assert local.task is not None
        local.task.add_done_callback(functools.partial(self._ended, run.id, local))
        token = current.set(run)
        try:
            value = await body(argument)
            if value is None:
                value = {}
            if not isinstance(value, dict):
                raise FlowFailed(f"Flow {name!r} returned {type(value).__name__} instead of a dict.")
            return dict(_jsonable(value, f"flow {name!r} returned"))
        except Refusal as error:
            raise type(error)(_said(str(error))) from None
        except Exception as error:
            log.exception("flow %s (%s) failed", run.id, name)
            raise FlowFailed(_said(f"The flow failed: {type(error).__name__}: {error}")) from None
        finally:
            current.reset(token)

    def _ended(self, id: str, local: Local, task: asyncio.Task[Any]) -> None:
        """DBOS has recorded the outcome, or could not: whoever waits looks it up then."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SQLAlchemyError):
            self._unrecorded.add(id)
        self._drop(id, local, None if task.cancelled() or error is not None else task.result())

    def _drop(self, id: str, local: Local, outcome: Any = None) -> None:
        if self.running.get(id) is local:
            del self.running[id]
        if not local.ended.done():
            local.ended.set_result(outcome)
        self.ring(id)

    async def _take_up(self, id: str, states: Iterable[str]) -> None:
        if id in self.running:
            return
        token, local = secrets.token_hex(16), Local(self._loop.create_future())
        self.running[id] = local
        try:
            ours = await self._asked(self.store.reopen, id, self.executor, token, tuple(states))
        except BaseException:
            self._drop(id, local)
            raise
        if ours:
            await self._go_on(id, token)
        else:
            self._drop(id, local)

    async def _go_on(self, id: str, token: str) -> None:
        """Run a flow whose row we just made ours, from its last finished step."""
        local = self.running.setdefault(id, Local(self._loop.create_future()))
        try:
            await self._loop.run_in_executor(self._threads.others, self._execute, id, token)
        except Exception as error:
            log.warning("flow %s cannot go on here: %s", id, _said(str(error)))
            self._drop(id, local)

    def _execute(self, id: str, token: str) -> None:
        from dbos._core import execute_dequeued_workflow

        status = self._dbos._sys_db.get_workflow_status(id)
        if status is not None:
            self._body(status["name"])
            execute_dequeued_workflow(self._dbos, status, token)

    # The database

    async def in_db(self, do: Callable[..., T], *args: Any) -> T:
        return await asyncio.wrap_future(self._threads.in_db(do, *args))

    async def _asked(self, do: Callable[..., T], *args: Any) -> T:
        try:
            return await self.in_db(do, *args)
        except SQLAlchemyError as error:
            raise self.store.unusable(error) from None

    # Who is alive

    def fresh(self) -> bool:
        """Whether our last heartbeat is so young that nobody can have taken our flows."""
        return _clock() - self._beaten < self._dead_s / 2

    async def _live(self) -> None:
        beats = 0
        host, pid, birth = this_host(), os.getpid(), born(os.getpid())
        while True:
            try:
                sent = _clock()
                beats += 1
                await self.in_db(self.store.beat, self.executor, host, pid, birth, beats)
                self._beaten = sent
                await self._look_after(first=beats == 1)
            except SQLAlchemyError as error:
                log.warning("%s", self.store.unusable(error))
            except Exception:
                log.exception("heartbeat")
            await asyncio.sleep(self._beat_s)

    async def _look_after(self, first: bool) -> None:
        """Take the flows of the dead. Not time counts but rounds of ours: who is silent for all of them is dead."""
        names = list(FLOWS)
        rounds = max(2, round(self._dead_s / self._beat_s))
        others = await self.in_db(self.store.others, self.executor, names)
        heard, self._heard = self._heard, {}
        for other in others:
            beats, silent = heard.get(other.id, (other.beats, -1))
            silent = silent + 1 if beats == other.beats else 0
            self._heard[other.id] = (other.beats, silent)
            if other.gone or silent >= rounds:
                await self._take_over(other, names)
        # Ours by the book, but not running: its database could not be written when it stopped.
        for id in await self.in_db(self.store.orphans, self.executor, names):
            await self._take_up(id, ("PENDING",))
        for id in list(self._unrecorded):  # DBOS may have taken the database's error for the flow's
            await self._take_up(id, ("PENDING", "ERROR"))
            self._unrecorded.discard(id)

    async def _take_over(self, other: Other, names: Names) -> None:
        room = MOST_RUNNING - len(self.running)
        if room <= 0:
            return
        token = secrets.token_hex(16)
        taken = await self.in_db(self.store.take, self.executor, token, other, names)
        if taken:
            how = "left" if other.beats == LEFT else "died"
            log.warning("%s %s; %d of its flows go on here", other.id, how, len(taken))
        for id in taken:
            await self._go_on(id, token)

    async def _attend(self) -> None:
        """See what other processes did to the flows that run here: answered, cancelled, taken."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                mine = {id: local.run for id, local in self.running.items() if local.run}
                if not mine:
                    continue
                owners = await self.in_db(self.store.owners, list(mine))
                for id, run in mine.items():
                    if id in owners and owners[id][0] in ("PENDING", "CANCELLED") and owners[id][1] != run.owner:
                        if (local := self.running.get(id)) and local.run is run:
                            self._stop_here(id)
                asked = {question: id for id, run in mine.items() for question in run.asking}
                for question in await self.in_db(self.store.answers, list(asked)) if asked else ():
                    self._answered(asked[question], question)
            except SQLAlchemyError as error:
                log.warning("%s", self.store.unusable(error))
            except Exception:
                log.exception("looking after running flows")

    # Life

    def use(self, dbos: Any) -> None:
        self._dbos, self._spare = dbos, dbos._executor_field
        dbos._executor_field = self._threads

    def open(self) -> None:
        for name in FLOWS:
            self._body(name)
        for work in (self._live(), self._attend()):
            self._tasks.append(self._loop.create_task(work))

    async def close(self) -> None:
        """Flows that run stop where they are; another process, or the next start of this one, goes on with them."""
        from dbos import DBOS

        self._closed = True
        tasks = [*self._tasks, *(local.task for local in self.running.values() if local.task)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
        for id in list(self._bells):
            self.ring(id)
        with suppress(SQLAlchemyError):
            await self.in_db(self.store.left, self.executor)
        await self._loop.run_in_executor(self._threads.others, functools.partial(DBOS.destroy, destroy_registry=True))
        self._spare.shutdown(wait=False)
        self._loop.set_default_executor(self._threads.others)
        self.store.close()


async def launch(settings: FlowsSettings, home: Path, *, executor: str, beat_s: float, dead_s: float) -> Engine:
    store = await asyncio.to_thread(Store, settings.database.get_secret_value(), home)
    executor = f"{executor or 'engine'}-{secrets.token_hex(6)}"
    await asyncio.to_thread(__import__, "dbos")
    from dbos import DBOS
    from dbos._dbos import _dbos_global_instance
    from dbos._serialization import DBOSPortableJSON

    if _dbos_global_instance is not None:
        raise Refusal("Flows already run in this process; there is one engine a process.")
    logger = logging.getLogger("dbos")
    logger.addHandler(logging.NullHandler())  # or DBOS adds one that writes by itself
    logger.setLevel(logging.CRITICAL)  # what matters about a flow is logged here
    try:
        dbos = DBOS(
            config={
                "name": APP,
                "system_database_url": store.url,
                "system_database_engine": store.engine,
                "executor_id": executor,
                "application_version": "1",  # a flow goes on in newer code too; its steps' order is what must hold
                "serializer": DBOSPortableJSON,
                "use_listen_notify": False,
                "scheduler_polling_interval_sec": 3600.0,
            }
        )
        engine = Engine(store, settings, executor, beat_s, dead_s)
        dbos._launch()  # on this loop, which DBOS then takes for its own
        engine.use(dbos)
        await engine.in_db(store.create)
        await engine.in_db(store.beat, executor, this_host(), os.getpid(), born(os.getpid()), 0)
    except (SQLAlchemyError, OSError) as error:
        DBOS.destroy(destroy_registry=True)
        raise store.unusable(error) from None
    except BaseException:
        DBOS.destroy(destroy_registry=True)
        raise
    engine.open()
    return engine


async def _apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Outside of the flow that may be running here: DBOS would make it a step or a child of that flow."""
    if current.get() is None:
        return await work()
    return await asyncio.create_task(work(), context=contextvars.Context())


def _clock() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _said(text: str) -> str:
    return clip(redact(one_line(plain(text))), 2000)


def _dumps(value: Any, what: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise Refusal(f"The {what} must be JSON: {_said(str(error))}.") from None
    if len(text) > MOST_BYTES:
        raise Refusal(f"The {what} is larger than {MOST_BYTES // 1_000_000} MB.")
    return text


def _jsonable(value: Any, what: str) -> Any:
    """The value as a replay will see it."""
    return json.loads(_dumps(value, f"value that {what}"))


__all__ = ["Engine", "Run"]
