"""`quarterdeck token`: a bearer token for servers over HTTP. It is shown once; settings keep only its hash."""

from __future__ import annotations

import argparse
import json

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import new_token
from quarterdeck.keel.settings import config_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="who will use it; it stands in the audit trail")
    parser.add_argument("--change", action="store_true", help="may ask for changes too, not only read")


def run(arguments: argparse.Namespace) -> int:
    if not (1 <= len(arguments.name) <= 64 and arguments.name.isprintable()):
        raise Refusal("A token's name has 1 to 64 letters, all of them visible. It stands in the audit trail.")
    token, digest = new_token()
    scopes = ["read", "change"] if arguments.change else ["read"]
    print(f"Give this to {arguments.name}, once; it is stored nowhere:\n\n    {token}\n")
    print(f"And add this to {config_path()}:\n")
    name = json.dumps(arguments.name, ensure_ascii=False)
    print(f'[[http.tokens]]\nname = {name}\nsha256 = "{digest}"\nscopes = {json.dumps(scopes)}')
    return 0
