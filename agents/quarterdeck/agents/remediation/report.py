"""What is left of an incident: what it was, how that is known, what was done by whose grant, what comes next.

A report holds text from outside and from a model. Before it is stored or shown it is `cleaned`: redacted, plain,
bounded. In Markdown such text is escaped or stands in a code block, so that it can forge no heading, link or HTML.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from quarterdeck.agents.remediation.comparison import Comparison
from quarterdeck.agents.remediation.models import Cause, Diagnosis, Evidence
from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.model import Usage
from quarterdeck.keel.redact import redact

BUDGET = 60_000
"""Bytes that each face of a report stays under."""

PIECES = 30
"""Pieces of evidence, and entries of any list, that a report keeps at most."""
LONGEST = 4_000
"""Characters of one text."""

Outcome = Literal["healthy", "reported", "refused", "expired", "recovered", "escalated", "failed", "cancelled"]
OUTCOMES: dict[Outcome, str] = {
    "healthy": "Nothing was wrong.",
    "reported": "Reported only; nothing was changed.",
    "refused": "A person refused the change; nothing was changed.",
    "expired": "Nobody answered in time; nothing was changed.",
    "recovered": "Recovered.",
    "escalated": "Not recovered; escalated to a person.",
    "failed": "The work on it broke off.",
    "cancelled": "Cancelled.",
}
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]


class Done(BaseModel):
    """One change that was carried out, or tried."""

    tool: str
    arguments: dict[str, Any] = {}
    change: str = Field("", description="id of the change in the audit trail")
    granted_by: str = Field("", description="whose grant: a person, or a policy rule")
    at: datetime | None = None
    result: str = ""
    undone: bool = Field(False, description="it made things worse and was taken back")


class Figure(BaseModel):
    """One figure before and after."""

    name: str
    before: float | str | None = None
    after: float | str | None = None
    unit: str = ""


class Once(BaseModel):
    id: str
    created: datetime
    outcome: Outcome


class Similar(BaseModel):
    """Earlier incidents of the same kind at the same service."""

    count: int = 0
    days: int = 30
    reports: list[Once] = Field([], description="the newest of them")

    def words(self) -> str:
        times = {0: "not happened before", 1: "happened once before"}.get(
            self.count, f"happened {self.count} times before"
        )
        return f"This has {times} in the last {self.days} days."


def new_id() -> str:
    return "rp-" + "".join(secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(8))


class Report(BaseModel):
    id: Id = Field(default_factory=new_id)
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    title: str
    what: str = Field("", description="what happened, in a few sentences")
    service: str = Field("", description="the service at fault")
    kind: str = Field("unknown", description="the kind of its root cause; 'healthy' if there was none")
    since: datetime | None = None
    outcome: Outcome
    root: Cause | None = None
    causes: list[Cause] = Field([], description="further causes")
    alternatives: list[str] = []
    comparison: Comparison | None = Field(None, description="what rules and model said")
    done: list[Done] = []
    not_done_because: str = ""
    figures: list[Figure] = []
    next: list[str] = Field([], description="what a person should do next")
    missing: list[str] = Field([], description="evidence that could not be had")
    similar: Similar | None = None
    evidence: list[Evidence] = []
    usage: Usage | None = Field(None, description="what the model used up")
    task: str = Field("", description="the flow or A2A task behind it")
    left_out: int = Field(0, description="pieces of evidence that did not fit")

    @classmethod
    def of(cls, diagnosis: Diagnosis, evidence: list[Evidence], outcome: Outcome, **more: Any) -> Report:
        """A report on a diagnosis; `more` are further fields, and win."""
        root = diagnosis.root
        fields: dict[str, Any] = {
            "title": f"{root.service}: {root.summary}"
            if root
            else "Nothing is wrong"
            if diagnosis.healthy
            else "Cause not known",
            "what": root.summary if root else "",
            "service": root.service if root else "",
            "kind": root.kind if root else "healthy" if diagnosis.healthy else "unknown",
            "since": root.since if root else None,
            "root": root,
            "causes": diagnosis.causes[1:],
            "alternatives": diagnosis.alternatives,
            "not_done_because": diagnosis.no_action_because,
            "next": diagnosis.advice,
            "missing": diagnosis.missing,
        }
        return cls(evidence=evidence, outcome=outcome, **{**fields, **more})

    def cleaned(self) -> Report:
        """Redacted, plain and within BUDGET; cited evidence is what stays longest."""
        cited = {id for cause in (self.root, *self.causes) if cause for id in cause.cites}
        order = sorted(range(len(self.evidence)), key=lambda at: self.evidence[at].id not in cited)
        # The structured answer stays with the tool: its text says the same.
        kept = [self.evidence[at].model_copy(update={"data": {}}) for at in sorted(order[:PIECES])]
        report = self.model_copy(update={"evidence": kept, "left_out": self.left_out + len(order) - len(kept)})
        values = _clean(report.model_dump(mode="json"))
        for most, lines in ((LONGEST, PIECES), (1500, 20), (500, 12), (200, 8), (80, 5)):
            values = _shorten(values, most, lines)
            report = Report.model_validate({**values, "id": self.id})
            if max(len(report.json_text().encode()), len(report.markdown_text().encode())) < BUDGET:
                return report
            if most == 500:  # shorter pieces would say nothing: fewer of them
                pieces = values["evidence"]
                order = sorted(range(len(pieces)), key=lambda at: pieces[at]["id"] not in cited)
                values["evidence"] = [pieces[at] for at in sorted(order[:10])]
                values["left_out"] += len(pieces) - len(values["evidence"])
        return report

    def markdown(self) -> str:
        return self.cleaned().markdown_text()

    def json_text(self) -> str:
        """As it is; `cleaned` comes first."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), ensure_ascii=False, indent=2)

    def markdown_text(self) -> str:
        """As it is; `cleaned` comes first."""
        return "\n".join(_markdown(self))


