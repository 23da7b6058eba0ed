"""What several queries found, as one list and as notes to read: every query is represented, no page is there twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest

from quarterdeck.keel.answers import one_line, plain
from quarterdeck.keel.redact import redact
from quarterdeck.research.addresses import canonical
from quarterdeck.research.providers import Hit

_WORD = re.compile(r"\w{3,}|[\uac00-\ud7af]{2,}")
_HEAD = re.compile(r"^(?=\[\d)", re.MULTILINE)
HEAD_SHARE = 0.5
"""Of an excerpt, for the page's beginning; the rest is for lines that have the words that were asked for."""


def merged(lists: Iterable[list[Hit]], most: int) -> list[Hit]:
    """Round by round: the first result of each query, then the second of each."""
    found: dict[str, Hit] = {}
    for rank in zip_longest(*lists):
        for hit in rank:
            if hit is not None:
                found.setdefault(canonical(hit.url), hit)
    return list(found.values())[:most]


def cleaned(hit: Hit, most: int) -> Hit:
    """The result as it may be shown: nothing unseen, no secrets, titles and addresses on one line."""
    return Hit(
        redact(one_line(hit.url))[:1000],
        redact(one_line(hit.title))[:200],
        redact(plain(hit.content[: most * 2])).strip()[:most],
        hit.provider,
        one_line(hit.published)[:40] if hit.published else None,
    )


def words_of(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


def excerpt(text: str, most: int, words: frozenset[str]) -> str:
    """The text, or its beginning and those of its later lines that hold most of the words, in their order."""
    if len(text) <= most:
        return text
    if most < 400:
        return _cut(text, most)
    head = _cut(text, int(most * HEAD_SHARE))
    room = most - len(head)
    lines = [line.strip() for line in text[len(head.rstrip(" …")) :].split("\n")]
    scored = sorted(
        ((-len(words.intersection(_WORD.findall(line.lower()))), place) for place, line in enumerate(lines) if line)
    )
    chosen: list[int] = []
    for score, place in scored:
        if score == 0 or room < 40:
            break
        size = min(len(lines[place]), 400) + 3
        if size <= room:
            chosen.append(place)
            room -= size
    return "\n".join([head, *(f"… {lines[place][:400]}" for place in sorted(chosen))])


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[: max(0, most - 2)]
    space = max(cut.rfind(" "), cut.rfind("\n"))
    return f"{cut[:space] if space > most // 2 else cut} …"


def notes_of(rows: Iterable[tuple[str, str, str]]) -> str:
    """Address, title and content of each, numbered; what a reader without the list can work on. A page's own lines
    never look like such a heading: it would speak as another source."""
    return "\n\n".join(
        f"[{n}] {title} — {url}\n{_HEAD.sub(' ', content)}" for n, (url, title, content) in enumerate(rows, 1)
    )
