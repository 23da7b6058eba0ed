"""Company names are read from any kind of file, and what is wrong with a row is said with its line."""

from __future__ import annotations

import codecs
import errno
import io
import json
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.agents.companies import rows as reading
from quarterdeck.agents.companies.lists import read_list
from quarterdeck.agents.companies.names import LONGEST
from quarterdeck.keel.errors import Refusal

NAMES = ["Acme & Sons, Inc.", 'The "Quoted" Company', "한빛전자", "株式会社テスト", "O'Hara", "-ism", "=SUM(A1)"]


def listed(path: Path, column: str = "") -> list[str]:
    with read_list(path, column) as names:
        found = list(names)
        assert names.count == len(found)
        return found


def book(path: Path, *sheets: Iterable[Iterable[object]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for rows in sheets:
        sheet = made.create_sheet()
        for row in rows:
            sheet.append(list(row))
    made.save(path)
    return path


def quoted(name: str, delimiter: str = ",") -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & {'"', delimiter} else name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp949"])
@pytest.mark.parametrize("suffix", [".csv", ".dat", ""])
def test_csv_is_read_in_every_encoding_and_under_every_name(encoding: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"list{suffix}"
    names = [name for name in NAMES if encoding != "cp949" or "株" not in name]
    lines = ["id,회사명,country", *(f"{n},{quoted(name)},KR" for n, name in enumerate(names))]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    assert listed(path) == names


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    rows = (delimiter.join(["1", quoted(name, delimiter), "x"]) for name in NAMES)
    path.write_text("\n".join([delimiter.join(["id", "Company Name", "note"]), *rows]), encoding="utf-8")
    assert listed(path) == NAMES


def test_the_same_names_come_from_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    (tmp_path / "a.tsv").write_text("n\tname\n" + "".join(f"1\t{quoted(one)}\n" for one in NAMES), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": 1, "company": one}) + "\n" for one in NAMES))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(one) + "\n" for one in NAMES))
    pq.write_table(pyarrow.table({"id": [1] * len(NAMES), "company_name": NAMES}), tmp_path / "a.parquet")
    made = openpyxl.Workbook()
    made.active.append(["id", "기업명"])
    for name in NAMES:
        made.active.append([1, name])
        made.active.cell(made.active.max_row, 2).data_type = "s"
    made.save(tmp_path / "a.xlsx")
    for path in sorted(tmp_path.iterdir()):
        assert listed(path) == NAMES, path.name


def test_blank_repeated_and_unreadable_rows_are_counted_and_shown_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    rows = ["company,country", "Acme,US", "  ,US", "ACME ,DE", "Acme, Inc.,US", '"Never closed,US', "Globex,US", "",
            f"{'x' * (LONGEST + 1)},US", "\u200b,US", "...,US", "Initech"]  # fmt: skip
    path.write_text("\n".join(rows), encoding="utf-8")
    with read_list(path) as names:
        assert list(names) == ["Acme", "Globex", "Initech"]
        assert (names.repeated, names.blank, names.unread) == (1, 2, 5)
        told = {one.line: one.why for one in names.broken}
        assert "put a name with ',' into quotes" in told[5]
        assert told[6] == "a quote opens and does not close"
        assert "301 characters" in told[9]
        assert (told[10], told[11]) == ("only invisible characters", "'...' is no company name")
        assert names.words() == (
            "3 companies in column 'company'; left out: 1 repeated, 2 blank, 5 that could not be read"
        )


def test_a_name_over_several_lines_in_quotes_is_one_name_and_lines_go_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('name,x\n"Two\nLines",1\nAcme\u202e,1\nBroken,1,2\n', encoding="utf-8")
    with read_list(path) as names:
        assert list(names) == ["Two Lines", "Acme"]
        assert [one.line for one in names.broken] == [5]


def test_a_quote_inside_a_name_needs_no_care(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('name,x\n27" Monitors,1\n"Big" Corp,2\nAcme,3\n', encoding="utf-8")
    assert listed(path) == ['27" Monitors', "Big Corp", "Acme"]


def test_a_plain_list_needs_no_header_and_one_column_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("Acme\nGlobex\n")
    assert listed(path) == ["Acme", "Globex"]
    path.write_text("company\nAcme\nGlobex\n")
    assert listed(path) == ["Acme", "Globex"]


def test_a_column_is_chosen_by_its_header_by_name_or_by_number(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("code,Customer,Name\nA1,Acme,Kim\nG1,Globex,Lee\n")
    assert listed(path) == ["Kim", "Lee"]
    assert listed(path, "customer") == ["Acme", "Globex"]
    assert listed(path, "2") == ["Customer", "Acme", "Globex"]
    path.write_text("code,Customer\nA1,Acme\n")
    with pytest.raises(Refusal, match="Name it with --column, or by its number: code, Customer"):
        read_list(path)
    with pytest.raises(Refusal, match=r"no column 'firm'\. There are: code, Customer"):
        read_list(path, "firm")


def test_formulas_of_a_workbook_count_as_their_values_and_the_right_sheet_is_found(tmp_path: Path) -> None:
    path = book(
        tmp_path / "list.xlsx", [["Read me"]], [[], ["no", "Company"], [1, "Acme"], [2, '="Glo"&"bex"'], [3, 1010]]
    )
    patched = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(patched, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("sheet2.xml"):  # as Excel stores it: the formula and what it came to
                data = data.replace(b'<c r="B4">', b'<c r="B4" t="str">').replace(b"<v></v>", b"<v>Globex</v>")
                data = data.replace(b"</f><v />", b"</f><v>Globex</v>").replace(b"</f><v/>", b"</f><v>Globex</v>")
            new.writestr(item, data)
    path.write_bytes(patched.getvalue())
    assert listed(path) == ["Acme", "Globex", "1010"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list.csv", b"", "is empty"),
        ("list.csv", b"company\n\n \n", "holds no company name"),
        ("list.xlsx", b"not a workbook", "is no xlsx file"),
        ("list.xlsx", b"PK\x03\x04 broken", "is a broken xlsx file"),
        ("list.parquet", b"PAR1 broken", "is a broken parquet file"),
        ("list.xls", b"\xd0\xcf\x11\xe0", "Save it as .xlsx"),
        ("list.csv.gz", b"\x1f\x8b\x08", "gunzip"),
        ("list.json", b'["Acme"]', "jq -c"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Refusal, match=told):
        read_list(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="There is no file"):
        read_list(tmp_path / "nothing.csv")
    with pytest.raises(Refusal, match="is a folder"):
        read_list(tmp_path)


def remade(path: Path, changes: Callable[[str, str], str]) -> Path:
    """The workbook with its parts rewritten."""
    made = path.with_name(f"hostile {path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, changes(name, old.read(name).decode()))
    return made


def test_a_row_that_gives_itself_a_huge_number_is_not_waited_for(tmp_path: Path) -> None:
    plain = book(tmp_path / "a.xlsx", [["Company"], ["Acme"], ["Globex"]])
    path = remade(plain, lambda _, text: text.replace('r="3"', 'r="99999999999"').replace("A3", "A99999999999"))
    command = [sys.executable, "-c", "import sys; from quarterdeck.agents.companies.lists import read_list as r\n"
               "print(list(r(sys.argv[1])))", str(path)]  # fmt: skip
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "['Acme']\n"


def test_what_a_workbook_makes_its_reader_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_HELD", 100_000)
    path = remade(
        book(tmp_path / "a.xlsx", [["Company"], ["Acme"]]),
        lambda name, text: text + " " * 200_000 if name == "xl/styles.xml" else text,
    )
    with pytest.raises(Refusal, match="unpacks to more than can be read"):
        read_list(path)


def test_a_sheet_that_is_broken_from_its_start_is_said(tmp_path: Path) -> None:
    path = remade(
        book(tmp_path / "a.xlsx", [["Company"], ["Acme"]]),
        lambda name, text: text[: len(text) // 3] if "sheet1" in name else text,
    )
    with pytest.raises(Refusal, match=r"broken|no company name"):
        read_list(path)


def test_a_parquet_file_without_columns_is_said(tmp_path: Path) -> None:
    pq.write_table(pyarrow.table({}), tmp_path / "none.parquet")
    with pytest.raises(Refusal, match="has no columns"):
        read_list(tmp_path / "none.parquet")


def test_a_full_disk_is_said_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.txt").write_text("Acme\n" * 3)

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(Refusal, match="No space left on device"):
        read_list(tmp_path / "list.txt")


def test_broken_json_lines_are_told_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"company": "Acme"}\n{oops\n{"firm": "x"}\n{"company": ["y"]}\n{"company": "Globex"}\n')
    with read_list(path) as names:
        assert list(names) == ["Acme", "Globex"]
        assert [(one.line, one.why) for one in names.broken] == [
            (2, "no JSON"), (3, "no 'company' in it"), (4, "a list where a name was expected"),
        ]  # fmt: skip


def test_letters_of_no_encoding_spoil_their_row_only(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes("name\n한빛\n".encode() + b"\xff\xfe\xfd\nAcme\n")
    with read_list(path) as names:
        assert list(names) == ["한빛", "Acme"]
        assert [one.line for one in names.broken] == [3]


def test_the_digest_is_that_of_the_names_not_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,Acme\n2,한빛\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(codecs.BOM_UTF8 + "Acme\nacme\n한빛\n".encode())
    (tmp_path / "c.txt").write_text("한빛\nAcme\n", encoding="utf-8")
    digests = []
    for path in sorted(tmp_path.iterdir()):
        with read_list(path) as names:
            digests.append(names.digest)
    assert digests[0] == digests[1] != digests[2]


def test_names_come_through_a_pipe(tmp_path: Path) -> None:
    program = "from quarterdeck.agents.companies.lists import read_list\nprint(list(read_list('-')))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        input="company\nAcme\nGlobex\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['Acme', 'Globex']\n"


def test_a_long_list_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with path.open("w") as file:
        file.write("id,company\n")
        file.writelines(f"{n},Company number {n} of many\n" for n in range(100_000))
    tracemalloc.start()
    try:
        with read_list(path) as names:
            assert sum(1 for _ in names) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20


@settings(max_examples=60, deadline=None)
@given(
    st.binary(min_size=1, max_size=400), st.sampled_from([".csv", ".tsv", ".txt", ".jsonl", ".xlsx", ".parquet", ""])
)
def test_no_bytes_make_the_reader_stumble(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"list{suffix}"
    path.write_bytes(data)
    try:
        with read_list(path) as names:
            assert all(name.strip() == name and "\n" not in name for name in names)
    except Refusal as refusal:
        assert str(refusal).endswith((".", "`"))
