"""`quarterdeck diagnose`: the remediation agent in this terminal, which is also where it asks."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

from quarterdeck.keel import signals
from quarterdeck.keel.settings import Settings, load

if TYPE_CHECKING:
    from quarterdeck.keel.flowengine import Engine
    from quarterdeck.keel.flows import Item

UNWELL = frozenset({"reported", "refused", "expired", "escalated", "failed"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Find out what is wrong, with evidence, and propose what would mend it; nothing changes before you type yes "
        "here or run `quarterdeck approve`. Exit code 0: well or mended, 1: something is wrong still."
    )
    parser.add_argument("service", nargs="?", help="look at this one; without it, at everything")
    parser.add_argument("--watch", action="store_true", help="go on looking, and act on each new trouble; Ctrl-C ends")
    parser.add_argument("--every", type=float, default=15.0, metavar="S", help="with --watch: seconds between looks")
    parser.add_argument("--only-look", action="store_true", help="report the cause; propose no change")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    shape.add_argument("--markdown", action="store_true", help="the whole report as Markdown on stdout")


def run(arguments: argparse.Namespace) -> int:
    from quarterdeck.keel.errors import Refusal

    if not 1 <= arguments.every <= 86400:
        raise Refusal("--every takes seconds from 1 to 86400.")
    settings = load()
    print("  0%  Starting stats, kubectl and logs", file=sys.stderr, flush=True)  # some seconds on a busy machine
    return signals.run(_run(arguments, settings))


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    from quarterdeck.deck.crew import crew

    logging.getLogger("quarterdeck").setLevel(logging.ERROR)  # a person reads here
    async with crew(settings, adopt=arguments.watch) as engine:
        if arguments.watch:
            await keep_watching(engine, arguments)
            return 0
        own = uuid.uuid4().hex
        message = {"messageId": own, "role": "ROLE_USER", "parts": [{"text": arguments.service or "diagnose"}]}
        argument = {"message": message, "context": "terminal", "act": not arguments.only_look, "text": ""}
        if arguments.service:
            argument["service"] = arguments.service
        from quarterdeck.keel.identity import local_user

        caller = f"local:{local_user()}"
        id = await engine.start("remediation", {**argument, "caller": caller, "scopes": ["read", "change"]}, id=own)
        return await follow(engine, settings, id, arguments)


async def follow(engine: Engine, settings: Settings, id: str, arguments: argparse.Namespace) -> int:
    """Show a run as it goes, ask what it asks, print what came of it."""
    from quarterdeck.agents.runtime.approvals import Approvals
    from quarterdeck.keel.changes import Changes

    deciding = asyncio.create_task(decisions(engine, settings))
    try:
        async for item in engine.watch(id):
            await _show(engine, settings, id, item)
    except asyncio.CancelledError:  # Ctrl-C: nobody is left to ask, so it ends here
        flow = await engine.status(id)
        await engine.cancel(id)
        await Approvals(Changes.of(settings)).withdraw(flow)
        gone = f" What it asked ({flow.question.data['change_id']}) is withdrawn." if flow.question is not None else ""
        print(f"\nThe run is cancelled.{gone}", file=sys.stderr)
        raise
    finally:
        deciding.cancel()
    flow = await engine.status(id)
    result: dict[str, Any] = flow.result or {}
    if not result:
        print(f"It broke off: {flow.error or flow.state}", file=sys.stderr)
        return 1
    markdown, report = result["artifacts"][0]["text"], result["artifacts"][1]["data"]
    said = json.dumps(report, ensure_ascii=False, indent=2) if arguments.json else markdown
    print(said if arguments.json or arguments.markdown else f"\n{result['text']}", flush=True)
    return 1 if result["outcome"] in UNWELL else 0


async def _show(engine: Engine, settings: Settings, id: str, item: Item) -> None:
    if item.kind == "progress":
        share = f"{item.share:4.0%} " if item.share is not None else "     "
        print(f"{share} {item.text}", file=sys.stderr, flush=True)
    elif item.kind == "question":
        print(f"\n{item.text}", file=sys.stderr, flush=True)
        flow = await engine.status(id)
        if flow.question is not None and flow.question.id == item.question and _person_here():
            # A thread of its own: an input that nobody answers must not keep this process from ending.
            given = (settings, str(item.data.get("change_id")))
            threading.Thread(target=_ask_here, args=given, name="question", daemon=True).start()
        else:
            print("Waiting for an answer; nothing changes before.", file=sys.stderr, flush=True)


def _person_here() -> bool:
    from quarterdeck.deck.approve import refuse_machines
    from quarterdeck.keel.errors import Refusal

    try:
        refuse_machines()
    except Refusal:
        return False
    return True


def _ask_here(settings: Settings, change: str) -> None:
    """The same question, answer and record as `quarterdeck approve`; the ledger tells the run."""
    from quarterdeck.deck.approve import ask
    from quarterdeck.keel.changes import Changes
    from quarterdeck.keel.errors import Refusal

    changes = Changes.of(settings)
    try:
        if ask(changes, changes.get(change)) == 0:
            return
        if changes.get(change).waiting:
            print(f"It goes on waiting: `quarterdeck approve {change}` in another terminal, or Ctrl-C.", flush=True)
    except Refusal as error:
        print(f"quarterdeck: {error}", file=sys.stderr)


async def decisions(engine: Engine, settings: Settings) -> None:
    from quarterdeck.agents.runtime.approvals import Approvals
    from quarterdeck.keel.changes import Changes

    await Approvals(Changes.of(settings)).follow(engine)


async def keep_watching(engine: Engine, arguments: argparse.Namespace) -> None:
    from quarterdeck.agents.remediation.watching import watch

    settings = load()
    print(f"Looking every {arguments.every:g} s; Ctrl-C ends.", file=sys.stderr, flush=True)

    async def started(id: str, cause: Any) -> None:
        print(f"\n{cause.summary}", file=sys.stderr, flush=True)
        await follow(engine, settings, id, arguments)

    last = ""

    def looked(words: str) -> None:
        nonlocal last
        if words != last:
            last = words
            print(f"      {words}", file=sys.stderr, flush=True)

    act = not arguments.only_look
    await watch(engine, arguments.every, started, service=arguments.service or "", act=act, looked=looked)
