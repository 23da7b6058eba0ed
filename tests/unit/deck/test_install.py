"""`quarterdeck install` and `uninstall`: what they write, keep, refuse and undo."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.deck import install, main, uninstall
from quarterdeck.deck.clients import CLIENTS
from quarterdeck.keel.errors import Refusal

ENTRIES = ["quarterdeck-stats", "quarterdeck-kubectl", "quarterdeck-logs", "quarterdeck-research", "quarterdeck-bridge"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own in which every client has been started once."""
    for name in list(os.environ):
        if name.startswith(("QUARTERDECK_", "CLAUDE_CONFIG", "CODEX_HOME", "XDG_")) or name == "KUBECONFIG":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for client in CLIENTS.values():
        client.file(sys.platform, os.environ, tmp_path).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


def run(client: str, *servers: str, **more: Any) -> int:
    options = {"client": client, "servers": list(servers), "dry_run": False, "project": False, "show": False, **more}
    return install.run(argparse.Namespace(**options))


def remove(client: str, **more: Any) -> int:
    return uninstall.run(argparse.Namespace(**{"client": client, "dry_run": False, "project": False, **more}))


def file_of(client: str, home: Path) -> Path:
    return CLIENTS[client].file(sys.platform, os.environ, home)


def entries(client: str, home: Path) -> dict[str, Any]:
    text = file_of(client, home).read_text()
    document = tomllib.loads(text) if CLIENTS[client].toml else json.loads(text)
    found: dict[str, Any] = document[CLIENTS[client].key]
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_gets_servers_that_start_by_absolute_path(client: str, home: Path) -> None:
    assert run(client) == 0
    written = entries(client, home)
    assert list(written) == ENTRIES
    for name, entry in written.items():
        command = entry["command"] if isinstance(entry["command"], list) else [entry["command"], *entry["args"]]
        assert Path(command[0]).is_absolute()
        assert command[1:] == ["-P", "-m", f"quarterdeck.{name.removeprefix('quarterdeck-')}"]
        assert None not in entry.values()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_second_run_changes_nothing_and_says_so(
    client: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(client)
    before = sorted(path.name for path in file_of(client, home).parent.iterdir())
    capsys.readouterr()
    assert run(client) == 0
    assert "up to date" in capsys.readouterr().out
    assert sorted(path.name for path in file_of(client, home).parent.iterdir()) == before


@pytest.mark.parametrize("client", CLIENTS)
def test_uninstall_leaves_what_was_there_before(client: str, home: Path) -> None:
    path = file_of(client, home)
    if CLIENTS[client].toml:
        path.write_text('# mine\nmodel = "x"\n\n[mcp_servers.other]\ncommand = "foo" # really\n')
    else:
        path.write_text(json.dumps({"theme": "dark", CLIENTS[client].key: {"other": {"command": "foo"}}}))
    run(client)
    assert set(entries(client, home)) == {"other", *ENTRIES}
    remove(client)
    assert list(entries(client, home)) == ["other"]
    text = path.read_text()
    assert "# mine" in text if CLIENTS[client].toml else json.loads(text)["theme"] == "dark"
    assert remove(client) == 0


def test_comments_in_toml_stay(home: Path) -> None:
    path = file_of("codex", home)
    path.write_text('# keep me\nmodel = "x"  # and me\n')
    run("codex", "stats")
    assert "# keep me" in path.read_text()
    assert "# and me" in path.read_text()


def test_the_old_file_is_kept_with_its_permissions(home: Path) -> None:
    path = file_of("cursor", home)
    path.write_text("{}")
    path.chmod(0o640)
    run("cursor", "logs")
    kept = [p for p in path.parent.iterdir() if "before-quarterdeck" in p.name]
    assert [p.read_text() for p in kept] == ["{}"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_dry_run_shows_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("cursor", dry_run=True)
    assert "+" in capsys.readouterr().out
    assert not file_of("cursor", home).exists()


def test_print_is_only_the_configuration(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("vscode", "stats", show=True)
    assert list(json.loads(capsys.readouterr().out)["servers"]) == ["quarterdeck-stats"]
    assert not file_of("vscode", home).exists()


@pytest.mark.parametrize(
    "text", ["{broken", '{"a": 1,}', '// comment\n{"mcpServers": {}}', "[1, 2]", '{"mcpServers": []}']
)
def test_a_file_that_is_not_plain_json_is_refused_and_left_alone(text: str, home: Path) -> None:
    path = file_of("cursor", home)
    path.write_text(text)
    with pytest.raises(Refusal, match="nothing was changed"):
        run("cursor")
    assert path.read_text() == text


def test_a_linked_file_stays_a_link(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.json"
    target.write_text("{}")
    path = file_of("cursor", home)
    path.symlink_to(target)
    run("cursor", "stats")
    assert path.is_symlink()
    assert "quarterdeck-stats" in target.read_text()


def test_a_client_that_was_never_started_is_said_to_be_missing(home: Path) -> None:
    file_of("windsurf", home).parent.rmdir()
    with pytest.raises(Refusal, match="does not seem to be installed"):
        run("windsurf")


def test_settings_of_the_shell_go_along_but_secrets_do_not(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUARTERDECK_STATS_URL", "http://127.0.0.1:7100")
    monkeypatch.setenv("QUARTERDECK_LOGS_LOKI_TOKEN", "planted-secret-11")
    monkeypatch.setenv("QUARTERDECK_STATS_PROMETHEUS_URL", "http://me:planted-secret-12@127.0.0.1:9090")
    run("cursor")
    assert entries("cursor", home)["quarterdeck-stats"]["env"] == {"QUARTERDECK_STATS_URL": "http://127.0.0.1:7100"}
    assert "planted-secret" not in file_of("cursor", home).read_text() + capsys.readouterr().out


def test_a_project_file_lies_in_the_project(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    run("claude-code", "stats", project=True)
    assert "quarterdeck-stats" in json.loads((project / ".mcp.json").read_text())["mcpServers"]
    with pytest.raises(Refusal, match="no file inside a project"):
        run("windsurf", project=True)


def test_an_unknown_server_is_refused() -> None:
    with pytest.raises(Refusal, match="There are: stats, kubectl, logs, research, bridge"):
        run("cursor", "nope")


def test_files_lie_where_each_system_keeps_them() -> None:
    home, windows = Path("/home/me"), {"APPDATA": "/users/me/AppData/Roaming"}
    desktop, vscode = CLIENTS["claude-desktop"].file, CLIENTS["vscode"].file
    name = "claude_desktop_config.json"
    assert desktop("linux", {}, home) == home / ".config/Claude" / name
    assert desktop("linux", {"XDG_CONFIG_HOME": "/etc/x"}, home) == Path("/etc/x/Claude") / name
    assert desktop("darwin", {}, home) == home / "Library/Application Support/Claude" / name
    assert desktop("win32", windows, home) == Path("/users/me/AppData/Roaming/Claude") / name
    assert vscode("darwin", {}, home) == home / "Library/Application Support/Code/User/mcp.json"
    assert CLIENTS["codex"].file("linux", {"CODEX_HOME": "/c"}, home) == Path("/c/config.toml")
    assert CLIENTS["claude-code"].file("linux", {}, home) == home / ".claude.json"


def test_what_is_written_runs_no_code_of_the_folder_it_is_started_in(home: Path, tmp_path: Path) -> None:
    """Clients start servers inside whatever repository is open."""
    run("cursor", "stats")
    entry = entries("cursor", home)["quarterdeck-stats"]
    repository = tmp_path / "repository"
    (repository / "quarterdeck" / "stats").mkdir(parents=True)
    for name in ("fastmcp.py", "quarterdeck/__init__.py", "quarterdeck/stats/__main__.py"):
        (repository / name).write_text("raise SystemExit('a stranger ran')")
    done = subprocess.run(
        [entry["command"], *entry["args"]],
        cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, "stranger" in done.stderr) == (0, False), done.stderr


def test_no_text_of_ours_starts_a_module_without_the_safe_path() -> None:
    house = Path(__file__).parents[3]
    texts = [
        *house.glob("*.md"),
        *house.glob("docs/*.md"),
        *house.glob("servers/**/*.md"),
        *house.glob("examples/**/*.md"),
    ]
    sources = [file for root in ("deck", "servers", "keel", "examples") for file in (house / root).rglob("*.py")]
    unsafe = re.compile(r"""python3? -m quarterdeck\.|(?<!"-P", )["']-m["'], f?["']quarterdeck\.""")
    assert len(texts) > 5
    assert len(sources) > 50
    assert [file for file in (*texts, *sources) if unsafe.search(file.read_text())] == []


@pytest.mark.parametrize("command", [install, uninstall])
def test_a_missing_or_mistyped_client_is_told_with_all_names(command: Any) -> None:
    def parsed(*arguments: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return parser.parse_args(arguments)

    with pytest.raises(Refusal, match="Say which CLIENT") as told:
        command.run(parsed())
    assert all(name in str(told.value) for name in CLIENTS)
    with pytest.raises(Refusal, match="Did you mean claude-code"):
        command.run(parsed("claudecode"))


@pytest.mark.parametrize("client", CLIENTS)
def test_uninstall_removes_a_file_that_install_made(client: str, home: Path) -> None:
    path = file_of(client, home)
    around = sorted(path.parent.iterdir())
    run(client, "stats")
    remove(client)
    assert sorted(path.parent.iterdir()) == around
    run(client, "stats")
    run(client)  # keeps a copy of what install itself had written
    remove(client, dry_run=True)
    assert path.exists()
    remove(client)
    assert not path.exists()


@pytest.mark.parametrize("client", CLIENTS)
def test_uninstall_gives_back_the_very_file_and_names_the_copies(
    client: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(client, home)
    texts = ['model = "x"\n', "# only a comment\n"] if CLIENTS[client].toml else ['{\n\t"theme": "dark"\n}\n', "{}\n"]
    for text in texts:
        path.write_text(text)
        run(client)
        capsys.readouterr()
        remove(client)
        assert path.read_text() == text
        kept = [str(copy) for copy in path.parent.iterdir() if "before-quarterdeck" in copy.name]
        said = capsys.readouterr().out
        assert kept
        assert all(copy in said for copy in kept)
        for copy in kept:
            Path(copy).unlink()


COMMENTED = """{
  // mine: "quarterdeck-stats" is not here, and https://example.org is no comment
  "url": "https://example.org/*not a comment*/ , ]",
  "mcpServers": {"other": {"command": "x",},}, /* two
  lines */
}
"""


def test_a_file_with_comments_is_refused_with_what_to_do(home: Path) -> None:
    path = file_of("cursor", home)
    path.write_text(COMMENTED)
    with pytest.raises(Refusal, match=r"comments or trailing commas.*quarterdeck install cursor --print"):
        run("cursor")
    with pytest.raises(Refusal, match="nothing was changed"):
        remove("cursor")
    assert path.read_text() == COMMENTED
    assert [name.name for name in path.parent.iterdir()] == [path.name]


def test_entries_pasted_into_a_file_with_comments_are_recognised(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("cursor", "stats", show=True)
    printed = json.loads(capsys.readouterr().out)["mcpServers"]["quarterdeck-stats"]
    path = file_of("cursor", home)
    text = COMMENTED.replace('"other"', f'"quarterdeck-stats": {json.dumps(printed)}, "other"')
    path.write_text(text)
    assert run("cursor", "stats") == 0
    assert "up to date" in capsys.readouterr().out
    assert path.read_text() == text


def test_every_client_stands_in_the_documents_and_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    house = Path(__file__).parents[3]
    for readme in (house / "README.md", house / "README.ko.md"):
        text = readme.read_text()
        (line,) = re.findall(r"^    quarterdeck install .*$", text, re.MULTILINE)
        assert set(re.findall(r"[a-z-]+", line)) >= set(CLIENTS), readme
        assert all(client.title in text for client in CLIENTS.values()), readme
    table = (house / "docs/clients.md").read_text()
    assert all(f"| {client.title} |" in table for client in CLIENTS.values())
    with pytest.raises(SystemExit):
        main.main(["install", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ", ".join(CLIENTS) in shown


def test_a_dry_run_shows_what_would_be_written_for_a_client_that_is_not_there(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = file_of("codex", home).parent
    folder.rmdir()
    assert run("codex", dry_run=True) == 0
    said = capsys.readouterr().out
    assert "Codex does not seem to be installed" in said
    assert "+[mcp_servers.quarterdeck-kubectl]" in said
    assert not folder.exists()


@pytest.mark.parametrize("client", CLIENTS)
def test_after_uninstalling_nobody_is_told_to_look_for_the_servers(
    client: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(client)
    capsys.readouterr()
    remove(client)
    assert "shows the servers" not in capsys.readouterr().out
