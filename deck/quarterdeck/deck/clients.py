"""Where each AI client keeps its MCP servers, and how it writes one down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
"""One server as it stands in a client's file."""
Where = Callable[[str, Mapping[str, str], Path], Path]
"""(platform as in sys.platform, environment, home folder) → the client's file."""


@dataclass(frozen=True)
class AiClient:
    name: str
    title: str
    file: Where
    key: str
    """The table of servers in that file."""
    entry: Callable[[str, list[str], dict[str, str]], Entry]
    project: str = ""
    """Its file inside a project, where it has one."""
    toml: bool = False
    makes_own_folder: bool = False
    """The file lies in a folder that is there anyway, so a missing folder proves nothing."""
    after: str = "Restart it."

    @property
    def gone(self) -> str:
        """What to do once the servers are taken out."""
        return self.after if "servers" not in self.after else f"{self.after.partition(';')[0]}."


def _plain(command: str, arguments: list[str], env: dict[str, str]) -> Entry:
    return {"command": command, "args": arguments, **({"env": env} if env else {})}


def _typed(command: str, arguments: list[str], env: dict[str, str]) -> Entry:
    return {"type": "stdio", **_plain(command, arguments, env)}


def _codex(command: str, arguments: list[str], env: dict[str, str]) -> Entry:
    # Codex gives a server ten seconds to start and a call a minute; a change is watched a little longer than that.
    return {**_plain(command, arguments, env), "startup_timeout_sec": 30, "tool_timeout_sec": 300}


def _opencode(command: str, arguments: list[str], env: dict[str, str]) -> Entry:
    entry: Entry = {"type": "local", "command": [command, *arguments], "enabled": True}
    return {**entry, **({"environment": env} if env else {})}


def _application(folder: str, *rest: str) -> Where:
    """Where desktop programs keep their settings on each system."""

    def find(platform: str, environ: Mapping[str, str], home: Path) -> Path:
        if platform == "darwin":
            base = home / "Library" / "Application Support"
        elif platform == "win32":
            base = Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
        else:
            base = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        return base.joinpath(folder, *rest)

    return find


def _at_home(*parts: str, variable: str = "") -> Where:
    def find(platform: str, environ: Mapping[str, str], home: Path) -> Path:
        if variable and environ.get(variable):
            return Path(environ[variable]).expanduser() / parts[-1]
        return home.joinpath(*parts)

    return find


def _opencode_file(platform: str, environ: Mapping[str, str], home: Path) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "opencode" / "opencode.json"


_ALL = (
    AiClient(
        "claude-desktop",
        "Claude Desktop",
        _application("Claude", "claude_desktop_config.json"),
        "mcpServers",
        _plain,
        after="Quit it fully and start it again.",
    ),
    AiClient(
        "claude-code",
        "Claude Code",
        _at_home(".claude.json", variable="CLAUDE_CONFIG_DIR"),
        "mcpServers",
        _typed,
        project=".mcp.json",
        makes_own_folder=True,
        after="Start a new session; `/mcp` shows the servers.",
    ),
    AiClient("cursor", "Cursor", _at_home(".cursor", "mcp.json"), "mcpServers", _plain, project=".cursor/mcp.json"),
    AiClient(
        "gemini-cli",
        "Gemini CLI",
        _at_home(".gemini", "settings.json"),
        "mcpServers",
        _plain,
        project=".gemini/settings.json",
        after="Start a new session; `/mcp` shows the servers.",
    ),
    AiClient(
        "vscode",
        "VS Code",
        _application("Code", "User", "mcp.json"),
        "servers",
        _typed,
        project=".vscode/mcp.json",
        after="Open the file there and click Start, or reload the window.",
    ),
    AiClient(
        "codex",
        "Codex",
        _at_home(".codex", "config.toml", variable="CODEX_HOME"),
        "mcp_servers",
        _codex,
        toml=True,
        after="Start a new session; `codex mcp list` shows the servers.",
    ),
    AiClient("opencode", "opencode", _opencode_file, "mcp", _opencode, after="Start a new session."),
    AiClient("windsurf", "Windsurf", _at_home(".codeium", "windsurf", "mcp_config.json"), "mcpServers", _plain),
)
CLIENTS = {client.name: client for client in _ALL}
