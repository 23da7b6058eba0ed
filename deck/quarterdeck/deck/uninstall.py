"""`quarterdeck uninstall`: take the servers out of an AI client's configuration again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from quarterdeck.deck import install
from quarterdeck.deck.clients import AiClient
from quarterdeck.keel.errors import Refusal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s CLIENT [--dry-run] [--project]"
    parser.description = "Take Quarterdeck's servers out of an AI client's configuration. All else in it stays."
    install.common_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    client = install.chosen(arguments.client, "uninstall")
    path = install.place(client, project=arguments.project)
    before = install.read(path)
    document = install.parse(client, path, before)
    table = install.servers_of(client, path, document)
    names = install.ours(table)
    if not names:
        print(f"{client.title} has no Quarterdeck server in {path}. Nothing to do.")
        return 0
    for name in names:
        del table[name]
    if not table:
        del document[client.key]
    if install.render(client, document).strip() in ("", "{}") and not existed(client, path):
        remove(path, dry_run=arguments.dry_run)
    elif not install.write(client, path, before, document, dry_run=arguments.dry_run):
        return 0
    if not arguments.dry_run:
        print(f"\nTaken out: {', '.join(names)}. {client.gone}")
        if kept := install.copies(path):
            print("Copies of the file as it was before each change; delete them when you need them no more:")
            print("\n".join(f"    {copy}" for copy in kept))
    return 0


def existed(client: AiClient, path: Path) -> bool:
    """Whether the file was there before us: then a copy without our servers was kept when they came."""
    return any(not _has_ours(client, copy) for copy in install.copies(path))


def _has_ours(client: AiClient, copy: Path) -> bool:
    try:
        document: Any = install.parse(client, copy, install.read(copy))
        return bool(install.ours(document.get(client.key, {})))
    except (Refusal, AttributeError, TypeError):
        return False


def remove(path: Path, *, dry_run: bool) -> None:
    """The file was made by `install` and holds nothing else."""
    if dry_run:
        print(f"{path} would be removed: `quarterdeck install` made it and nothing else is in it.")
        print("\nNothing was written (--dry-run).")
        return
    try:
        path.unlink()
    except OSError as error:
        raise Refusal(f"{path} cannot be removed: {error.strerror}. Nothing was changed.") from None
    print(f"{path} is removed: `quarterdeck install` made it and nothing else was in it.")
