"""The remediation flow: detect → logs → metrics → root cause → plan → approval → execute → verify → report.

Each arrow is a step, so a crash repeats at most the one in flight. The change itself is a tool call under a grant with
an idempotency key: a step that runs again asks what became of its first try instead of doing it twice.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from quarterdeck.agents.remediation import health, rules, steps
from quarterdeck.agents.remediation.comparison import Comparison, compare
from quarterdeck.agents.remediation.judgement import Judged
from quarterdeck.agents.remediation.models import Action, Diagnosis, Evidence
from quarterdeck.agents.remediation.outfit import worn
from quarterdeck.agents.remediation.report import OUTCOMES, Done, Figure, Outcome, Report
from quarterdeck.keel import flows
from quarterdeck.keel.answers import clip
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import CHANGE

NAME = "remediation"
ASKED_AGAIN = 3
"""How often a change that is no more what was approved is asked about anew."""
LOOK_AGAIN_S = 15.0
"""How often a decision is looked for in a ledger that is not ours."""
REFUSED_FOR_GOOD = 3
"""A tool that refuses a change so often in a row, with a moment between, means it."""
UNTIL_REACHED: Any = {"tries": 8, "timeout_s": 900.0, "retry_refusals": True}
"""A server that is down is called again for two minutes."""
NOT_DONE: dict[str, Outcome] = {"expired": "expired", "refused": "failed", "changing": "failed"}
Json = dict[str, Any]


class NoSuchService(Refusal):
    """What was asked about is not there."""


@flows.flow(NAME)
async def remediate(argument: Json) -> Json:
    """`argument` may name a `service`, hold an `alert`, or a person's `text`; `act: false` only analyses."""
    evidence: list[Evidence] = []
    done: list[Done] = []
    try:
        return await _remediate(argument, evidence, done)
    except NoSuchService:
        raise
    except Refusal as error:  # a step could not be done: what is known by then is still worth a report
        diagnosis = rules.judge(evidence)
        diagnosis.no_action_because = f"the work on it broke off: {error}"
        return await _finish(diagnosis, evidence, "failed", argument, done=done)


async def _remediate(argument: Json, evidence: list[Evidence], done: list[Done]) -> Json:
    await flows.progress("Looking for what is wrong", 0.05)
    found = await flows.step("detect", steps.detect, argument, tries=2, timeout_s=120)
    evidence += steps.evidence_of(found["evidence"])
    about = found["about"]
    if found["unknown"]:
        raise NoSuchService(found["unknown"])
    named = bool(about or argument.get("alert"))
    measured = rules.judge(evidence, about=about).healthy and not named
    if measured:  # some trouble shows only in figures, such as a surge that is still borne
        evidence += await _metrics(evidence)
        if (seen := rules.judge(evidence)).healthy:
            return await _finish(seen, evidence, "healthy", argument)

    await flows.progress("Reading the logs of what looks bad", 0.2)
    evidence += steps.evidence_of(
        await flows.step("collect logs", steps.logs, steps.dumped(evidence), about, tries=2, timeout_s=180)
    )
    await flows.progress(f"First cause: {_say(rules.judge(evidence, about=about))}", 0.35)

    if not measured:
        evidence += await _metrics(evidence)
    more = await flows.step("look around", steps.surroundings, steps.dumped(evidence), about, tries=2, timeout_s=180)
    evidence += steps.evidence_of(more)
    diagnosis, comparison, usage = rules.judge(evidence, about=about), None, None
    if found["model"] and not diagnosis.healthy:
        await flows.progress("Asking the model for its judgement", 0.5)
        limit = worn().settings.model.timeout_s + 30
        said = Judged.model_validate(
            await flows.step("ask the model", steps.ask_model, steps.dumped(evidence), timeout_s=limit)
        )
        evidence += said.gathered
        comparison, usage = compare(diagnosis, said), said.usage
        diagnosis = comparison.diagnosis
    await flows.progress(f"Root cause: {_say(diagnosis)}", 0.55)
    judged: Json = {"comparison": comparison, "usage": usage}
    if diagnosis.healthy:
        return await _finish(diagnosis, evidence, "healthy", argument, **judged)

    action, why_not = _plan(diagnosis, argument, read_only=found["read_only"])
    if action is None:
        diagnosis.no_action_because = why_not
        return await _finish(diagnosis, evidence, "reported", argument, **judged)
    holder = await flows.step("take the turn", steps.take_turn, _target(action), flows.flow_id())
    if holder != flows.flow_id():
        diagnosis.no_action_because = f"another run ({holder}) already acts on {_target(action)}"
        return await _finish(diagnosis, evidence, "reported", argument, tell=False, **judged)
    return await _act(diagnosis, action, evidence, done, argument, judged)


