"""How much of a line a terminal shows."""

from __future__ import annotations

import shutil
import sys
from unicodedata import combining, east_asian_width

WIDEST = 10_000


def width() -> int:
    """Columns of the terminal on stdout; a file or a pipe gets whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDEST


def cut(text: str, columns: int) -> str:
    """The text in at most so many columns, with "…" where something was left out."""
    if len(text) * 2 <= columns:
        return text
    used = 0
    for place, letter in enumerate(text):
        wide = 2 if east_asian_width(letter) in "WF" else 1
        if used + wide > columns - 1 and (used + wide > columns or place + 1 < len(text)):
            return text[:place] + "…"
        used += wide
    return text


def columns(text: str) -> int:
    """How wide it stands: a Korean letter takes two columns."""
    return sum(2 if east_asian_width(letter) in "WF" else 0 if combining(letter) else 1 for letter in text)


def pad(text: str, wide: int) -> str:
    """The text cut or filled to exactly so many columns."""
    short = cut(text, wide)
    return short + " " * (wide - columns(short))
