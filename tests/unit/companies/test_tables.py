"""Results become tables that a spreadsheet, a program and a person can trust: whole or not there at all."""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.agents.companies.columns import columns_of
from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.tables import CELL_LETTERS, Unwritable, check, table

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["ceo"],
    "properties": {
        "ceo": {"type": "string"},
        "employees": {"type": ["integer", "null"]},
        "revenue": {"type": "object", "properties": {"amount": {"type": "number"}, "currency": {"type": "string"}}},
        "listed": {"type": "boolean"},
        "founders": {"type": "array", "items": {"$ref": "#/$defs/person"}},
        "products": {"type": "array", "items": {"type": "string"}},
        "anything": {},
        "cost": {"type": "string"},
    },
    "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}, "since": {"type": "integer"}}}},
}
DATA = {
    "ceo": "김하나",
    "employees": 1200,
    "revenue": {"amount": 1.5, "currency": "KRW"},
    "listed": True,
    "founders": [{"name": "이둘", "since": 1999}, {"name": "Ann"}],
    "products": ["a", "b, c"],
    "anything": {"x": [1]},
    "cost": "high",
}
HEADER = [
    *("company_name", "state", "ceo", "employees", "revenue.amount", "revenue.currency", "listed", "founders"),
    *("products", "anything", "data.cost", "completeness", "confidence", "sources", "problem", "cost"),
]


def result(n: int = 0, **more: Any) -> Result:
    sources = ["https://a.example/", "https://b.example/"]
    given: dict[str, Any] = {
        "company_name": "한빛전자", "state": "complete", "data": DATA, "completeness": 1.0, "confidence": 0.9,
        "sources": sources, "cost": 0.01,
    }  # fmt: skip
    return Result(n=n, **{**given, **more})


def write(path: Path, *results: Result, schema: dict[str, Any] = SCHEMA) -> Path:
    with table(path, schema) as rows:
        for one in results:
            rows.add(one)
    return path


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def read_xlsx(path: Path) -> list[list[Any]]:
    book = openpyxl.load_workbook(path)
    return [[cell.value for cell in row] for row in book.active.iter_rows()]


def test_columns_stand_in_the_order_of_the_schema_with_nested_ones_dotted(tmp_path: Path) -> None:
    assert [column.name for column in columns_of(SCHEMA)] == HEADER
    assert read_csv(write(tmp_path / "a.csv", result()))[0] == HEADER
    assert read_xlsx(write(tmp_path / "a.xlsx", result()))[0] == HEADER
    assert pq.read_schema(write(tmp_path / "a.parquet", result())).names == HEADER


