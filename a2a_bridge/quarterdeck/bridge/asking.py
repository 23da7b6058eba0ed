"""What an agent asks goes to the person: a question by a form, a change by the way every change of ours takes.

A yes to a change is sent only from here, inside `consent.carry_out`: under a grant that a person gave in a dialog or a
terminal (or a rule in the settings file), for exactly this question of exactly this task, once.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from quarterdeck.bridge.messages import Question, grant_part, new_message
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.changes import Change, Changes, Pending, Plan, Report, Seen, Target
from quarterdeck.keel.consent import ask_about, ask_form, ask_url, can_ask, carry_out
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import caller_of

if TYPE_CHECKING:
    from fastmcp import Context
    from mcp_types import InputRequiredResult

    from quarterdeck.bridge.client import Line
    from quarterdeck.bridge.follow import Follower
    from quarterdeck.bridge.tasks import Memory, Record
    from quarterdeck.keel.consent import ChangeAnswer

ANSWER_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "answer": {
            "type": "string",
            "title": "Answer",
            "description": "What to tell the agent. Never type a password or key here.",
            "default": "",
        }
    },
    "required": ["answer"],
}
LONGEST_QUESTION = 3000
USED = ("granted", "started", "done")
HEARD_S = 15.0


async def ask_question(ctx: Context, record: Record, question: Question) -> str | InputRequiredResult:
    """The person's answer; empty where the client cannot ask, or nobody answered."""
    if not can_ask(ctx) or len(question.text) > LONGEST_QUESTION:
        return ""
    message = f"The agent {record.agent} asks about {record.title!r}:\n\n{question.text}\n\n(task {record.id})"
    asked = await ask_form(ctx, "answer", message, ANSWER_FORM, f"{record.id} {question.id}")
    if not isinstance(asked, tuple):
        return asked
    action, content = asked
    typed = content.get("answer") if action == "accept" and isinstance(content, dict) else None
    return typed.strip() if isinstance(typed, str) else ""


async def ask_sign_in(ctx: Context, record: Record, question: Question) -> bool | InputRequiredResult:
    """Whether the person let the client open the address where the agent wants them to sign in."""
    if not question.url or not can_ask(ctx, by_url=True):
        return False
    host = urlsplit(question.url).hostname
    message = (
        f"The agent {record.agent} wants you to sign in at {host} for {record.title!r}. It chose the address: open it "
        f"only if you know it.\n\n{question.text}\n\n(task {record.id})"
    )
    done = await ask_url(ctx, "sign_in", message, question.url, f"{record.id} {question.id}")
    return done == "accept" if isinstance(done, str) else done


async def ask_approval(
    ctx: Context, changes: Changes, memory: Memory, follower: Follower, line: Line, record: Record, question: Question
) -> ChangeAnswer | InputRequiredResult:
    """Let a person decide on the change; a yes is passed on to the agent."""
    asked = question.change
    assert asked is not None
    if (known := await asyncio.to_thread(_known_here, changes, asked.change_id)) is not None:
        # The agent shares this ledger: the request itself is decided, and the agent hears of it there.
        await memory.set_approval(record.id, known.id)
        result = _allowed(known) if known.state in USED else await ask_about(ctx, changes, known)
        if getattr(result, "status", "") == "done":
            await _until_heard(follower, line, record, question)
        return result
    plan = _plan(memory, follower, line, record, question, caller_of(ctx).id)
    result = await carry_out(ctx, changes, plan)
    pending = getattr(result, "change_id", None) or getattr(result, "request_state", None)
    if pending:
        await memory.set_approval(record.id, pending)
    return result


def _known_here(changes: Changes, id: str) -> Pending | None:
    """The request in our own ledger, if it is there and may still be, or has been, allowed."""
    try:
        pending = changes.get(id)
    except Refusal:
        return None
    return pending if pending.waiting or pending.state in USED else None


async def allowed_already(changes: Changes, record: Record) -> ChangeAnswer | None:
    """That the change asked for is allowed in the ledger we share, and the agent has only not heard of it yet."""
    question = Question.of(record.question)
    if question is None or question.change is None:
        return None
    known = await asyncio.to_thread(_known_here, changes, question.change.change_id)
    return _allowed(known) if known is not None and known.state in USED else None


def _allowed(pending: Pending) -> ChangeAnswer:
    from quarterdeck.keel.consent import ChangeAnswer

    return ChangeAnswer(status="done", summary=pending.summary, change_id=pending.id, next="It is allowed already.")


async def _until_heard(follower: Follower, line: Line, record: Record, question: Question) -> None:
    """The agent looks into the ledger every now and then; until it has, it still asks."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HEARD_S):
            while Question.of((await follower.refresh(record, line)).question) == question:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


def _plan(memory: Memory, follower: Follower, line: Line, record: Record, question: Question, caller: str) -> Plan:
    asked = question.change
    assert asked is not None
    change = Change(
        server="bridge",
        tool="answer_task",
        summary=f"let agent {record.agent} do this: {asked.change or 'what it did not say'}",
        # The name keeps policy's globs usable; the fingerprint binds the yes to this question of this task.
        targets=(
            Target(
                kind="change",
                name=clip(one_line(asked.change_id), 80) or record.id,
                context=record.agent,
                fingerprint=f"{record.id} {question.id}",
            ),
        ),
        before=asked.before or "(the agent did not say)",
        after=asked.after or "(the agent did not say)",
        undo=asked.undo or "(the agent did not say)",
        exact=json.dumps([record.id, record.remote, question.id, asdict(asked)], sort_keys=True),
        warnings=("These are the agent's own words.",),
    )

    async def apply() -> str:
        now = await memory.get(record.id, record.caller)
        still = Question.of(now.question)
        if now.state != "input_required" or still is None or still != question:
            raise Refusal(f"{record.agent} does not ask this any more. Nothing was sent.")
        parts = [{"text": "yes"}, grant_part(question, caller)]
        message = new_message(str(uuid.uuid4()), parts, task=record.remote, context=record.context)
        await follower.reply(record, line, message, question.id, "grant")
        return f"Told {record.agent} yes."

    async def verify(report: Report) -> Seen:
        return Seen(True, "It goes on.")

    return Plan(change, apply, verify)