def _clean(value: Any) -> Any:
    """Without secrets and unseen characters; the lists as far as any face shows them."""
    if isinstance(value, str):
        return redact(plain(clip(value, 4 * LONGEST)))  # first of all so short that a flood costs little
    if isinstance(value, float):
        return value if isfinite(value) else None  # JSON has no other
    if isinstance(value, list):
        return [_clean(item) for item in value[:PIECES]]
    if isinstance(value, dict):
        return {redact(plain(name)): _clean(item) for name, item in value.items()}
    return value


def _shorten(value: Any, most: int, lines: int) -> Any:
    if isinstance(value, str):
        return clip(value, most)
    if isinstance(value, list):
        return [_shorten(item, most, lines) for item in value[:lines]]
    if isinstance(value, dict):
        return {
            name: _arguments(item, min(most, 1000))
            if name == "arguments"
            else _shorten(item, most, PIECES if name == "evidence" else lines)
            for name, item in value.items()
        }
    return value


def _arguments(given: dict[str, Any], most: int) -> dict[str, Any]:
    """A call's arguments, the only part of a report that may have any shape: as they are when small."""
    plainly = json.dumps(given, ensure_ascii=False)
    said = redact(plainly)  # once more as a whole: a name in front of a value tells that it is secret
    return given if said == plainly and len(said) <= most else {"clipped": clip(said, most)}


# Markdown

# What begins markup within a line; an underscore inside a word does not.
_SPECIAL = re.compile(r"([\\`*\[\]<#|~&$@]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_BEGINNING = re.compile(r"^(\d{1,9})([.)])|^([-+=:>])")
_AUTOLINK = re.compile(r"(?i)(https?|ftp|mailto|xmpp)(?=:)|(www)(?=\.)|(?<!:)/(?=/)")


def line(text: str) -> str:
    """Outside text on one line of Markdown, shown letter for letter: no markup, link or HTML comes of it."""
    text = _SPECIAL.sub(r"\\\1", one_line(text))
    text = _AUTOLINK.sub(r"\g<0>\\", text)
    return _BEGINNING.sub(lambda found: f"{found[1] or ''}\\{found[2] or found[3]}", text)


def code(text: str) -> str:
    """Outside text on one line, as code."""
    text = one_line(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}" if text else ""


