"""What two iterations found, as one: a later one adds and corrects, and never loses what an earlier one found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Found:
    data: Json = field(default_factory=dict)
    fields: list[Json] = field(default_factory=list)
    """{path: "founders[0].name", value, confidence, source, passage}"""
    confidence: float = 0.0


def merge(earlier: Found, later: Found) -> Found:
    kept: list[str] = []
    data = _objects(earlier, later, earlier.data, later.data, "", kept)
    fields = [one for one in later.fields if not any(under(_path(one), path) for path in kept)]
    known = {_path(one) for one in fields}
    fields += [
        one for one in earlier.fields if _path(one) not in known and any(under(_path(one), path) for path in kept)
    ]
    shares = [float(one["confidence"]) for one in fields if isinstance(one.get("confidence"), int | float)]
    confidence = sum(shares) / len(shares) if shares else max(earlier.confidence, later.confidence)
    return Found(data, fields, round(confidence, 4))


def ordered(value: Any, schema: Any) -> Any:
    """With its keys in the schema's order, which they lose on their way over A2A."""
    named = (schema.get("properties") if isinstance(schema, dict) else None) or {}
    if isinstance(value, dict):
        names = [*(name for name in named if name in value), *sorted(name for name in value if name not in named)]
        return {name: ordered(value[name], named.get(name)) for name in names}
    if isinstance(value, list):
        return [ordered(one, schema.get("items") if isinstance(schema, dict) else None) for one in value]
    return value


def _objects(earlier: Found, later: Found, old: Json, new: Json, path: str, kept: list[str]) -> Json:
    """Every key of both. `kept` collects the paths whose value is the earlier one."""
    made: Json = {}
    for name in [*new, *(name for name in old if name not in new)]:
        here = f"{path}.{name}" if path else name
        was, is_now = old.get(name), new.get(name)
        if isinstance(was, dict) and isinstance(is_now, dict):
            made[name] = _objects(earlier, later, was, is_now, here, kept)
        elif empty(is_now) and not empty(was):
            made[name] = was
            kept.append(here)
        elif empty(was) or was == is_now or _sure(later, here, is_now) >= _sure(earlier, here, was):
            made[name] = is_now
        else:
            made[name] = was
            kept.append(here)
    return made


def _sure(found: Found, path: str, value: Any) -> tuple[float, int]:
    """How sure it is of what stands at a path; of two lists that are as sure, the longer one."""
    shares = [
        float(one["confidence"])
        for one in found.fields
        if under(_path(one), path) and isinstance(one.get("confidence"), int | float)
    ]
    mean = sum(shares) / len(shares) if shares else found.confidence
    return round(mean, 2), len(value) if isinstance(value, list) else 0


def under(path: str, top: str) -> bool:
    return path == top or path.startswith((f"{top}.", f"{top}["))


def empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _path(one: Json) -> str:
    return str(one.get("path", ""))
