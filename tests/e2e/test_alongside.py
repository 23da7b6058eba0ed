"""Worker processes beside `quarterdeck companies run`: they share the work, and nothing of them is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulated import Bureau, internet, right

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed: processes cannot be looked at"),
]
COUNT = 12


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with internet(search=0.3, extract=0.6, reflect=0.2, fault=0, broken=0) as address:
        yield address


@pytest.fixture
def temp() -> Iterator[Path]:
    """A folder for temporary files of its own, with a short name as sockets want it: others use the usual one now."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


def offspring(pid: int) -> dict[int, str]:
    """Every process that a process has started, and those started in turn: pid → what it runs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    found: dict[int, str] = {}
    known = {pid}
    while more := {int(row[0]): row[2] for row in rows if int(row[1]) in known and int(row[0]) not in found}:
        found |= more
        known |= set(more)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def until(look: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def extracted(bureau: Bureau) -> int:
    return int(bureau.figures()["asked"].get("extract", 0))


def begun(bureau: Bureau, process: subprocess.Popen[bytes], before: int) -> list[int]:
    """Wait until the model is at work; the pids of what runs beside the command."""
    until(lambda: process.poll() is not None or extracted(bureau) > before + 1, "it works")
    assert process.poll() is None, bureau.said()
    return list(offspring(process.pid))


def test_processes_beside_do_the_work_and_end_with_it(web: str, tmp_path: Path, temp: Path) -> None:
    bureau = Bureau(tmp_path, web, COUNT, processes=2, temp=temp)
    asked = extracted(bureau)
    process = bureau.start()
    beside = begun(bureau, process, asked)
    assert len(beside) >= 3, "two workers, and the one they are copies of"
    assert process.wait(90) == 0, bureau.said()
    assert all(right(row) for row in bureau.rows()), bureau.said()
    assert len(bureau.rows()) == COUNT
    until(lambda: not any(alive(pid) for pid in beside), "all of them end", 20)
    assert list(temp.iterdir()) == []


def test_a_worker_process_that_is_killed_is_started_anew_and_nothing_is_lost(web: str, tmp_path: Path) -> None:
    bureau = Bureau(tmp_path, web, COUNT, processes=1)
    asked = extracted(bureau)
    process = bureau.start()
    beside = begun(bureau, process, asked)
    (worker,) = [pid for pid in beside if any(pid in offspring(other) for other in beside)]
    os.kill(worker, signal.SIGKILL)
    assert process.wait(100) == 0, bureau.said()
    assert all(right(row) for row in bureau.rows()), bureau.said()
    assert len(bureau.rows()) == COUNT


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.weather)])
def test_however_the_command_ends_no_worker_outlives_it_and_the_same_command_goes_on(
    web: str, tmp_path: Path, temp: Path, how: signal.Signals
) -> None:
    bureau = Bureau(tmp_path, web, COUNT, processes=2, temp=temp)
    asked = extracted(bureau)
    process = bureau.start()
    beside = begun(bureau, process, asked)
    process.send_signal(how)
    process.wait(30)
    until(lambda: not any(alive(pid) for pid in beside), "all of them end", 20)
    assert list(temp.iterdir()) == []
    again = bureau.start()
    assert again.wait(90) == 0, bureau.said()
    assert "goes on" in bureau.said()
    assert all(right(row) for row in bureau.rows()), bureau.said()
    assert len(bureau.rows()) == COUNT
