"""Results as a table: jsonl, csv, parquet or xlsx. It stands there whole or not at all.

    with table(Path("results.xlsx"), schema) as rows:
        rows.add(result)

Rows go to a hidden file beside the target, which takes the target's name at the end: a reader never sees half a file,
and an older table stays until the new one is whole. Memory does not grow with the rows.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from quarterdeck.agents.companies.columns import Column, Outcome, Shape, cells, columns_of
from quarterdeck.agents.companies.rows import missing
from quarterdeck.keel.errors import Refusal

if TYPE_CHECKING:
    import pyarrow

FORMATS = (".csv", ".xlsx", ".parquet", ".jsonl")
SHEET_ROWS = 1_048_576
CELL_LETTERS = 32_767
GROUP_ROWS = 5_000
"""Rows that wait in memory for one row group of parquet."""
FORMULA = re.compile(r"[=+\-@\t\r\n]")
"""How a text begins that a spreadsheet would run."""
NO_CELL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
HALVES = re.compile(r"[\ud800-\udfff]")


class Unwritable(Refusal):
    """The table cannot be written there; the results themselves are not touched by that."""


class Rows(Protocol):
    """A table that is being written."""

    def add(self, result: Outcome) -> None: ...

    def close(self) -> None:
        """Everything is in the file after this."""


def check(path: Path) -> None:
    """Refuse a target that could not be written, before any work is done for it."""
    if path.suffix.lower() not in FORMATS:
        raise Unwritable(f"{path} should end in .csv, .xlsx, .parquet or .jsonl: that says what is written.")
    try:
        if path.is_dir():
            raise Unwritable(f"{path} is a folder. Name a file in it, such as {path / 'results.csv'}.")
        if path.exists() and not path.is_file():
            raise Unwritable(f"{path} is no ordinary file. Name another.")
        if (lock := _lock(path)) is not None:
            raise Unwritable(f"{path} is open in an office program. Close it there (or remove {lock.name}).")
        part = _part(path)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        part.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None
    if path.suffix.lower() in (".parquet", ".xlsx"):
        _need(path)


@contextmanager
def table(path: Path, schema: Mapping[str, Any]) -> Iterator[Rows]:
    """A table at `path` once the block has ended well; nothing of it when it has not. Raises Unwritable."""
    check(path)
    target = Path(os.path.realpath(path))  # a link stays a link
    part = _part(target)
    try:
        rows = WRITERS[path.suffix.lower()](part, columns_of(schema))
        try:
            yield rows
        except BaseException:
            _quietly(rows)
            raise
        rows.close()
        _settle(part, target)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def _settle(part: Path, target: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    if target.exists():
        part.chmod(target.stat().st_mode & 0o777)
    part.replace(target)


def _quietly(rows: Rows) -> None:
    try:
        rows.close()
    except Exception:  # it is thrown away: what went wrong before is what counts
        return


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")


def _lock(path: Path) -> Path | None:
    """The note that LibreOffice or Excel leaves beside a file while it is open."""
    notes = (path.with_name(f".~lock.{path.name}#"), path.with_name(f"~${path.name}"))
    return next((note for note in notes if note.exists()), None)


def _need(path: Path) -> None:
    try:
        if path.suffix.lower() == ".xlsx":
            import openpyxl  # noqa: F401
        else:
            import pyarrow  # noqa: F401
    except ImportError:
        raise Unwritable(missing(str(path))) from None


def _unwritable(path: Path, error: OSError) -> Unwritable:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if error.errno in full:
        return Unwritable(f"{path}: there is no room for it. Make some, or name a file on another disk.")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unwritable(f"{path}: there is no folder {path.parent}. Make it, or name another.")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return Unwritable(
            f"{path} may not be written ({error.strerror}). Close the program that has it open, mend the folder's "
            "permissions, or name another file."
        )
    return Unwritable(f"{path} cannot be written: {error.strerror or type(error).__name__}. Name another file.")


class _Jsonl:
    """Every result with all there is of it, nested as the schema has it."""

    def __init__(self, part: Path, columns: list[Column]) -> None:
        self.file = part.open("w", encoding="utf-8", newline="\n")

    def add(self, result: Outcome) -> None:
        self.file.write(_json(vars(result)) + "\n")

    def close(self) -> None:
        self.file.close()


class _Csv:
    """With a byte order mark, so that Excel reads Korean; texts that a spreadsheet would run begin with a quote."""

    def __init__(self, part: Path, columns: list[Column]) -> None:
        self.columns = columns
        self.file = part.open("w", encoding="utf-8-sig", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow([_harmless(column.name) for column in columns])

    def add(self, result: Outcome) -> None:
        self.writer.writerow([_csv_cell(value) for value in cells(self.columns, result)])

    def close(self) -> None:
        self.file.close()


def _csv_cell(value: Any) -> str | int | float:
    flat = _flat(value)
    return _harmless(flat) if isinstance(flat, str) else flat


def _harmless(text: str) -> str:
    text = HALVES.sub("\ufffd", text).replace("\0", "")
    return f"'{text}" if FORMULA.match(text) else text


def _flat(value: Any) -> str | int | float:
    """One cell: a list or a record is JSON text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not isfinite(value):
        return ""
    if isinstance(value, str | int | float):
        return value
    return _json(value) if value else ""


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:  # not a number, or infinity: JSON has none
        text = json.dumps(_finite(value), ensure_ascii=False, default=str)
    return HALVES.sub("\ufffd", text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


class _Xlsx:
    """Texts are cells of text, whatever they begin with. What a sheet cannot hold goes on in a further one."""

    def __init__(self, part: Path, columns: list[Column]) -> None:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell

        self.columns, self.part = columns, part
        self.book = Workbook(write_only=True)
        self.cell = WriteOnlyCell
        self.sheet: Any = None
        self.count = SHEET_ROWS
        self.closed = False
        self._next_sheet()

    def _next_sheet(self) -> None:
        number = len(self.book.worksheets) + 1
        self.sheet = self.book.create_sheet("results" if number == 1 else f"results {number}")
        self.sheet.freeze_panes = "B2"
        self.sheet.append([self._cell(column.name) for column in self.columns])
        self.count = 1

    def add(self, result: Outcome) -> None:
        if self.count >= SHEET_ROWS:
            self._next_sheet()
        self.sheet.append([self._cell(value) for value in cells(self.columns, result)])
        self.count += 1

    def _cell(self, value: Any) -> Any:
        if isinstance(value, bool):
            return value
        flat = _flat(value)
        if isinstance(flat, int | float):
            return flat if abs(flat) < 10**15 else self._text(str(flat))  # a spreadsheet rounds longer ones
        return self._text(flat) if flat else None

    def _text(self, text: str) -> Any:
        text = NO_CELL.sub("\ufffd", text)
        if _units(text) > CELL_LETTERS:
            note = f" … (cut: {len(text):,} characters; jsonl, csv and parquet hold them all)"
            text = _cut(text, CELL_LETTERS - len(note)) + note
        if not FORMULA.match(text):
            return text
        cell = self.cell(self.sheet, "")
        cell.value = text
        cell.data_type = "s"  # never a formula
        cell.quotePrefix = True  # and not one after somebody has edited it
        return cell

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.book.save(self.part)


def _units(text: str) -> int:
    """Letters as a spreadsheet counts them: in UTF-16."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "replace")) // 2


def _cut(text: str, most: int) -> str:
    return text.encode("utf-16-le", "replace")[: 2 * most].decode("utf-16-le", "ignore")


class _Parquet:
    """Columns of the schema's own kinds, lists as lists, one row group after the other."""

    def __init__(self, part: Path, columns: list[Column]) -> None:
        import pyarrow
        import pyarrow.parquet as pq

        self.columns = columns
        self.schema = pyarrow.schema([(column.name, _arrow(column.shape)) for column in columns])
        self.waiting: list[list[Any]] = []
        self.make = pyarrow.RecordBatch.from_arrays
        self.array = pyarrow.array
        self.file = part.open("wb")
        self.writer = pq.ParquetWriter(self.file, self.schema, compression="zstd")

    def add(self, result: Outcome) -> None:
        row = cells(self.columns, result)
        pairs = zip(row, self.columns, strict=True)
        self.waiting.append([_for_arrow(value, column.shape) for value, column in pairs])
        if len(self.waiting) >= GROUP_ROWS:
            self._group()

    def _group(self) -> None:
        turned = zip(*self.waiting, strict=True)
        arrays = [self.array(list(values), type=field.type) for values, field in zip(turned, self.schema, strict=True)]
        self.writer.write_batch(self.make(arrays, schema=self.schema))
        self.waiting = []

    def close(self) -> None:
        with self.file:
            if self.waiting:
                self._group()
            self.writer.close()


def _for_arrow(value: Any, shape: Shape) -> Any:
    if shape.kind == "json":
        return None if value is None else _json(value)
    if isinstance(value, str):
        return HALVES.sub("\ufffd", value)
    if isinstance(value, list) and shape.inner is not None:
        return [_for_arrow(one, shape.inner) for one in value]
    if isinstance(value, dict):
        return {name: _for_arrow(value.get(name), inner) for name, inner in shape.fields}
    return value


def _arrow(shape: Shape) -> pyarrow.DataType:
    import pyarrow

    if shape.kind == "list" and shape.inner is not None:
        return pyarrow.list_(_arrow(shape.inner))
    if shape.kind == "record":
        return pyarrow.struct([(name, _arrow(inner)) for name, inner in shape.fields])
    plain = {
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    return plain.get(shape.kind, pyarrow.string())


WRITERS: dict[str, type[_Jsonl] | type[_Csv] | type[_Xlsx] | type[_Parquet]] = {
    ".jsonl": _Jsonl,
    ".csv": _Csv,
    ".xlsx": _Xlsx,
    ".parquet": _Parquet,
}
