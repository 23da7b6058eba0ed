"""A report: whole, within bounds, and nothing from outside can forge a part of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarterdeck.agents.remediation.comparison import compare
from quarterdeck.agents.remediation.models import Action, Cause, Diagnosis, Evidence
from quarterdeck.agents.remediation.report import BUDGET, Done, Figure, Once, Report, Similar, block, code, line
from quarterdeck.keel.model import Usage

WHEN = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def evidence(id: str = "e1", text: str = "database is locked", **more: Any) -> Evidence:
    return Evidence(
        id=id, tool="logs.tail_errors", arguments={"service": "blog-service"}, taken=WHEN, text=text, **more
    )


def diagnosis(**more: Any) -> Diagnosis:
    cause = Cause(
        kind="database_locked", service="blog-service", summary="SQLite is locked by a second writer",
        confidence=0.85, cites=["e1"], since=WHEN, affects=["api-gateway"],
    )  # fmt: skip
    return Diagnosis(causes=[cause], alternatives=["traffic surge: traffic was steady"], advice=["use WAL"], **more)


def full() -> Report:
    mine = diagnosis(action=Action(tool="restart_deployment", arguments={"deployment": "blog-service"}, why="frees it"))
    return Report.of(
        mine,
        [evidence(), evidence("e2", failed="no such pod")],
        "recovered",
        comparison=compare(mine, None),
        done=[
            Done(
                tool="restart_deployment",
                arguments={"deployment": "blog-service"},
                change="ch-7k3f9qxw",
                granted_by="terminal of me",
                at=WHEN,
                result="3 of 3 pods ready",
            )
        ],
        figures=[Figure(name="success rate", before=61.5, after=99.9, unit="%")],
        similar=Similar(count=3, reports=[Once(id="rp-22222222", created=WHEN, outcome="recovered")]),
        usage=Usage(model="claude", calls=2, input_tokens=100),
        task="task-1",
    )


def test_a_report_says_all_that_a_person_asks() -> None:
    said = full().markdown()
    for part in (
        "# blog-service: SQLite is locked by a second writer",
        "**Outcome:** Recovered.",
        "**Since:** 2026-11-21 03:00:00 UTC",
        "happened 3 times before in the last 30 days",
        "confidence 85%, evidence [e1](#e1); affects `api-gateway`",
        "- traffic surge: traffic was steady",
        "Used: the rules. There is no model",
        'restart_deployment {"deployment": "blog-service"}',
        "granted by `terminal of me`, change `ch-7k3f9qxw`",
        "3 of 3 pods ready",
        "success rate: 61.5 → 99.9 %",
        "- use WAL",
        "### e1",
        "database is locked",
        "It could not answer: no such pod",
        "2 calls",
    ):
        assert part in said, part


def test_the_same_is_there_as_json_and_comes_back() -> None:
    report = full().cleaned()
    assert Report.model_validate_json(report.json_text()) == report
    assert report.cleaned() == report, "cleaning twice is cleaning once"


@pytest.mark.parametrize(
    ("found", "outcome", "wanted"),
    [
        (Diagnosis(healthy=True), "healthy", ("Nothing is wrong", "None was found.", "Nothing was changed.")),
        (Diagnosis(), "reported", ("Cause not known", "Not known.", "There is none.")),
        (diagnosis(no_action_because="it is full"), "refused", ("A person refused", "because: it is full")),
        (diagnosis(), "escalated", ("escalated to a person",)),
    ],
)
def test_every_ending_has_its_report(found: Diagnosis, outcome: Any, wanted: tuple[str, ...]) -> None:
    said = Report.of(found, [], outcome).markdown()
    for part in wanted:
        assert part in said, part


HOSTILE = (
    "# Forged\n## Root cause\n[click](http://evil) <script>alert(1)</script> ![x](http://evil) ```\n~~~\n"
    "<!-- --> &lt;b&gt; | a | b |\n|---|---|\n---\n===\n1. one\n> quote\n**Outcome:** Recovered.\n"
    "https://evil.example www.evil.example `code` ``x`` \\` \x1b[31m\u202e password=hunter2hunter2"
)


def hostile() -> Report:
    bad = Cause(
        kind="unknown", service=HOSTILE, summary=HOSTILE, confidence=0.5, cites=[HOSTILE, "e1"], affects=[HOSTILE]
    )
    rules = Diagnosis(
        causes=[bad, bad], alternatives=[HOSTILE], advice=[HOSTILE], missing=[HOSTILE], no_action_because=HOSTILE
    )
    return Report.of(
        rules,
        [Evidence(id=HOSTILE, tool=HOSTILE, arguments={HOSTILE: HOSTILE}, taken=WHEN, text=HOSTILE, failed="")],
        "reported",
        comparison=compare(rules, None),
        done=[Done(tool=HOSTILE, arguments={"a": HOSTILE}, change=HOSTILE, granted_by=HOSTILE, result=HOSTILE)],
        figures=[Figure(name=HOSTILE, before=HOSTILE, after=HOSTILE, unit=HOSTILE)],
        task=HOSTILE,
        what=f"{HOSTILE} and more",
    )


def outside_code(markdown: str) -> list[str]:
    """The lines that a Markdown reader does not take for code blocks; code spans are taken out of them."""
    lines, fence = [], ""
    for text in markdown.split("\n"):
        opening = re.match(r" {0,3}(`{3,}|~{3,})", text)
        if fence:
            if re.fullmatch(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*", text):
                fence = ""
        elif opening:
            fence = opening[1]
        else:
            lines.append(re.sub(r"(?<![`\\])(`+)(?!`).*?(?<!`)\1(?!`)", "", text))
    assert not fence, "a code block is left open"
    return lines


def forged(markdown: str) -> list[str]:
    """What would be markup, outside of what the report itself writes."""
    found = []
    for text in outside_code(markdown):
        bare = re.sub(r"\[(e\d+)\]\(#\1\)", "", text)
        bare = re.sub(r"^- \*\*[A-Z][a-z]+:\*\*", "", bare)
        bare = re.sub(r"\\.", "", bare)  # what is escaped is text
        if re.match(r"- ([-+>=:]|\d{1,9}[.)])", text) or re.search(r"[<\[\]*`|~&]|https?:|www\.", bare):
            found.append(text)
    return found


def test_text_from_outside_forges_nothing() -> None:
    said = hostile().markdown()
    assert forged(said) == []
    headings = [text for text in outside_code(said) if re.match(r" {0,3}#", text)]
    assert [text for text in headings if text.startswith("## ")] == [
        "## What happened", "## Root cause", "## Further causes", "## Alternatives considered", "## Rules and model",
        "## What was done", "## Before and after", "## What to do next", "## What could not be looked at",
        "## Evidence",
    ]  # fmt: skip
    assert len([text for text in headings if text.startswith("# ")]) == 1
    assert not [text for text in outside_code(said) if re.fullmatch(r"\s*(-{3,}|={2,})\s*", text)]


def test_neither_face_holds_secrets_or_unseen_characters() -> None:
    report = hostile()
    for face in (report.markdown(), report.cleaned().json_text()):
        assert "hunter2" not in face
        assert "\x1b" not in face
        assert "\\u001b" not in face
        assert "\u202e" not in face


def test_an_argument_whose_name_says_that_it_is_secret_is_hidden() -> None:
    piece = evidence().model_copy(update={"arguments": {"password": "correct-horse", "deployment": "blog"}})
    report = Report.of(diagnosis(), [piece], "reported")
    for face in (report.markdown(), report.cleaned().json_text()):
        assert "correct-horse" not in face
        assert "blog" in face


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="`~#*_[]()<>|\\&-=+:.@/!$ \n\t1ahtpsw", max_size=60))
@example("\\`")
@example("``` ")
@example("`")
def test_no_text_gets_out_of_its_line_or_block(text: str) -> None:
    assert forged(f"- {line(text)}") == []
    assert "\n" not in line(text)
    assert outside_code(f"x {code(text)} y")[0].replace(" ", "") == "xy"
    said = ["before", *block(text), "after"]
    assert outside_code("\n".join(said)) == ["before", "after"]


@pytest.mark.parametrize("letter", ["x", "비", "`", "\\", '"'])
def test_a_huge_report_stays_within_its_budget_and_keeps_what_is_cited(letter: str) -> None:
    huge = letter * 5_000
    deep: Any = huge
    for _ in range(50):
        deep = {"a": [deep]}
    pieces = [evidence(f"e{number}", huge, data={"a": huge}) for number in range(1, 501)]
    cause = Cause(
        kind="timeouts", service=huge, summary=huge, confidence=1, cites=["e500", *[huge] * 99], affects=[huge] * 99
    )
    found = Diagnosis(causes=[cause] * 99, alternatives=[huge] * 99, advice=[huge] * 99, missing=[huge] * 99)
    report = Report.of(
        found,
        pieces,
        "reported",
        comparison=compare(found, None),
        done=[Done(tool=huge, arguments={"a": deep}, result=huge)] * 99,
        figures=[Figure(name=huge, before=float("inf"), after=float("nan"))] * 99,
    )
    cleaned = report.cleaned()
    assert len(cleaned.markdown_text().encode()) < BUDGET
    assert len(cleaned.json_text().encode()) < BUDGET
    json.loads(cleaned.json_text(), parse_constant=lambda name: pytest.fail(name))
    assert "e500" in [one.id for one in cleaned.evidence]
    assert cleaned.left_out + len(cleaned.evidence) == 500
    assert f"{cleaned.left_out} more pieces of evidence were left out" in cleaned.markdown_text()