async def _act(
    diagnosis: Diagnosis, action: Action, evidence: list[Evidence], done: list[Done], argument: Json, judged: Json
) -> Json:
    """Approval → execute → verify, and what follows from each."""
    root = diagnosis.root
    assert root is not None
    settings = worn().settings.agents
    before = health.State.model_validate(await flows.step("look before", steps.look, action.model_dump(), timeout_s=90))
    answer, verdict = await _carry_out(action, f"{root.summary.rstrip('.')}: {action.why}.")
    if verdict not in ("done", "failed"):
        diagnosis.no_action_because = _words(verdict, answer)
        return await _finish(diagnosis, evidence, NOT_DONE.get(verdict, "refused"), argument, **judged)
    done.append(await _done(action, answer))

    began = "Done" if verdict == "done" else "It broke off, and may have been done"
    await flows.progress(f"{began}: {clip(answer.get('summary') or '', 200)}. Watching whether it helps", 0.8)
    limit = settings.healthy_s + settings.steady_s + 120
    given = (action.model_dump(), root.service, root.affects, before.model_dump())
    seen = await flows.step("verify", steps.verify, *given, tries=2, timeout_s=limit)
    after = health.State.model_validate(seen["state"])
    judged |= {"figures": health.figures(before, after)}
    if seen["healthy"]:
        return await _finish(diagnosis, evidence, "recovered", argument, done=done, **judged)
    failed = f"{_words(verdict, answer)}, and " if verdict == "failed" else "it did not help: "
    diagnosis.no_action_because = f"{failed}{seen['why']}"
    undo = _undo(action, before) if seen["worse"] and verdict == "done" else None
    if undo is not None:
        await flows.progress(f"It made things worse ({seen['worse']}); asking to take it back", 0.9)
        answer, verdict = await _carry_out(undo, f"The last change made things worse: {seen['worse']}.")
        if verdict == "done":
            done[0].undone = True
            done.append(await _done(undo, answer))
            diagnosis.no_action_because = f"it made things worse ({seen['worse']}) and was taken back"
        else:
            diagnosis.no_action_because = (
                f"it made things worse ({seen['worse']}), and was not taken back: {_words(verdict, answer)}"
            )
    return await _finish(diagnosis, evidence, "escalated", argument, done=done, **judged)


async def _carry_out(action: Action, because: str) -> tuple[Json, str]:
    """Call the change tool, ask for the grant it wants, call it again. Returns its last answer and a verdict."""
    asked: list[str] = []
    refused = 0
    left = worn().settings.agents.approve_s
    while True:
        answer: Json = await flows.step(f"call {action.tool}", steps.change, action.model_dump(), **UNTIL_REACHED)
        match answer["status"]:
            case "done" | "done_not_healthy":
                return answer, "done"
            case "refused" if (refused := refused + 1) < REFUSED_FOR_GOOD:
                await flows.step("wait a moment", asyncio.sleep, 2.0)
                continue
            case "denied" | "failed" | "refused":
                return answer, answer["status"]
        if answer["change_id"] not in asked:  # the first time, or the object changed since
            asked.append(answer["change_id"])
        if len(asked) > ASKED_AGAIN:
            return answer, "changing"
        verdict, left = await _approval(answer, because, left)
        if verdict not in ("yes", "look"):
            await flows.step("withdraw the request", steps.withdraw, answer["change_id"])
            return answer, verdict


async def _approval(answer: Json, because: str, left: float) -> tuple[str, float]:
    """Ask a person: yes, no or expired; or `look`, when only the tool knows what was decided. And the time left."""
    shown = {key: answer.get(key) for key in ("change_id", "before", "after", "undo", "notes")}
    shown["change"] = answer["summary"]
    text = f"{because} May I? {answer['summary']} (`quarterdeck approve {answer['change_id']}`)"
    ours = await flows.step("find the request", steps.is_ours, str(answer["change_id"]))
    wait = left if ours else min(left, LOOK_AGAIN_S)
    said = await flows.ask(text, data=shown, timeout_s=wait)
    if said is not None:
        return (said["text"] if said["text"] in ("yes", "no") else "expired"), left
    left -= wait
    return ("look" if left > 0 and not ours else "expired"), left


def _words(verdict: str, answer: Json) -> str:
    return {
        "no": "a person refused the change",
        "expired": "nobody answered in time",
        "denied": f"policy forbids it: {answer.get('next', '')}",
        "failed": f"the change could not be carried out: {answer.get('result') or answer.get('next', '')}",
        "refused": f"the change could not be begun: {answer.get('next', '')}",
        "changing": "what it would change kept changing while it was being approved",
    }.get(verdict, verdict)


