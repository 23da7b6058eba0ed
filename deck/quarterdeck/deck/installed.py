"""What an AI client's file says of our servers, held against what `quarterdeck install` would write now."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from quarterdeck.deck import jsonc
from quarterdeck.deck.clients import AiClient, Entry
from quarterdeck.deck.install import PREFIX, environment, ours, started
from quarterdeck.keel.answers import clip, plain


def entries_in(client: AiClient, path: Path) -> dict[str, Entry]:
    """Our entries in that file. Raises OSError or ValueError when it cannot be read."""
    text = path.read_text(encoding="utf-8")
    document = tomllib.loads(text) if client.toml else jsonc.loads(text)
    table = document.get(client.key) if isinstance(document, dict) else None
    if not isinstance(table, dict):
        return {}
    return {name: table[name] for name in ours(table) if isinstance(table[name], dict)}


def differences(client: AiClient, name: str, entry: Entry) -> tuple[list[str], list[str]]:
    """What is wrong and what is only unusual, in words without any value: a value may be a secret."""
    if "command" not in entry:
        return [], []  # reached over HTTP, as somebody wrote by hand
    env, withheld = environment(os.environ)
    program, arguments, given = _parts(entry)
    _, wanted, _ = _parts(client.entry(sys.executable, started(name.removeprefix(PREFIX)), env))
    wrong, unusual = [], []
    if not shutil.which(program):
        wrong.append(f"starts {clip(plain(program or 'nothing'), 200)}, which is gone")
    elif not _same_program(program, sys.executable):
        unusual.append(f"starts {clip(plain(program), 200)}, not {sys.executable}")
    elif arguments != wanted:
        wrong.append(f"is not started with {' '.join(wanted)}")
    for words, names, to in (
        ("lacks", [key for key in env if key not in given], wrong),
        ("has another value of", [key for key in env if key in given and given[key] != env[key]], wrong),
        ("has, unlike this shell,", [key for key in given if key not in {*env, *withheld} and _setting(key)], unusual),
    ):
        if names:
            to.append(f"{words} {plain(', '.join(sorted(names)))}")
    return wrong, unusual


def _setting(name: str) -> bool:
    kept, _ = environment({name: "x"})  # a secret that somebody put there by hand is their own affair
    return bool(kept)


def _parts(entry: Entry) -> tuple[str, list[Any], dict[str, Any]]:
    command, arguments = entry.get("command"), entry.get("args")
    given = entry.get("environment", entry.get("env"))
    whole = [
        *(command if isinstance(command, list) else [command]),
        *(arguments if isinstance(arguments, list) else []),
    ]
    program = whole[0] if whole and isinstance(whole[0], str) else ""
    return program, whole[1:], given if isinstance(given, dict) else {}


def _same_program(one: str, other: str) -> bool:
    """`python` and `python3` of one environment are the same; those of two environments are not."""
    return Path(one).parent == Path(other).parent and Path(one).resolve() == Path(other).resolve()
