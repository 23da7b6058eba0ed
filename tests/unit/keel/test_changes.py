"""Nothing runs twice, nothing runs that was not shown, nothing runs that cannot be recorded."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quarterdeck.keel import audit
from quarterdeck.keel import changes as ledger
from quarterdeck.keel.changes import MOST_PENDING, Change, Changes, Pending, Plan, Report, Seen, Target
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.redact import MARK
from quarterdeck.keel.settings import ChangesSettings, Rule

if TYPE_CHECKING:
    from quarterdeck.lever.server import Lever

ME, YOU = Caller("local:me", client="probe 1"), Caller("local:you", client="probe 1")
LEVER = str(Path(__file__).parents[2] / "data" / "lever")


async def silent(fraction: float, message: str) -> None:
    pass


def granted(changes: Changes, change: Change, caller: Caller = ME) -> Pending:
    return changes.grant(changes.request(change, caller).id, "terminal of me")


def taken(changes: Changes, change: Change) -> Pending:
    granted(changes, change)
    found = changes.take(change, ME)
    assert found is not None
    return found


def events(changes: Changes) -> list[str]:
    assert changes.verify_trail().problem == ""
    return [entry["event"] for entry in audit.entries(changes.trail)]


def past(changes: Changes, id: str) -> None:
    """Let its time run out."""
    with sqlite3.connect(changes.home / "changes.db") as db:
        db.execute("UPDATE changes SET expires = ? WHERE id = ?", (time.time() - 1, id))


# A grant


def test_a_grant_lets_exactly_this_change_run_once(changes: Changes, lever: Lever) -> None:
    assert changes.take(lever.change("up"), ME) is None
    pending = granted(changes, lever.change("up"))
    first = changes.take(lever.change("up"), ME)
    assert first is not None
    assert first.id == pending.id
    assert changes.take(lever.change("up"), ME) is None
    assert changes.get(pending.id).state == "started"


@pytest.mark.parametrize(
    "other",
    [
        {"exact": "position=up force=true"},
        {"summary": "pull the lever up!"},
        {"before": "halfway"},
        {"after": "upper"},
        {"undo": "none"},
        {"tool": "break_lever"},
        {"server": "levers"},
        {"targets": (Target("lever", "main", "hall", fingerprint="moved by hand"),)},
        {"targets": (Target("lever", "main", "cellar"),)},
        {"targets": (Target("lever", "main", "hall", "elsewhere"),)},
        {"targets": ()},
    ],
)
def test_a_grant_is_for_nothing_else(other: dict[str, Any], changes: Changes, lever: Lever) -> None:
    granted(changes, lever.change("up"))
    assert changes.take(replace(lever.change("up"), **other), ME) is None
    assert changes.take(lever.change("up"), ME) is not None


def test_a_new_version_alone_and_a_new_warning_do_not_void_a_grant(changes: Changes, lever: Lever) -> None:
    change = lever.change("up")
    granted(changes, change)
    moved = replace(change, warnings=("it squeaks",), targets=(replace(change.targets[0], version="2"),))
    assert changes.take(moved, ME) is not None


def test_a_grant_serves_only_the_caller_who_asked(changes: Changes, lever: Lever) -> None:
    granted(changes, lever.change("up"))
    assert changes.take(lever.change("up"), YOU) is None
    assert changes.take(lever.change("up"), Caller("local:me", client="another program")) is not None


def test_the_object_moved_after_approval_voids_it(changes: Changes, lever: Lever) -> None:
    granted(changes, lever.change("up"))
    lever.push("sideways")
    assert changes.take(lever.change("up"), ME) is None


def test_a_grant_expires(changes: Changes, lever: Lever) -> None:
    pending = granted(changes, lever.change("up"))
    assert pending.usable
    past(changes, pending.id)
    assert not changes.get(pending.id).usable
    assert changes.take(lever.change("up"), ME) is None
    assert events(changes)[-1] == "expired"


def test_a_request_expires_and_cannot_be_granted_then(changes: Changes, lever: Lever) -> None:
    pending = changes.request(lever.change("up"), ME)
    past(changes, pending.id)
    for _ in range(2):
        with pytest.raises(Refusal, match="has expired"):
            changes.grant(pending.id, "me")
    assert changes.request(lever.change("up"), ME).id != pending.id
    assert events(changes) == ["requested", "expired", "requested"]


def test_a_second_yes_grants_nothing_more(changes: Changes, lever: Lever) -> None:
    pending = granted(changes, lever.change("up"))
    with pytest.raises(Refusal, match="already approved by terminal of me"):
        changes.grant(pending.id, "somebody else")
    changes.take(lever.change("up"), ME)
    with pytest.raises(Refusal, match="A grant works once"):
        changes.grant(pending.id, "somebody else")


def test_a_no_is_final_and_a_yes_after_it_refused(changes: Changes, lever: Lever) -> None:
    pending = changes.request(lever.change("up"), ME)
    changes.decline(pending.id, "me", final=True)
    with pytest.raises(Refusal, match="was declined"):
        changes.grant(pending.id, "me")
    with pytest.raises(Refusal, match="was declined"):
        changes.decline(pending.id, "me", final=True)
    assert changes.waiting() == []


def test_a_no_after_the_yes_is_refused_and_says_so(changes: Changes, lever: Lever) -> None:
    pending = granted(changes, lever.change("up"))
    with pytest.raises(Refusal, match="already approved"):
        changes.decline(pending.id, "me", final=True)


def test_asking_again_for_the_same_change_adds_no_request(changes: Changes, lever: Lever) -> None:
    ids = {changes.request(lever.change("up"), ME).id for _ in range(5)}
    assert len(ids) == 1
    assert events(changes) == ["requested"]


def test_an_unknown_id_is_a_short_refusal(changes: Changes) -> None:
    for id in ("ch-nothere1", "x" * 5000, "'; DROP TABLE changes; --", "\x1b[2J", ""):
        with pytest.raises(Refusal, match="There is no change") as caught:
            changes.grant(id, "me")
        assert len(str(caught.value)) < 150


def test_fifty_requests_may_wait_and_no_more(changes: Changes, lever: Lever) -> None:
    waiting = [changes.request(lever.change(f"up{number}"), ME) for number in range(MOST_PENDING)]
    with pytest.raises(Refusal, match="50 changes already wait"):
        changes.request(lever.change("one more"), ME)
    changes.request(lever.change("one more"), YOU)
    changes.decline(waiting[0].id, "me", final=True)
    changes.request(lever.change("one more"), ME)


# Races


def test_of_many_threads_that_approve_one_grants(changes: Changes, lever: Lever) -> None:
    pending = changes.request(lever.change("up"), ME)

    def approve(number: int) -> bool:
        try:
            Changes(changes.settings, changes.home).grant(pending.id, f"thread {number}")
        except Refusal:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(approve, range(16))) == 1
    assert events(changes).count("granted") == 1


def test_of_many_threads_that_use_a_grant_one_runs(changes: Changes, lever: Lever) -> None:
    change = lever.change("up")
    granted(changes, change)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Changes(changes.settings, changes.home).take(change, ME), range(16)))
    assert sum(pending is not None for pending in found) == 1
    assert events(changes).count("started") == 1


RACER = """
import asyncio, sys
from pathlib import Path
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import ChangesSettings
home, what, id = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
changes, me = Changes(ChangesSettings(), home), Caller("local:me")
async def silent(fraction, message): pass
if what == "run":
    from quarterdeck.lever.server import Lever
    plan = Lever(home).plan("up")
