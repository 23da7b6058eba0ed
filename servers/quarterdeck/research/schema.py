"""A caller's JSON schema: checked, brought into one form, and walked to its leaves.

    shape = check(schema)           # Refusal: what is wrong, where, and what to do
    shape.leaves                    # what can be filled, each with its path, its words and its bounds
    shape.problems(data)            # what in some data does not fit

The subset of draft 2020-12 is what structured output takes too: one object with typed fields. Patterns are RE2, so
none that a caller sends can hang us; `jsonschema` would use `re`, and is handed our own keyword instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal

LARGEST = 64_000
"""Bytes of a schema as JSON."""
MOST_LEAVES = 200
DEEPEST = 6
"""Levels of objects and lists, the root being the first."""
LONGEST_NAME = 100
MOST_NODES = 20_000

SCALARS = ("string", "number", "integer", "boolean")
_NOTES = ("title", "description")
_BOUNDS = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "boolean": (),
    "array": ("minItems", "maxItems", "uniqueItems"),
    "object": (),
}
_BEYOND = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "prefixItems",
    "patternProperties",
    "propertyNames",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "multipleOf",
    "unevaluatedItems",
    "unevaluatedProperties",
    "minProperties",
    "maxProperties",
    "$dynamicRef",
    "$recursiveRef",
]


@dataclass(frozen=True)
class Leaf:
    """One place that a value can be put. In `path`, `[]` stands for each item of a list."""

    path: tuple[str, ...]
    schema: dict[str, Any]
    required: bool
    """All the way from the root."""
    words: tuple[str, ...]
    """For each step of the path but `[]`: its title, else its name."""

    @property
    def name(self) -> str:
        return spell(self.path)

    @property
    def type(self) -> str:
        return str(self.schema["type"])

    @property
    def about(self) -> str:
        return str(self.schema.get("description", ""))


def spell(path: tuple[str | int, ...]) -> str:
    """`founders[0].name`; `founders[].name` for the place in the schema."""
    said = ""
    for step in path:
        if isinstance(step, int):
            said += f"[{step}]"
        elif step == "[]":
            said += "[]"
        else:
            said += f".{step}" if said else step
    return said


@dataclass(frozen=True)
class Shape:
    schema: dict[str, Any]
    leaves: tuple[Leaf, ...]

    @cached_property
    def _validator(self) -> Any:
        return _validator(self.schema)

    def problems(self, data: Any, most: int = 20) -> list[str]:
        """What does not fit, each with its place; empty when all does. Nulls stand for what was not found."""
        found = []
        for error in self._validator.iter_errors(bare(data)):
            found.append((tuple(error.absolute_path), clip(one_line(error.message), 160)))
            if len(found) >= most:
                break
        return [f"{spell(place) or 'the object'}: {message}" for place, message in found]


def bare(data: Any) -> Any:
    """Without nulls and without what is empty: what was not found is not there."""
    if isinstance(data, dict):
        kept = {key: bare(value) for key, value in data.items()}
        return {key: value for key, value in kept.items() if value is not None and value != {} and value != []}
    if isinstance(data, list):
        return [value for value in map(bare, data) if value is not None and value != {}]
    return data


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether one value fits one (normalised) place."""
    return next(iter(_validator(schema).iter_errors(value)), None) is None


def check(schema: Any) -> Shape:
    """The schema in one form. Raises Refusal."""
    if not isinstance(schema, dict):
        raise Refusal('extraction_schema must be a JSON object such as {"type": "object", "properties": {…}}.')
    _measure(schema)
    walk = _Walk(schema)
    if schema.get("type", "object") != "object" and "$ref" not in schema:
        raise Refusal(
            f"The root of extraction_schema must be an object, not {clip(repr(schema['type']), 40)}. "
            "Put the fields into its properties."
        )
    root = walk.node({"type": "object", **schema}, (), True, (), ())
    if root["type"] != "object":
        raise Refusal("The root of extraction_schema must be an object. Put the fields into its properties.")
    return Shape(root, tuple(walk.leaves))


def _measure(schema: dict[str, Any]) -> None:
    """Size and depth without recursion: nothing below may meet a structure that it cannot walk."""
    stack: list[tuple[Any, int]] = [(schema, 1)]
    nodes = 0
    while stack:
        node, depth = stack.pop()
        nodes += 1
        if nodes > MOST_NODES or depth > 8 * DEEPEST:
            raise Refusal(
                "extraction_schema is too large or too deeply nested. Ask for fewer fields, or research in two goes."
            )
        if isinstance(node, dict):
            stack += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list | tuple):
            stack += [(value, depth + 1) for value in node]
    try:
        size = len(json.dumps(schema, ensure_ascii=False, allow_nan=False).encode(errors="replace"))
    except (TypeError, ValueError):
        raise Refusal("extraction_schema is not JSON: it holds NaN, an infinity or something unknown.") from None
    if size > LARGEST:
        raise Refusal(f"extraction_schema takes {size:,} bytes; {LARGEST:,} are read. Shorten its descriptions.")


class _Walk:
    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.leaves: list[Leaf] = []

    def node(
        self, raw: Any, path: tuple[str, ...], required: bool, words: tuple[str, ...], refs: tuple[str, ...]
    ) -> dict[str, Any]:
        where = spell(path) or "the root"
        if len(path) >= DEEPEST:
            raise Refusal(f"extraction_schema is deeper than {DEEPEST} levels at {_short(where)}. Make it flatter.")
        schema, refs = self._resolved(raw, where, refs)
        kind = _kind(schema, where)
        kept: dict[str, Any] = {"type": kind}
        for note in _NOTES:
            if isinstance(schema.get(note), str):
                kept[note] = schema[note]
        if path and path[-1] != "[]" and kept.get("title", "").strip():
            words = (*words[:-1], kept["title"])
        for bound in _BOUNDS[kind]:
            if bound in schema:
                kept[bound] = _bound(bound, schema[bound], where)
        if kind == "object":
            self._object(schema, kept, path, required, words, refs, where)
        elif kind == "array":
            _ordered(kept, "minItems", "maxItems", where)
            items = schema.get("items", {"type": "string"})
            kept["items"] = self.node(items, (*path, "[]"), required, words, refs)
        else:
            _scalar(schema, kept, where)
            if len(self.leaves) >= MOST_LEAVES:
                raise Refusal(f"extraction_schema asks for more than {MOST_LEAVES} values. Research in two goes.")
            self.leaves.append(Leaf(path, kept, required, words))
        return kept

    def _object(
        self,
        schema: dict[str, Any],
        kept: dict[str, Any],
        path: tuple[str, ...],
        required: bool,
        words: tuple[str, ...],
        refs: tuple[str, ...],
        where: str,
    ) -> None:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            raise Refusal(f"{_short(where)} of extraction_schema is an object without properties. Name its fields.")
        wanted = schema.get("required", [])
        if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
            raise Refusal(f"`required` of {_short(where)} must be a list of field names.")
        if strangers := [name for name in wanted if name not in properties]:
            raise Refusal(
                f"{_short(where)} requires {_short(strangers[0])}, which is not among its properties. "
                "Add it there or take it out of `required`."
            )
        kept["properties"] = {}
        for name, inner in properties.items():
            if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or name == "[]":
                raise Refusal(
                    f"A property of {_short(where)} has a name that cannot be used: {_short(name)}. "
                    f"Use up to {LONGEST_NAME} visible characters."
                )
            kept["properties"][name] = self.node(
                inner, (*path, name), required and name in wanted, (*words, name), refs
            )
        kept["required"] = list(dict.fromkeys(wanted))
        kept["additionalProperties"] = False

    def _resolved(self, raw: Any, where: str, refs: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """With references followed, and with the ways to say `or null` taken off."""
        while True:
            if raw is True:
                raw = {"type": "string"}
            if not isinstance(raw, dict):
                raise Refusal(
                    f'{_short(where)} of extraction_schema must be an object such as {{"type": "string"}}, '
                    f"not {clip(json.dumps(raw), 40)}."
                )
            if beyond := next((word for word in _BEYOND if word in raw), None):
                raise Refusal(
                    f"{_short(where)} of extraction_schema uses `{beyond}`, which is not read here. Use type, "
                    "properties, items, required, enum, format, pattern, minimum and maximum."
                )
            if "$ref" in raw:
                ref = raw["$ref"]
                if not isinstance(ref, str) or not ref.startswith("#"):
                    raise Refusal(
                        f"{_short(where)} refers to {_short(str(ref))}. Only references inside it are followed: "
                        "put the definition under $defs."
                    )
                if ref in refs:
                    raise Refusal(
                        f"{_short(where)} of extraction_schema contains itself by {_short(ref)}. Write out as many "
                        "levels as you need."
                    )
                refs = (*refs, ref)
                raw = {**self._target(ref, where), **{key: value for key, value in raw.items() if key != "$ref"}}
                continue
            several = next((word for word in ("anyOf", "oneOf", "allOf") if word in raw), None)
            if several is None:
                return raw, refs
            branches = raw[several]
            rest = [one for one in branches if one != {"type": "null"}] if isinstance(branches, list) else []
            if len(rest) != 1 or not isinstance(rest[0], dict):
                raise Refusal(
                    f"{_short(where)} of extraction_schema offers several shapes by `{several}`. Choose one type."
                )
            raw = {**{key: value for key, value in raw.items() if key != several}, **rest[0]}

    def _target(self, ref: str, where: str) -> dict[str, Any]:
        at: Any = self.root
        for step in ref.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            at = at.get(step) if isinstance(at, dict) else None
        if not isinstance(at, dict):
            raise Refusal(f"{_short(where)} refers to {_short(ref)}, which is not there. Add it under $defs.")
        return at


def _kind(schema: dict[str, Any], where: str) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        rest = [one for one in kind if one != "null"]
        kind = rest[0] if len(rest) == 1 else kind
    if kind is None:
        if "properties" in schema:
            return "object"
        if "items" in schema:
            return "array"
        members = schema.get("enum")
        kind = "string"
        if isinstance(members, list) and members:
            kinds = {type(one) for one in members if one is not None}
            kind = {bool: "boolean", int: "integer", float: "number"}.get(kinds.pop(), "string") if kinds else "string"
    if not isinstance(kind, str) or kind not in _BOUNDS:
        raise Refusal(
            f"{_short(where)} of extraction_schema has the type {clip(json.dumps(kind), 60)}. Use one of "
            f"{', '.join(_BOUNDS)}."
        )
    return kind


def _bound(bound: str, value: Any, where: str) -> Any:
    name = f"`{bound}` of {_short(where)}"
    if bound == "uniqueItems":
        return value is True
    if bound in ("pattern", "format"):
        if not isinstance(value, str):
            raise Refusal(f"{name} must be a string.")
        if bound == "pattern" and _pattern(value) is None:
            raise Refusal(f"{name} is not a regular expression of RE2 (no look-around, no back-references). Mend it.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_float(value)):
        raise Refusal(f"{name} must be a number.")
    if bound.startswith(("minL", "maxL", "minI", "maxI")) and (value < 0 or value != int(value)):
        raise Refusal(f"{name} must be a whole number from 0.")
    return value


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _ordered(kept: dict[str, Any], low: str, high: str, where: str) -> None:
    if low in kept and high in kept and kept[low] > kept[high]:
        raise Refusal(f"Nothing fits {_short(where)}: its {low} is above its {high}. Exchange them.")


def _scalar(schema: dict[str, Any], kept: dict[str, Any], where: str) -> None:
    _ordered(kept, "minLength", "maxLength", where)
    low = kept.get("minimum", -math.inf)
    high = kept.get("maximum", math.inf)
    above, below = kept.get("exclusiveMinimum", -math.inf), kept.get("exclusiveMaximum", math.inf)
    impossible = low > high or above >= min(high, below) or low >= below
    if not impossible and kept["type"] == "integer":
        least = max(math.ceil(low) if low != -math.inf else low, math.floor(above) + 1 if above != -math.inf else above)
        most = min(math.floor(high) if high != math.inf else high, math.ceil(below) - 1 if below != math.inf else below)
        impossible = least > most
    if impossible:
        raise Refusal(f"No {kept['type']} fits the bounds of {_short(where)}. Mend minimum and maximum.")
    members = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if members is None:
        return
    if not isinstance(members, list):
        raise Refusal(f"`enum` of {_short(where)} must be a list of values.")
    kept["enum"] = [one for one in members if one is not None and _is(one, kept["type"])]
    kept["enum"] = [one for one in kept["enum"] if fits(one, kept)]
    if not kept["enum"]:
        raise Refusal(f"`enum` of {_short(where)} holds no {kept['type']} that fits it. Name the values it may take.")


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)
    return not isinstance(value, bool) and isinstance(value, int | float)


def _short(text: str) -> str:
    return repr(clip(one_line(text), 60))


def _pattern(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 4 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError, RecursionError):
        return None


def _validator(schema: dict[str, Any]) -> Any:
    return _validator_class()(schema, format_checker=_formats())


def _cached(make: Callable[[], Any]) -> Callable[[], Any]:
    made: list[Any] = []

    def once() -> Any:
        if not made:
            made.append(make())
        return made[0]

    return once


@_cached
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator, ValidationError, validators  # 0.1 s: when the first schema comes

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str):
            compiled = _pattern(wanted)
            if compiled is None or compiled.search(value.encode(errors="replace").decode()) is None:
                yield ValidationError(f"{clip(value, 60)!r} does not match the pattern {clip(wanted, 60)!r}")

    return validators.extend(Draft202012Validator, {"pattern": pattern})


@_cached
def _formats() -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name, holds in _FORMATS.items():
        checker.checks(name, raises=ValueError)(lambda value, holds=holds: not isinstance(value, str) or holds(value))
    return checker


def _day(value: str) -> bool:
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value)) and bool(date.fromisoformat(value))


def _moment(value: str) -> bool:
    return "T" in value.upper() and bool(datetime.fromisoformat(value))


def _uri(value: str) -> bool:
    parts = urlsplit(value)
    return bool(parts.scheme and (parts.netloc or parts.path)) and not re.search(r"\s", value)


def _email(value: str) -> bool:
    return bool(re.fullmatch(r"[^@\s]{1,64}@[^@\s.]{1,63}(?:\.[^@\s.]{1,63}){1,8}", value))


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _day,
    "date-time": _moment,
    "uri": _uri,
    "url": _uri,
    "email": _email,
    "year": lambda value: bool(re.fullmatch(r"\d{4}", value)),
    "uuid": lambda value: bool(re.fullmatch(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value)),
}
