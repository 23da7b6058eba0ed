"""Real clients, configured by our own installer, see the tools, call one, and hand the model our answer."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

# Of the suite's scenarios those that need no tools of its own reference server; server-stateless is left out, since two
# of its 25 checks call one.
ANY_SERVER = (
    "server-initialize",
    "server-session-lifecycle",
    "server-sse-multiple-streams",
    "ping",
    "tools-list",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
    "sep-2164-resource-not-found",
    "caching",
    "http-header-validation",
    "input-required-result-unsupported-methods",
    "input-required-result-ignore-extra-params",
)
SERVERS = ("stats", "kubectl", "logs")
CALLS = {
    "stats": {"get_system_stats": {}, "list_services": {}, "get_service_status": {"service_name": "auth"}},
    "kubectl": {"find_problems": {}, "list_pods": {}, "list_resources": {"kind": "deployments"}, "top_nodes": {}},
    "logs": {"tail_errors": {"service": "blog-service"}, "get_service_logs": {"service": "auth-service"}},
}


def scripted(tool: str, **arguments: Any) -> Any:
    place = Path(__file__).with_name("models.py")
    spec = importlib.util.spec_from_file_location("scripted_models", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(tool, arguments)


def install(client: str, home: Path, world: Any) -> None:
    for folder in (".gemini", ".config/opencode", ".codex"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), **world.environment()}
    environ["QUARTERDECK_HOME"] = str(home / "state")
    command = [sys.executable, "-m", "quarterdeck.deck.main", "install", client]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def merge(path: Path, more: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def claude(node: Any, home: Path, model: Any) -> str:
    """One headless turn with the servers that were installed; named on the command line, they are waited for."""
    servers = json.loads((home / ".claude.json").read_text())["mcpServers"]
    (home / "servers.json").write_text(json.dumps({"mcpServers": servers}))
    said = ""
    for _ in range(3):
        done = node.run(
            "claude", "-p", "go", "--output-format", "stream-json", "--verbose", "--strict-mcp-config", "--mcp-config",
            str(home / "servers.json"), "--allowedTools", "mcp__quarterdeck-kubectl", home=home, timeout=90,
            ANTHROPIC_BASE_URL=model.url, ANTHROPIC_API_KEY="any", ENABLE_TOOL_SEARCH="false",
            DISABLE_AUTOUPDATER="1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1", IS_SANDBOX="1",
        )  # fmt: skip
        said = done.stdout
        if model.result:
            break
    return said


def test_claude_code_calls_a_tool_and_reads_the_answer(node: Any, home: Path, world: Any) -> None:
    install("claude-code", home, world)
    with scripted("find_problems") as model:
        said = claude(node, home, model)
    assert "mcp__quarterdeck-kubectl__rollback_deployment" in model.offered, said[-800:]
    assert "nothing unhealthy found" in model.result, (model.result[:500], said[-800:])


def test_claude_code_is_told_that_a_change_waits_for_a_person(node: Any, home: Path, world: Any) -> None:
    install("claude-code", home, world)
    with scripted("restart_deployment", deployment="blog-service") as model:
        claude(node, home, model)
    assert "Nothing was changed" in model.result, model.result[:500]
    assert re.search(r"quarterdeck approve ch-\w{8}", model.result)


def test_gemini_cli_calls_a_tool_and_reads_the_answer(node: Any, home: Path, world: Any) -> None:
    install("gemini-cli", home, world)
    security = {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}}
    merge(home / ".gemini" / "settings.json", {"security": security})
    with scripted("find_problems") as model:
        done = node.run(
            "gemini", "-p", "go", "--approval-mode", "yolo", "--output-format", "stream-json", home=home, timeout=200,
            GOOGLE_GEMINI_BASE_URL=model.url, GEMINI_API_KEY="any",
        )  # fmt: skip
    assert any(name.endswith("rollback_deployment") for name in model.offered), (done.stdout + done.stderr)[-800:]
    assert "nothing unhealthy found" in model.result, (model.result[:500], (done.stdout + done.stderr)[-800:])


def test_opencode_calls_a_tool_and_reads_the_answer(node: Any, home: Path, world: Any) -> None:
    install("opencode", home, world)
    with scripted("find_problems") as model:
        options = {"baseURL": f"{model.url}/v1", "apiKey": "any"}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "scripted",
            "options": options,
            "models": {"m": {"name": "m"}},
        }
        merge(home / ".config/opencode/opencode.json", {"provider": {"scripted": provider}, "model": "scripted/m"})
        done = node.run("opencode", "run", "--format", "json", "--model", "scripted/m", "go", home=home, timeout=200)
    assert any(name.endswith("rollback_deployment") for name in model.offered), (done.stdout + done.stderr)[-800:]
    assert "nothing unhealthy found" in model.result, (model.result[:500], (done.stdout + done.stderr)[-800:])


def test_codex_calls_a_tool_and_reads_the_answer(node: Any, home: Path, world: Any) -> None:
    install("codex", home, world)
    path = home / ".codex" / "config.toml"
    with scripted("find_problems") as model:
        own = (
            'model = "m"\nmodel_provider = "scripted"\napproval_policy = "never"\n\n'
            f'[model_providers.scripted]\nname = "scripted"\nbase_url = "{model.url}/v1"\n'
            'wire_api = "responses"\nenv_key = "SCRIPTED_KEY"\n\n'
        )
        path.write_text(own + path.read_text().replace("startup_timeout_sec", "required = true\nstartup_timeout_sec"))
        done = node.run(
            "codex", "exec", "--skip-git-repo-check", "--json", "go", home=home, timeout=120, SCRIPTED_KEY="any"
        )
    assert any(name.endswith("rollback_deployment") for name in model.offered), (done.stdout + done.stderr)[-800:]
    assert "nothing unhealthy found" in model.result, (model.result[:500], (done.stdout + done.stderr)[-800:])


@pytest.mark.parametrize("server", SERVERS)
def test_inspector_finds_the_schemas_portable_and_calls_the_tools(
    node: Any, home: Path, world: Any, server: str
) -> None:
    environ = {**world.environment(), "QUARTERDECK_HOME": str(home / "state")}
    command = ["--cli", sys.executable, "-m", f"quarterdeck.{server}"]
    flags = [part for name, value in environ.items() for part in ("-e", f"{name}={value}")]
    listed = node.run("mcp-inspector", *command, *flags, "--method", "tools/list", home=home)
    tools = {tool["name"] for tool in json.loads(listed.stdout)["tools"]}
    assert set(CALLS[server]) <= tools
    for tool, arguments in CALLS[server].items():
        given = [part for name, value in arguments.items() for part in ("--tool-arg", f"{name}={value}")]
        called = node.run(
            "mcp-inspector", *command, *flags, "--method", "tools/call", "--tool-name", tool, *given, home=home
        )
        answer = json.loads(called.stdout)
        assert not answer.get("isError"), (tool, called.stdout[-500:])
        assert answer["structuredContent"]


def test_the_conformance_scenarios_for_any_server_pass(node: Any, home: Path, world: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), **world.environment()}
    command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "serve", *SERVERS, "--http", "--port", str(port)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            failed = {}
            for server, scenario in itertools.product(SERVERS, ANY_SERVER):
                url = f"http://127.0.0.1:{port}/{server}"
                done = node.run("conformance", "server", "--url", url, "--scenario", scenario, home=home)
                if done.returncode != 0:
                    failed[server, scenario] = (done.stdout + done.stderr)[-600:]
            assert not failed
        finally:
            process.terminate()
