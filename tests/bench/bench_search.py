"""How fast `search_logs` goes through 1 GB of logs, against `grep -E` on the same file, and that its memory stays flat.

Both count matching lines; grep is run in the C locale and in UTF-8, and the faster of the two is what we are held to.
Where a pattern matches more than 100,000 lines the tool stops counting and says so; the time of counting on to the
end is printed beside it.

    pytest -m bench tests/bench/bench_search.py -s
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.keel.settings import LogsSettings, Settings
from quarterdeck.logs.search import Pattern, Stop, scan
from quarterdeck.logs.server import create_server

SIZE = int(os.environ.get("QUARTERDECK_BENCH_BYTES", 1_000_000_000))
ROUNDS = 3
WANTED = 1 / 3
FLAT = 64 << 20
PATTERNS = {  # ours → grep's
    "database is locked": "database is locked",
    "Timeout|database is locked|refused": "Timeout|database is locked|refused",
    r"status=5\d\d|Traceback": "status=5[0-9][0-9]|Traceback",
    "(?i)timeout": "timeout",
    "ERROR .*(locked|attempt=4)$": "ERROR .*(locked|attempt=4)$",
    r"\d+ms": "[0-9]+ms",
}

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("bench") / "app.log"
    write_log(path, SIZE)
    yield path
    path.unlink()


def write_log(path: Path, size: int) -> None:
    """Lines of a web service, each with its own time; one in 50,000 tells of a locked database."""
    dice = random.Random(7)
    bodies = ["ERROR blog.db sqlite3.OperationalError: database is locked", *(body(dice) for _ in range(50_000))]
    start, written, number = datetime.now(UTC) - timedelta(days=1), 0, 0
    with path.open("wb", buffering=1 << 20) as file:
        while written < size:
            second = (start + timedelta(milliseconds=9 * number)).isoformat(timespec="seconds")[:19]
            block = "".join([f"{second}.{i:03d}Z {dice.choice(bodies)}\n" for i in range(0, 999, 9)])
            written += file.write(block.encode())
            number += 111


def body(dice: random.Random) -> str:
    level = dice.choices(["INFO", "WARNING", "ERROR"], [90, 7, 3])[0]
    kind = dice.random()
    if kind < 0.6:
        return (
            f'{level} uvicorn.access 10.1.{dice.randrange(256)}.{dice.randrange(256)}:{dice.randrange(65536)} - "GET'
            f' /api/v1/posts/{dice.randrange(500)} HTTP/1.1" 200 {dice.randrange(900)}ms'
            f" req={dice.getrandbits(64):016x}"
        )
    if kind < 0.9:
        return (
            f"{level} blog.db query finished rows={dice.randrange(100)} took={dice.randrange(300)} pool=primary"
            f" user_id={dice.randrange(100_000)} session={dice.getrandbits(64):016x}"
        )
    if kind < 0.9994:
        return f"{level} cache miss for key post:{dice.randrange(100_000)} falling back to replica-{dice.randrange(4)}"
    return f"ERROR blog.db upstream Timeout after 3000 while calling user-service attempt={dice.randrange(5)}"


def fastest(work: Callable[[], Any]) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(ROUNDS):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return min(times), result


def grep(pattern: str, path: Path, locale: str, ignore_case: bool) -> int:
    command = ["grep", "-cE", *(["-i"] if ignore_case else []), "--", pattern, str(path)]
    done = subprocess.run(command, env={**os.environ, "LC_ALL": locale}, capture_output=True, text=True, check=False)
    return int(done.stdout)


def memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) << 10


def test_searching_a_gigabyte_keeps_up_with_grep_and_memory_stays_flat(log: Path) -> None:
    settings = Settings(logs=LogsSettings(source="files", files={"app": str(log)}, timeout_s=120))
    size = log.stat().st_size
    failures = []
    with asyncio.Runner() as runner:
        client = Client(create_server(settings))
        runner.run(client.__aenter__())

        def tool(pattern: str, **more: Any) -> dict[str, Any]:
            arguments = {"service": "app", "pattern": pattern, "since": "2d", **more}
            result: dict[str, Any] = runner.run(client.call_tool("search_logs", arguments)).structured_content
            return result

        tool("warm up", since="1m")
        before = memory("VmRSS")
        print(f"\n{size / 1e9:.2f} GB; MB/s\n{'pattern':38} {'lines':>9} {'tool':>6} {'grep C':>7} {'UTF-8':>6}  ratio")
        for pattern, theirs in PATTERNS.items():
            insensitive = pattern.startswith("(?i)")
            greps = [fastest(lambda: grep(theirs, log, locale, insensitive)) for locale in ("C", "C.utf8")]  # noqa: B023
            ours, answer = fastest(lambda: tool(pattern))  # noqa: B023
            assert answer["matches"] == greps[0][1] if answer["exact"] else answer["matches"] > 100_000
            ratio = min(seconds for seconds, _ in greps) / ours
            speeds = [size / seconds / 1e6 for seconds in (ours, *(seconds for seconds, _ in greps))]
            print(
                f"{pattern:38} {greps[0][1]:9,} {speeds[0]:6.0f} {speeds[1]:7.0f} {speeds[2]:6.0f} {ratio:6.2f}", end=""
            )
            if not answer["exact"]:
                counted, all_of_it = fastest(lambda: count_all(log, pattern))  # noqa: B023
                assert all_of_it == greps[0][1]
                print(
                    f"   counting on: {size / counted / 1e6:.0f} MB/s, {min(s for s, _ in greps) / counted:.2f}", end=""
                )
            print()
            if ratio < WANTED:
                failures.append(f"{pattern}: {ratio:.2f}")
        middle = datetime.now(UTC) - timedelta(days=1) + timedelta(milliseconds=9 * size / 125 / 2)
        window = {"since": middle.isoformat(), "until": (middle + timedelta(minutes=1)).isoformat()}
        seconds, answer = fastest(lambda: tool(r"\d+ms", **window))
        print(f"one minute in its middle: {answer['matches']:,} of its lines counted in {seconds * 1e3:.0f} ms")
        grown, peak = memory("VmRSS") - before, memory("VmHWM") - before
        print(f"memory: {before >> 20} MB before, {grown >> 20:+d} MB after, {peak >> 20:+d} MB at its peak")
        runner.run(client.__aexit__(None, None, None))
    assert not failures, f"below a third of grep's speed: {failures}"
    assert peak < FLAT


def count_all(log: Path, pattern: str) -> int:
    fd = os.open(log, os.O_RDONLY)
    try:
        return scan(fd, 0, log.stat().st_size, Pattern(pattern), 20, Stop(600), most=None).matches
    finally:
        os.close(fd)
