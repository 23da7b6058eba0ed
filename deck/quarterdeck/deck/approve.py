"""`quarterdeck approve`: a person's word on a change, given in a terminal where no model types."""

from __future__ import annotations

import argparse
import os
import sys
import time

from quarterdeck.keel.answers import one_line
from quarterdeck.keel.changes import Changes, Pending, why_not
from quarterdeck.keel.durations import say_duration
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import local_user
from quarterdeck.keel.settings import load

# Set by AI clients in the shells they give to their model: a yes from there is the model's own.
AGENT_SHELLS = ("CLAUDECODE", "GEMINI_CLI", "CODEX_SANDBOX", "CODEX_THREAD_ID", "CURSOR_AGENT", "OPENCODE", "QWEN_CODE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Without an ID: list the changes that your AI client asked for and that wait for you. With one: show exactly "
        "what would happen and ask you to type yes. It needs a terminal: no program can say yes for you."
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="the change, such as ch-7k3f9qxw")
    parser.add_argument("--decline", action="store_true", help="say no to that change for good, without being asked")


def run(arguments: argparse.Namespace) -> int:
    changes = Changes.of(load())
    if arguments.id is None:
        return list_waiting(changes)
    if arguments.decline:
        changes.decline(arguments.id, by=f"terminal of {local_user()}", final=True)
        print(f"{arguments.id} is declined. It will not run.")
        return 0
    pending = changes.get(arguments.id)
    if not pending.waiting:
        raise Refusal(why_not(pending))
    refuse_machines()
    return ask(changes, pending)


def list_waiting(changes: Changes) -> int:
    waiting = changes.waiting()
    if not waiting:
        print("No change waits for you.")
        return 0
    for pending in waiting:
        age = say_duration(time.time() - pending.created)
        print(f"{pending.id}  {age:>6} ago  {one_line(pending.caller)} ({pending.client or 'unnamed client'})")
        print(f"             {pending.summary}")
    print("\nSee and decide one with: quarterdeck approve ID")
    return 0


def refuse_machines() -> None:
    """Not a wall against a program that fakes a terminal as its own user, but no accident either."""
    inside = next((name for name in AGENT_SHELLS if os.environ.get(name)), None)
    if inside:
        raise Refusal(
            f"This shell belongs to an AI client ({inside} is set), so a yes from here would be the model's own. "
            "Run the command in a terminal of yours."
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refusal("Approval needs a person at a terminal, and this is a pipe. Run it in a terminal of yours.")


def ask(changes: Changes, pending: Pending) -> int:
    if not pending.waiting:
        raise Refusal(why_not(pending))
    print(f"{pending.id}, asked by {one_line(pending.caller)} ({pending.client or 'unnamed client'})\n")
    print(pending.shown)
    lasts = say_duration(changes.settings.grant_s)
    print(f"\nIt may then run once, within {lasts}, exactly as shown; if the object changes first, it will not.")
    try:
        typed = input("Type yes to allow it, no to decline, anything else to leave it waiting: ").strip().lower()
    except EOFError:
        typed = ""
    if typed == "yes":
        changes.grant(pending.id, by=f"terminal of {local_user()}")
        print(f"Allowed. {what_next(pending)}")
        return 0
    if typed == "no":
        changes.decline(pending.id, by=f"terminal of {local_user()}", final=True)
        print("Declined. It will not run.")
        return 1
    print("Left waiting; nothing was decided.")
    return 1


def what_next(pending: Pending) -> str:
    """Who carries an allowed change out, and on whose word."""
    if pending.caller.startswith("agent:"):
        return f"{one_line(pending.caller)} goes on by itself."
    if (pending.server, pending.tool) == ("bridge", "answer_task"):
        return "Tell your AI client to go on with answer_task: the agent waits for it."
    return f"Tell your AI client to go on: it calls {pending.tool} again with the same arguments."
