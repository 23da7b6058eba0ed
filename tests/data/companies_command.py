"""`quarterdeck companies` run as a person runs it, over a search engine of our own: for tests of the command."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMMAND = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "companies"]
ROOT = Path(__file__).parents[2]
EXAMPLE = ("--schema", "examples/companies/schema.json", "--corpus", "examples/companies/pages")
SCHEMA = {
    "type": "object",
    "required": ["ceo"],
    "properties": {"ceo": {"type": "string"}, "founded": {"type": "integer"}},
}


class Searx:
    """A SearXNG on loopback that knows every company whose name begins with "Known", after a while."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.down = False
        self.asked: Counter[str] = Counter()
        outer = self

        class Face(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query).get("q", [""])[0]
                outer.asked[query] += 1
                time.sleep(outer.delay_s)
                found = re.search(r"Known (\d+)", query)
                known = {
                    "url": f"https://known.example/{found[1]}",
                    "title": f"Known {found[1]}",
                    "content": f"Known {found[1]}\n\nCEO: Ann Lee\n\nFounded: 1999",
                } if found else None  # fmt: skip
                body = json.dumps({"results": [known] if known else []}).encode()
                self.send_response(403 if outer.down else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):  # who asked was killed
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Face)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def searching(environment: dict[str, str], searx: Searx) -> dict[str, str]:
    return environment | {
        "QUARTERDECK_RESEARCH_PROVIDER": "searxng",
        "QUARTERDECK_RESEARCH_ORDER": "searxng",
        "QUARTERDECK_RESEARCH_SEARXNG_URL": searx.url,
        "QUARTERDECK_RESEARCH_LIMITS": "searxng=1000/s",
    }


def run(environment: dict[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
        input=stdin,
    )  # fmt: skip


def start(environment: dict[str, str], *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **more
    )


def companies(tmp_path: Path, *names: str) -> list[str]:
    """The arguments for a list of these companies."""
    (tmp_path / "list.csv").write_text("company\n" + "\n".join(names) + "\n", encoding="utf-8")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return ["run", str(tmp_path / "list.csv"), "--schema", str(tmp_path / "schema.json"), "--iterations", "1",
            "--queries", "1", "--out", str(tmp_path / "results.csv")]  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def status(environment: dict[str, str]) -> dict[str, Any]:
    said = run(environment, "status", "--json")
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def until_done(environment: dict[str, str], least: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        said = run(environment, "status", "--json")
        if said.returncode == 0 and json.loads(said.stdout)["done"] >= least:
            return
    raise AssertionError(f"not {least} companies were done in a minute")
