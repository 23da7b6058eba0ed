"""`quarterdeck world`: run the practice world in the foreground, or break and mend a running one."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

FIRST = "blog-locked"
"""The fault to begin with: it has something to see in stats, kubectl and logs, and a restart heals it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run a practice system and its Kubernetes API on this machine, for your AI client to look at, until Ctrl-C. "
        "From another terminal: `faults` lists what can break in it, `break FAULT` breaks it, `clear` mends it."
    )
    parser.add_argument(
        "what", nargs="?", default="run", choices=["run", "faults", "break", "clear"], metavar="WHAT",
        help="run (default), faults, break or clear",
    )  # fmt: skip
    parser.add_argument(
        "fault", nargs="?", metavar="FAULT", help="for break, and for clear if only one is to be mended"
    )
    parser.add_argument(
        "--free-ports", action="store_true", help="for run: any free ports instead of 7100, 8000, 8001, 8002, 8005"
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="X",
        help="for run: how fast time passes inside, 0.1 to 100 (default 1)",
    )


def main(arguments: list[str] | None = None) -> int:
    from quarterdeck.keel.signals import end_like_ctrl_c, exit_code

    parser = argparse.ArgumentParser(prog="python -P -m quarterdeck.titanium")
    add_arguments(parser)
    end_like_ctrl_c()
    try:
        return run(parser.parse_args(arguments))
    except KeyboardInterrupt:
        return exit_code()


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "run":
        return serve(free=arguments.free_ports, speed=arguments.speed)
    if arguments.what == "faults":
        return list_faults()
    name = urllib.parse.quote(arguments.fault or "", safe="")
    if arguments.what == "clear":
        return talk("POST", f"/clear/{name}" if name else "/clear")
    if not name:
        print(
            f"Say what to break, such as `quarterdeck world break {FIRST}`; `quarterdeck world faults` lists all.",
            file=sys.stderr,
        )
        return 2
    return talk("POST", f"/inject/{name}", after=True)


def list_faults() -> int:
    """What can break, whether or not a world is running."""
    from quarterdeck.titanium.faults import FAULTS

    for fault in FAULTS.values():
        print(f"{fault.name:<22} {fault.words}")
    if running():
        return talk("GET", "/")
    print("No practice world is running. `quarterdeck world` starts one.")
    return 0


def talk(method: str, path: str, *, after: bool = False) -> int:
    address = running()  # asked first: the port of a world that has gone may be another program's now
    try:
        said = asked(address, method, path) if address else None
    except urllib.error.HTTPError as error:
        print(json.load(error).get("error", "refused"), file=sys.stderr)
        return 2
    except (OSError, ValueError):
        said = None
    if said is None:
        print("No practice world is running. Start one in another terminal with `quarterdeck world`.", file=sys.stderr)
        return 1
    print(f"active: {', '.join(said['active']) or 'nothing is broken'}")
    if after:
        print(
            'It shows within seconds. Ask your AI client: "What is wrong?" `quarterdeck world clear` mends it for you.'
        )
    return 0


def asked(address: str, method: str, path: str) -> dict[str, Any]:
    request = urllib.request.Request(address + path, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know our loopback
    with direct.open(request, timeout=10) as answer:
        said = json.load(answer)
    if not isinstance(said, dict) or "faults" not in said:
        raise ValueError("another program has that port now")
    return said


def note() -> Path:
    """Where a running world leaves the address of its control port."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "quarterdeck" / "practice-world"


def running() -> str:
    """The control address of a world that runs already; empty when the note is of one that has gone."""
    try:
        address = note().read_text().strip()
        asked(address, "GET", "/")
    except (OSError, ValueError):
        return ""
    return address


def serve(*, free: bool, speed: float) -> int:
    from quarterdeck.titanium.story import practice_world

    if not 0.1 <= speed <= 100:
        print("--speed takes a number from 0.1 to 100; 1 is life.", file=sys.stderr)
        return 2
    before = running()
    problem = "" if free else in_the_way(before)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    try:
        world = practice_world(speed=speed, free_ports=free).__enter__()
    except (OSError, TimeoutError) as error:
        print(f"The practice world cannot start ({error}). --free-ports takes other ports.", file=sys.stderr)
        return 1
    place = note()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(world.control_url)
        print("The practice world is running. Point Quarterdeck at it, in another terminal:\n")
        for name, value in {**world.environment(), "KUBECONFIG": str(world.kubeconfig)}.items():
            print(f"export {name}='{value}'")
        print("\nThen, in that terminal, `quarterdeck install CLIENT` hands these on to your AI client; restart it.")
        print(f"Break something with `quarterdeck world break {FIRST}`, mend it with `quarterdeck world clear`.")
        print("`quarterdeck diagnose` in that terminal finds out by itself, without a client.")
        print("`quarterdeck world faults` lists what can break. Ctrl-C stops.", flush=True)
        while True:
            time.sleep(3600)
    finally:
        print("\nstopping", file=sys.stderr)
        hand_back(place, world.control_url, before)
        world.__exit__(None, None, None)


def in_the_way(address: str) -> str:
    """Why a world cannot have its usual ports, said at once and not after a long wait."""
    from quarterdeck.titanium.system import PARTS

    if address:
        return (
            f"A practice world runs already ({address}); `quarterdeck world faults` talks to it. "
            "--free-ports starts another."
        )
    for part in PARTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if part.http:
                    probe.bind(("127.0.0.1", part.port))
            except OSError as error:
                return f"The practice world needs port {part.port}: {error.strerror}. --free-ports takes other ports."
    return ""


def hand_back(place: Path, address: str, before: str) -> None:
    """Leave the note to the world that it told of before us, if that one still runs; never take another's away."""
    try:
        if place.read_text().strip() != address:
            return
        place.unlink()
        if before:
            asked(before, "GET", "/")
            place.write_text(before)
    except (OSError, ValueError):
        pass
