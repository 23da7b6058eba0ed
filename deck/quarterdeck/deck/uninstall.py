"""`quarterdeck uninstall`: take the servers out of an AI client's configuration again."""

from __future__ import annotations

import argparse

from quarterdeck.deck import install


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    if install.write(client, path, before, document, dry_run=arguments.dry_run) and not arguments.dry_run:
        print(f"\nTaken out: {', '.join(names)}. {client.after}")
    return 0