def block(text: str) -> list[str]:
    """Outside text of many lines, in a code block that it cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *text.split("\n"), fence]


def _markdown(report: Report) -> list[str]:
    said = [f"# {line(report.title)}", ""]
    said += [f"- **Outcome:** {OUTCOMES[report.outcome]}"]
    said += _fact("Service", code(report.service)) + _fact("Kind", code(report.kind))
    said += _fact("Since", _time(report.since)) + _fact("Reported", _time(report.created))
    said += _fact("Report", code(report.id)) + _fact("Task", code(report.task))
    if report.similar is not None:
        said += _fact("Before", _before(report.similar))
    if report.what and not (report.root and report.what == report.root.summary):
        said += ["", "## What happened", "", line(report.what)]
    said += ["", "## Root cause", ""]
    said += _cause(report.root) if report.root else ["None was found." if report.kind == "healthy" else "Not known."]
    if report.causes:
        said += ["", "## Further causes", "", *(text for cause in report.causes for text in _cause(cause))]
    said += _list("Alternatives considered", report.alternatives)
    if report.comparison is not None:
        said += _comparison(report.comparison)
    said += ["", "## What was done", "", *_done(report)]
    if report.figures:
        said += ["", "## Before and after", ""]
        said += [f"- {line(figure.name)}: {_figure(figure)}" for figure in report.figures]
    said += _list("What to do next", report.next)
    said += _list("What could not be looked at", report.missing)
    said += ["", "## Evidence", "", *_evidence(report)]
    if report.usage is not None and report.usage.calls:
        said += ["", "## What the model used", "", line(report.usage.words())]
    return [*said, ""]


def _fact(name: str, value: str) -> list[str]:
    return [f"- **{name}:** {value}"] if value else []


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip() if moment else ""


def _before(similar: Similar) -> str:
    known = ", ".join(f"{code(one.id)} ({one.created:%Y-%m-%d}, {one.outcome})" for one in similar.reports)
    return similar.words() + (f" {known}" if known else "")


def _cause(cause: Cause) -> list[str]:
    cites = ", ".join(_link(id) for id in cause.cites) or "none"
    affects = f"; affects {', '.join(code(name) for name in cause.affects)}" if cause.affects else ""
    return [
        f"- {line(cause.summary)}",
        f"  {code(cause.kind)} at {code(cause.service)}, confidence {cause.confidence:.0%}, evidence {cites}{affects}",
    ]


def _link(id: str) -> str:
    """To the heading of that piece of evidence; only ids of our own shape become links."""
    return f"[{id}](#{id})" if re.fullmatch(r"e\d{1,6}", id) else code(id)


def _list(title: str, texts: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {line(text)}" for text in texts)] if texts else []


def _comparison(comparison: Comparison) -> list[str]:
    said = ["", "## Rules and model", "", f"- Used: the {comparison.used}. {line(comparison.why)}"]
    said += [f"- {line(text)}" for text in comparison.words]
    if comparison.failure and not comparison.words:
        said.append(f"- The model has no say: {line(comparison.failure)}")
    return said + [f"- {line(text)}" for text in comparison.dropped]


def _done(report: Report) -> list[str]:
    if not report.done:
        because = f", because: {line(report.not_done_because)}" if report.not_done_because else "."
        return [f"Nothing was changed{because}"]
    said = []
    for one in report.done:
        grant = f"granted by {code(one.granted_by)}" if one.granted_by else "without a grant"
        change = f", change {code(one.change)}" if one.change else ""
        when = f", {_time(one.at)}" if one.at else ""
        undone = " It was undone." if one.undone else ""
        said.append(f"- {code(_called(one.tool, one.arguments))}, {grant}{change}{when}")
        if one.result or undone:
            said.append(f"  {line(one.result)}{undone}".rstrip())
    return said


def _called(tool: str, arguments: dict[str, Any]) -> str:
    return clip(f"{tool} {json.dumps(arguments, ensure_ascii=False, default=str)}" if arguments else tool, 300)


def _figure(figure: Figure) -> str:
    unit = f" {line(figure.unit)}" if figure.unit else ""
    return f"{_value(figure.before)} → {_value(figure.after)}{unit}"


def _value(value: float | str | None) -> str:
    if value is None:
        return "?"
    return line(value) if isinstance(value, str) else f"{value:g}"


def _evidence(report: Report) -> list[str]:
    said = []
    for one in report.evidence:
        said += [f"### {one.id if re.fullmatch(r'e[0-9]{1,6}', one.id) else code(one.id)}", ""]
        said += [f"{code(_called(one.tool, one.arguments))}, {_time(one.taken)}", ""]
        said += [*block(f"It could not answer: {one.failed}" if one.failed else one.text), ""]
    if report.left_out:
        said.append(f"{report.left_out} more pieces of evidence were left out for room.")
    return said or ["There is none."]
