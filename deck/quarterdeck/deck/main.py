"""The `quarterdeck` command. Each subcommand is a module with `add_arguments` and `run`, imported when it is called."""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

COMMANDS = {
    "demo": "a practice system breaks and is mended with your consent (30 s)",
    "install": "connect an AI client, such as claude-desktop or cursor",
    "uninstall": "take Quarterdeck out of an AI client again",
    "doctor": "check this set-up and say how to mend what is wrong",
    "serve": "run MCP servers: stats, kubectl, logs, research, bridge",
    "diagnose": "find out what is wrong; mend it when you say yes",
    "watch": "look every few seconds and deal with each new trouble",
    "agents": "serve the headless agents: A2A, REST, Alertmanager's webhook",
    "companies": "facts about many companies: names in, a table out",
    "expose": "serve any MCP server as an A2A agent",
    "approve": "see the changes that wait for a person; allow or decline one",
    "audit": "list what was asked for, allowed and done; prove it whole",
    "reports": "past incidents: list them, show one, search what was written",
    "token": "make a bearer token for servers reached over HTTP",
    "world": "run the practice system and its cluster in the foreground",
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(50_000, 20)  # what is imported stays: to look through it so often takes a fifth of the start
    parser = argparse.ArgumentParser(
        prog="quarterdeck",
        description="Your AI client looks at a failing system, and changes it only with your consent.",
        epilog="`quarterdeck COMMAND --help` says more. New? Start with `quarterdeck demo`.",
    )
    parser.add_argument("--version", action="version", version=f"quarterdeck {_version()}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, line in COMMANDS.items():
        command = subparsers.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if name == asked:
            # Only the module that is asked for is imported: servers start while a client waits.
            import_module(f"quarterdeck.deck.{name}").add_arguments(command)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 0
    return _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    from quarterdeck.keel.errors import Refusal
    from quarterdeck.keel.proxies import spare_loopback
    from quarterdeck.keel.signals import end_like_ctrl_c, exit_code

    end_like_ctrl_c()
    spare_loopback()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter shows its number, not a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        code = int(import_module(f"quarterdeck.deck.{parsed.command}").run(parsed))
        sys.stdout.flush()
        return code
    except Refusal as error:
        print(f"quarterdeck: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return exit_code()
    except BrokenPipeError:
        # The reader, such as `head`, has gone: nothing is left to say, also not when stdout is flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _version() -> str:
    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
