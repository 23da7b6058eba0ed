"""What to ask about a company: queries made of its name and of the fields that are wanted, always the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from quarterdeck.keel.answers import one_line

LONGEST_NAME = 120
LONGEST = 300
MOST_FIELDS = 40
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_QUOTES = str.maketrans(dict.fromkeys('"“”„«»`', " "))
_GENERAL = frozenset(("name", "company", "company name", "description", "summary", "title", "회사명", "설명"))
"""Fields that the first query finds anyway."""
_SPLIT = re.compile(r"[_\-.\s]+|(?<=[a-z0-9])(?=[A-Z])")


def name_of(company: str) -> str:
    """The name as it is searched for: on one line, without quotes, not longer than names are."""
    name = " ".join(one_line(company[:2000]).translate(_QUOTES).split())
    return name[:LONGEST_NAME].strip()


def queries_for(company: str, schema: Any, most: int, follow_ups: Iterable[str] = ()) -> list[str]:
    """At most `most`, none twice. Follow-up questions come first; then the company as such; then its fields, as many
    to a query as it takes to have them all."""
    name = name_of(company)
    queries = [_about(name, text) for text in follow_ups if isinstance(text, str) and text.strip()][:most]
    if room := most - len(queries):
        fields = _fields(schema)
        queries.append(f"{name} {'회사 소개' if _HANGUL.search(name) else 'company profile'}")
        room -= 1
        size = -(-len(fields) // room) if room else 0
        # More words than this in one query find nothing well.
        size = min(max(size, 1), 4)
        groups = [fields[at : at + size] for at in range(0, len(fields), size)][:room]
        queries += [f"{name} {' '.join(group)}" for group in groups]
    return list(dict.fromkeys(" ".join(query.split())[:LONGEST].strip() for query in queries))[:most]


def _about(name: str, text: str) -> str:
    text = " ".join(one_line(text[:2000]).split())
    return text if name.lower() in text.lower() else f"{name} {text}"


def _fields(schema: Any) -> list[str]:
    """What the wanted fields are called, required ones first."""
    if not isinstance(schema, dict):
        return []
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    needed = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
    named = sorted(list(properties.items())[:200], key=lambda item: item[0] not in needed)
    found = [_called(str(key), inner) for key, inner in named]
    return list(dict.fromkeys(words for words in found if words and words.lower() not in _GENERAL))[:MOST_FIELDS]


def _called(key: str, inner: Any) -> str:
    """The field's title, else a short description, else its key in words."""
    if isinstance(inner, dict):
        for said, longest in ((inner.get("title"), 50), (inner.get("description"), 40)):
            if isinstance(said, str) and 0 < len(said.strip()) <= longest:
                return " ".join(one_line(said).translate(_QUOTES).rstrip(".").split()).lower()
    return " ".join(part.lower() for part in _SPLIT.split(key[:60]) if part)
