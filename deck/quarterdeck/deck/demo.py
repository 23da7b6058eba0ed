"""`quarterdeck demo`: a system breaks, is diagnosed by the real servers over MCP, and is mended with a person's yes;
then it breaks again, and the remediation agent does the whole story by itself, up to the same question.

Everything runs here: the practice system, its cluster, three MCP servers as separate processes, the agent, and this
program in the part of the AI client. The state is a temporary folder, so your own audit trail and policy are not
touched.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarterdeck.deck.screen import cut
from quarterdeck.keel import signals

if TYPE_CHECKING:
    from fastmcp import Client

    from quarterdeck.titanium.story import PracticeWorld
    from quarterdeck.titanium.world import World

PATIENCE_S = 20.0
SERVERS = ("stats", "kubectl", "logs")
WIDTH = 104
"""Of what servers answer, at most so many columns are shown."""
NEXT = """\
Next, with your AI client: `quarterdeck world` runs this system to practise on, and says how.
`quarterdeck install CLIENT` connects it to your cluster; `quarterdeck doctor` checks that.
The agent by itself: `quarterdeck diagnose` in a terminal, `quarterdeck agents` for A2A, REST and alerts.
Something else altogether: `quarterdeck companies` makes a table of facts from a list of names."""


class Stuck(Exception):
    """The practice system did not do what the story needs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A practice system breaks on this machine; MCP servers find out why, and restart it once you type yes. Then it "
        "breaks again, and the remediation agent does all of that by itself, up to the same question. It takes half a "
        "minute, needs no key, cluster or network, and touches nothing of yours."
    )
    parser.add_argument("--yes", action="store_true", help="do not ask you: approve by itself")


def run(arguments: argparse.Namespace) -> int:
    home = Path(tempfile.mkdtemp(prefix="quarterdeck-demo-"))
    try:
        return signals.run(demo(home, yes=arguments.yes))
    except Stuck as stuck:
        print(f"quarterdeck: {stuck}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def demo(home: Path, *, yes: bool) -> int:
    from quarterdeck.titanium.story import practice_world

    started = time.monotonic()
    say("Starting a practice system: a load balancer, five services, and a Kubernetes API, all on loopback …")
    world = await asyncio.to_thread(practice_world().__enter__)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, world.__exit__, None, None, None)
        say("Starting the MCP servers stats, kubectl and logs, as your AI client would …")
        stats, kubectl, logs = await asyncio.gather(*(connect(stack, name, world, home) for name in SERVERS))
        say(f"Ready after {time.monotonic() - started:.0f} s.")

        step(1, "Something breaks: traffic nearly doubles, and the blog service cannot write its database.")
        await asyncio.to_thread(world.inject, "blog-locked")
        await until(stats, "offline")

        step(2, "What is offline?")
        await show(stats, "get_system_stats")
        step(3, "What does the cluster say?")
        await show(kubectl, "find_problems", once=looks_bad)
        step(4, "What do its logs say?")
        await show(logs, "tail_errors", service="blog-service", since="5m")
        step(5, "Did the traffic change? This stats server has only just begun to watch; Prometheus remembers.")
        await show(stats, "query_metrics_range", query="sum(rate(http_requests_total[5s]))", since="2m", step="10s")

        step(6, "So: a surge of writes locked the SQLite file, and the blog service crashed on it. Ask for a restart.")
        answer = await show(kubectl, "restart_deployment", deployment="blog-service")
        asked = time.monotonic()
        if not await asyncio.to_thread(consent, home, str(answer["change_id"]), yes):
            say("Nothing was changed. That is the whole idea.")
            say(f"\n{NEXT}")
            return 0
        thinking = time.monotonic() - asked

        step(7, "The same call again, now under your grant.")
        answer = await show(kubectl, "restart_deployment", deployment="blog-service")
        step(8, "Is it well again?")
        await until(stats, "online")
        await show(stats, "get_system_stats")
        if answer["status"] != "done":
            return 1

        step(9, "Next night, nobody is there: a new version of auth-service fails. The remediation agent takes over.")
        await asyncio.to_thread(break_again, world)
        outcome, waited = await night(world, home, yes)
        thinking += waited
        step(10, "And all of it is on record.")
        trail(home)
        took = time.monotonic() - started - thinking
        say(f"\nDone in {took:.0f} s. {NEXT}")
        return 0 if outcome in ("recovered", "refused") else 1


def break_again(world: PracticeWorld) -> None:
    """The blog's trouble passes; a rollout fails."""

    def fails(inside: World) -> bool:
        kind = inside.cluster.kinds.named("Pod")
        assert kind is not None
        pods = inside.cluster.store.all(kind, "titanium-local")
        states = [one for pod in pods for one in pod["status"].get("containerStatuses") or []]
        return any(one["name"] == "auth-service" and one["restartCount"] > 1 for one in states)

    try:
        world.clear()
        world.wait_until(lambda inside: inside.all_ready(), "the practice system is well again", PATIENCE_S)
        world.inject("bad-rollout")
        world.wait_until(fails, "the new version fails", PATIENCE_S)
    except TimeoutError as error:
        raise Stuck(f"The practice system is too slow here ({error}). Try again on a quieter machine.") from None


