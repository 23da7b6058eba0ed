"""`quarterdeck token`: a bearer token for servers over HTTP. It is shown once; settings keep only its hash."""

from __future__ import annotations

import argparse
import json
import sys

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import new_token
from quarterdeck.keel.settings import config_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a bearer token for `quarterdeck serve … --http`, `agents` and `expose`, needed beyond this machine. It "
        "is shown once; the settings file keeps only its hash."
    )
    parser.add_argument("name", metavar="NAME", help="whose it is, such as kim; the audit trail names its calls by it")
    parser.add_argument(
        "--spend", action="store_true", help="it may cause costs: research, at paid providers and with the model"
    )
    parser.add_argument("--change", action="store_true", help="it may ask for changes too, not only read")
    parser.add_argument(
        "--approve",
        action="store_true",
        help="its holder says yes to changes, like a person at `quarterdeck approve`: never for an agent or a bridge",
    )


def run(arguments: argparse.Namespace) -> int:
    if not (1 <= len(arguments.name) <= 64 and arguments.name.isprintable()):
        raise Refusal("A token's name has 1 to 64 letters, all of them visible. It stands in the audit trail.")
    token, digest = new_token()
    chosen = {"spend": arguments.spend, "change": arguments.change, "approve": arguments.approve}
    scopes = ["read", *(scope for scope, wanted in chosen.items() if wanted)]
    print(f"1. Give this to {arguments.name}, once; it is stored nowhere:\n\n    {token}\n")
    path = config_path()
    new = "" if path.exists() else " (it is not there yet: make it)"
    print(f"2. Add these lines at the end of {path}{new}:\n")
    print(f'[[http.tokens]]\nname = {quoted(arguments.name)}\nsha256 = "{digest}"\nscopes = {json.dumps(scopes)}\n')
    if arguments.approve:
        print(
            "With approve, its holder's yes to what an agent asks over A2A counts as a person's: give it to people.\n"
        )
    print("3. Start `quarterdeck serve all --http` or `quarterdeck agents` again: settings are read at the start.")
    print("   From then on every call needs a token, also from this machine.")
    print(f"4. The client then sends this header with every request:\n\n    Authorization: Bearer {token}")
    return 0


def quoted(text: str) -> str:
    """As a TOML string, also on a terminal that cannot show every letter."""
    shown = json.dumps(text, ensure_ascii=False)
    encoding = sys.stdout.encoding or "utf-8"
    return "".join(letter if _has(encoding, letter) else f"\\U{ord(letter):08X}" for letter in shown)


def _has(encoding: str, letter: str) -> bool:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
