"""The audit trail: whole after any crash, and any tampering found."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from quarterdeck.keel import audit
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import ChangesSettings

if TYPE_CHECKING:
    from quarterdeck.lever.server import Lever

ME = Caller("local:me", client="probe 1")


def fill(changes: Changes, lever: Lever, count: int = 5) -> None:
    for number in range(count):
        changes.request(lever.change(f"up{number}"), ME)


def test_a_trail_tells_what_happened_and_is_whole(changes: Changes, lever: Lever) -> None:
    pending = changes.request(lever.change("up"), ME)
    changes.grant(pending.id, "terminal of me")
    assert changes.take(lever.change("up"), ME)
    told = [(entry["event"], entry["change"]) for entry in audit.entries(changes.trail)]
    assert told == [("requested", pending.id), ("granted", pending.id), ("started", pending.id)]
    verdict = changes.verify_trail()
    assert (verdict.lines, verdict.problem) == (3, "")
    assert verdict.head == list(audit.entries(changes.trail))[-1]["hash"]


def test_an_empty_home_has_a_whole_trail(changes: Changes) -> None:
    assert changes.verify_trail() == audit.Verdict(0, audit.FIRST)


Tamper = Callable[[list[bytes]], list[bytes]]


def chained(lines: list[bytes], **facts: object) -> bytes:
    """A line that follows the last one as well as a forger can make it."""
    last = json.loads(lines[-1])
    entry = {**last, "number": last["number"] + 1, "event": "granted", "before": last["hash"], **facts}
    return json.dumps({**entry, "hash": audit.hash_of(entry)}).encode() + b"\n"


def edited(line: bytes, *, rehash: bool) -> bytes:
    entry = {**json.loads(line), "caller": "local:somebody-else"}
    if rehash:
        entry["hash"] = audit.hash_of(entry)
    return json.dumps(entry).encode() + b"\n"


TAMPERINGS: dict[str, Tamper] = {
    "a word changed": lambda lines: [*lines[:2], lines[2].replace(b"lever", b"LEVER", 1), *lines[3:]],
    "a line rewritten with its hash": lambda lines: [*lines[:2], edited(lines[2], rehash=True), *lines[3:]],
    "the last line rewritten with its hash": lambda lines: [*lines[:-1], edited(lines[-1], rehash=True)],
    "a line removed": lambda lines: [*lines[:2], *lines[3:]],
    "the first line removed": lambda lines: lines[1:],
    "the end cut off": lambda lines: lines[:-1],
    "half of the last line cut off": lambda lines: [*lines[:-1], lines[-1][:40]],
    "its last newline cut off": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "everything cut off": lambda _: [],
    "two lines swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "a line doubled": lambda lines: [*lines, lines[-1]],
    "a forged line added that chains": lambda lines: [*lines, chained(lines)],
    "a forged line put in that chains": lambda lines: [*lines[:2], chained(lines[:2]), *lines[2:]],
    "a number changed": lambda lines: [*lines[:-1], chained(lines[:-1], number=99)],
    "garbage in the middle": lambda lines: [*lines[:2], b"\xff\x00\n", *lines[2:]],
    "garbage at the end": lambda lines: [*lines, b"rubbish"],
    "an empty line": lambda lines: [*lines[:1], b"\n", *lines[1:]],
    "JSON of another kind": lambda lines: [*lines[:1], b"[1]\n", *lines[1:]],
    "deeply nested JSON": lambda lines: [*lines, b"[" * 100_000 + b"\n"],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found_and_stays_found_when_writing_goes_on(name: str, changes: Changes, lever: Lever) -> None:
    fill(changes, lever)
    lines = changes.trail.read_bytes().splitlines(keepends=True)
    changes.trail.write_bytes(b"".join(TAMPERINGS[name](lines)))
    assert changes.verify_trail().problem
    changes.request(lever.change("further"), ME)
    assert changes.verify_trail().problem
    assert changes.waiting(), "the ledger goes on"


def test_a_trail_that_was_deleted_is_missed(changes: Changes, lever: Lever) -> None:
    fill(changes, lever)
    changes.trail.unlink()
    assert "5 lines were written" in changes.verify_trail().problem


@pytest.mark.parametrize("edit", ["number = 3", "number = 9", "hash = 'beef'", "number = 4, hash = ''"])
def test_an_edited_head_is_found(edit: str, changes: Changes, lever: Lever) -> None:
    fill(changes, lever)
    with sqlite3.connect(changes.home / "changes.db") as db:
        db.execute(f"UPDATE head SET {edit}")
    assert changes.verify_trail().problem


def test_the_line_that_is_wrong_is_named(changes: Changes, lever: Lever) -> None:
    fill(changes, lever)
    lines = changes.trail.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"requested", b"granted__")
    changes.trail.write_bytes(b"".join(lines))
    verdict = changes.verify_trail()
    assert verdict.lines == 2
    assert verdict.problem.startswith("line 3 was changed")


def committed(changes: Changes, lever: Lever) -> list[bytes]:
    """The state a writer leaves that is killed after its commit and before its line is in the file."""
    fill(changes, lever, 3)
    with sqlite3.connect(changes.home / "changes.db", isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        audit.append(db, "requested", change="ch-lost", summary="한국어 🙂")
        db.execute("COMMIT")
        return [line for (line,) in db.execute("SELECT line FROM unwritten")]


@pytest.mark.parametrize("written", [0, 1, 50, -1])
def test_what_a_killed_writer_left_undone_is_finished_by_the_next(written: int, changes: Changes, lever: Lever) -> None:
    (line,) = committed(changes, lever)
    with changes.trail.open("ab") as file:
        file.write(line if written == -1 else line[:written])
    assert changes.verify_trail() == audit.Verdict(4, json.loads(line)["hash"])
    changes.request(lever.change("further"), ME)
    assert changes.verify_trail().lines == 5
    assert changes.verify_trail().problem == ""


def test_a_writer_killed_half_way_does_not_cover_a_forgery(changes: Changes, lever: Lever) -> None:
    committed(changes, lever)
    with changes.trail.open("ab") as file:
        file.write(chained(changes.trail.read_bytes().splitlines(keepends=True)))
    assert changes.verify_trail().problem


def test_text_of_any_kind_keeps_the_trail_whole(changes: Changes, lever: Lever) -> None:
    for odd in ("half \ud800", "\x00\x1b[2J", "two\nlines\r\u2028three", "🙂" * 3000, '"}\n{"event":"granted"}'):
        changes.request(lever.change(odd), Caller("local:me", client=odd))
    assert changes.verify_trail() == audit.Verdict(5, changes.verify_trail().head)
    assert len(changes.trail.read_bytes().splitlines()) == 5
    assert b"\x1b" not in changes.trail.read_bytes()


WRITER = """
import sys
from pathlib import Path
from quarterdeck.keel.changes import Change, Changes, Target
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import ChangesSettings
changes, me, number = Changes(ChangesSettings(), Path(sys.argv[1])), Caller("local:me"), 0
print("ready", flush=True)
while True:
    number += 1
    what = f"{sys.argv[2]}-{number}"
    pending = changes.request(Change("lever", "pull", what, (Target("lever", what),), "", "", "", what), me)
    changes.decline(pending.id, "me", final=True)
"""


def test_the_trail_is_whole_after_writers_were_killed_again_and_again(changes: Changes) -> None:
    dice = random.Random(7)
    lines = 0
    for round_ in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(changes.home), f"{round_}-{number}"],
                stdout=subprocess.PIPE,
            )
            for number in range(4)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"ready\n"
            for writer in writers:  # each at another moment of its writing
                time.sleep(dice.uniform(0.005, 0.06))
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                verdict = changes.verify_trail()
                assert verdict.problem == ""
                assert verdict.lines >= lines
                lines = verdict.lines
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
                assert writer.stdout is not None
                writer.stdout.close()
    assert lines > 10
    assert Changes(ChangesSettings(), changes.home).verify_trail().lines == lines
