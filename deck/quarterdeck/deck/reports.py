"""`quarterdeck reports`: past incidents, what was found and what was done about them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import datetime

from quarterdeck.agents.remediation.report import Report
from quarterdeck.agents.remediation.reports import PAGE, Reports, Row
from quarterdeck.deck.screen import cut
from quarterdeck.keel.answers import clip
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "List incidents newest first, show one as Markdown, or search all that was written."
    parser.add_argument("what", nargs="?", choices=["list", "show", "search"], default="list", help="default: list")
    parser.add_argument("words", nargs="*", metavar="ID | TEXT", help="the report to show, the words to search for")
    parser.add_argument("--service", default="", help="only this service")
    parser.add_argument("--kind", default="", help="only this kind, such as oom_killed or database_locked")
    parser.add_argument("--last", type=int, default=20, metavar="N", help=f"at most N, up to {PAGE} (default 20)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the N newest: the next page")
    parser.add_argument("--evidence", action="store_true", help="for show: with the text of each piece of evidence")
    parser.add_argument("--json", action="store_true", help="as JSON, one line a report in a list")


def run(arguments: argparse.Namespace) -> int:
    reports = Reports.of(load())
    words: list[str] = arguments.words
    if arguments.what == "show":
        if len(words) != 1:
            raise Refusal("Name one report: `quarterdeck reports show ID`. `quarterdeck reports` lists them.")
        report = reports.get(words[0]).cleaned()
        if arguments.json:
            print(report.json_text())
        else:
            print(report.markdown_text() if arguments.evidence else without_evidence(report))
        return 0
    if arguments.what == "search":
        rows = reports.search(" ".join(words), arguments.last, arguments.skip, arguments.service, arguments.kind)
        nothing = "No report holds all of these words."
    else:
        if words:
            raise Refusal(f"`list` takes no words. Did you mean `quarterdeck reports search {clip(words[0], 40)}`?")
        rows = reports.list(arguments.last, arguments.skip, arguments.service, arguments.kind)
        nothing = (
            "No report fits." if arguments.service or arguments.kind or arguments.skip else "There is no report yet."
        )
    for row in rows:
        print(json.dumps(asdict(row), ensure_ascii=False) if arguments.json else line(row))
    if arguments.json:
        return 0
    if not rows:
        print(nothing)
    elif arguments.what == "list":
        left = reports.count(arguments.service, arguments.kind) - max(0, arguments.skip) - len(rows)
        if left > 0:
            print(f"\n{left} older ones: --skip {max(0, arguments.skip) + len(rows)} shows the next.")
    return 0


def without_evidence(report: Report) -> str:
    """The report without what the tools answered, which is most of its length."""
    count = len(report.evidence) + report.left_out
    text = report.model_copy(update={"evidence": [], "left_out": 0}).markdown_text()
    if not count:
        return text
    pieces = "1 piece" if count == 1 else f"{count} pieces"
    shown = f"{pieces} of evidence; `quarterdeck reports show {report.id} --evidence` shows the texts."
    return text.replace("\n## Evidence\n\nThere is none.", f"\n## Evidence\n\n{shown}")


def line(row: Row) -> str:
    when = datetime.fromtimestamp(row.created).astimezone()
    where = cut(row.service or "-", 40)
    return f"{row.id}  {when:%Y-%m-%d %H:%M %Z}  {row.outcome:<10} {where}  {row.kind}: {cut(row.title, 100)}"
