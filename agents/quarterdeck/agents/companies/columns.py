"""A result as one row of a table: the caller's schema gives the columns, in its order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

DEEPEST = 6
"""Objects in objects that become columns; what lies deeper is JSON text in one."""
MOST = 500
"""Columns of a table."""

Kind = Literal["text", "integer", "number", "boolean", "list", "record", "json"]
KINDS: dict[str, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
WHOLE = 2**63


class Outcome(Protocol):
    """What a row is made from; `Result` of the jobs is one."""

    company_name: str
    state: str
    data: dict[str, Any]
    completeness: float | None
    confidence: float | None
    sources: list[str]
    problem: str
    cost: float | None


@dataclass(frozen=True)
class Shape:
    """What a column holds; `inner` of a list, `fields` of a record."""

    kind: Kind
    inner: Shape | None = None
    fields: tuple[tuple[str, Shape], ...] = ()


TEXT, NUMBER = Shape("text"), Shape("number")
JSON = Shape("json")
LIST = Shape("list", TEXT)


@dataclass(frozen=True)
class Column:
    name: str
    shape: Shape
    path: tuple[str, ...] = ()
    """Where it stands in the data; empty for what is ours."""


BEFORE = (Column("company_name", TEXT), Column("state", TEXT))
AFTER = (
    Column("completeness", NUMBER),
    Column("confidence", NUMBER),
    Column("sources", LIST),
    Column("problem", TEXT),
    Column("cost", NUMBER),
)


def columns_of(schema: Mapping[str, Any]) -> list[Column]:
    """Company and state, the schema's fields, and how sure it is. A field of ours that the schema has too keeps
    its name, and the schema's becomes `data.NAME`."""
    taken = {one.name for one in (*BEFORE, *AFTER)}
    found: list[Column] = []
    for path, shape in _leaves(schema, schema, ()):
        name = ".".join(path) or "data"
        while name in taken:
            name = f"data.{name}"
        taken.add(name)
        found.append(Column(name, shape, path))
        if len(found) > MOST:
            return [*BEFORE, Column("data", JSON), *AFTER]
    return [*BEFORE, *found, *AFTER]


def cells(columns: list[Column], result: Outcome) -> list[Any]:
    """The row, in the columns' own kinds. What fits no column is told in `problem`: nothing is lost."""
    row: list[Any] = []
    left = _copy(result.data)
    unfit: dict[str, Any] = {}
    whole = False
    for column in columns:
        if not column.path:
            if column.shape is JSON:
                row.append(left or None)
                whole = True
            else:
                row.append(getattr(result, column.name))
            continue
        value = _take(left, column.path)
        fitting = fit(value, column.shape)
        if fitting is None and value is not None:
            unfit[".".join(column.path)] = value
        row.append(fitting)
    rest = {**({} if whole else _filled(left)), **unfit}
    if rest:
        at = next(place for place, one in enumerate(columns) if one.name == "problem" and not one.path)
        told = f"No column holds: {json.dumps(rest, ensure_ascii=False, default=str)}"
        row[at] = f"{row[at]}; {told}" if row[at] else told
    return row


def fit(value: Any, shape: Shape) -> Any:
    """The value as the column's kind, or None where it is none."""
    if value is None or shape.kind == "json":
        return value
    if shape.kind == "text":
        return value if isinstance(value, str) else None
    if shape.kind == "boolean":
        return value if isinstance(value, bool) else None
    if shape.kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= WHOLE:
            return None
        if shape.kind == "number":
            return float(value)
        return int(value) if float(value).is_integer() else None
    if shape.kind == "list":
        if not isinstance(value, list) or shape.inner is None:
            return None
        items = [fit(one, shape.inner) for one in value]
        return None if any(new is None and old is not None for new, old in zip(items, value, strict=True)) else items
    known = dict(shape.fields)
    if not isinstance(value, dict) or not set(value) <= set(known):
        return None
    made = {name: fit(one, known[name]) for name, one in value.items()}
    return None if any(new is None and value[name] is not None for name, new in made.items()) else made


def _leaves(
    schema: Mapping[str, Any], root: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Shape]]:
    schema = _resolved(schema, root)
    fields = schema.get("properties")
    if _type(schema) == "object" and isinstance(fields, Mapping) and fields and len(path) < DEEPEST:
        for name, inner in fields.items():
            if isinstance(inner, Mapping):
                yield from _leaves(inner, root, (*path, str(name)))
            else:
                yield (*path, str(name)), JSON
    elif path:
        yield path, _shape(schema, root, 0)
    else:
        yield (), JSON


def _shape(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Shape:
    schema = _resolved(schema, root)
    kind = _type(schema)
    if kind in KINDS:
        return Shape(KINDS[kind])
    items, fields = schema.get("items"), schema.get("properties")
    if kind == "array" and isinstance(items, Mapping) and depth < DEEPEST:
        inner = _shape(items, root, depth + 1)
        return JSON if inner.kind == "json" else Shape("list", inner)
    if kind == "object" and isinstance(fields, Mapping) and fields and 0 < depth < DEEPEST:
        shapes = [(str(name), _shape(one, root, depth + 1)) for name, one in fields.items() if isinstance(one, Mapping)]
        if len(shapes) == len(fields) and all(one.kind != "json" for _, one in shapes):
            return Shape("record", fields=tuple(shapes))
    return JSON


def _type(schema: Mapping[str, Any]) -> str:
    """The one type besides null; empty when there are several or none."""
    named = schema.get("type")
    kinds = [one for one in named if one != "null"] if isinstance(named, list) else [named]
    if kinds == [None]:
        return "object" if "properties" in schema else _of_choices(schema.get("enum"))
    return str(kinds[0]) if len(kinds) == 1 else ""


def _of_choices(choices: Any) -> str:
    given = [one for one in choices if one is not None] if isinstance(choices, list) else []
    return "string" if given and all(isinstance(one, str) for one in given) else ""


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Local references followed, and `anyOf` with null taken for the other; a few hops at most."""
    for _ in range(8):
        choices = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(choices, list):
            real = [one for one in choices if isinstance(one, Mapping) and one.get("type") != "null"]
            if len(real) != 1:
                return {}
            schema = real[0]
        elif isinstance(schema.get("$ref"), str):
            found: Any = root
            for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                part = part.replace("~1", "/").replace("~0", "~")
                found = found.get(part) if part and isinstance(found, Mapping) else found
            if not isinstance(found, Mapping) or found is schema:
                return {}
            schema = found
        else:
            return schema
    return {}


def _copy(data: Any) -> Any:
    return {name: _copy(one) for name, one in data.items()} if isinstance(data, dict) else data


def _take(data: Any, path: tuple[str, ...]) -> Any:
    for name in path[:-1]:
        data = data.get(name) if isinstance(data, dict) else None
    return data.pop(path[-1], None) if isinstance(data, dict) else None


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty all the way down: the taken fields leave empty objects behind."""
    kept = {name: _filled(one) if isinstance(one, dict) else one for name, one in data.items()}
    return {name: one for name, one in kept.items() if one is not None and one != {}}
