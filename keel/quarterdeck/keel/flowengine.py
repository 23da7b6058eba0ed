"""The engine behind `flows`: DBOS runs and records, we wake, cancel, fence and take over.

DBOS's database work goes through threads of its own (one on SQLite, where writers only wait for one another), so that
blocking code of a step never stands in its way, and what ends in this process is heard of without asking the database.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.keel.answers import plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowdb import BUSY_S, Database, Threads
from quarterdeck.keel.flowdesk import Desk
from quarterdeck.keel.flowheart import Heart
from quarterdeck.keel.flowrun import Run, dumps, jsonable, said
from quarterdeck.keel.flows import FLOWS, Flow, FlowFailed, FlowTaken, current
from quarterdeck.keel.settings import FlowsSettings

MOST_RUNNING = 10_000
"""Flows that one process holds at once; most of them wait for a person."""
MOST_CRASHES = 50
"""After this many crashed processes a flow counts as what kills them."""
T = TypeVar("T")
log = logging.getLogger(__name__)
_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,199}")


@dataclass
class Local:
    """A flow that runs in this process."""

    ended: asyncio.Future[Any]
    task: asyncio.Task[Any] | None = None
    run: Run | None = None
    stopped: bool = False


class Engine(Desk):
    """Starts flows, runs them, answers for them. Made by `flows.engine`."""

    def __init__(self, database: Database, settings: FlowsSettings, executor: str, dbos: Any) -> None:
        super().__init__(database)
        self.executor = executor
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.keep_s = settings.keep_days * 86400
        self.running: dict[str, Local] = {}
        self._loop = asyncio.get_running_loop()
        self._threads: Threads = Threads(1 if database.sqlite else 4)
        self.unrecorded: set[str] = set()
        self._bodies: dict[str, Any] = {}
        self.heart: Heart
        self._dbos, self._spare = dbos, dbos._executor_field
        dbos._executor_field = self._threads
        self._tasks: list[asyncio.Task[None]] = []

    # Flows

    async def start(self, name: str, argument: dict[str, Any], id: str = "") -> str:
        """Start a flow and return its id. The same id again starts nothing and returns the same flow."""
        from dbos import DBOS, SetWorkflowID
        from dbos._core import WorkflowHandleAsyncTask
        from dbos._error import DBOSConflictingWorkflowError

        body = self._body(name)
        dumps(argument, "argument")
        id = id or secrets.token_hex(16)
        if not _id.fullmatch(id):
            raise Refusal(f"{plain(id)[:40]!r} cannot be a flow's id: up to 200 letters, digits and ._:@/+=-, please.")
        while id in self.running:
            flow = await self._look(self.records.flow, id)
            if flow is not None and flow.name != name:
                raise FlowTaken(f"There is already a flow {id!r} of another kind.")
            if flow is not None:
                return id
            await asyncio.sleep(0.01)  # it is being stored just now
        if self.room() <= 0:
            raise Refusal(f"{MOST_RUNNING} flows run here already. Wait for some to end, or start another process.")
        local = self.running[id] = Local(self._loop.create_future())

        async def begin() -> Any:
            with SetWorkflowID(id):
                return await DBOS.start_workflow_async(body, argument)

        try:
            async with asyncio.timeout(3 * BUSY_S):
                handle = await _apart(begin)
        except DBOSConflictingWorkflowError:
            self._drop(id, local)
            raise FlowTaken(f"There is already a flow {id!r} of another kind.") from None
        except (SQLAlchemyError, TimeoutError) as error:
            self._drop(id, local)
            raise self.database.unusable(error) from None
        except BaseException:
            self._drop(id, local)
            raise
        if not isinstance(handle, WorkflowHandleAsyncTask):  # it was there before
            self._drop(id, local)
        return id

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
            await self._look(self.owners.forget_failure, id)
        await self.take_up(id, ("CANCELLED", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"))
        self.bells.ring(id)
        return await self.status(id)

    # Waking

    async def _ended_here(self, id: str) -> dict[str, Any] | None:
        local = self.running.get(id)
        outcome = await asyncio.shield(local.ended) if local else None
        return None if outcome is None else dict(outcome)

    def _runs_here(self, id: str) -> bool:
        return id in self.running

    def _settled(self, id: str) -> bool:
        return id not in self.unrecorded

    def _cancelled(self, id: str) -> None:
        self.stop_here(id)

    def answered(self, id: str, question: str) -> None:
        local = self.running.get(id)
        if local and local.run and (event := local.run.asking.get(question)):
            event.set()

    def stop_here(self, id: str) -> None:
        local = self.running.get(id)
        if local and local.task and not local.stopped:
            local.stopped = True  # once: a second time would break into its cleaning up
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
            return dict(jsonable(value, f"flow {name!r} returned"))
        except Refusal as error:
            raise FlowFailed(said(str(error))) from None
        except Exception as error:
            log.exception("flow %s (%s) failed", run.id, name)
            raise FlowFailed(said(f"The flow failed: {type(error).__name__}: {error}")) from None
        finally:
            current.reset(token)

    def _ended(self, id: str, local: Local, task: asyncio.Task[Any]) -> None:
        """DBOS has recorded the outcome, or could not: whoever waits looks it up then."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SQLAlchemyError):
            self.unrecorded.add(id)
        if local.task is task:  # or a later execution has taken its place
            self._drop(id, local, None if task.cancelled() or error is not None else task.result())

    def _drop(self, id: str, local: Local, outcome: Any = None) -> None:
        if self.running.get(id) is local:
            del self.running[id]
        if not local.ended.done():
            local.ended.set_result(outcome)
        self.bells.ring(id)

    async def take_up(self, id: str, states: Iterable[str]) -> None:
        if id in self.running:
            return
        token, local = secrets.token_hex(16), Local(self._loop.create_future())
        self.running[id] = local
        try:
            ours = await self._look(self.owners.reopen, id, self.executor, token, tuple(states))
        except BaseException:
            self._drop(id, local)
            raise
        if ours:
            await self.go_on(id, token)
        else:
            self._drop(id, local)

    def room(self) -> int:
        return MOST_RUNNING - len(self.running)

    async def go_on(self, id: str, token: str) -> None:
        """Run a flow whose row we just made ours, from its last finished step."""
        local = self.running.setdefault(id, Local(self._loop.create_future()))
        try:
            await self._loop.run_in_executor(self._threads.others, self._execute, id, token)
        except Exception as error:
            log.warning("flow %s cannot go on here: %s", id, said(str(error)))
            self._drop(id, local)

    def _execute(self, id: str, token: str) -> None:
        from dbos._core import execute_dequeued_workflow

        status = self._dbos._sys_db.get_workflow_status(id)
        if status is not None:
            self._body(status["name"])
            execute_dequeued_workflow(self._dbos, status, token)

    async def in_db(self, do: Callable[..., T], *args: Any) -> T:
        return await asyncio.wrap_future(self._threads.in_db(do, *args))

    # Life

    async def open(self, heart: Heart) -> None:
        for name in FLOWS:
            self._body(name)
        self.heart = heart
        await heart.start()
        for work in (heart.beat(), heart.attend()):
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
        self.bells.ring_all()
        with suppress(SQLAlchemyError, TimeoutError):
            async with asyncio.timeout(3 * BUSY_S):
                await self.in_db(self.owners.left, self.executor)
        await self._loop.run_in_executor(self._threads.others, functools.partial(DBOS.destroy, destroy_registry=True))
        self._spare.shutdown(wait=False)
        self._loop.set_default_executor(self._threads.others)
        self.database.close()


async def _apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Outside of the flow that may be running here: DBOS would make it a step or a child of that flow."""
    if current.get() is None:
        return await work()
    return await asyncio.create_task(work(), context=contextvars.Context())


__all__ = ["Engine", "Local"]
