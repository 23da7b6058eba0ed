"""A thousand companies in a simulated internet, by the very command: how long, how many right, what it takes.

pytest -m bench -s tests/bench/bench_thousand.py
QUARTERDECK_TEST_COMPANIES=100 …   another number

Declared, not measured: a search takes 0.8 s, an extraction 1.2 s, a reflection 0.6 s; 5 % of the calls answer 429 or
500 or hang; 0.3 % of the companies cannot be found at all; 40 % need a second round. The model works on 25 extractions
at once, as the fleet of the design does, so the time of all extractions / 25 is the bound that nothing can pass.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from simulated import Bureau, internet, right

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
COUNT = int(os.environ.get("QUARTERDECK_TEST_COMPANIES", "1000"))
EXTRACTIONS_AT_ONCE = 25


def test_a_thousand_companies(tmp_path: Path) -> None:
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
    rows = bureau.rows()
    good = [row for row in rows if row["state"] == "complete"]
    wrong = [row["company_name"] for row in good if not right(row)]
    bound = figures["worked_s"]["extract"] / EXTRACTIONS_AT_ONCE
    print(f"\n{COUNT:,} companies in {took:.1f} s; bound {bound:.1f} s, so {took / bound:.2f} ×")
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
