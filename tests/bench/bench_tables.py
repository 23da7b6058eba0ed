"""A million companies: how long their list takes to read and their results to write, and in how much memory.

pytest -m bench -s tests/bench/bench_tables.py     (QUARTERDECK_TEST_ROWS=1000000 for the whole of it)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
ROWS = int(os.environ.get("QUARTERDECK_TEST_ROWS", "100000"))

WORK = """
import resource, sys, time
from pathlib import Path
what, path, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
from quarterdeck.agents.companies.lists import read_list
from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.tables import table
text, whole = {"type": "string"}, {"type": "integer"}
fields = {"ceo": text, "employees": whole, "products": {"type": "array", "items": text}, "city": text}
schema = {"type": "object", "properties": fields}
if path.suffix in (".xlsx", ".parquet"):
    import openpyxl, pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
if what == "read":
    with read_list(path, "company_name") as companies:
        assert companies.count == rows, companies.count
else:
    with table(path, schema) as out:
        for n in range(rows):
            data = {"ceo": f"Person {n}", "employees": n, "products": ["one", f"p{n}"], "city": "수원"}
            out.add(Result(n, f"Company {n}", "complete", data, 0.9, 1.0, sources=[f"https://x.example/{n}"]))
took = time.perf_counter() - began
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(f"{what:<5} {path.suffix:<8} {rows:>9,} rows  {took:6.1f} s  {rows / took:>9,.0f}/s  +{grown:5.0f} MB")
"""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_a_long_list_is_written_and_read(suffix: str, tmp_path: Path) -> None:
    for what in ("write", "read"):
        command = [sys.executable, "-P", "-c", WORK, what, str(tmp_path / f"many{suffix}"), str(ROWS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        print(done.stdout, end="")
