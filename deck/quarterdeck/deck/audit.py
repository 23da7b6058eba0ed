"""`quarterdeck audit`: what was asked for, allowed, refused and done, and whether the record is whole."""

from __future__ import annotations

import argparse
import json
from collections import deque
from typing import Any

from quarterdeck.deck.screen import cut, width
from quarterdeck.keel import audit
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "What was asked for, allowed, refused and done, a line each. A terminal shows what fits of a line; a pipe "
        "gets all of it. `audit verify` finds lines that were changed, added or taken out."
    )
    parser.add_argument(
        "what", nargs="?", choices=["list", "verify"], default="list", metavar="WHAT", help="list (default) or verify"
    )
    parser.add_argument("--last", type=int, default=50, metavar="N", help="only the N newest lines (default 50)")
    parser.add_argument("--change", metavar="ID", help="only the lines of this change, such as ch-7k3f9qxw")
    parser.add_argument("--json", action="store_true", help="the lines as they are stored")


def run(arguments: argparse.Namespace) -> int:
    changes = Changes.of(load())
    if arguments.what == "verify":
        return verify(changes)
    found = (
        entry
        for entry in audit.entries(changes.trail)
        if arguments.change is None or entry.get("change") == arguments.change
    )
    newest = deque(found, maxlen=max(1, arguments.last))
    if not newest:
        print("Nothing is recorded of that change." if arguments.change else "The audit trail is empty.")
    columns = width()
    for entry in newest:
        print(json.dumps(entry, ensure_ascii=False) if arguments.json else cut(line(entry), columns))
    return 0


def line(entry: dict[str, Any]) -> str:
    when = f"{str(entry.get('at', ''))[:19]}Z"  # the trail is kept in UTC
    head = f"{entry.get('number', '?'):>5}  {when}  {entry.get('event', ''):<11} {entry.get('change', '')}"
    by = f" by {entry['by']}" if entry.get("by") else ""
    outcome = f" — {entry['outcome']}" if entry.get("outcome") else ""
    tool = f"{entry.get('server')}.{entry.get('tool')}"
    return f"{head}  {tool} for {entry.get('caller')}{by}: {entry.get('summary')}{outcome}"


def verify(changes: Changes) -> int:
    verdict = changes.verify_trail()
    if verdict.problem:
        print(f"NOT WHOLE: {verdict.problem}. Lines 1 to {verdict.lines} are as they were written.")
        print(f"The file is {changes.trail}")
        return 1
    if not verdict.lines:
        print("The audit trail is empty: no AI client has asked for a change yet, so there is nothing to verify.")
        return 0
    print(f"Whole: {verdict.lines} lines, each following the one before. Last hash {verdict.head}")
    print("Keep that hash elsewhere, and a later rewrite of the whole file can be proved too.")
    return 0
