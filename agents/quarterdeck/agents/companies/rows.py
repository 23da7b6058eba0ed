"""The rows of a file that may be csv, tsv, xlsx, jsonl, parquet or plain text: of each its line and its name."""

from __future__ import annotations

import codecs
import csv
import json
import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal

Row = tuple[int, str, str]
"""Line, name, and why there is none."""

HEADERS = (
    *("companyname", "company", "회사명", "기업명", "회사", "기업", "업체명", "업체", "법인명", "상호명", "상호"),
    *("organizationname", "organisationname", "organization", "organisation", "businessname", "legalname"),
    *("firm", "firmname", "会社名", "企業名", "公司名称", "公司", "name", "이름"),
)
"""What a column of names is called, without case, blanks and dashes; the first of these that a file has is taken."""
KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "txt",
}
MOST_LINES = 50
"""Lines that one quoted field may run over."""
LONGEST_LINE = 1_000_000
MOST_UNPACKED, MOST_HELD = 4 * 2**30, 512 * 2**20
SHEET_ROWS = 1_048_576
"""No sheet has more; a row that gives itself a higher number would be waited for for years."""
DELIMITERS = {"csv": ",;\t|", "tsv": "\t"}


def rows_of(path: Path, shown: str, column: str) -> tuple[str, str, Iterator[Row]]:
    """The kind of file, the column that was chosen, and its rows. Raises Refusal where no column can be told."""
    kind = _kind(path, shown)
    found, rows = _READERS[kind](path, shown, column)
    return kind, found, rows


