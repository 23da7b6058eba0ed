"""A person's answer to a flow's question; and what makes an answer a grant.

A question whose data names a `change_id` asks for a grant. "yes" as an A2A message grants only when its authenticated
caller holds the scope `approve`, which agents and bridges are not given. Whoever decides in a terminal or on a page
decides in the ledger; the flow hears of it here too.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from a2a.types.a2a_pb2 import Message

from quarterdeck.agents.runtime.agent import data_of, text_of
from quarterdeck.keel.changes import Changes, Pending
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.flows import Flow, Question
from quarterdeck.keel.identity import APPROVE, Caller

if TYPE_CHECKING:
    from quarterdeck.agents.runtime.handler import Engine

log = logging.getLogger(__name__)
YES = frozenset({"yes", "y", "approve", "approved", "allow", "예", "네", "승인"})
NO = frozenset({"no", "n", "deny", "denied", "decline", "reject", "아니요", "아니오", "거부"})
LOOK_S = 0.5
_CHANGE_ID = re.compile(r"\bch-[a-z0-9]{8}\b")


class Approvals:
    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def answer(
        self, question: Question, message: Message, caller: Caller, asked_before: bool = False
    ) -> dict[str, Any]:
        """What the flow is told. Raises Denied when the caller may not say that. `asked_before`: the task has asked for
        another change already, so a yes must say which one it means."""
        text, data = text_of(message), data_of(message)
        change = question.data.get("change_id")
        if not change:
            return {"by": caller.id, "text": text, "data": data}
        named = {str(data[key]) for key in ("change_id", "question_id") if data.get(key)}
        named |= set(_CHANGE_ID.findall(text))
        if named - {change, question.id}:
            raise Refusal(f"That answers another question. Open now is {change}: {question.text[:200]}")
        decision = _decision(_CHANGE_ID.sub("", text), data)
        if decision and asked_before and not named:
            raise Refusal(f"The change has changed since it was first asked about. Say which one: yes {change}")
        if decision is None:
            raise Refusal(
                f"Answer yes or no: {question.text[:200]} Without the right to approve, a person can also run "
                f"`quarterdeck approve {change}`."
            )
        if decision:
            if APPROVE not in caller.scopes:
                raise Denied(
                    f"{caller.id} may not approve changes (it lacks the scope '{APPROVE}'), so nothing was granted. "
                    f"A person can run `quarterdeck approve {change}` in a terminal."
                )
            pending = await asyncio.to_thread(self._changes.grant, change, by=f"{name_of(caller)} over A2A")
        else:
            pending = await asyncio.to_thread(self._declined, change, caller)
        return {"by": caller.id, "text": "yes" if decision else "no", "data": {"change_id": pending.id}}

    def _declined(self, change: str, caller: Caller) -> Pending:
        self._changes.decline(change, f"{name_of(caller)} over A2A", final=True)
        return self._changes.get(change)

    async def withdraw(self, flow: Flow) -> None:
        """A run that ends while it asks leaves nothing behind that could still be approved."""
        change = flow.question.data.get("change_id") if flow.question is not None else None
        if change:
            with suppress(Refusal):
                await asyncio.to_thread(self._changes.withdraw, str(change), "its run ended")

    async def follow(self, engine: Engine) -> None:
        """Tell waiting flows what was decided elsewhere. Runs as long as the process."""
        said = ""
        while True:
            try:
                for flow in await engine.list(state="waiting", limit=500):
                    await self._look(engine, flow)
                said = ""
            except asyncio.CancelledError:
                raise
            except Refusal as error:  # the database is away: said once, and tried again
                if not said:
                    log.warning("%s", said := str(error))
            except Exception:
                log.exception("looking for decisions failed; it is tried again")
            await asyncio.sleep(LOOK_S)

    async def _look(self, engine: Engine, flow: Flow) -> None:
        question = flow.question
        change = question.data.get("change_id") if question is not None else None
        if question is None or not change:
            return
        try:
            pending = await asyncio.to_thread(self._changes.get, str(change))
        except Refusal:  # another machine's ledger: its flow looks there itself
            return
        if pending.waiting:
            return
        said = {"granted": "yes", "started": "yes", "done": "yes", "declined": "no"}.get(pending.state, "expired")
        answer = {"by": pending.granted_by, "text": said, "data": {"change_id": pending.id}}
        with suppress(Refusal):  # somebody answered in the same moment
            await engine.answer(flow.id, question.id, answer)


def _decision(text: str, data: dict[str, Any]) -> bool | None:
    """Yes, no, or neither, such as when a message says both."""
    said = [data[key] for key in ("approve", "decision") if key in data] + ([text] if text.strip() else [])
    found = {_word(one) for one in said}
    return found.pop() if len(found) == 1 else None


def _word(said: Any) -> bool | None:
    if isinstance(said, bool):
        return said
    word = str(said).strip().lower().rstrip(".!")
    return True if word in YES else False if word in NO else None


def name_of(caller: Caller) -> str:
    """For the record: "token:…" would be taken for a secret there."""
    return caller.id.removeprefix("token:")
