"""`quarterdeck world`: run the practice world in the foreground, or break and mend a running one."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", default="run", choices=["run", "break", "clear", "faults"],
        help="run it (default), break something, clear faults, or list them",
    )  # fmt: skip
    parser.add_argument("fault", nargs="?", help="for break and clear: the fault's name")
    parser.add_argument(
        "--free-ports", action="store_true", help="take free ports instead of 7100, 8000, 8001, 8002, 8005"
    )
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="how fast time passes inside (default 1)")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -P -m quarterdeck.titanium", description="A system to practise on.")
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "run":
        return serve(free=arguments.free_ports, speed=arguments.speed)
    method, path = "GET", "/"
    if arguments.what == "break":
        if not arguments.fault:
            print("Say what to break; `faults` lists what can be.", file=sys.stderr)
            return 2
        method, path = "POST", f"/inject/{arguments.fault}"
    elif arguments.what == "clear":
        method, path = "POST", f"/clear/{arguments.fault}" if arguments.fault else "/clear"
    return talk(method, path, listing=arguments.what == "faults")


def talk(method: str, path: str, *, listing: bool) -> int:
    try:
        address = note().read_text().strip()
        request = urllib.request.Request(address + path, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            said: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        print(json.load(error).get("error", "refused"), file=sys.stderr)
        return 2
    except (OSError, ValueError):
        print("No practice world is running. Start one with `quarterdeck world`.", file=sys.stderr)
        return 1
    if listing:
        for name, words in said["faults"].items():
            print(f"{name:<22} {words}")
    print(f"active: {', '.join(said['active']) or 'nothing is broken'}")
    return 0


def note() -> Path:
    """Where a running world leaves the address of its control port."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "quarterdeck" / "practice-world"


def serve(*, free: bool, speed: float) -> int:
    from quarterdeck.titanium.story import practice_world

    try:
        world = practice_world(speed=speed, free_ports=free).__enter__()
    except (OSError, TimeoutError) as error:
        print(
            f"The practice world cannot start ({error}). Another may be running; --free-ports takes other ports.",
            file=sys.stderr,
        )
        return 1
    place = note()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(world.control_url)
        print("The practice world is running. Point Quarterdeck at it, in another terminal:\n")
        for name, value in {**world.environment(), "KUBECONFIG": str(world.kubeconfig)}.items():
            print(f"export {name}='{value}'")
        print("\nThen, in that terminal, `quarterdeck install CLIENT` hands these on to your AI client; restart it.")
        print("Break something with `quarterdeck world break blog-locked`, mend it with `quarterdeck world clear`.")
        print("`quarterdeck world faults` lists what can break. Ctrl-C stops.", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nstopping", file=sys.stderr)
    finally:
        place.unlink(missing_ok=True)
        world.__exit__(None, None, None)
    return 0
