"""A thousand companies in a simulated internet: how long, how many right, what it takes. By the very command, from its
start to the written table; and by agents that run already, from the request to the last result.

pytest -m bench -s tests/bench/bench_thousand.py
QUARTERDECK_TEST_COMPANIES=100 …   another number

Declared, not measured: a search takes 0.8 s, an extraction 1.2 s, a reflection 0.6 s; 5 % of the calls answer 429 or
500 or hang; 0.3 % of the companies cannot be found at all; 40 % need a second round. The model works on 25 extractions
at once, as the fleet of the design does, so the time of all extractions / 25 is the bound that nothing can pass.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import simulated_web
from simulated import Bureau, internet, right

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
COUNT = int(os.environ.get("QUARTERDECK_TEST_COMPANIES", "1000"))
EXTRACTIONS_AT_ONCE = 25


def test_a_thousand_companies_by_the_command(tmp_path: Path) -> None:
    with internet() as web:
        bureau = Bureau(tmp_path, web, COUNT)
        began = time.monotonic()
        process = bureau.start()
        cpu_s = largest = 0.0
        while process.poll() is None:
            cpu_s, largest = _used(process.pid, cpu_s, largest)
            time.sleep(0.2)
        took = time.monotonic() - began
        figures = bureau.figures()
    _tell("by the command", took, figures, bureau.rows(), cpu_s, largest)


def test_a_thousand_companies_by_agents_that_run_already(tmp_path: Path) -> None:
    with internet() as web, socket.socket() as place:
        bureau = Bureau(tmp_path, web, COUNT, processes=2)
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        place.close()
        process = bureau.start([sys.executable, "-P", "-m", "quarterdeck.deck.main", "agents", "--port", str(port)])
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
                _until_up(http)
                cpu_at_first, _ = _used(process.pid, 0.0, 0.0)
                began = time.monotonic()
                wanted = {"companies": simulated_web.names(COUNT), "extraction_schema": simulated_web.SCHEMA}
                assert http.post("/research/batch", json={**wanted, "id": "all"}).status_code == 202
                while http.get("/jobs/all").json()["state"] != "completed":
                    time.sleep(0.2)
                took = time.monotonic() - began
                cpu_s, largest = _used(process.pid, 0.0, 0.0)
                lines = http.get("/jobs/all/results", params={"stream": 1}).text.splitlines()
            figures = bureau.figures()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    _tell(
        "by agents that run already", took, figures, [json.loads(one) for one in lines], cpu_s - cpu_at_first, largest
    )


def _until_up(http: httpx.Client) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            if http.get("/healthz").text.startswith("ok"):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the agents do not answer")


def _tell(how: str, took: float, figures: Any, rows: list[dict[str, Any]], cpu_s: float, largest: float) -> None:
    good = [row for row in rows if row["state"] == "complete"]
    wrong = [row["company_name"] for row in good if not right(row)]
    bound = figures["worked_s"]["extract"] / EXTRACTIONS_AT_ONCE
    print(f"\n{COUNT:,} companies {how} in {took:.1f} s; bound {bound:.1f} s, so {took / bound:.2f} ×")
    print(f"{len(good)} good, {len(wrong)} of them wrong, {len(rows) - len(good)} told as failed or incomplete")
    print(f"coordinator: {cpu_s:.1f} s of processor time, {cpu_s / took:.0%} of one core; at most {largest:.0f} MiB")
    print(f"asked {figures['asked']}, faults {figures['faults']}")
    assert len({row["company_name"] for row in rows}) == len(rows) == COUNT, "each once"
    assert not wrong
    assert len(good) >= 0.997 * COUNT - 1


def _used(pid: int, cpu_s: float, largest: float) -> tuple[float, float]:
    """Processor time and largest resident size of a process so far; what was known before, when it has just ended."""
    try:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        high = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return cpu_s, largest
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK"), high / 1024
