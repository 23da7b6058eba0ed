"""`quarterdeck world`, `break` and `clear` from several terminals, and what is left when somebody stops a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

QUARTERDECK = str(Path(sys.executable).parent / "quarterdeck")
NOTE = Path(".local/state/quarterdeck/practice-world")


def environ(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "VIRTUAL_ENV")}
    (home / "tmp").mkdir(exist_ok=True)
    return {**kept, "HOME": str(home), "TMPDIR": str(home / "tmp")}


class Running:
    """A process of ours that has said `ready`."""

    def __init__(self, home: Path, ready: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [QUARTERDECK, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ(home),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if ready in line:
                return
        pytest.fail(f"{arguments} never said {ready!r}: {self.said}")

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        try:
            rest, _ = self.process.communicate(timeout=40)
            self.said += rest
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode


def quarterdeck(home: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [QUARTERDECK, *arguments], env=environ(home), capture_output=True, text=True, timeout=25, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def world(home: Path) -> Iterator[Running]:
    running = Running(home, "Ctrl-C stops", "world", "--free-ports", "--speed", "20")
    yield running
    assert running.stop() == 143
    assert not (home / NOTE).exists()
    assert list((home / "tmp").iterdir()) == []


def test_a_second_world_is_refused_with_what_to_do(home: Path, world: Running) -> None:
    code, said = quarterdeck(home, "world")
    assert code == 1
    assert said.startswith(f"A practice world runs already ({(home / NOTE).read_text()})")
    assert "`quarterdeck world faults`" in said
    assert "--free-ports" in said


def test_a_second_world_on_free_ports_leaves_the_note_to_the_first(home: Path, world: Running) -> None:
    first = (home / NOTE).read_text()
    second = Running(home, "Ctrl-C stops", "world", "--free-ports", "--speed", "20")
    told = (home / NOTE).read_text()
    code = second.stop()
    assert code == 143, second.said
    assert told != first
    assert (home / NOTE).read_text() == first
    assert quarterdeck(home, "world", "faults")[0] == 0


def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", 7100))
        except OSError:
            pass  # somebody has it already: just as well
        else:
            other.listen()
        code, said = quarterdeck(tmp_path, "world")
    assert code == 1
    assert "port 7100" in said
    assert "--free-ports" in said


def test_breaking_says_what_to_do_next_and_a_slip_what_was_meant(home: Path, world: Running) -> None:
    code, said = quarterdeck(home, "world", "break")
    assert (code, "quarterdeck world faults" in said) == (2, True)
    code, said = quarterdeck(home, "world", "break", "blog-loked")
    assert (code, said) == (
        2,
        "There is no fault 'blog-loked'. Did you mean 'blog-locked'? `quarterdeck world faults` lists them.\n",
    )
    code, said = quarterdeck(home, "world", "break", "surge")
    assert code == 0
    assert "active: surge" in said
    assert "Ask your AI client" in said
    assert "quarterdeck world clear" in said
    assert quarterdeck(home, "world", "clear") == (0, "active: nothing is broken\n")


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "1e9"])
def test_a_speed_that_no_world_has_is_refused_at_once(speed: str, tmp_path: Path) -> None:
    code, said = quarterdeck(tmp_path, "world", "--free-ports", "--speed", speed)
    assert (code, said) == (2, "--speed takes a number from 0.1 to 100; 1 is life.\n")


def test_without_a_world_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    code, said = quarterdeck(tmp_path, "world", "break", "surge")
    assert (code, "`quarterdeck world`" in said) == (1, True)


def test_what_can_break_is_listed_without_a_world(tmp_path: Path) -> None:
    code, said = quarterdeck(tmp_path, "world", "faults")
    assert code == 0
    assert "\nblog-locked " in f"\n{said}"
    assert "No practice world is running" in said


@pytest.mark.parametrize(
    ("ready", "arguments"),
    [
        ("Starting a practice system", ["demo", "--yes"]),
        ("Something breaks", ["demo", "--yes"]),
        ("startup complete", ["serve", "stats", "--http", "--port", "0"]),
    ],
    ids=["demo while it starts", "demo", "serve"],
)
def test_a_process_told_to_stop_leaves_nothing_behind(ready: str, arguments: list[str], tmp_path: Path) -> None:
    running = Running(tmp_path, ready, *arguments)
    assert running.stop() == 143
    assert "Traceback" not in running.said
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_note_of_a_world_that_has_gone_is_no_world(tmp_path: Path) -> None:
    note = tmp_path / NOTE
    note.parent.mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), SomebodyElse) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        note.write_text(f"http://127.0.0.1:{other.server_port}")
        code, said = quarterdeck(tmp_path, "world", "clear")
        other.shutdown()
    assert (code, "No practice world is running" in said) == (1, True)


class SomebodyElse(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass
