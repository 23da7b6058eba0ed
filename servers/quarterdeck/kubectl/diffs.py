"""What a change would do to an object, as a diff that shows no secret and conceals no difference."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from quarterdeck.keel.answers import plain, visible
from quarterdeck.keel.redact import redact
from quarterdeck.kubectl import resources

Leaf = tuple[str, str]
"""The key a value stands under, and the value."""


def to_yaml(object: Any, spell: Callable[[str], str] = plain) -> str:
    said = yaml.safe_dump(resources.shown(object, spell), sort_keys=False, allow_unicode=True, width=160)
    return redact(said)


def diff(before: Any, after: Any) -> str:
    """A unified diff of YAML. Where a value that must not be shown changes, its place is named instead."""
    one, other = (to_yaml(side, visible).splitlines() if side else [] for side in (before, after))
    lines = list(difflib.unified_diff(one, other, "before", "after", lineterm="", n=2))[2:]
    return "\n".join([*lines, *(f"~ {place}: its value changes (hidden)" for place in concealed(before, after))])


def concealed(before: Any, after: Any) -> list[str]:
    """The places whose values differ though both look the same."""
    if not before or not after:
        return []
    raw_before, raw_after = dict(_leaves(before)), dict(_leaves(after))
    seen_before, seen_after = (dict(_leaves(resources.shown(side, visible))) for side in (before, after))
    return [
        ".".join(place)
        for place, value in raw_after.items()
        if place in raw_before
        and raw_before[place] != value
        and place in seen_after
        and _said(seen_before.get(place)) == _said(seen_after[place])
    ]


def _said(leaf: Leaf | None) -> str:
    return redact(f"{leaf[0]}: {leaf[1]}") if leaf else ""


def _leaves(node: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Every value and its place; items of a list go by their names, so that one added does not shift the others."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, (*place, str(key)))
    elif isinstance(node, list):
        names = [item.get("name") if isinstance(item, dict) else None for item in node]
        unique = None not in names and len(set(map(str, names))) == len(names)
        for number, item in enumerate(node):
            yield from _leaves(item, (*place, str(names[number]) if unique else str(number)))
    else:
        yield place, (place[-1] if place else "", str(node))
