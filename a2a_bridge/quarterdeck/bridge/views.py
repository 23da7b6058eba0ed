"""What is known of agents and tasks, put into words: the answers of the tools, within their budget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from quarterdeck.bridge import artifacts as made
from quarterdeck.bridge.messages import Question
from quarterdeck.bridge.models import AgentRow, Match, TaskList, TaskRow, TaskView
from quarterdeck.bridge.tasks import Record
from quarterdeck.keel.answers import UNTRUSTED, clip, fit, one_line
from quarterdeck.keel.changes import shown
from quarterdeck.keel.durations import say_duration
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

if TYPE_CHECKING:
    from quarterdeck.bridge.cards import Card
    from quarterdeck.keel.consent import ChangeAnswer
    from quarterdeck.registry.entries import Entry

Json = dict[str, Any]


def task_view(record: Record, found: list[Json], decided: ChangeAnswer | None = None) -> TaskView:
    """One task for the model: what it says, asks and made, and what to do next."""
    question = Question.of(record.question)
    change = question.change if question else None
    text = made.output(found) if record.state == "completed" else ""
    told_what = text.strip() == record.said.strip()

    def make(most: int) -> TaskView:
        words = None
        if change is not None:
            words = "\n".join(
                f"{label}: {clip(shown(value), max(60, most // 4))}"
                for label, value in (
                    ("change", change.change),
                    ("before", change.before),
                    ("after", change.after),
                    ("undo", change.undo),
                )
                if value
            )
        return TaskView(
            task=record.id,
            agent=record.agent,
            state=record.state,
            summary=f"{record.agent}, {ago(record.heard)} ago: {record.title}",
            said=(clip(record.said, min(most, 1200)) or None) if not question and not told_what else None,
            question=clip(question.text, min(most, 2000)) or None if question else None,
            change=words,
            change_id=decided.change_id if decided else None,
            output=clip(text, most) or None,
            artifacts=made.rows(record.id, found) or None,
            next=next_step(record, question, decided, cut=len(text) > most),
            untrusted=UNTRUSTED,
        )

    return fit(make, 4000)


def ago(moment: float) -> str:
    return say_duration(max(0.0, time.time() - moment))


def agent_row(name: str, card: Card | Refusal) -> AgentRow:
    if isinstance(card, Refusal):
        return AgentRow(name=name, answers=False, about=clip(redact(str(card)), 200))
    skills = [skill.id for skill in card.skills[:12]]
    changed = f"its card changed {ago(card.changed)} ago: {card.changed_what}" if card.changed else None
    return AgentRow(name=name, answers=True, about=clip(card.about or card.title, 200), skills=skills, note=changed)


def hit_rows(hits: dict[str, Entry], ranked: list[Match]) -> list[Match]:
    """What registries found and words did not: last, because their scores are what they say themselves."""
    shown = {match.agent for match in ranked}
    return [
        Match(
            agent=name,
            skill="",
            fit=0.0,
            why=f"its registry finds it fitting ({entry.score} of 100): {entry.about or entry.title}",
        )
        for name, entry in hits.items()
        if name not in shown
    ][:5]


def task_list(summary: str, records: list[Record], total: int, after: str) -> TaskList:
    rows = [
        TaskRow(
            task=one.id,
            agent=one.agent,
            state=one.state,
            title=clip(one.title, 60),
            heard=ago(one.heard),
            said=clip(one_line(one.said), 60) or None,
        )
        for one in records
    ]
    return fit(
        lambda n: TaskList(summary=summary, tasks=rows[:n], left_out=max(0, total - n) or None, next=after), len(rows)
    )


def next_step(record: Record, question: Question | None, decided: ChangeAnswer | None, *, cut: bool) -> str:
    id = record.id
    match record.state:
        case "completed":
            return f"Done. read_artifact {id} reads all of it." if cut else "Done. Tell the person."
        case "input_required" if question is not None and question.change is not None:
            if decided is not None and decided.status == "denied":
                return f"{decided.next} answer_task {id} with text no tells the agent."
            if decided is not None and decided.status == "done":
                return f"It is allowed already; the agent hears of it in a moment. wait_for_task {id} waits on."
            if decided is not None and decided.change_id:
                declined = "It was declined, or the dialog was never shown. " if decided.status == "declined" else ""
                return (
                    f"{declined}Nothing was changed. A person allows exactly this by running `quarterdeck approve "
                    f"{decided.change_id}` in a terminal of their own; then call answer_task {id} without text. Do not "
                    f"run that command yourself. answer_task {id} with text no declines it."
                )
            return f"Only the person decides on this: call answer_task {id} without text, which asks them."
        case "input_required":
            return f"Ask the person, then answer_task {id} with their words."
        case "auth_required":
            return (
                f"The person signs in at the address the agent gave, outside the chat; never ask for a secret. Show it "
                f"to them, then wait_for_task {id}, which waits for that too."
            )
        case "unknown":
            return "Do not send it again by yourself. Ask the person."
        case "failed" | "rejected" | "canceled":
            return "It is over. Tell the person; delegate anew only if they want that."
        case _:
            return f"Not over yet. wait_for_task {id} waits on; you may do other things meanwhile."
