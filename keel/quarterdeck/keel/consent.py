"""How a change tool gets its consent from within MCP: a dialog where the client truly has one, else a terminal.

The two protocol eras ask differently: up to 2025-11-25 the server sends `elicitation/create` and waits; from 2026-07-28
on the tool returns "input required" and is called again with the answer, so nothing may happen before it.
Only a typed "yes" is consent: clients exist that accept by themselves with an empty or a default form.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from quarterdeck.keel.answers import Answer, clip, fit, one_line, plain
from quarterdeck.keel.changes import Changes, Pending, Plan, Seen, shown
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.identity import CHANGE, Caller, caller_of
from quarterdeck.keel.redact import redact

if TYPE_CHECKING:
    from fastmcp import Context
    from mcp_types import InputRequiredResult

log = logging.getLogger(__name__)

KEY = "quarterdeck.key"
called: ContextVar[str] = ContextVar("quarterdeck_called", default="")
"""A digest of the tool and the arguments at hand: a key that is used for another call is another key."""
DIALOG_S = 240.0
"""A dialog left open longer than this is over; the request stays open for the terminal."""
DIALOG_CHARACTERS = 3000
"""A change that takes more text than this cannot be read in a dialog; it is approved in the terminal."""

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approve": {
            "type": "string",
            "title": "Approve",
            "description": "Type yes to run exactly this change. Anything else declines it.",
            "default": "",
        }
    },
    "required": ["approve"],
}


class ChangeAnswer(Answer):
    """What became of a change."""

    status: Literal["done", "done_not_healthy", "approval_required", "declined", "denied", "failed"]
    summary: str
    change_id: str | None = None
    before: str | None = None
    after: str | None = None
    undo: str | None = None
    notes: list[str] | None = None
    result: str | None = None
    next: str

    def text(self) -> str:
        lines = [f"{self.status.upper()}: {self.summary}"]
        for label, value in (
            ("id", self.change_id),
            ("before", self.before),
            ("after", self.after),
            ("undo", self.undo),
        ):
            if value:
                lines.append(f"{label}: {value}" if "\n" not in value else f"{label}:\n{value}")
        lines += [f"note: {note}" for note in self.notes or []]
        if self.result:
            lines.append(f"result: {self.result}")
        return "\n".join([*lines, f"next: {self.next}"])


async def carry_out(
    ctx: Context, changes: Changes, planned: Plan | Callable[[], Awaitable[Plan]]
) -> ChangeAnswer | InputRequiredResult:
    """Run the plan if it is granted; otherwise ask, as this client can be asked. `planned` may make the plan when it is
    needed: what was carried out before, under the same key, often cannot be planned again."""
    caller, key = caller_of(ctx), _key_of(ctx)
    if key and (begun := await asyncio.to_thread(changes.by_key, caller, key)):
        return await _go_on(ctx, changes, planned, begun, caller)
    plan = await planned() if callable(planned) else planned
    change = plan.change
    decision = await asyncio.to_thread(changes.decide, change, caller)
    if decision.decision == "deny":
        await asyncio.to_thread(changes.refuse_by_policy, change, caller, decision.by)
        return _answer(
            plan,
            "denied",
            None,
            f"Forbidden by {decision.by}. Do not try again; tell the person what you wanted to do.",
        )
    taken = await asyncio.to_thread(changes.take, change, caller, key)
    if taken is None and decision.decision == "allow":
        taken = await asyncio.to_thread(changes.take_by_policy, change, caller, decision.by, key)
    if taken is not None:
        return await _run(ctx, changes, plan, taken)
    return await _ask(ctx, changes, plan, caller, key)


async def _ask(
    ctx: Context, changes: Changes, plan: Plan, caller: Caller, key: str
) -> ChangeAnswer | InputRequiredResult:
    pending = await asyncio.to_thread(changes.request, plan.change, caller)
    said = await _put(
        ctx,
        changes,
        pending,
        f"{plan.change.shown()}\n\nType yes to run exactly this. Request {pending.id}, asked by {one_line(caller.id)}.",
    )
    if not isinstance(said, str):
        return said
    if said == "yes":
        with suppress(Refusal):  # a terminal was faster: its grant, if still unused, is taken below
            await asyncio.to_thread(changes.grant, pending.id, _in_dialog(caller))
        taken = await asyncio.to_thread(changes.take, plan.change, caller, key)
        if taken is not None:
            return await _run(ctx, changes, plan, taken)
    return _approval_required(plan, pending, declined=said == "declined")


async def ask_about(ctx: Context, changes: Changes, pending: Pending) -> ChangeAnswer | InputRequiredResult:
    """Put a change that another program of this ledger asked for before the person at this client. A yes grants it to
    that program; nothing is run here. What is shown comes from the ledger, not from who relays the question."""
    caller = caller_of(ctx)
    if CHANGE not in caller.scopes:
        raise Denied(f"{caller.id} may not decide on changes (it lacks the scope '{CHANGE}').")
    whose = one_line(pending.caller)
    said = await _put(
        ctx,
        changes,
        pending,
        f"{pending.shown}\n\nType yes to allow exactly this. Request {pending.id}, asked by {whose}.",
    )
    if not isinstance(said, str):
        return said
    if said == "yes":
        await asyncio.to_thread(changes.grant, pending.id, _in_dialog(caller))
        result = f"Allowed; {whose} carries it out."
        return ChangeAnswer(status="done", summary=pending.summary, change_id=pending.id, result=result, next="Wait.")
    return ChangeAnswer(
        status="declined" if said == "declined" else "approval_required",
        summary=pending.summary,
        change_id=pending.id,
        next=f"Nothing was changed. A person can allow exactly this by running `quarterdeck approve {pending.id}`.",
    )


async def _put(
    ctx: Context, changes: Changes, pending: Pending, message: str
) -> Literal["yes", "declined", "waiting"] | InputRequiredResult:
    """Put a request before the person, where this client can show the whole of it and nobody has declined it yet."""
    if await asyncio.to_thread(changes.was_declined, pending.id):
        return "declined"
    if len(message) > DIALOG_CHARACTERS or not can_ask(ctx):
        return "waiting"
    asked = await ask_form(ctx, "consent", message, FORM, pending.id)
    if not isinstance(asked, tuple):
        return asked
    action, content = asked
    if action == "accept" and _is_yes(content):
        return "yes"
    if action in ("accept", "decline"):
        await asyncio.to_thread(changes.decline, pending.id, _in_dialog(caller_of(ctx)), final=False)
        return "declined"
    return "waiting"


def _in_dialog(caller: Caller) -> str:
    return f"{caller.id} in a dialog of {caller.client or 'the client'}"


def _key_of(ctx: Context) -> str:
    """The idempotency key of a call: the same change under the same key is carried out once. For programs that may
    have to call again without knowing what became of the first call."""
    request = ctx.request_context
    meta: Any = request.meta if request is not None else None
    key = (meta.get(KEY) if hasattr(meta, "get") else getattr(meta, KEY, None)) or ""
    if not isinstance(key, str) or len(key) > 300:
        raise Refusal(f"The key in _meta[{KEY!r}] must be a text of at most 300 characters.")
    return f"{key} {called.get()}" if key else ""


async def _go_on(
    ctx: Context, changes: Changes, planned: Plan | Callable[[], Awaitable[Plan]], begun: Pending, caller: Caller
) -> ChangeAnswer:
    """What became of a change that was begun under this key. One whose process died before it was written is done now:
    the plan is the same down to the object's fingerprint only if nothing was changed yet, and the write is refused
    if it is not so any more."""
    await changes.settled(begun.id)
    begun = await asyncio.to_thread(changes.get, begun.id)
    if begun.state == "started" and time.time() < begun.granted_at + changes.settings.grant_s:
        with suppress(Refusal):
            plan = await planned() if callable(planned) else planned
            allowed = (await asyncio.to_thread(changes.decide, plan.change, caller)).decision != "deny"
            if allowed and plan.change.digest(caller) == begun.digest:
                return await _run(ctx, changes, plan, begun)
    return _begun(begun)


def _begun(begun: Pending) -> ChangeAnswer:
    event, _, text = begun.outcome.partition(": ")
    status: Literal["done", "done_not_healthy", "failed"] = "failed"
    next = "It is not known whether anything was changed. Look at the object."
    if begun.state == "done":
        status = "done" if event == "verified" else "done_not_healthy"
        next = "It was carried out before, under this key; not again."
    result = text or "It was begun before, under this key, and broke off."
    return ChangeAnswer(status=status, summary=begun.summary, change_id=begun.id, result=clip(result, 1000), next=next)


def can_ask(ctx: Context, *, by_url: bool = False) -> bool:
    """Whether this client can show a form (or open an address) now: it declared that and there is a way to send it."""
    try:
        session = ctx.session
        capabilities = session.client_capabilities
    except RuntimeError:
        return False
    elicitation = capabilities.elicitation if capabilities is not None else None
    if elicitation is None:
        return False
    if by_url:
        return elicitation.url is not None and (_modern(ctx) or session.can_send_request)
    url_only = elicitation.form is None and elicitation.url is not None
    return not url_only and (_modern(ctx) or session.can_send_request)


def _modern(ctx: Context) -> bool:
    from mcp_types.version import MODERN_PROTOCOL_VERSIONS

    request = ctx.request_context
    return request is not None and request.protocol_version in MODERN_PROTOCOL_VERSIONS


async def ask_form(
    ctx: Context, name: str, message: str, form: dict[str, Any], state: str
) -> tuple[str, Any] | InputRequiredResult:
    """What the person did with a form, as (action, content). In the later era first the question itself: return it
    from the tool, which is then called again with `ctx.request_state == state`. Ask only where `can_ask`."""
    if not _modern(ctx):
        return await _dialog(ctx, message, form)
    answered = (ctx.input_responses or {}).get(name) if ctx.request_state == state else None
    if answered is not None:
        return getattr(answered, "action", "cancel"), getattr(answered, "content", None)
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

    asked = ElicitRequestFormParams(message=message, requested_schema=form)
    return InputRequiredResult(input_requests={name: ElicitRequest(params=asked)}, request_state=state)


async def ask_url(ctx: Context, name: str, message: str, url: str, state: str) -> str | InputRequiredResult:
    """What the person did when the client offered to open an address: accept, decline or cancel; like `ask_form`."""
    from mcp import MCPError

    if not _modern(ctx):
        try:
            async with asyncio.timeout(DIALOG_S):
                answer = await ctx.session.elicit_url(message, url, state, related_request_id=ctx.request_id)
        except (TimeoutError, MCPError):
            return "cancel"
        return answer.action
    answered = (ctx.input_responses or {}).get(name) if ctx.request_state == state else None
    if answered is not None:
        return str(getattr(answered, "action", "cancel"))
    from mcp_types import ElicitRequest, ElicitRequestURLParams, InputRequiredResult

    asked = ElicitRequestURLParams(message=message, url=url)
    return InputRequiredResult(input_requests={name: ElicitRequest(params=asked)}, request_state=state)


async def _dialog(ctx: Context, message: str, form: dict[str, Any]) -> tuple[str, Any]:
    from mcp import MCPError

    try:
        async with asyncio.timeout(DIALOG_S):
            answer = await ctx.session.elicit_form(message, form, related_request_id=ctx.request_id)
    except (TimeoutError, MCPError):  # nobody answered, or the client cannot after all
        return "cancel", None
    return answer.action, answer.content


def _is_yes(content: Any) -> bool:
    typed = content.get("approve") if isinstance(content, dict) else None
    return isinstance(typed, str) and typed.strip().lower() == "yes"


async def _run(ctx: Context, changes: Changes, plan: Plan, taken: Pending) -> ChangeAnswer:
    async def report(fraction: float, message: str) -> None:
        await ctx.report_progress(fraction, 1.0, message)

    unknown = "It is not known whether anything was changed. Look at the object before you try again; that asks anew."
    try:
        done, seen = await changes.run(plan, taken, report)
    except Refusal as error:
        return _answer(plan, "failed", taken, unknown, result=str(error))
    except Exception as error:
        log.exception("%s broke off", taken.id)
        return _answer(plan, "failed", taken, unknown, result=f"It broke off ({type(error).__name__}).")
    return _done(plan, taken, done, seen)


def _done(plan: Plan, taken: Pending, done: str, seen: Seen | None) -> ChangeAnswer:
    healthy = seen is not None and seen.healthy
    return _answer(
        plan,
        "done" if healthy else "done_not_healthy",
        taken,
        "Tell the person what was done and seen."
        if healthy
        else "Look at why with find_problems; undo as shown if it made things worse.",
        result=f"{done} {seen.text if seen else ''}".strip(),
    )


def _approval_required(plan: Plan, pending: Pending, *, declined: bool) -> ChangeAnswer:
    asked = "It was declined, or the client never showed its dialog. " if declined else ""
    return _answer(
        plan,
        "declined" if declined else "approval_required",
        pending,
        f"{asked}Nothing was changed. A person can allow exactly this by running `quarterdeck approve {pending.id}` in "
        "a terminal of their own; then call this tool again with the same arguments. Do not run that command yourself.",
    )


def _answer(
    plan: Plan,
    status: Literal["done", "done_not_healthy", "approval_required", "declined", "denied", "failed"],
    pending: Pending | None,
    next: str,
    result: str | None = None,
) -> ChangeAnswer:
    change = plan.change

    def make(most: int) -> ChangeAnswer:
        return ChangeAnswer(
            status=status,
            summary=clip(" ".join(shown(change.summary).split()), 300),
            change_id=pending.id if pending else None,
            before=clip(shown(change.before), most) or None,
            after=clip(shown(change.after), most) or None,
            undo=clip(shown(change.undo), most) or None,
            notes=[clip(shown(warning), 200) for warning in change.warnings[:5]] or None,
            result=clip(redact(plain(result)), 1000) if result else None,
            next=next,
        )

    return fit(make, 1500)