def test_csv_holds_lists_as_json_and_opens_in_excel_with_korean(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", result())
    assert path.read_bytes().startswith(b"\xef\xbb\xbfcompany_name,")
    row = dict(zip(*read_csv(path), strict=True))
    assert row["company_name"] == "한빛전자"
    assert (row["employees"], row["revenue.amount"], row["listed"], row["data.cost"]) == ("1200", "1.5", "true", "high")
    assert json.loads(row["founders"]) == DATA["founders"]
    assert json.loads(row["sources"]) == ["https://a.example/", "https://b.example/"]
    assert row["cost"] == "0.01"


def test_parquet_holds_real_lists_and_kinds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", result(), result(1, company_name="Acme", state="failed", data={}, cost=None))
    first, second = pq.read_table(path).to_pylist()
    assert (first["employees"], first["revenue.amount"], first["listed"]) == (1200, 1.5, True)
    assert first["products"] == ["a", "b, c"]
    assert first["founders"] == [{"name": "이둘", "since": 1999}, {"name": "Ann", "since": None}]
    assert json.loads(first["anything"]) == {"x": [1]}
    assert (second["company_name"], second["ceo"], second["founders"], second["cost"]) == ("Acme", None, None, None)


def test_jsonl_holds_everything_nested(tmp_path: Path) -> None:
    fields = [
        {"path": "ceo", "value": "김하나", "source": "https://a.example/", "passage": "CEO 김하나", "confidence": 0.9}
    ]
    (line,) = write(tmp_path / "a.jsonl", result(fields=fields)).read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    assert (record["data"], record["fields"], record["company_name"]) == (DATA, fields, "한빛전자")


@pytest.mark.parametrize("begin", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")'])
def test_no_text_becomes_a_formula(begin: str, tmp_path: Path) -> None:
    one = result(company_name=begin, data={"ceo": begin}, problem=begin)
    row = dict(zip(*read_csv(write(tmp_path / "a.csv", one)), strict=True))
    assert [row[name] for name in ("company_name", "ceo", "problem")] == [f"'{begin}"] * 3
    cells = next(openpyxl.load_workbook(write(tmp_path / "a.xlsx", one)).active.iter_rows(min_row=2))
    assert {cells[0].data_type, cells[2].data_type} == {"s"}
    assert cells[0].quotePrefix
    assert cells[0].value.strip() == begin.strip()
    assert pq.read_table(write(tmp_path / "a.parquet", one)).to_pylist()[0]["ceo"] == begin


def test_headers_of_a_hostile_schema_are_harmless_too(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"=cmd()": {"type": "string"}}}
    assert read_csv(write(tmp_path / "a.csv", schema=schema))[0][2] == "'=cmd()"
    cell = openpyxl.load_workbook(write(tmp_path / "a.xlsx", schema=schema)).active.cell(1, 3)
    assert (cell.data_type, cell.value) == ("s", "=cmd()")


def test_a_number_below_zero_stays_a_number(tmp_path: Path) -> None:
    one = result(data={"employees": -5, "revenue": {"amount": -1.5}})
    assert read_csv(write(tmp_path / "a.csv", one))[1][3:5] == ["-5", "-1.5"]
    assert read_xlsx(write(tmp_path / "a.xlsx", one))[1][3:5] == [-5, -1.5]


def test_what_fits_no_column_is_told_and_not_lost(tmp_path: Path) -> None:
    data = {"ceo": "Ann", "employees": "about 50", "revenue": {"amount": 1, "year": 2020}, "extra": [1]}
    for name in ("a.csv", "a.xlsx"):
        path = write(tmp_path / name, result(data=data))
        row = dict(zip(*(read_csv(path) if name == "a.csv" else read_xlsx(path)), strict=True))
        assert row["ceo"] == "Ann"
        told = json.loads(row["problem"].removeprefix("No column holds: "))
        assert told == {"employees": "about 50", "revenue": {"year": 2020}, "extra": [1]}
        assert not row["employees"]
    assert data["revenue"] == {"amount": 1, "year": 2020}, "the result itself is left as it was"


def test_a_cell_that_is_too_long_for_a_sheet_is_cut_and_says_so(tmp_path: Path) -> None:
    long = "긴😀" * 20_000
    value = read_xlsx(write(tmp_path / "a.xlsx", result(data={"ceo": long})))[1][2]
    assert len(value.encode("utf-16-le")) // 2 <= CELL_LETTERS
    assert value.endswith("(cut: 40,000 characters; jsonl, csv and parquet hold them all)")
    assert read_csv(write(tmp_path / "a.csv", result(data={"ceo": long})))[1][2] == long


def test_a_sheet_that_is_full_goes_on_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterdeck.agents.companies.tables.SHEET_ROWS", 11)
    path = write(tmp_path / "a.xlsx", *(result(n, company_name=f"c{n}") for n in range(25)))
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["results", "results 2", "results 3"]
    rows = [[row[0] for row in sheet.iter_rows(values_only=True)] for sheet in book]
    assert [one[0] for one in rows] == ["company_name"] * 3
    assert [name for one in rows for name in one[1:]] == [f"c{n}" for n in range(25)]


@pytest.mark.parametrize("schema", [
    {"type": "object"}, {}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(600)}},
    {"properties": {"a": True, "b": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".jsonl"])
def test_any_schema_gives_a_table(schema: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    assert len(columns_of(schema)) < 600
    assert write(tmp_path / f"a{suffix}", result(data={"a": {"a": {"a": 1}}, "b": 1}), schema=schema).stat().st_size


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".jsonl"])
def test_what_breaks_off_leaves_the_older_table_and_nothing_else(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", result())
    before = path.read_bytes()
    with pytest.raises(RuntimeError), table(path, SCHEMA) as rows:
        rows.add(result())
        raise RuntimeError("the store went away")
    assert path.read_bytes() == before
    assert left(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".jsonl"])
def test_a_full_disk_is_said_and_leaves_the_older_table(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", result())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        with pytest.raises(Unwritable, match="there is no room for it"), table(path, SCHEMA) as rows:
            for n in range(20_000):
                rows.add(result(n, company_name=f"company {n * 7919 % 100_003}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert left(tmp_path) == [path.name]


def test_a_target_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "open.xlsx").touch()
    (tmp_path / ".~lock.open.xlsx#").touch()
    for path, told in (
        (tmp_path / "results.doc", "should end in .csv"),
        (tmp_path / "nowhere" / "a.csv", "there is no folder"),
        (tmp_path / "file" / "a.csv", "there is no folder"),
        (tmp_path / "open.xlsx", "is open in an office program"),
        (Path("/proc/results.csv"), "Name another|another"),
    ):
        with pytest.raises(Unwritable, match=told):
            check(path)
    assert left(tmp_path) == [".~lock.open.xlsx#", "file", "open.xlsx"]


def test_a_table_keeps_its_permissions_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = write(tmp_path / "real.csv", result())
    real.chmod(0o640)
    (tmp_path / "link.csv").symlink_to(real)
    write(tmp_path / "link.csv", result(), result(1))
    assert (tmp_path / "link.csv").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert len(read_csv(real)) == 3


MANY = """
import resource, sys
from pathlib import Path
from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.tables import table
text = {"type": "string"}
schema = {"type": "object", "properties": {"ceo": text, "tags": {"type": "array", "items": text}}}
def write(count):
    with table(Path(sys.argv[1]), schema) as rows:
        for n in range(count):
            rows.add(Result(n=n, company_name=f"c{n}", state="complete", data={"ceo": f"p{n}", "tags": ["a", str(n)]}))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
first = write(6_000)
print(write(24_000) - first)
"""


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".xlsx"])
def test_memory_does_not_grow_with_the_rows(suffix: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", MANY, str(tmp_path / f"a{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 12, "megabytes for four times as many rows"


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(datas=st.lists(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "other"]), values), max_size=3))
@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".jsonl"])
def test_any_data_can_be_written(
    suffix: str, datas: Iterable[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    results = [result(n, data=data) for n, data in enumerate(datas)]
    write(path, *results)
    if suffix == ".parquet":
        assert pq.read_table(path).num_rows == len(results)
