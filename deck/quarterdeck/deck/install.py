"""`quarterdeck install`: write the servers into an AI client's own configuration, and say what was written."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

from quarterdeck.deck import jsonc
from quarterdeck.deck.clients import CLIENTS, AiClient, Entry
from quarterdeck.keel.errors import Refusal

SERVERS = ("stats", "kubectl", "logs", "research", "bridge")
PREFIX = "quarterdeck-"
"""Before the server's name: `logs` alone might be somebody else's. mcp_quarterdeck-kubectl_TOOL stays under 64."""

KEPT = ".before-quarterdeck-"
"""Between the name of a client's file and the time, in the name of the copy that is kept of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s CLIENT [SERVER ...] [--dry-run | --print] [--project]"
    parser.description = (
        "Write Quarterdeck's MCP servers, and the QUARTERDECK_* settings of this shell, into an AI client's own "
        "configuration. It shows the change and keeps a copy of the old file. Restart the client afterwards."
    )
    common_arguments(parser)
    parser.add_argument("servers", nargs="*", default=[], metavar="SERVER", help=f"{', '.join(SERVERS)} (default: all)")
    parser.add_argument(
        "--print", action="store_true", dest="show", help="print the entries to paste by hand, and write nothing"
    )


def common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", nargs="?", metavar="CLIENT", help=", ".join(CLIENTS))
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change in the client's file, write nothing"
    )
    parser.add_argument(
        "--project", action="store_true", help="the file of the project in the current folder, not the one in your home"
    )


def run(arguments: argparse.Namespace) -> int:
    client = chosen(arguments.client, "install")
    unknown = [name for name in arguments.servers if name not in SERVERS]
    if unknown:
        raise Refusal(f"There is no server {unknown[0]!r}. There are: {', '.join(SERVERS)}.")
    names = arguments.servers or list(SERVERS)
    env, withheld = environment(os.environ)
    entries = {f"{PREFIX}{name}": client.entry(sys.executable, started(name), env) for name in names}
    if arguments.show:
        print(render(client, {client.key: entries}), end="")
        return 0
    path = place(client, project=arguments.project, dry_run=arguments.dry_run)
    before = read(path)
    if _commented(client, path, before, entries):
        print(f"{path} is up to date already.")
        changed = False
    else:
        document = parse(client, path, before)
        table = servers_of(client, path, document)
        for name, entry in entries.items():
            table[name] = entry
        changed = write(client, path, before, document, dry_run=arguments.dry_run)
    for name in withheld:
        print(
            f"Not written: {name} is a secret. Put it into the settings file instead (`quarterdeck doctor` names it)."
        )
    if changed and not arguments.dry_run:
        print(f"\n{client.title} now has {', '.join(entries)}. {client.after}")
        print('Then ask it: "What is wrong in my cluster right now?"')
    return 0


def chosen(name: str | None, command: str) -> AiClient:
    if name is None:
        raise Refusal(f"Say which CLIENT: `quarterdeck {command} CLIENT`, where CLIENT is one of {', '.join(CLIENTS)}.")
    if name not in CLIENTS:
        near = difflib.get_close_matches(name.lower(), CLIENTS, n=1, cutoff=0.5)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise Refusal(
            f"There is no client {name!r}. {meant}There are: {', '.join(CLIENTS)}. For any other, "
            "`quarterdeck install cursor --print` shows the form that most understand."
        )
    return CLIENTS[name]


def started(name: str) -> list[str]:
    """Python's arguments. Without -P it would import from the folder it is started in: a stranger's open repository."""
    return ["-P", "-m", f"quarterdeck.{name}"]


