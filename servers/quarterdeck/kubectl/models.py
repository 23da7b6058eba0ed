"""What the tools of the kubectl server answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from quarterdeck.keel.answers import UNTRUSTED, Answer, fence


class PodRow(BaseModel):
    name: str
    ready: str
    status: str
    restarts: str
    age: str


class PodList(Answer):
    where: str
    total: int
    by_status: dict[str, int]
    pods: list[PodRow]
    left_out: int | None = None
    more: str | None = None

    def text(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.by_status.items()) or "none"
        rows = [f"{p.name}  {p.ready}  {p.status}  restarts {p.restarts}  age {p.age}" for p in self.pods]
        more = [f"({self.left_out} more: {self.more})"] if self.left_out else []
        return "\n".join([f"{self.total} pods in {self.where}: {counts}", *rows, *more])


class ContainerSaid(BaseModel):
    name: str
    image: str
    state: str
    last_state: str | None = None
    restarts: int = 0
    ready: bool = False
    resources: str | None = None
    probes: str | None = None
    env_names: list[str] | None = None


class EventRow(BaseModel):
    last_seen: str
    type: str
    reason: str
    about: str
    message: str
    count: int = 1
    first_seen: str | None = None

    def line(self) -> str:
        times = (
            f" ×{self.count} over {self.first_seen}" if self.first_seen else f" ×{self.count}" if self.count > 1 else ""
        )
        return f"{self.last_seen:>6} ago  {self.type} {self.reason}{times}  {self.about}: {self.message}"


class PodDescription(Answer):
    name: str
    where: str
    summary: str
    why_unhealthy: list[str]
    node: str | None = None
    owner: str | None = None
    containers: list[ContainerSaid]
    conditions: list[str]
    events: list[EventRow]
    left_out: str | None = None
    note: str = UNTRUSTED

    def text(self) -> str:
        lines = [f"{self.name} in {self.where}: {self.summary}"]
        lines += [f"why: {why}" for why in self.why_unhealthy]
        lines.append(f"owner: {self.owner or 'none'}   node: {self.node or 'none yet'}")
        for c in self.containers:
            lines.append(
                f"container {c.name} ({c.image}): {c.state}; restarts {c.restarts}{'; ready' if c.ready else ''}"
            )
            lines += [f"  last: {c.last_state}"] if c.last_state else []
            lines += [f"  {c.resources}"] if c.resources else []
            lines += [f"  probes: {c.probes}"] if c.probes else []
            lines += [f"  env: {', '.join(c.env_names)} (values hidden)"] if c.env_names else []
        lines += ["conditions: " + "; ".join(self.conditions)]
        if self.events:
            lines.append("events, newest last:")
            lines.append(fence("\n".join(event.line() for event in self.events), "events"))
        else:
            lines.append("no events are kept for it")
        return "\n".join([*lines, *([self.left_out] if self.left_out else []), self.note])


class PodLogs(Answer):
    pod: str
    container: str
    run: Literal["current", "previous"]
    lines: list[str]
    note: str = UNTRUSTED
    left_out: str | None = None

    def text(self) -> str:
        head = f"{len(self.lines)} lines of {self.pod}/{self.container} ({self.run} run), oldest first"
        if not self.lines:
            return f"{head}: it logged nothing in that time"
        more = [self.left_out] if self.left_out else []
        return "\n".join([head, *more, fence("\n".join(self.lines), "container log")])


class Listing(Answer):
    kind: str
    where: str
    total: int
    columns: list[str]
    rows: list[list[str]]
    left_out: int | None = None
    next_page: str | None = None

    def text(self) -> str:
        rows = ["  ".join(row) for row in self.rows]
        more = [f"({self.left_out} more)"] if self.left_out else []
        page = [f"next: the same call with page={self.next_page}"] if self.next_page else []
        return "\n".join([f"{self.total} {self.kind} in {self.where}", "  ".join(self.columns), *rows, *more, *page])


class ResourceSaid(Answer):
    kind: str
    name: str
    where: str
    manifest: str
    left_out: str | None = None
    note: str = UNTRUSTED

    def text(self) -> str:
        more = [self.left_out] if self.left_out else []
        return "\n".join([f"{self.kind} {self.name} in {self.where}", *more, fence(self.manifest, "manifest")])


class EventList(Answer):
    where: str
    total: int
    events: list[EventRow]
    left_out: int | None = None
    note: str = UNTRUSTED

    def text(self) -> str:
        head = f"{self.total} events in {self.where}, newest first"
        if not self.events:
            return f"{head}: none (events are kept for about an hour)"
        more = [f"({self.left_out} older left out; filter with about or warnings_only)"] if self.left_out else []
        return "\n".join([head, *more, fence("\n".join(event.line() for event in self.events), "events")])


class Rollout(Answer):
    deployment: str
    where: str
    state: Literal["complete", "progressing", "stuck", "paused", "scaled to zero"]
    summary: str
    desired: int
    updated: int
    ready: int
    available: int
    why: list[str]
    note: str | None = None

    def text(self) -> str:
        figures = f"desired {self.desired}, updated {self.updated}, ready {self.ready}, available {self.available}"
        return "\n".join(
            [
                f"{self.deployment} in {self.where}: {self.state}. {self.summary}",
                figures,
                *self.why,
                *([self.note] if self.note else []),
            ]
        )


class Revision(BaseModel):
    revision: int
    current: bool
    images: list[str]
    created: str
    change_cause: str | None = None
    changed: str | None = None
    ready_pods: int = 0


class History(Answer):
    deployment: str
    where: str
    revisions: list[Revision]
    left_out: int | None = None

    def text(self) -> str:
        rows = [
            f"{r.revision}{' (current)' if r.current else ''}  {r.created} ago  {', '.join(r.images)}"
            + (f"  {r.ready_pods} ready" if r.ready_pods else "")
            + (f"  cause: {r.change_cause}" if r.change_cause else "")
            + (f"\n    against the one before: {r.changed}" if r.changed else "")
            for r in self.revisions
        ]
        more = [f"({self.left_out} older left out)"] if self.left_out else []
        return "\n".join([f"revisions of {self.deployment} in {self.where}, newest first", *rows, *more])


class Usage(BaseModel):
    name: str
    cpu_millicores: int
    memory_mib: int
    note: str | None = None


class Top(Answer):
    where: str
    total: int
    rows: list[Usage]
    left_out: int | None = None

    def text(self) -> str:
        rows = [
            f"{r.name}  {r.cpu_millicores}m CPU  {r.memory_mib} MiB{f'  {r.note}' if r.note else ''}" for r in self.rows
        ]
        more = [f"({self.left_out} more that use less)"] if self.left_out else []
        return "\n".join([f"{self.total} {self.where}, most memory first", *rows, *more])


Severity = Literal["high", "medium", "low"]


class Problem(BaseModel):
    severity: Severity
    what: str
    reason: str
    detail: str
    evidence: list[str] | None = None
    next: str | None = None


class Problems(Answer):
    where: str
    verdict: str
    problems: list[Problem]
    left_out: int | None = None
    not_checked: list[str] | None = None
    note: str = UNTRUSTED

    def text(self) -> str:
        lines = [f"{self.where}: {self.verdict}"]
        for number, p in enumerate(self.problems, 1):
            lines.append(f"{number}. [{p.severity}] {p.what}: {p.reason}. {p.detail}")
            lines += [f"   - {fact}" for fact in p.evidence or []]
            lines += [f"   next: {p.next}"] if p.next else []
        lines += [f"({self.left_out} lesser problems left out)"] if self.left_out else []
        lines += [f"not checked: {why}" for why in self.not_checked or []]
        return "\n".join([*lines, *([UNTRUSTED] if self.problems else [])])
