"""One execution of a flow's body: what `flows.step`, `ask`, `progress` and `now` do."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.flows import FlowFailed, StepFailed
from quarterdeck.keel.redact import redact

if TYPE_CHECKING:
    from quarterdeck.keel.flowengine import Engine

MOST_BYTES = 4_000_000
"""Of JSON that a flow is given, a step returns or a person answers."""

T = TypeVar("T")
log = logging.getLogger(__name__)
_step: contextvars.ContextVar[int] = contextvars.ContextVar("quarterdeck_step", default=0)


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
        waits: bool,
    ) -> T:
        if _step.get():
            raise RuntimeError(f"Step {name!r} is inside another step; a step is done as a whole.")

        async def once() -> dict[str, Any]:
            """`value`, or why there is none: `failed` is the kind."""
            async with nullcontext() if waits else self.engine.slots:
                await self._still_ours()
                try:
                    async with asyncio.timeout(timeout_s) as limit:
                        value = await do(*args, **kwargs)
                    return {"value": jsonable(value, f"step {name!r} returned")}
                except Refusal as error:
                    return {"failed": "Denied" if isinstance(error, Denied) else "Refusal", "why": said(str(error))}
                except Exception as error:
                    log.debug("step %s of %s failed", name, self.id, exc_info=True)
                    late = isinstance(error, TimeoutError) and limit.expired()
                    why = f"it took longer than {timeout_s:g} s" if late else f"{type(error).__name__}: {error}"
                    return {"failed": "StepFailed", "why": said(why)}

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
            return {"failed": "StepFailed", "why": said(f"Step {name!r} failed{times}: {outcome['why']}")}

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
        payload = dumps(data, "progress data")
        await self._stored(self.engine.records.say, self.id, self.owner, place, "progress", text, share, payload)
        self.engine.bells.ring(self.id)

    async def ask(self, text: str, data: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        text, payload = plain(text), dumps(data, "question data")
        answer: dict[str, Any] | None = (await self._recorded("ask", lambda: self._ask(text, payload, timeout_s)))[
            "value"
        ]
        return answer

    async def _ask(self, text: str, data: str, timeout_s: float) -> dict[str, Any]:
        records, id = self.engine.records, self.step_key()
        answered = self.asking[id] = asyncio.Event()
        try:
            left_s, answer = await self._stored(records.ask, id, self.id, self.owner, text, data, timeout_s)
            self.engine.bells.ring(self.id)
            if answer is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(answered.wait(), max(0.0, left_s))
                answer = await self._stored(records.expire, id)
                self.engine.bells.ring(self.id)
        finally:
            self.asking.pop(id, None)
        return {"value": None if answer is None else json.loads(answer)}

    async def over(self, id: str) -> bool:
        owners = await self._stored(self.engine.owners.owners, [id])
        return id not in owners or owners[id][0] not in ("PENDING", "ENQUEUED", "DELAYED")

    async def now(self) -> float:
        async def read() -> dict[str, Any]:
            return {"value": await self._stored(self.engine.records.now)}

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
        if self.engine.heart.fresh():
            return
        owners = await self._stored(self.engine.owners.owners, [self.id])
        if owners.get(self.id) != ("PENDING", self.owner):
            await self._stop(RuntimeError("another process has it"))

    async def _stop(self, error: BaseException) -> dict[str, Any]:
        """End this execution without an outcome. Cancellation is the one thing that a flow's own `except` lets pass."""
        log.warning("flow %s stops here for now: %s", self.id, said(str(error).split("\n")[0]))
        self.engine.stop_here(self.id)
        await asyncio.sleep(3600)
        raise asyncio.CancelledError from error


def said(text: str) -> str:
    return clip(redact(one_line(plain(text))), 2000)


def dumps(value: Any, what: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise Refusal(f"The {what} must be JSON: {said(str(error))}.") from None
    if len(text) > MOST_BYTES:
        raise Refusal(f"The {what} is larger than {MOST_BYTES // 1_000_000} MB.")
    return text


def jsonable(value: Any, what: str) -> Any:
    """The value as a replay will see it."""
    return json.loads(dumps(value, f"value that {what}"))