def environment(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The settings of this shell that the client must hand on, and the names of those that are secret."""
    kept, withheld = {}, []
    for name in sorted(environ):
        if name != "KUBECONFIG" and not name.startswith("QUARTERDECK_"):
            continue
        if (
            name.endswith("_KEY")
            or any(word in name for word in ("TOKEN", "PASSWORD", "SECRET", "CREDENTIAL"))
            or "@" in environ[name]
        ):
            withheld.append(name)
        elif environ[name]:
            kept[name] = environ[name]
    return kept, withheld


def place(client: AiClient, *, project: bool, dry_run: bool = False) -> Path:
    if project:
        if not client.project:
            raise Refusal(f"{client.title} has no file inside a project. Leave --project out.")
        return Path.cwd() / client.project
    path = client.file(sys.platform, os.environ, Path.home())
    if not path.parent.is_dir() and not client.makes_own_folder:
        missing = f"{client.title} does not seem to be installed: there is no folder {path.parent}."
        if not dry_run:
            raise Refusal(
                f"{missing} Start it once and try again, or see what to write with `quarterdeck install {client.name} "
                "--print`."
            )
        print(f"{missing} This would be written once it is there:\n")
    return path.resolve()  # a linked file stays a link


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} cannot be read: {error}. Nothing was changed.") from None


def parse(client: AiClient, path: Path, text: str) -> Any:
    if client.toml:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            return tomlkit.parse(text)
        except TOMLKitError as error:
            raise Refusal(f"{path} is not valid TOML: {error}. Mend it first; nothing was changed.") from None
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            jsonc.loads(text)
        except json.JSONDecodeError:
            why = f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg}). Mend it first"
        else:
            why = (
                "has comments or trailing commas, which would be lost. Edit it by hand: "
                f"`quarterdeck install {client.name} --print` shows the entries named {PREFIX}…"
            )
        raise Refusal(f"{path} {why}; nothing was changed.") from None


def servers_of(client: AiClient, path: Path, document: Any) -> Any:
    """The table of servers, made when it is not there."""
    if not isinstance(document, dict):
        raise Refusal(f"{path} holds no object. Mend it first; nothing was changed.")
    if client.key not in document:
        if client.toml:
            import tomlkit

            document[client.key] = tomlkit.table(is_super_table=True)
        else:
            document[client.key] = {}
    table = document[client.key]
    if not isinstance(table, dict):
        raise Refusal(f"{client.key} in {path} is not a table of servers. Mend it first; nothing was changed.")
    return table


def _commented(client: AiClient, path: Path, text: str, entries: dict[str, Entry]) -> bool:
    """A file whose comments forbid rewriting, and that has all entries already."""
    if client.toml:
        return False
    try:
        parse(client, path, text)
        return False
    except Refusal:
        pass
    try:
        document = jsonc.loads(text)
        table = document[client.key]
        return all(table.get(name) == entry for name, entry in entries.items())
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError):
        return False


def render(client: AiClient, document: Any, like: str = "") -> str:
    """The file's new text, indented as the old one was."""
    if client.toml:
        import tomlkit

        return tomlkit.dumps(document).rstrip("\n") + "\n"
    indented = re.search(r"^[{\[]\n([ \t]+)", like)
    return json.dumps(document, indent=indented[1] if indented else 2, ensure_ascii=False) + "\n"


def write(client: AiClient, path: Path, before: str, document: Any, *, dry_run: bool) -> bool:
    """Show what changes; then keep a copy of the old file and put the new one in its place in one step."""
    after = render(client, document, before)
    if parse(client, path, before) == json.loads(json.dumps(document)) and before:
        print(f"{path} is up to date already.")
        return False
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), "new", lineterm="", n=2)
    print("\n".join(lines))
    if dry_run:
        print("\nNothing was written (--dry-run).")
        return True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if before:
            kept = path.with_name(f"{path.name}{KEPT}{time.strftime('%Y%m%d-%H%M%S')}")
            while kept.exists():  # two changes in one second: the older copy is the one that matters
                kept = kept.with_name(f"{kept.name}+")
            kept.write_text(before, encoding="utf-8")
            kept.chmod(stat.S_IMODE(path.stat().st_mode))
            print(f"\nThe old file is kept as {kept}.")
        replace(path, after)
    except OSError as error:
        raise Refusal(f"{path} cannot be written: {error.strerror}. Nothing was changed.") from None
    return True


def replace(path: Path, text: str) -> None:
    """All of the new text or none of it, with the old file's permissions."""
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(13, "the file is read-only")
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text)
        temporary = Path(file.name)
    try:
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def copies(path: Path) -> list[Path]:
    """The copies of a client's file that `install` and `uninstall` kept, oldest first."""
    return sorted(path.parent.glob(f"{escape(path.name)}{KEPT}*"))


def ours(table: dict[str, Entry]) -> list[str]:
    return [name for name in table if name.startswith(PREFIX) and name.removeprefix(PREFIX) in SERVERS]