def _kind(path: Path, shown: str) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PK\x03\x04"):
        return "xlsx"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise Refusal(f"{shown} is an old .xls or has a password. Save it as .xlsx without one, or as csv.")
    if head.startswith(b"\x1f\x8b"):
        raise Refusal(f"{shown} is packed. Unpack it first: `gunzip -c {shown} | quarterdeck companies run - …`.")
    named = KINDS.get(path.suffix.lower(), "")
    if named in ("xlsx", "parquet"):
        raise Refusal(f"{shown} is no {named} file, whatever its name says. Save it anew, or as csv.")
    text = head.decode(_encoding(path, head), errors="replace").lstrip("\ufeff \r\n")
    if text.startswith("["):
        raise Refusal(f"{shown} is one JSON list; one value a line is read: `jq -c '.[]' {shown} > companies.jsonl`.")
    if named:
        return named
    first = text.partition("\n")[0]
    if first.startswith("{") or (first.startswith('"') and _is_json(first)):
        return "jsonl"
    if "\t" in first:
        return "tsv"
    return "csv" if any(_plain_header(part) in HEADERS for part in re.split("[,;|]", first)) else "txt"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _encoding(path: Path, head: bytes) -> str:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return name
    if head[1::2].count(0) * 4 > len(head):
        return "utf-16-le"
    if head[0::2].count(0) * 4 > len(head):
        return "utf-16-be"
    # The whole file is asked: the first Korean letter may stand in the last line.
    return next((name for name in ("utf-8", "cp949") if _decodes(path, name)), "utf-8")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends. One that is longer than any row is cut, so that no file fills the memory."""
    with path.open("rb") as file:
        encoding = _encoding(path, file.read(4096))
    with path.open(encoding=encoding, errors="replace", newline=None) as text:
        while line := text.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith("\n"):
                while rest := text.readline(LONGEST_LINE):
                    if rest.endswith("\n"):
                        break
            yield line.rstrip("\n")


def _plain_header(text: object) -> str:
    return re.sub(r"[\s_\-.]+", "", str(text)).strip("\"'\ufeff").casefold()


def choose(header: Sequence[object], column: str, shown: str) -> tuple[int, str, bool]:
    """Which column holds the names, its name, and whether this row is a header and no data."""
    titles = [one_line(str("" if one is None else one)) for one in header]
    plain = [_plain_header(one) for one in titles]
    if column:
        wanted = _plain_header(column)
        if wanted in plain:
            return plain.index(wanted), titles[plain.index(wanted)], True
        if column.isdecimal() and 1 <= int(column) <= len(titles):
            at = int(column) - 1
            return at, column, plain[at] in HEADERS
        raise Refusal(f"{shown} has no column {clip(column, 60)!r}. There are: {_shown(titles)}.")
    for name in HEADERS:
        if name in plain:
            return plain.index(name), titles[plain.index(name)], True
    if sum(1 for one in titles if one) <= 1:
        return next((at for at, one in enumerate(titles) if one), 0), "", False
    raise Refusal(
        f"Which column of {shown} holds the company names? Name it with --column, or by its number: {_shown(titles)}."
    )


def _shown(titles: Sequence[str]) -> str:
    return clip(", ".join(clip(one, 40) or "(no name)" for one in titles[:30]), 400)


def _from_text(path: Path, shown: str, column: str) -> tuple[str, Iterator[Row]]:
    if column:
        raise Refusal(f"{shown} is a plain list, one name a line: leave out --column.")
    numbered = enumerate(_lines(path), start=1)
    first = next(numbered, None)
    kept = [] if first is None or _plain_header(first[1]) in HEADERS else [first]
    return "", (_checked(line, text) for line, text in chain(kept, numbered))


def _checked(line: int, text: str) -> Row:
    if "\ufffd" in text:
        return line, "", "letters that are neither UTF-8 nor CP949"
    return line, text, ""


def _from_csv(path: Path, shown: str, column: str, kind: str = "csv") -> tuple[str, Iterator[Row]]:
    delimiter = _delimiter(path, DELIMITERS[kind])
    records = _records(_lines(path), delimiter)
    first = next((one for one in records if one[1] is None or any(cell.strip() for cell in one[1])), None)
    if first is None:
        return "", iter(())
    line, cells, why = first
    if cells is None:
        raise Refusal(f"Line {line} of {shown} is broken: {why}. Mend it and run again.")
    at, name, is_header = choose(cells, column, shown)
    wide = len(cells)

    def one(line: int, cells: list[str] | None, why: str) -> Row:
        if cells is None:
            return line, "", why
        if not any(cell.strip() for cell in cells):
            return line, "", ""
        if any(cell.strip() for cell in cells[wide:]):
            return line, "", f"{len(cells)} columns where there are {wide}; put a name with {delimiter!r} into quotes"
        if len(cells) <= at:
            return line, "", f"only {len(cells)} of {wide} columns"
        return _checked(line, cells[at])

    rest = records if is_header else chain([first], records)
    return name, (one(*record) for record in rest)


def _from_tsv(path: Path, shown: str, column: str) -> tuple[str, Iterator[Row]]:
    return _from_csv(path, shown, column, "tsv")


def _delimiter(path: Path, possible: str) -> str:
    """The mark that the first lines have equally often; a comma when none."""
    lines = [re.sub(r'"[^"]*"', "", line) for line, _ in zip(_lines(path), range(20), strict=False) if line.strip()]
    even = [mark for mark in possible if lines and lines[0].count(mark) and _even([one.count(mark) for one in lines])]
    return max(even, key=lambda mark: lines[0].count(mark), default=possible[0])


def _even(counts: list[int]) -> bool:
    return sum(1 for one in counts if one == counts[0]) * 2 > len(counts)


def _records(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | None, str]]:
    """Of each record the first line and the cells. A quote that never closes spoils its own line only."""
    waiting: deque[str] = deque()
    number = 0
    while True:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            return
        number += 1
        if len(line) >= LONGEST_LINE:
            yield number, None, f"more than {LONGEST_LINE:,} characters in a line"
            continue
        if '"' not in line:
            yield number, line.split(delimiter), ""
            continue
        held = [line]
        while (cells := _parsed(held, delimiter)) is None and len(held) < MOST_LINES:
            following = waiting.popleft() if waiting else next(lines, None)
            if following is None:
                break
            held.append(following)
        if cells is None:
            waiting.extendleft(reversed(held[1:]))
            yield number, None, "a quote opens and does not close"
            continue
        yield number, cells, ""
        number += len(held) - 1


def _parsed(lines: list[str], delimiter: str) -> list[str] | None:
    """The cells; None while a quote is open."""
    text = [f"{line}\n" for line in lines]
    for strict in (True, False):
        try:
            return next(csv.reader(text, delimiter=delimiter, strict=strict), [])
        except csv.Error as error:
            if "unexpected end" in str(error) or "field larger" in str(error):
                return None
    return None


def _from_jsonl(path: Path, shown: str, column: str) -> tuple[str, Iterator[Row]]:
    key = ""
    for line in _lines(path):
        if line.strip() and _is_json(line):
            first = json.loads(line)
            if isinstance(first, dict):
                key = choose(list(first), column, shown)[1] if column or len(first) > 1 else next(iter(first), "")
            break

    def one(number: int, line: str) -> Row:
        if not line.strip():
            return number, "", ""
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError):
            return number, "", "no JSON"
        if isinstance(value, dict):
            if key not in value:
                return number, "", f"no {clip(key, 40)!r} in it"
            value = value[key]
        return _of_value(number, value)

    return key, (one(number, line) for number, line in enumerate(_lines(path), start=1))


def _of_value(line: int, value: object) -> Row:
    if value is None:
        return line, "", ""
    if isinstance(value, str):
        return _checked(line, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return line, str(int(value) if float(value).is_integer() else value), ""  # a company may be called 1010
    return line, "", f"a {type(value).__name__} where a name was expected"


def _from_parquet(path: Path, shown: str, column: str) -> tuple[str, Iterator[Row]]:
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError:
        raise Refusal(missing(shown)) from None
    try:
        file = pq.ParquetFile(path)
        titles = file.schema_arrow.names
        if not titles:
            raise Refusal(f"{shown} has no columns. Make it anew, or save it as csv.")
    except (pyarrow.ArrowException, OSError):
        raise Refusal(f"{shown} is a broken parquet file. Make it anew, or save it as csv.") from None
    at, name, _ = choose(titles, column, shown) if column or len(titles) > 1 else (0, titles[0], True)

    def read() -> Iterator[Row]:
        line = 0
        try:
            with file:
                for batch in file.iter_batches(batch_size=10_000, columns=[titles[at]], use_threads=False):
                    for value in batch.column(0).to_pylist():
                        line += 1
                        yield _of_value(line, value)
        except (pyarrow.ArrowException, OSError):
            yield line + 1, "", "the file is broken from here on"

    return name, read()


def _from_xlsx(path: Path, shown: str, column: str) -> tuple[str, Iterator[Row]]:
    try:
        import openpyxl
    except ImportError:
        raise Refusal(missing(shown)) from None
    try:
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
            # Sheets are read row by row; the rest, such as the texts they share, is held in memory.
            held = sum(one.file_size for one in parts if not one.filename.startswith("xl/worksheets/"))
            if sum(one.file_size for one in parts) > MOST_UNPACKED or held > MOST_HELD:
                raise Refusal(f"{shown} unpacks to more than can be read. Save it as csv.")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        sheets = [book[name] for name in book.sheetnames if hasattr(book[name], "iter_rows")]
    except Refusal:
        raise
    except Exception:  # whatever a broken workbook makes the reader stumble over
        raise Refusal(f"{shown} is a broken xlsx file. Save it anew, or as csv.") from None
    try:
        sheet, first = _sheet(sheets)
    except Exception:
        book.close()
        raise Refusal(f"{shown} is a broken xlsx file. Save it anew, or as csv.") from None
    if sheet is None or first is None:
        book.close()
        return "", iter(())
    line, header = first
    at, name, is_header = choose(header, column, shown)

    def read() -> Iterator[Row]:
        number = line
        try:
            rows: Iterable[tuple[object, ...]] = sheet.iter_rows(
                min_row=line + is_header, max_row=SHEET_ROWS, values_only=True
            )
            for number, cells in enumerate(rows, start=line + is_header):
                yield _of_value(number, cells[at] if len(cells) > at else None)
        except Exception:  # the rest of the sheet is broken: what came before it stands
            yield number + 1, "", "the sheet is broken from here on"
        finally:
            book.close()

    return name, read()


def _sheet(sheets: list[Any]) -> tuple[Any, tuple[int, tuple[object, ...]] | None]:
    """The first sheet with a column of names, else the first that holds anything; and its first row."""
    filled: list[tuple[Any, tuple[int, tuple[object, ...]]]] = []
    for sheet in sheets:
        sheet.reset_dimensions()  # what a program wrote there may be wrong
        for number, cells in enumerate(sheet.iter_rows(values_only=True, max_row=1000), start=1):
            if any(one is not None and str(one).strip() for one in cells):
                if any(_plain_header(one) in HEADERS for one in cells if one is not None):
                    return sheet, (number, cells)
                filled.append((sheet, (number, cells)))
                break
    return filled[0] if filled else (None, None)


def missing(shown: str) -> str:
    return (
        f"{shown} needs two more packages: `pip install openpyxl pyarrow`, or with uv `uv run --no-dev --extra "
        "tables quarterdeck …`. Or use csv or jsonl."
    )


_READERS: dict[str, Callable[[Path, str, str], tuple[str, Iterator[Row]]]] = {
    "csv": _from_csv,
    "tsv": _from_tsv,
    "txt": _from_text,
    "jsonl": _from_jsonl,
    "parquet": _from_parquet,
    "xlsx": _from_xlsx,
}
