"""Small things said the same way everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.durations import say_duration
from quarterdeck.keel.redact import redact

_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}  # fmt: skip


def outside(text: object, most: int = 300) -> str:
    """Text that came out of the cluster, in one line, fit to be shown."""
    return clip(redact(plain(str(text))).replace("\n", " ").strip(), most)


def age(moment: str | None) -> str:
    if not moment:
        return "?"
    try:
        return say_duration(datetime.now(UTC) - datetime.fromisoformat(moment))
    except ValueError:
        return "?"


def quantity(text: object) -> float:
    said = str(text)
    number = said.rstrip("numkKMGTPEi")
    try:
        return float(number) * _UNITS.get(said[len(number) :], 1.0)
    except ValueError:
        return 0.0


def dig(object: Any, *path: str) -> Any:
    for part in path:
        object = object.get(part) if isinstance(object, dict) else None
    return object


def images(template: Any) -> list[str]:
    return [str(c.get("image", "")) for c in dig(template, "spec", "containers") or []]
