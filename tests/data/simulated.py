"""A simulated internet in a process of its own, and `quarterdeck companies run` in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import simulated_web


@contextmanager
def internet(**options: float | Path) -> Iterator[str]:
    """Its address. Options are those of simulated_web.py."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-P", simulated_web.__file__, *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@dataclass
class Bureau:
    """A home with a list of companies, from which `quarterdeck companies run` is started."""

    home: Path
    web: str
    count: int
    processes: int = 0
    temp: Path | None = None

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "names.txt").write_text("\n".join(simulated_web.names(self.count)) + "\n")
        (self.home / "schema.json").write_text(json.dumps(simulated_web.SCHEMA))
        (self.home / "quarterdeck.toml").write_text(
            f'[research]\norder = ["tavily"]\ntavily_url = "{self.web}"\ntavily_key = "tvly-simulated"\n'
            'limits = {tavily = "100000/min"}\n'
            f'[model]\napi_key = "sk-simulated"\nbase_url = "{self.web}"\n'
            f"[companies]\nprocesses = {self.processes}\n"
        )

    @property
    def command(self) -> list[str]:
        where = {"names": self.home / "names.txt", "schema": self.home / "schema.json", "out": self.home / "out.jsonl"}
        return [
            sys.executable, "-P", "-m", "quarterdeck.deck.main", "companies", "run", str(where["names"]),
            "--schema", str(where["schema"]), "--out", str(where["out"]), "--provider", "tavily", "--yes",
        ]  # fmt: skip

    def start(self, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        """The command; or another one, with the same settings."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "QUARTERDECK_HOME": str(self.home / "state"),
            "QUARTERDECK_CONFIG": str(self.home / "quarterdeck.toml"),
            **({"TMPDIR": str(self.temp)} if self.temp else {}),
        }
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(
                command or self.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "out.jsonl").read_text().splitlines()]

    def said(self) -> str:
        return (self.home / "log").read_text()

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.web}/figures", timeout=30).json()
        return found


def right(row: dict[str, Any]) -> bool:
    """Whether a row tells the truth about its company."""
    so = simulated_web.truth(row["company_name"])
    return all(row["data"].get(name) == so[name] for name in simulated_web.SCHEMA["required"])
