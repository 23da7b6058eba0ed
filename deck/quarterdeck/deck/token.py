"""`quarterdeck token`: a bearer token for servers over HTTP. It is shown once; settings keep only its hash."""

from __future__ import annotations

import argparse
import json

from quarterdeck.keel.identity import new_token
from quarterdeck.keel.settings import config_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="who will use it; it stands in the audit trail")
    parser.add_argument("--change", action="store_true", help="may ask for changes too, not only read")


def run(arguments: argparse.Namespace) -> int:
    token, digest = new_token()
    scopes = ["read", "change"] if arguments.change else ["read"]
    print(f"Give this to {arguments.name}, once; it is stored nowhere:\n\n    {token}\n")
    print(f"And add this to {config_path()}:\n")
    print(f'[[http.tokens]]\nname = {json.dumps(arguments.name)}\nsha256 = "{digest}"\nscopes = {json.dumps(scopes)}')
    return 0
