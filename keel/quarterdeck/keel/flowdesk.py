"""The face of flows for whoever does not run them: look, watch, answer, cancel."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.keel.answers import plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowbells import Bells, rung
from quarterdeck.keel.flowdb import BUSY_S, Database
from quarterdeck.keel.flowowners import Owners
from quarterdeck.keel.flowrecords import Records
from quarterdeck.keel.flowrun import dumps
from quarterdeck.keel.flows import Flow, FlowFailed, Item, asks

LOOK_S = 0.5
"""How soon it is seen what happened in a flow that another process runs."""

SOON_S = 0.1

T = TypeVar("T")


class Desk:
    """Made by `flows.desk`. What the flows of other processes do is seen within half a second."""

    def __init__(self, database: Database) -> None:
        self.database, self.records, self.owners = database, Records(database), Owners(database)
        self.bells = Bells()
        self._closed = False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="flows-db")

    async def status(self, id: str) -> Flow:
        flow = await self._look(self.records.flow, id)
        if flow is None:
            raise Refusal(f"There is no flow {plain(id)[:60]!r}.")
        return flow

    async def result(self, id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for a flow's result. Raises FlowFailed when it failed or was cancelled, Refusal when time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if (outcome := await self._ended_here(id)) is not None:
                        return outcome
                    with self.bells.hung(id) as bell:
                        flow = await self.status(id)
                        if flow.state == "completed":
                            return flow.result or {}
                        if flow.ended and self._settled(id):
                            raise FlowFailed(flow.error or f"Flow {id} was {flow.state}.")
                        if not self._runs_here(id):
                            await rung(bell, LOOK_S / 2)
        except TimeoutError:
            raise Refusal(f"Flow {id} has not ended in {timeout_s:g} s. It goes on; ask again later.") from None

    async def watch(self, id: str, after: int = 0) -> AsyncGenerator[Item, None]:
        """What happened after the cursor `after` and what goes on happening, until the flow ends."""
        with self.bells.hung(id) as bell:
            while True:
                bell.clear()
                flow = await self.status(id)
                items = await self._look(self.records.items, id, after)
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
                await rung(bell, 15.0 if self._runs_here(id) else LOOK_S / 2)

    async def whole(self, id: str) -> tuple[Flow, builtins.list[Item]]:
        """A flow and everything that happened in it, in one look."""

        def look() -> tuple[Flow | None, builtins.list[Item]]:
            flow, items = self.records.flow(id), builtins.list[Item]()
            while flow and (page := self.records.items(id, items[-1].cursor if items else 0)):
                items += page
            return flow, items

        flow, items = await self._look(look)
        if flow is None:
            raise Refusal(f"There is no flow {plain(id)[:60]!r}.")
        return flow, items

    async def settled(self, id: str, after: int = 0) -> tuple[Flow, builtins.list[Item]]:
        """The same, once the flow has ended or asked something after the cursor `after`."""
        with self.bells.hung(id) as bell:
            if self._runs_here(id):  # many flows end in a moment, and then one look is enough
                await rung(bell, SOON_S)
            while True:
                bell.clear()
                flow, items = await self.whole(id)
                if asks(flow, items, after) or (flow.ended and self._settled(id)):
                    return flow, items
                await rung(bell, 15.0 if self._runs_here(id) else LOOK_S / 2)

    async def answer(self, id: str, question: str, answer: dict[str, Any]) -> None:
        """Answer a question of a flow: {"by", "text", "data"}. The first answer counts, others are refused."""
        kept = {"by": str(answer.get("by", "")), "text": str(answer.get("text", "")), "data": answer.get("data")}
        text = dumps(kept, "answer")
        await self._look(self.records.answer, id, question, text, kept["text"])
        self.answered(id, question)
        self.bells.ring(id)

    async def cancel(self, id: str) -> Flow:
        """Stop a flow that has not ended, and return it as it then stands."""
        await self.status(id)
        await self._look(self.owners.cancel, id)
        flow = await self.status(id)
        if flow.state == "cancelled":
            await self._look(self.records.withdraw, id)
            self._cancelled(id)
            flow = await self.status(id)
        self.bells.ring(id)
        return flow

    async def forget(self, ids: builtins.list[str]) -> int:
        """Delete flows that ended, and all that is known of them; those that have not are left alone. How many."""
        return await self._look(self.owners.forget, [id for id in ids if not self._runs_here(id)])

    async def close(self) -> None:
        self._closed = True
        self.bells.ring_all()
        self._threads.shutdown(wait=False)
        self.database.close()

    # What an engine knows better, because it runs flows itself

    async def _ended_here(self, id: str) -> dict[str, Any] | None:
        """The result of a flow that ran in this process, as soon as it ended."""
        return None

    def _runs_here(self, id: str) -> bool:
        return False

    def _settled(self, id: str) -> bool:
        """Whether the recorded outcome is the flow's own."""
        return True

    def answered(self, id: str, question: str) -> None:
        """A question of a flow was answered."""

    def _cancelled(self, id: str) -> None:
        """A flow was cancelled."""

    # The database

    async def in_db(self, do: Callable[..., T], *args: Any) -> T:
        return await asyncio.wrap_future(self._threads.submit(do, *args))

    async def _look(self, do: Callable[..., T], *args: Any) -> T:
        """For a caller who waits: in time, or a sentence."""
        if self._closed:
            raise Refusal("The engine that ran the flows here is closed.")
        try:
            async with asyncio.timeout(3 * BUSY_S):
                return await self.in_db(do, *args)
        except (SQLAlchemyError, TimeoutError) as error:
            raise self.database.unusable(error) from None

    async def items(self, id: str, after: int = 0) -> builtins.list[Item]:
        """Everything that happened so far after the cursor `after`."""
        found: builtins.list[Item] = []
        while page := await self._look(self.records.items, id, found[-1].cursor if found else after):
            found += page
        return found

    async def list(
        self, name: str = "", state: str = "", prefix: str = "", limit: int = 50, offset: int = 0
    ) -> builtins.list[Flow]:
        """Newest first, at most 500, without arguments and results. `prefix`: how their ids begin."""
        return await self._look(self.records.flows, name, state, prefix, max(1, min(limit, 500)), max(0, offset))
