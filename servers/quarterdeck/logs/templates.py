"""Templates: what kinds of lines a log consists of, each with its count, found without being told.

Drain (He et al., 2017) over *shapes*. A line's shape is its text with what varies by nature masked: numbers, ids,
addresses, durations, quoted strings. Shapes are counted in a dictionary, which is most of the work and does not
depend on the order of lines; Drain's parse tree then merges the few distinct shapes that differ in other words,
in sorted order, so that the same lines give the same templates however they are mixed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from quarterdeck.logs.records import Record

WILD = "<*>"
MOST_SHAPES = 20_000
"""Distinct shapes kept apart; beyond them a line is counted under its first two words."""
SIMILAR = 0.6
"""Share of equal words from which on two shapes are one template."""
MOST_WORDS = 60
MOST_BRANCHES = 100

_QUOTED = re.compile(r'"(?!(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) )[^"]{0,1000}"|\'[^\']{1,1000}\'')
_MASKS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\d{4}[-/]\d\d[-/]\d\d(?:T\d\d:\d\d:\d\d[\d.,:+Z-]*)?", "<time>"),
        (r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<id>"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?:/\d{1,2})?\b", "<ip>"),
        (r"\[?(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}\]?(?::\d{1,5})?", "<ip>"),
        (r"\b0x[0-9a-fA-F]+\b", "<id>"),
        (r"\b(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|sec|secs|m|min|h|d))+\b(?![./])", "<duration>"),
        (r"(?<![A-Za-z0-9.])(?=[a-fA-F]*\d)(?:(?=\d*[a-fA-F])[0-9a-fA-F]{6,}|\d{9,})(?![A-Za-z0-9])", "<id>"),
        (r"(?<![A-Za-z0-9])(?=[a-z0-9]*\d[a-z]+\d)[a-z0-9]{5,}(?![A-Za-z0-9])", "<id>"),
        (r"(?<![A-Za-z\d])[-+]?\d+(?:[.,]\d+)*", "<num>"),
        (r"(?<=[A-Za-z])\d{2,}(?![A-Za-z])", "<num>"),
    )
)
_DIGIT = re.compile(r"\d")
_masked: dict[str, str] = {}


def shape(text: str) -> str:
    """The text with what varies by nature masked, its white space made single."""
    if '"' in text or "'" in text:
        text = _QUOTED.sub("<str>", text)
    words = text.split(None, MOST_WORDS)
    if len(words) > MOST_WORDS:
        words[MOST_WORDS] = WILD
    return " ".join([word if word.isalpha() else _masked.get(word) or _mask(word) for word in words])


def _mask(word: str) -> str:
    masked = word
    if _DIGIT.search(word):
        for pattern, name in _MASKS:
            masked = pattern.sub(name, masked)
    if len(_masked) >= 50_000:  # words repeat; a flood of new ones must not fill the memory
        _masked.clear()
    if len(word) <= 200:
        _masked[word] = masked
    return masked


@dataclass(slots=True)
class Tally:
    """What was counted of one shape, or of one template."""

    count: int = 0
    before: int = 0
    """How often it came in the window before."""
    first: float | None = None
    last: float | None = None
    level: str = ""
    example: str = ""
    sources: set[str] = field(default_factory=set)

    def add(self, other: Tally) -> None:
        newer = other.last is not None and (self.last is None or other.last > self.last)
        if other.count and (newer or not self.count):
            self.level, self.example = other.level or self.level, other.example
        self.count += other.count
        self.before += other.before
        self.first = min((t for t in (self.first, other.first) if t is not None), default=None)
        self.last = max((t for t in (self.last, other.last) if t is not None), default=None)
        self.sources |= other.sources


@dataclass(slots=True)
class Template:
    words: list[str]
    tally: Tally = field(default_factory=Tally)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def matches(self, line: str) -> bool:
        """Whether a line is of this template."""
        words = shape(line).split(" ")
        if self.words[-1:] == [WILD] and len(self.words) == 3 and words[:2] == self.words[:2]:
            return True  # what was counted under its first two words
        return len(words) == len(self.words) and all(
            mine in (WILD, theirs) for mine, theirs in zip(self.words, words, strict=True)
        )


class Shapes:
    """Counts records by shape; `templates()` then says what kinds there are."""

    def __init__(self, most: int = MOST_SHAPES) -> None:
        self.most = most
        self.tallies: dict[str, Tally] = {}
        self.crowded = 0
        """Records counted under their first two words only."""

    def add(self, record: Record, before: bool = False) -> None:
        key = shape(record.body)
        tally = self.tallies.get(key)
        if tally is None:
            if len(self.tallies) >= self.most:
                self.crowded += 1
                words = key.split(" ")
                key = " ".join([*words[:2], WILD]) if len(self.tallies) < 2 * self.most else WILD
            tally = self.tallies.setdefault(key, Tally())
        if before:
            tally.before += 1
            return
        tally.count += 1
        moment = record.time
        if moment is None:
            if not tally.example:
                tally.example, tally.level = record.body, record.level
        else:
            if tally.first is None or moment < tally.first:
                tally.first = moment
            if tally.last is None or moment >= tally.last:
                tally.last, tally.example, tally.level = moment, record.body, record.level
        if len(tally.sources) < 20:
            tally.sources.add(record.source)

    def templates(self) -> list[Template]:
        """The templates, most frequent first. Their counts add up to the number of records added."""
        return sorted(merge(self.tallies.items()), key=lambda template: (-template.tally.count, template.text))


def merge(shapes: Iterable[tuple[str, Tally]]) -> list[Template]:
    """Drain: shapes of equal length and equal first words that agree in most words become one template."""
    leaves: dict[tuple[int, str, str], list[Template]] = {}
    found: list[Template] = []
    for text, tally in sorted(shapes, key=lambda item: (-item[1].count, item[0])):
        words = text.split(" ")
        leaf = leaves.setdefault((len(words), *_branch(words)), [])
        near = _nearest(leaf, words)
        if near is None:
            near = Template(words)
            leaf.append(near)
            found.append(near)
        else:
            near.words = [mine if mine == other else WILD for mine, other in zip(near.words, words, strict=True)]
        near.tally.add(tally)
    return found


def _branch(words: list[str]) -> tuple[str, str]:
    """The path in the parse tree: the first two words, where they are not masked themselves."""
    first, second = (*words, "", "")[:2]
    return ("<" if "<" in first else first), ("<" if "<" in second else second)


def _nearest(leaf: list[Template], words: list[str]) -> Template | None:
    best, most = None, 0.0
    for template in leaf[:MOST_BRANCHES]:
        same = sum(mine == other for mine, other in zip(template.words, words, strict=True))
        if (share := same / len(words)) > most:
            best, most = template, share
    return best if most >= SIMILAR else None