async def _metrics(evidence: list[Evidence]) -> list[Evidence]:
    return steps.evidence_of(await flows.step("check metrics", steps.metrics, len(evidence), tries=2, timeout_s=120))


async def _done(action: Action, answer: Json) -> Done:
    granted = await flows.step("find the grant", steps.granted, str(answer.get("change_id") or ""))
    return Done(
        tool=action.tool,
        arguments=action.arguments,
        change=str(answer.get("change_id") or ""),
        granted_by=granted["by"],
        at=granted["at"],
        result=str(answer.get("result") or ""),
    )


# Plan, undo, report


def _plan(diagnosis: Diagnosis, argument: Json, *, read_only: bool) -> tuple[Action | None, str]:
    if diagnosis.action is None or diagnosis.root is None:
        return None, diagnosis.no_action_because or "no change is known that would help"
    if argument.get("act") is False:
        return None, "only an analysis was asked for"
    if CHANGE not in argument.get("scopes", [CHANGE]):
        return None, "who asked may not have changes made"
    if read_only:
        return None, "the settings say read_only"
    return diagnosis.action, ""


def _target(action: Action) -> str:
    named = next(
        (str(value) for key, value in action.arguments.items() if key in ("deployment", "pod_name", "node")), ""
    )
    return f"{action.arguments.get('namespace', '')}/{named}"


def _undo(action: Action, before: health.State) -> Action | None:
    """The change that takes an action back, where there is one."""
    match action.tool:
        case "scale_deployment" if before.desired is not None:
            arguments = {**action.arguments, "replicas": before.desired}
            return Action(tool="scale_deployment", arguments=arguments, why="back to the number of pods before")
        case "rollback_deployment" if before.revision is not None:
            arguments = {**action.arguments, "revision": before.revision}
            return Action(tool="rollback_deployment", arguments=arguments, why="back to the revision before")
    return None


async def _finish(
    diagnosis: Diagnosis,
    evidence: list[Evidence],
    outcome: Outcome,
    argument: Json,
    *,
    comparison: Comparison | None = None,
    usage: Any = None,
    done: list[Done] | None = None,
    figures: list[Figure] | None = None,
    tell: bool = True,
) -> Json:
    """Write the report, tell who must know, give the turn back."""
    report = Report.of(
        diagnosis,
        evidence,
        outcome,
        id=f"rp-{flows.flow_id()[-16:]}",
        created=datetime.fromtimestamp(await flows.now(), UTC),
        task=flows.flow_id(),
        comparison=comparison,
        usage=usage,
        done=done or [],
        figures=figures or [],
    )
    again: Any = {"tries": 4, "timeout_s": 30.0, "retry_refusals": True}
    written = await flows.step("write the report", steps.save, report.model_dump(mode="json"), **again)
    saved = Report.model_validate(written)
    unmended = outcome in ("escalated", "failed") or (outcome in ("reported", "expired") and not diagnosis.healthy)
    if tell and unmended:
        try:
            await flows.step("escalate", steps.escalate, saved.model_dump(mode="json"), **again)
        except Refusal as error:  # the report is there; that nobody was told must not undo it
            await flows.progress(f"Nobody could be told: {error}")
    await flows.progress(f"Report {saved.id}: {outcome}", 1.0)
    return {
        "text": summary(saved),
        "report": saved.id,
        "outcome": outcome,
        "artifacts": [
            {"id": "report", "name": "report.md", "text": saved.markdown(), "media_type": "text/markdown"},
            {"id": "report-json", "name": "report.json", "data": saved.model_dump(mode="json")},
        ],
    }


def summary(report: Report) -> str:
    """A report in a few lines, for a chat or a terminal."""
    lines = [f"{report.title.rstrip('.')}. {OUTCOMES[report.outcome]}"]
    if report.root is not None:
        lines.append(
            f"Root cause: {report.root.kind} at {report.root.service}, confidence {report.root.confidence:.0%}."
        )
    lines += [
        f"{'Taken back' if one.undone else 'Done'}: {one.tool} by the grant of {one.granted_by or 'nobody'}."
        for one in report.done
    ]
    if report.not_done_because:
        lines.append(f"{'Then' if report.done else 'Nothing was changed'}: {report.not_done_because.rstrip('.')}.")
    if report.similar is not None and report.similar.count:
        lines.append(report.similar.words())
    lines += [f"Next: {text}" for text in report.next[:3]]
    return "\n".join([*lines, f"Report {report.id}; `quarterdeck reports show {report.id}` tells it all."])


def _say(diagnosis: Diagnosis) -> str:
    root = diagnosis.root
    if root is None:
        return "nothing is wrong" if diagnosis.healthy else "unknown"
    return f"{root.summary} ({root.kind}, {root.confidence:.0%})"
