"""`quarterdeck doctor` as a newcomer meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.titanium.story import PracticeWorld, practice_world


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=20) as world:
        yield world


def doctor(home: Path, environ: dict[str, str]) -> tuple[int, dict[str, list[dict[str, str]]]]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("QUARTERDECK_", "XDG_")) and name != "KUBECONFIG"
    }
    command = [sys.executable, "-m", "quarterdeck.deck.main", "doctor", "--json"]
    done = subprocess.run(
        command, env={**clean, "HOME": str(home), **environ}, capture_output=True, text=True, timeout=90, check=False
    )
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout):
        found.setdefault(finding["what"], []).append(finding)
    assert "Traceback" not in done.stderr
    return done.returncode, found


def test_with_everything_in_place_nothing_fails(world: PracticeWorld, tmp_path: Path) -> None:
    code, found = doctor(tmp_path, world.environment())
    failed = [finding for findings in found.values() for finding in findings if finding["status"] == "fail"]
    assert not failed
    assert code == 0
    for name in ("stats", "kubectl", "logs", "research", "bridge"):
        assert "tools" in found[f"server {name}"][0]["detail"]
    assert found["audit trail"][0]["detail"] == "nothing recorded yet"
    assert not list(tmp_path.rglob("changes.db"))


def test_with_nothing_configured_it_says_how_to_begin(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, {"QUARTERDECK_STATS_URL": "http://127.0.0.1:9"})
    assert code == 1
    assert found["cluster"][0]["status"] == "fail"
    advice = found["cluster"][0]["detail"] + found["cluster"][0]["mend"]
    assert advice.count("quarterdeck world") == 1
    assert ".." not in advice
    assert "QUARTERDECK_STATS_URL" in found["stats balancer"][0]["mend"]
    assert "quarterdeck install" in found["clients"][0]["mend"]


def test_slips_and_traps_are_named(world: PracticeWorld, tmp_path: Path) -> None:
    (tmp_path / ".cursor").mkdir()
    gone = {"mcpServers": {"quarterdeck-stats": {"command": "/nowhere/python", "args": []}}}
    (tmp_path / ".cursor" / "mcp.json").write_text(json.dumps(gone))
    settings = tmp_path / "settings.toml"
    settings.write_text('[[changes.rules]]\ntool = "*"\ndecision = "allow"\n')
    settings.chmod(0o600)
    environ = {**world.environment(), "QUARTERDECK_STAT_URL": "x", "QUARTERDECK_CONFIG": str(settings)}
    code, found = doctor(tmp_path, environ)
    assert code == 1
    assert any("QUARTERDECK_STAT_URL" in finding["detail"] for finding in found["settings"])
    assert "everywhere without asking" in found["policy"][0]["detail"]
    assert "/nowhere/python, which is gone" in found["client cursor"][0]["detail"]


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    (tmp_path / ".cursor").mkdir()
    return tmp_path / ".cursor" / "mcp.json"


def install(home: Path, environ: dict[str, str]) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("QUARTERDECK_", "XDG_", "KUBE"))}
    command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "install", "cursor"]
    subprocess.run(command, env={**clean, "HOME": str(home), **environ}, capture_output=True, timeout=30, check=True)


def test_a_client_with_other_settings_than_this_shell_is_not_well(
    world: PracticeWorld, cursor: Path, tmp_path: Path
) -> None:
    install(tmp_path, {"QUARTERDECK_STATS_PROMETHEUS_URL": "http://127.0.0.1:1/planted-31"})
    token = {"QUARTERDECK_LOGS_LOKI_TOKEN": "planted-32"}
    code, found = doctor(tmp_path, {**world.environment(), **token})
    (finding,) = found["client cursor"]
    assert (code, finding["status"]) == (1, "fail")
    assert "lacks QUARTERDECK_KUBECTL_KUBECONFIG, QUARTERDECK_LOGS_LOKI_URL" in finding["detail"]
    assert "has another value of QUARTERDECK_STATS_PROMETHEUS_URL" in finding["detail"]
    assert "LOKI_TOKEN" not in finding["detail"]
    assert "planted" not in json.dumps(found)
    assert "run `quarterdeck install cursor` again" in finding["mend"]

    install(tmp_path, world.environment())
    code, found = doctor(tmp_path, {**world.environment(), **token})
    assert (code, [finding["status"] for finding in found["client cursor"]]) == (0, ["ok"])


def test_a_user_without_rights_is_told_so(world: PracticeWorld, tmp_path: Path) -> None:
    environ = {**world.environment(), "QUARTERDECK_KUBECTL_CONTEXTS": "titanium-viewer"}
    _, found = doctor(tmp_path, environ)
    assert "restart" in found["cluster rights"][0]["detail"]
    assert found["cluster rights"][0]["status"] == "warn"


def test_a_broken_settings_file_is_the_only_thing_said(tmp_path: Path) -> None:
    settings = tmp_path / "broken.toml"
    settings.write_text("[kubectl\n")
    code, found = doctor(tmp_path, {"QUARTERDECK_CONFIG": str(settings)})
    assert code == 1
    assert "broken.toml" in found["settings"][0]["detail"]
