"""Folders of pages: which files there are, and the documents in one of them, one at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarterdeck.research import html
from quarterdeck.research.charset import decode

KINDS = {
    ".html": "html", ".htm": "html", ".xhtml": "html", ".md": "markdown", ".markdown": "markdown",
    ".txt": "text", ".text": "text", ".jsonl": "rows", ".ndjson": "rows", ".parquet": "parquet",
}  # fmt: skip
LARGEST = 10 << 20
"""Bytes of one page, or of one line of JSON."""
MOST_TEXT = 200_000
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.{0,8000}?)\r?\n---[ \t]*\r?\n", re.DOTALL)
_FIELD = re.compile(r"(?m)^([A-Za-z_-]{1,30}):[ \t]*(.{1,2000}?)[ \t]*\r?$")
_HEADING = re.compile(r"(?m)^#{1,2}[ \t]+(.{1,300})$")


class Unreadable(Exception):
    """Why a file gives no documents."""


@dataclass(frozen=True)
class File:
    path: str
    name: str
    """How it is called in addresses: its folder's name and its path inside."""
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class Document:
    url: str
    title: str
    text: str
    published: str | None = None


def files(folders: list[Path]) -> Iterator[File]:
    """Every file of a known kind. Hidden ones and links are left out: a link may lead anywhere."""
    for folder in folders:
        stack = [str(folder)]
        while stack:
            try:
                entries = sorted(os.scandir(stack.pop()), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in KINDS:  # noqa: PTH122 - a hundred thousand of them
                    try:
                        about = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    name = f"{folder.name}/{os.path.relpath(entry.path, folder)}"
                    yield File(entry.path, name, about.st_mtime_ns, about.st_size)


def documents(file: File) -> Iterator[Document]:
    """Raises Unreadable, also after some documents."""
    kind = KINDS[Path(file.path).suffix.lower()]
    own = f"corpus://{file.name}"
    try:
        if kind == "rows":
            yield from _rows(file.path, own)
        elif kind == "parquet":
            yield from _parquet(file.path, own)
        else:
            if file.size > LARGEST:
                raise Unreadable(f"is larger than {LARGEST >> 20} MB")
            yield _page(decode(Path(file.path).read_bytes()), kind, own, Path(file.path).stem)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None


def _page(text: str, kind: str, own: str, stem: str) -> Document:
    if kind == "html":
        page = html.read(text)
        return Document(page.address or own, page.title or stem, page.text[:MOST_TEXT], page.published)
    fields: dict[str, str] = {}
    if kind == "markdown" and (front := _FRONT.match(text)):
        fields = {name.lower(): value.strip("\"' ") for name, value in _FIELD.findall(front[1])}
        text = text[front.end() :]
    heading = _HEADING.search(text[:5000]) if kind == "markdown" else None
    title = fields.get("title") or (heading[1].strip() if heading else "") or stem
    url = fields.get("url") or fields.get("source") or ""
    published = html.date_of(fields.get("date") or fields.get("published") or fields.get("updated") or "")
    return Document(url if url.startswith(("http://", "https://")) else own, title[:300], text[:MOST_TEXT], published)


def _rows(path: str, own: str) -> Iterator[Document]:
    with open(path, "rb") as file:  # noqa: PTH123 - read line by line, each bounded
        number = 0
        while line := file.readline(LARGEST + 1):
            number += 1
            if len(line) > LARGEST:
                raise Unreadable(f"has a line (number {number}) of more than {LARGEST >> 20} MB")
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                continue  # one bad line must not hide the others
            if isinstance(row, dict) and (document := _row(row, f"{own}#{number}")):
                yield document


def _parquet(path: str, own: str) -> Iterator[Document]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise Unreadable("needs pyarrow: pip install pyarrow") from None
    from pyarrow import ArrowException

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    if document := _row(row, f"{own}#{number}"):
                        yield document
    except (ArrowException, ValueError) as error:
        raise Unreadable(f"is no Parquet that can be read ({type(error).__name__})") from None


def _row(row: dict[str, Any], own: str) -> Document | None:
    known = {str(name).lower(): value for name, value in row.items()}

    def first(*names: str) -> str:
        return next((value for name in names if isinstance(value := known.get(name), str) and value.strip()), "")

    text = first("text", "content", "body", "markdown")
    title, published = first("title", "name", "company"), html.date_of(str(known.get("published") or known.get("date")))
    if not text and (markup := first("html")):
        page = html.read(markup[:LARGEST])
        text, title, published = page.text, title or page.title, published or page.published
    if not text and not title:
        return None
    url = first("url", "link", "source")
    return Document(
        url[:2000] if url.startswith(("http://", "https://")) else own, title[:300] or own, text[:MOST_TEXT], published
    )