print("ready", flush=True)
sys.stdin.readline()
if what == "approve":
    try:
        changes.grant(id, "racer")
        print("granted")
    except Refusal as error:
        print(error)
else:
    taken = changes.take(plan.change, me)
    print("ran" if taken and asyncio.run(changes.run(plan, taken, silent)) else "nothing")
"""


def start(what: str, changes: Changes, id: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(changes.home), what, id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": LEVER},
    )


def let_go(racers: list[subprocess.Popen[str]]) -> list[str]:
    """All are ready; then all at once."""
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return [racer.communicate(timeout=30)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()


def test_of_processes_that_approve_or_run_at_once_one_does(changes: Changes, lever: Lever) -> None:
    pending = changes.request(lever.change("up"), ME)
    approved = let_go([start("approve", changes, pending.id) for _ in range(3)])
    assert approved.count("granted") == 1
    assert sum("already approved" in said for said in approved) == 2
    ran = let_go([start("run", changes) for _ in range(2)])
    assert sorted(ran) == ["nothing", "ran"]
    assert lever.pulls == ["up"]
    assert events(changes) == ["requested", "granted", "started", "applied", "verified"]


def test_processes_that_open_a_new_home_at_once_all_can(tmp_path: Path) -> None:
    def open_it(number: int) -> str:
        changes = Changes(ChangesSettings(), tmp_path / "new")
        target = Target("lever", f"n{number}")
        return changes.request(Change("s", "t", "x", (target,), "", "", "", str(number)), ME).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(open_it, range(8)))) == 8


def wait_for(happened: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.01)


def test_a_process_killed_half_way_runs_nothing_again_and_leaves_the_trail_whole(
    changes: Changes, lever: Lever
) -> None:
    pending = granted(changes, lever.change("up"))
    (changes.home / "hold").touch()
    racer = start("run", changes)
    try:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
        wait_for((changes.home / "started").exists, "the start of the change")
        racer.send_signal(signal.SIGKILL)
    finally:
        racer.kill()
        racer.communicate()
    (changes.home / "hold").unlink()
    assert changes.get(pending.id).state == "started"
    assert changes.take(lever.change("up"), ME) is None
    with pytest.raises(Refusal, match="A grant works once"):
        changes.grant(pending.id, "me")
    assert lever.pulls == []
    assert events(changes) == ["requested", "granted", "started"]


# What running records


async def test_a_run_is_recorded_from_request_to_verification(changes: Changes, lever: Lever) -> None:
    plan = lever.plan("up")
    done, seen = await changes.run(plan, taken(changes, plan.change), silent)
    assert (done, seen) == ("Pulled the lever to up.", Seen(True, "It is up."))
    assert events(changes) == ["requested", "granted", "started", "applied", "verified"]


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (Refusal("The object has gone."), "failed: The object has gone."),
        (RuntimeError("planted4711"), "effect unknown"),
    ],
)
async def test_an_apply_that_fails_is_recorded_and_uses_the_grant_up(
    error: Exception, recorded: str, changes: Changes, lever: Lever
) -> None:
    async def broken() -> str:
        raise error

    plan = replace(lever.plan("up"), apply=broken)
    pending = taken(changes, plan.change)
    with pytest.raises(type(error)):
        await changes.run(plan, pending, silent)
    after = changes.get(pending.id)
    assert after.state == "failed"
    assert recorded in after.outcome
    assert "planted4711" not in after.outcome
    assert changes.take(plan.change, ME) is None
    assert events(changes)[-1] == "failed"


async def test_a_caller_who_goes_away_does_not_stop_what_has_begun(changes: Changes, lever: Lever) -> None:
    plan = lever.plan("up")
    pending = taken(changes, plan.change)
    (changes.home / "hold").touch()
    running = asyncio.create_task(changes.run(plan, pending, silent))
    async with asyncio.timeout(10):
        while not (changes.home / "started").exists():  # noqa: ASYNC110 - files have no events
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (changes.home / "hold").unlink()
        while changes.get(pending.id).state != "done":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert lever.pulls == ["up"]
    assert events(changes)[-1] == "applied"
    assert changes.take(plan.change, ME) is None


async def test_an_apply_that_is_itself_cancelled_is_recorded_as_unknown(changes: Changes, lever: Lever) -> None:
    async def cancelled() -> str:
        raise asyncio.CancelledError

    plan = replace(lever.plan("up"), apply=cancelled)
    pending = taken(changes, plan.change)
    with pytest.raises(asyncio.CancelledError):
        await changes.run(plan, pending, silent)
    assert "effect unknown" in changes.get(pending.id).outcome


@pytest.mark.parametrize(
    ("error", "said"), [(Refusal("The watch broke."), "The watch broke."), (ValueError("planted4711"), "ValueError")]
)
async def test_a_verification_that_fails_never_hides_that_it_was_done(
    error: Exception, said: str, changes: Changes, lever: Lever
) -> None:
    async def blind(report: Report) -> Seen:
        raise error

    plan = replace(lever.plan("up"), verify=blind)
    done, seen = await changes.run(plan, taken(changes, plan.change), silent)
    assert done == "Pulled the lever to up."
    assert seen is not None
    assert not seen.healthy
    assert said in seen.text
    assert "planted4711" not in seen.text
    assert events(changes)[-2:] == ["applied", "not healthy"]


async def test_a_client_that_takes_no_progress_does_not_stop_a_change(changes: Changes, lever: Lever) -> None:
    async def deaf(fraction: float, message: str) -> None:
        raise ConnectionError

    async def quiet(report: Report) -> Seen:
        return Seen(True, "It is up.")

    plan = replace(lever.plan("up"), verify=quiet)
    done, _ = await changes.run(plan, taken(changes, plan.change), deaf)
    assert done
    assert lever.pulls == ["up"]


async def test_what_was_done_and_cannot_be_recorded_is_said(
    changes: Changes, lever: Lever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "BUSY_S", 0.05)
    plan = lever.plan("up")
    pending = taken(changes, plan.change)
    blocker = sqlite3.connect(changes.home / "changes.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        done, seen = await changes.run(plan, pending, silent)
    finally:
        blocker.close()
    assert done == "Pulled the lever to up."
    assert seen is not None
    assert not seen.healthy
    assert "could not be recorded" in seen.text


# Policy


def changes_under(changes: Changes, *rules: Rule, default: str = "ask") -> Changes:
    return Changes(ChangesSettings(rules=list(rules), default=default), changes.home)  # type: ignore[arg-type]


PROD, HALL = Target("lever", "main", "prod-eu", "cloud"), Target("lever", "main", "hall", "cloud")


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"namespace": "prod*"}, True),
        ({"namespace": "prod"}, False),
        ({"namespace": "prod-[!a]u"}, True),
        ({"namespace": "PROD*"}, False),
        ({"context": "cloud", "name": "m??n"}, True),
        ({"context": "laptop"}, False),
        ({"tool": "pull_*", "server": "lever"}, True),
        ({"tool": "push_*"}, False),
        ({"caller": "local:*"}, True),
        ({"caller": "token:*"}, False),
    ],
)
def test_a_rule_fits_by_globs_on_what_the_change_touches(
    rule: dict[str, str], fits: bool, changes: Changes, lever: Lever
) -> None:
    change = replace(lever.change("up"), targets=(PROD,))
    decision = changes_under(changes, Rule(decision="deny", **rule)).decide(change, ME)  # type: ignore[arg-type]
    assert decision.decision == ("deny" if fits else "ask")


def test_the_first_rule_that_fits_decides(changes: Changes, lever: Lever) -> None:
    change = replace(lever.change("up"), targets=(HALL,))
    under = changes_under(changes, Rule(decision="allow", namespace="hall"), Rule(decision="deny"))
    assert under.decide(change, ME).decision == "allow"
    assert under.decide(replace(change, targets=(PROD,)), ME).decision == "deny"


@pytest.mark.parametrize(
    ("first", "second", "strictest"),
    [("allow", "ask", "ask"), ("allow", "deny", "deny"), ("ask", "deny", "deny"), ("allow", "allow", "allow")],
)
def test_of_several_objects_the_strictest_word_counts(
    first: str, second: str, strictest: str, changes: Changes, lever: Lever
) -> None:
    rules = (
        Rule(decision=first, namespace="hall"),  # type: ignore[arg-type]
        Rule(decision=second, namespace="prod*"),  # type: ignore[arg-type]
    )
    for targets in ((HALL, PROD), (PROD, HALL)):
        change = replace(lever.change("up"), targets=targets)
        assert changes_under(changes, *rules).decide(change, ME).decision == strictest


def test_no_rule_helps_a_caller_without_the_change_scope(changes: Changes, lever: Lever) -> None:
    reader = Caller("token:ci", frozenset({"read"}))
    assert changes_under(changes, Rule(decision="allow")).decide(lever.change("up"), reader).decision == "deny"


def test_a_change_that_names_no_object_is_denied(changes: Changes, lever: Lever) -> None:
    change = replace(lever.change("up"), targets=())
    assert changes_under(changes, Rule(decision="allow")).decide(change, ME).decision == "deny"


def test_a_rule_leaves_no_grant_behind_for_when_it_is_gone(changes: Changes, lever: Lever) -> None:
    changes.take_by_policy(lever.change("up"), ME, "policy rule 1")
    assert changes.take(lever.change("up"), ME) is None
    assert events(changes) == ["granted", "started"]


def test_what_policy_denied_no_person_can_approve(changes: Changes, lever: Lever) -> None:
    changes.refuse_by_policy(lever.change("up"), ME, "policy rule 1")
    (entry,) = audit.entries(changes.trail)
    with pytest.raises(Refusal, match="forbidden by policy"):
        changes.grant(entry["change"], "me")


# Bad weather: nothing runs


def test_a_home_that_is_a_file_is_a_refusal(tmp_path: Path, lever: Lever) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refusal, match="nothing is changed"):
        Changes(ChangesSettings(), tmp_path / "file").request(lever.change("up"), ME)


def test_a_home_that_cannot_be_written_is_a_refusal(lever: Lever) -> None:
    with pytest.raises(Refusal, match="nothing is changed"):
        Changes(ChangesSettings(), Path("/proc/quarterdeck")).request(lever.change("up"), ME)


def test_a_corrupt_ledger_is_a_refusal(changes: Changes, lever: Lever) -> None:
    (changes.home / "changes.db").write_bytes(b"not a database at all" * 200)
    with pytest.raises(Refusal, match="nothing is changed"):
        changes.take(lever.change("up"), ME)
    with pytest.raises(Refusal, match="cannot be read"):
        changes.waiting()


def test_a_ledger_locked_for_long_is_a_refusal(changes: Changes, lever: Lever, monkeypatch: pytest.MonkeyPatch) -> None:
    granted(changes, lever.change("up"))
    monkeypatch.setattr(ledger, "BUSY_S", 0.05)
    blocker = sqlite3.connect(changes.home / "changes.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refusal, match="locked"):
        changes.take(lever.change("up"), ME)
    blocker.close()
    assert changes.take(lever.change("up"), ME) is not None


def test_a_full_disk_is_a_refusal_and_uses_nothing_up(changes: Changes, lever: Lever) -> None:
    granted(changes, lever.change("up"))
    with sqlite3.connect(changes.home / "changes.db") as db:  # the ledger may not grow any more
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    full = Changes(changes.settings, changes.home)
    real = sqlite3.connect

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*arguments, **named)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    big = replace(lever.change("up"), before="x" * 500_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        with pytest.raises(Refusal, match="full"):
            full.request(big, ME)
    assert changes.verify_trail().problem == ""
    assert changes.take(lever.change("up"), ME) is not None


def test_a_trail_that_cannot_be_written_stops_everything(changes: Changes, lever: Lever) -> None:
    granted(changes, lever.change("up"))
    kept = changes.trail.read_bytes()
    changes.trail.unlink()
    changes.trail.mkdir()
    with pytest.raises(Refusal, match="nothing is changed"):
        changes.take(lever.change("up"), ME)
    with pytest.raises(Refusal, match="nothing is changed"):
        changes.request(lever.change("further"), ME)
    changes.trail.rmdir()
    changes.trail.write_bytes(kept)
    assert changes.verify_trail().problem == ""
    assert changes.take(lever.change("up"), ME) is None, "fail closed: that grant is used up"


def test_only_the_owner_can_read_the_home(tmp_path: Path, lever: Lever) -> None:
    changes = Changes(ChangesSettings(), tmp_path / "mine")
    changes.request(lever.change("up"), ME)
    assert (tmp_path / "mine").stat().st_mode & 0o077 == 0
    for file in (tmp_path / "mine").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name


# What a person is shown, what is kept


PLANTED = "planted-S3cret-4711"


async def test_a_secret_in_any_part_of_a_change_is_kept_nowhere(changes: Changes, lever: Lever) -> None:
    secret = f"password={PLANTED}"
    change = Change(
        server="lever",
        tool="pull_lever",
        summary=f"set {secret}",
        targets=(Target("lever", f"main {secret}", "hall"),),
        before=secret,
        after=f"{secret}\n-----BEGIN PRIVATE KEY-----\n{PLANTED}\n-----END PRIVATE KEY-----",
        undo=secret,
        exact=f"{PLANTED} as it is sent",
        warnings=(secret,),
    )
    caller = Caller("local:me", client=f"probe {secret}")

    async def apply() -> str:
        return f"done with {secret}"

    async def verify(report: Report) -> Seen:
        return Seen(True, f"seen {secret}")

    pending = changes.grant(changes.request(change, caller).id, f"dialog of {caller.client}")
    with pytest.raises(Refusal) as caught:
        changes.grant(pending.id, "again")
    found = changes.take(change, caller)
    assert found is not None
    await changes.run(Plan(change, apply, verify), found, silent)
    assert PLANTED not in change.shown() + repr(changes.get(pending.id)) + str(caught.value)
    assert MARK in change.shown()
    for file in changes.home.iterdir():
        assert PLANTED.encode() not in file.read_bytes(), file.name
        assert b"as it is sent" not in file.read_bytes(), file.name


@pytest.mark.parametrize(
    "trick",
    [
        "harmless\x1b[2K\x1b[1A\rrm -rf /",
        "harmless\x1b]0;rm -rf /\x07",
        "harmless\x1b[8mrm -rf /\x1b[0m",
        "\u202e/ fr- mr\u202c rm -rf /",
        "harmless\u2028undo     rm -rf /",
        "harmless\nundo     rm -rf /",
        "harmless\r\nundo     rm -rf /",
        "\u2066\u200brm -rf /\u2069",
        "harmless \U000e0072 rm -rf /",
        "harmless\x00\x08\x08\x7frm -rf /",
        "harmless\x9b8mrm -rf /",
        "-----BEGIN PRIVATE KEY----- rm -rf /",
    ],
)
@pytest.mark.parametrize("part", ["summary", "before", "after", "undo", "warnings", "targets"])
def test_nothing_in_a_change_can_be_hidden_from_a_persons_eye(trick: str, part: str, lever: Lever) -> None:
    value: Any = trick
    if part == "warnings":
        value = (trick,)
    elif part == "targets":
        value = (Target("lever", trick),)
    shown = replace(lever.change("up"), **{part: value}).shown()
    assert "rm -rf /" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert sum(line.startswith("undo     ") for line in shown.split("\n")) == 1
    assert sum(line.startswith("before   ") for line in shown.split("\n")) == 1


def test_a_change_that_looks_the_same_but_is_not_needs_its_own_grant(changes: Changes, lever: Lever) -> None:
    first = replace(lever.change("up"), after="token=aaaa1111", exact="aaaa1111")
    second = replace(lever.change("up"), after="token=bbbb2222", exact="bbbb2222")
    assert first.shown() == second.shown()
    granted(changes, first)
    assert changes.take(second, ME) is None


def test_old_records_leave_the_ledger_and_stay_in_the_trail(changes: Changes, lever: Lever) -> None:
    pending = changes.request(lever.change("up"), ME)
    changes.decline(pending.id, "me", final=True)
    with sqlite3.connect(changes.home / "changes.db") as db:
        db.execute("UPDATE changes SET created = ?", (time.time() - 91 * 86400,))
    changes.request(lever.change("further"), ME)
    with pytest.raises(Refusal, match="There is no change"):
        changes.get(pending.id)
    assert events(changes)[0] == "requested"
