"""Real clients supervise an agent: find it, give it work, bring its question, answer; a change waits for a person."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import Settings

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1500)]

CREW = Path(__file__).parents[1] / "data" / "crew"


def scripted(tool: str, arguments: dict[str, Any]) -> Any:
    spec = importlib.util.spec_from_file_location("scripted_models", Path(__file__).with_name("models.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(tool, arguments)


@dataclass
class Agent:
    url: str
    log: Path

    def received(self) -> list[str]:
        messages = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [message["parts"][0]["text"] for message in messages]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    log = tmp_path / "received"
    command = [sys.executable, "-m", "quarterdeck.crew", "0", str(log)]
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(CREW)}, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        yield Agent(running.stdout.readline().strip(), log)
    finally:
        running.kill()
        running.communicate()


def install(client: str, home: Path, agent: Agent) -> None:
    for folder in (".gemini", ".config/opencode", ".codex"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "QUARTERDECK_HOME": str(home / "state"),
        "QUARTERDECK_BRIDGE_AGENTS": f"crew={agent.url}",
    }
    command = [sys.executable, "-m", "quarterdeck.deck.main", "install", client, "bridge"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def claude(node: Any, home: Path, model: Any) -> str:
    servers = json.loads((home / ".claude.json").read_text())["mcpServers"]
    (home / "servers.json").write_text(json.dumps({"mcpServers": servers}))
    done = node.run(
        "claude", "-p", "go", "--output-format", "stream-json", "--verbose", "--strict-mcp-config", "--mcp-config",
        str(home / "servers.json"), "--allowedTools", "mcp__quarterdeck-bridge", home=home, timeout=120,
        ANTHROPIC_BASE_URL=model.url, ANTHROPIC_API_KEY="any", ENABLE_TOOL_SEARCH="false",
        DISABLE_AUTOUPDATER="1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1", IS_SANDBOX="1",
    )  # fmt: skip
    return str(done.stdout + done.stderr)


def gemini(node: Any, home: Path, model: Any) -> str:
    path = home / ".gemini" / "settings.json"
    security = {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "security": security}))
    done = node.run(
        "gemini", "-p", "go", "--approval-mode", "yolo", "--output-format", "stream-json", home=home, timeout=200,
        GOOGLE_GEMINI_BASE_URL=model.url, GEMINI_API_KEY="any",
    )  # fmt: skip
    return str(done.stdout + done.stderr)


def opencode(node: Any, home: Path, model: Any) -> str:
    path = home / ".config/opencode/opencode.json"
    options = {"baseURL": f"{model.url}/v1", "apiKey": "any"}
    models = {"m": {"name": "m"}}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "scripted", "options": options, "models": models}
    own = {"provider": {"scripted": provider}, "model": "scripted/m"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    done = node.run("opencode", "run", "--format", "json", "--model", "scripted/m", "go", home=home, timeout=200)
    return str(done.stdout + done.stderr)


def codex(node: Any, home: Path, model: Any) -> str:
    path = home / ".codex" / "config.toml"
    written = path.read_text()
    own = (
        'model = "m"\nmodel_provider = "scripted"\napproval_policy = "never"\n\n'
        f'[model_providers.scripted]\nname = "scripted"\nbase_url = "{model.url}/v1"\n'
        'wire_api = "responses"\nenv_key = "SCRIPTED_KEY"\n\n'
    )
    trusted = 'required = true\ndefault_tools_approval_mode = "approve"\nstartup_timeout_sec'
    path.write_text(own + written.replace("startup_timeout_sec", trusted))
    try:
        done = node.run(
            "codex", "exec", "--skip-git-repo-check", "--json", "go", home=home, timeout=120, SCRIPTED_KEY="any"
        )
    finally:
        path.write_text(written)
    return str(done.stdout + done.stderr)


CLIENTS = {"claude-code": claude, "gemini-cli": gemini, "codex": codex, "opencode": opencode}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_real_client_supervises_an_agent(client: str, node: Any, home: Path, agent: Agent) -> None:
    install(client, home, agent)

    def turn(tool: str, **arguments: Any) -> str:
        """One run of the client, in which its model calls one tool; what the model was handed."""
        said = ""
        for _ in range(3):  # a cold client sometimes asks its model before the server is there
            with scripted(tool, arguments) as model:
                said = CLIENTS[client](node, home, model)
            if model.result:
                return str(model.result)
        raise AssertionError(f"{tool} was never called: {said[-800:]}")

    assert "scale-deployments" in turn("find_agent_for", task="scale up, there is more traffic")

    asked = turn("delegate", agent="crew", text="ask")
    assert "Which colour?" in asked, asked[:800]
    task = re.search(r"\bt-\w{10}\b", asked)
    assert task, asked[:800]
    assert "answered: blue" in turn("answer_task", task=task.group(), text="blue")

    waiting = turn("delegate", agent="crew", text="change mine")
    change, task = re.search(r"\bch-[a-z0-9]{8}\b", waiting), re.search(r"\bt-\w{10}\b", waiting)
    assert change, waiting[:800]
    assert task
    assert "replicas: 3" in waiting
    turn("answer_task", task=task.group(), text="yes")
    assert agent.received() == ["ask", "blue", "change mine"], "a model's yes goes nowhere"
    Changes.of(Settings(home=home / "state")).grant(change.group(), "terminal of the test")
    assert "granted" in turn("answer_task", task=task.group())
    assert agent.received() == ["ask", "blue", "change mine", "yes"]
