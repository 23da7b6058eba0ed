"""What `quarterdeck doctor` says of a client's entries: every client's form is read back and held against now."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import pytest

from quarterdeck.deck import checks, install
from quarterdeck.deck.clients import CLIENTS
from quarterdeck.keel.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("QUARTERDECK_", "CLAUDE_CONFIG", "CODEX_HOME", "XDG_")) or name == "KUBECONFIG":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    for client in CLIENTS.values():
        client.file(sys.platform, os.environ, tmp_path).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


def put(client: str, *, project: bool = False) -> Path:
    install.run(argparse.Namespace(client=client, servers=[], dry_run=False, project=project, show=False))
    return install.place(CLIENTS[client], project=project)


def findings() -> list[tuple[str, str, str, str]]:
    return [(found.status, found.what, found.detail, found.mend) for found in checks.clients(Settings())]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_install_wrote_is_well_until_a_setting_changes(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_STATS_URL", "http://127.0.0.1:7100")
    monkeypatch.setenv("QUARTERDECK_LOGS_LOKI_TOKEN", "planted-41")
    put(client)
    ((status, what, detail, _),) = findings()
    assert (status, what, "settings" in detail) == ("ok", f"client {client}", True)
    monkeypatch.setenv("QUARTERDECK_STATS_URL", "http://127.0.0.1:7200")
    ((status, _, detail, mend),) = findings()
    assert (status, "has another value of QUARTERDECK_STATS_URL" in detail) == ("fail", True)
    assert f"`quarterdeck install {client}` again" in mend
    monkeypatch.delenv("QUARTERDECK_STATS_URL")
    ((status, _, detail, _),) = findings()
    assert (status, "has, unlike this shell, QUARTERDECK_STATS_URL" in detail) == ("warn", True)
    assert "7100" not in detail


def test_an_older_entry_fails_also_in_a_file_with_comments() -> None:
    path = put("cursor")
    path.write_text("// mine\n" + path.read_text().replace('"-P",', ""))
    ((status, _, detail, _),) = findings()
    assert (status, "is not started with -P -m quarterdeck.stats" in detail) == ("fail", True)


def test_another_python_of_the_same_environment_is_the_same_and_one_elsewhere_is_told(tmp_path: Path) -> None:
    path = put("cursor")
    spelled = Path(sys.executable).parent / ("python" if Path(sys.executable).name == "python3" else "python3")
    path.write_text(path.read_text().replace(f'"{sys.executable}"', f'"{spelled}"'))
    assert [status for status, *_ in findings()] == ["ok"]
    elsewhere = shutil.which("sh")
    path.write_text(path.read_text().replace(f'"{spelled}"', f'"{elsewhere}"'))
    ((status, _, detail, _),) = findings()
    assert (status, f"starts {elsewhere}, not {sys.executable}" in detail) == ("warn", True)


def test_the_file_of_the_project_at_hand_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    put("claude-code", project=True)
    monkeypatch.setenv("QUARTERDECK_READ_ONLY", "1")
    ((status, _, detail, mend),) = findings()
    assert (status, "lacks QUARTERDECK_READ_ONLY" in detail) == ("fail", True)
    assert "`quarterdeck install claude-code --project` again" in mend


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"mcpServers": []}',
        '{"mcpServers": {"quarterdeck-stats": 7}}',
        '{"mcpServers": {"quarterdeck-stats": {"command": []}}}',
        '{"mcpServers": {"quarterdeck-stats": {"command": null, "args": 1, "env": 2}}}',
        '{"mcpServers": {"quarterdeck-stats": {"url": "http://127.0.0.1:7300/stats"}}}',
        "{broken",
        "",
    ],
)
def test_strange_files_are_told_and_break_nothing(text: str) -> None:
    install.place(CLIENTS["cursor"], project=False).write_text(text)
    ((status, _, detail, _),) = findings()
    assert status in ("ok", "warn", "fail")
    assert detail
