"""What the bridge's tools answer. Agents' words in it are data: fenced in the text, labelled in the structure."""

from __future__ import annotations

from pydantic import BaseModel

from quarterdeck.keel.answers import UNTRUSTED, Answer, fence


class AgentRow(BaseModel):
    name: str
    answers: bool
    about: str
    skills: list[str] | None = None
    note: str | None = None

    def row(self) -> str:
        skills = f" [{', '.join(self.skills)}]" if self.skills else ""
        note = f" ({self.note})" if self.note else ""
        return f"{'ok  ' if self.answers else 'DOWN'} {self.name}: {self.about}{skills}{note}"


class AgentList(Answer):
    summary: str
    agents: list[AgentRow]
    left_out: int | None = None
    registries: list[str] | None = None
    """How each of them was read."""
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        said = "\n".join([*(agent.row() for agent in self.agents), *(self.registries or [])])
        rows = [fence(said, "agents' cards")] if said else []
        more = [f"({self.left_out} more left out: find_agent_for narrows it)"] if self.left_out else []
        return "\n".join([self.summary, *rows, *more])


class SkillRow(BaseModel):
    id: str
    about: str
    examples: list[str] | None = None


class AgentCard(Answer):
    name: str
    summary: str
    about: str
    skills: list[SkillRow]
    left_out: int | None = None
    facts: list[str]
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        rows = [f"{skill.id}: {skill.about}" for skill in self.skills]
        rows += [f"    e.g. {example}" for skill in self.skills for example in skill.examples or []]
        more = [f"({self.left_out} more skills left out)"] if self.left_out else []
        return "\n".join([self.summary, *self.facts, fence("\n".join([self.about, *rows]), "the agent's card"), *more])


class Match(BaseModel):
    agent: str
    skill: str
    fit: float
    why: str


class Matches(Answer):
    summary: str
    matches: list[Match]
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        rows = "\n".join(f"{m.fit:.2f} {m.agent} / {m.skill}: {m.why}" for m in self.matches)
        return "\n".join([self.summary, *([fence(rows, "agents' cards")] if rows else [])])


class ArtifactRow(BaseModel):
    name: str
    uri: str
    kind: str
    bytes: int


class TaskView(Answer):
    """One task, as far as it is known."""

    task: str
    agent: str
    state: str
    summary: str
    said: str | None = None
    question: str | None = None
    change: str | None = None
    change_id: str | None = None
    output: str | None = None
    artifacts: list[ArtifactRow] | None = None
    next: str
    untrusted: str | None = None

    def text(self) -> str:
        lines = [f"{self.task} {self.state.upper()}: {self.summary}"]
        for label, outside in (("says", self.said), ("asks", self.question), ("made", self.output)):
            if outside:
                lines.append(fence(outside, f"what {self.agent} {label}"))
        if self.change:
            lines.append(fence(self.change, "the change it wants to make"))
        lines += [f"artifact {row.name} ({row.kind}, {row.bytes} bytes): {row.uri}" for row in self.artifacts or []]
        return "\n".join([*lines, f"next: {self.next}"])


class TaskRow(BaseModel):
    task: str
    agent: str
    state: str
    title: str
    heard: str
    said: str | None = None

    def row(self) -> str:
        said = f" · {self.said}" if self.said else ""
        return f"{self.task} {self.state:<14} {self.agent}, {self.heard} ago: {self.title}{said}"


class TaskList(Answer):
    summary: str
    tasks: list[TaskRow]
    left_out: int | None = None
    next: str
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        rows = [fence("\n".join(task.row() for task in self.tasks), "tasks and agents' words")] if self.tasks else []
        more = [f"({self.left_out} more left out: ask for one state, or the next page)"] if self.left_out else []
        return "\n".join([self.summary, *rows, *more, f"next: {self.next}"])


class ArtifactPage(Answer):
    name: str
    kind: str
    uri: str
    text_of_it: str | None = None
    offset: int
    total: int
    next: str
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        fenced = [fence(self.text_of_it, f"artifact {self.name}")] if self.text_of_it else []
        return "\n".join([f"{self.name} ({self.kind}), {self.uri}", *fenced, f"next: {self.next}"])