async def night(world: PracticeWorld, home: Path, yes: bool) -> tuple[str, float]:
    """The agent's run: how it ended, and how long the person thought."""
    from quarterdeck.deck.crew import crew
    from quarterdeck.deck.diagnose import decisions
    from quarterdeck.keel.settings import load

    chosen = {"HOME": str(home), "CONFIG": "", "AGENTS_HEALTHY_S": "30", "AGENTS_STEADY_S": "3", "MODEL_API_KEY": ""}
    own = {f"QUARTERDECK_{name}": value for name, value in chosen.items()}
    settings = load({**world.environment(), **own, "XDG_CONFIG_HOME": str(home)})
    waited = 0.0
    async with crew(settings) as engine:
        message = {"messageId": "demo", "role": "ROLE_USER", "parts": [{"text": "an alert"}]}
        argument = {"message": message, "context": "demo", "caller": "the demo", "scopes": ["read", "change"]}
        id = await engine.start("remediation", argument, id="demo")
        deciding = asyncio.create_task(decisions(engine, settings))
        try:
            async for item in engine.watch(id):
                if item.kind == "progress":
                    say(f"    {item.share or 0:4.0%} {cut(item.text, columns() - 5)}")
                elif item.kind == "question":
                    asked = time.monotonic()
                    await asyncio.to_thread(consent, home, str(item.data["change_id"]), yes)
                    waited += time.monotonic() - asked
        finally:
            deciding.cancel()
        flow = await engine.status(id)
    if not flow.result:
        raise Stuck(f"The agent broke off: {flow.error or flow.state}.")
    for line in str(flow.result["text"]).splitlines()[:-1]:
        say(f"    {cut(line, columns())}")
    return str(flow.result["outcome"]), waited


async def connect(stack: AsyncExitStack, name: str, world: PracticeWorld, home: Path) -> Client[Any]:
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    from quarterdeck.deck.install import started

    environ = {key: value for key, value in os.environ.items() if not key.startswith("QUARTERDECK_")}
    environ |= {**world.environment(), "QUARTERDECK_HOME": str(home), "QUARTERDECK_STATS_SAMPLE_EVERY_S": "0.5"}
    errors = stack.enter_context((home / f"{name}.log").open("w"))
    transport = StdioTransport(sys.executable, started(name), env=environ, log_file=errors)
    return await stack.enter_async_context(Client(transport))


async def show(
    client: Client[Any], tool: str, once: Callable[[dict[str, Any]], bool] | None = None, **arguments: Any
) -> dict[str, Any]:
    """Call a tool and print what the model would read, shortened; again and again until `once` likes the answer."""
    call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    say(f"  → {tool}({call})")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        result = await client.call_tool(tool, arguments, raise_on_error=False)
        text: str = result.content[0].text  # type: ignore[union-attr]
        if result.is_error:
            raise Stuck(f"{tool} answered {text!r}, so the demo cannot go on. `quarterdeck doctor` may say why.")
        if once is None or once(result.structured_content or {}) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    lines = text.splitlines()
    for line in lines[:16]:
        say(f"    {cut(line, columns())}")
    if len(lines) > 16:
        say(f"    … {len(lines) - 16} more lines")
    structured: dict[str, Any] = result.structured_content or {}
    return structured


def looks_bad(answer: dict[str, Any]) -> bool:
    """A crash loop runs for a moment now and then; the story is told when it does not."""
    return any(problem["severity"] == "high" for problem in answer.get("problems") or [])


async def until(stats: Client[Any], status: str) -> None:
    """Wait until the blog service stays `status` for a second: a crash loop is up now and then."""
    seen, deadline = 0, time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        result = await stats.call_tool("get_service_status", {"service_name": "blog_service"}, raise_on_error=False)
        seen = seen + 1 if (result.structured_content or {}).get("status") == status else 0
        if seen == 4:
            return
        await asyncio.sleep(0.25)
    raise Stuck(
        f"The practice blog service was not {status} within {PATIENCE_S:.0f} s, so the demo cannot go on. This machine "
        "may be too busy: try again, or look around by yourself with `quarterdeck world`."
    )


def consent(home: Path, id: str, yes: bool) -> bool:
    """The part of `quarterdeck approve`, in this terminal."""
    from quarterdeck.deck.approve import ask
    from quarterdeck.keel.changes import Changes
    from quarterdeck.keel.settings import ChangesSettings

    changes = Changes(ChangesSettings(), home)
    step(0, f"Your turn. In daily life you would run `quarterdeck approve {id}` in a terminal:")
    if yes or not sys.stdin.isatty():
        why = "--yes was given" if yes else "there is no terminal to ask in"
        pending = changes.grant(id, by=f"the demo ({why})")
        say(pending.shown)
        say(f"\nAllowed by the demo itself, because {why}. It can do that to its practice system only.")
        return True
    return ask(changes, changes.get(id)) == 0


def trail(home: Path) -> None:
    from quarterdeck.deck.audit import line, verify
    from quarterdeck.keel import audit
    from quarterdeck.keel.changes import Changes
    from quarterdeck.keel.settings import ChangesSettings

    changes = Changes(ChangesSettings(), home)
    for entry in audit.entries(changes.trail):
        say(f"    {cut(line(entry), columns())}")
    verify(changes)


def columns() -> int:
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) - 4


def step(number: int, text: str) -> None:
    say(f"\n{f'{number}. ' if number else ''}{text}")


def say(text: str) -> None:
    print(text, flush=True)
