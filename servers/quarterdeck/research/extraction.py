"""Extraction by rules: facts of all sources put into the caller's shape, each with the passage it rests on.

What sources contradict, what does not fit the schema's type, unit or bounds, and what nobody states is left out:
an empty field costs a further search, a wrong one costs trust.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from quarterdeck.keel.answers import clip, plain
from quarterdeck.research import values
from quarterdeck.research.converting import Unfit, convert, letters, member
from quarterdeck.research.evidence import Evidence, Fact, Source, gather
from quarterdeck.research.labels import Meaning, meaning_of, normal, plain_labels
from quarterdeck.research.names import Company
from quarterdeck.research.schema import Leaf, Shape, fits, spell
from quarterdeck.research.values import Count, Day, Money, Place

SURE = 0.97
"""No rule is surer than this."""
OF_NOW = {"employees", "revenue", "operating_profit", "net_income", "ceo", "headquarters", "market_cap", "valuation",
          "total_funding", "cfo", "cto", "coo", "chair", "parent", "total_assets", "capital"}  # fmt: skip
"""What changes over time: of several values the newest counts."""


@dataclass(frozen=True)
class Found:
    """One value in its place."""

    path: tuple[str | int, ...]
    value: Any
    confidence: float
    source: str
    passage: str

    @property
    def name(self) -> str:
        return spell(self.path)


@dataclass(frozen=True)
class Left:
    """A value that was seen and not used."""

    path: str
    value: Any
    why: str


@dataclass
class Extraction:
    data: dict[str, Any] = field(default_factory=dict)
    fields: list[Found] = field(default_factory=list)
    dropped: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def confidence(self) -> float:
        return round(sum(one.confidence for one in self.fields) / len(self.fields), 3) if self.fields else 0.0


@dataclass
class Candidate:
    """One value with all that support it."""

    value: Any
    facts: list[Fact]
    year: int | None

    def score(self, sources: Sequence[Source]) -> float:
        best: dict[str, float] = {}
        for fact in self.facts:
            site = _site(sources[fact.source].url) or str(fact.source)
            best[site] = max(best.get(site, 0.0), fact.weight)
        doubt = 1.0
        for weight in best.values():
            doubt *= 1 - weight
        return min(SURE, 1 - doubt)

    @property
    def best(self) -> Fact:
        return max(self.facts, key=lambda fact: (fact.weight, not fact.about, -len(fact.passage)))


def sources_of_notes(notes: str) -> list[Source]:
    """Research notes taken apart again: "[1] title — url" heads each source."""
    head = re.compile(r"(?m)^\[(\d{1,3})\][ \t]+(.{0,300}?)[ \t]+(?:—|–|-)[ \t]+(\S{1,2000})[ \t]*$")
    marks = list(head.finditer(notes))
    if not marks:
        return [Source("", "", notes)] if notes.strip() else []
    found = []
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        body = notes[mark.end() : after.start() if after else len(notes)]
        when = re.match(r"\s*(?:published|Published|date)[:：]?\s*(\d{4}[-\d]*)", body)
        found.append(Source(mark[3], mark[2].strip(), body.strip("\n"), when[1] if when else None))
    return found


def extract(company_name: str, shape: Shape, sources: Sequence[Source], seconds: float = 20.0) -> Extraction:
    """Within the given time; sources that it does not suffice for are named in the notes."""
    company = Company(company_name)
    until = time.monotonic() + seconds
    read: list[Evidence] = []
    done = Extraction()
    for number, source in enumerate(sources):
        if time.monotonic() > until:
            done.notes.append(f"Only the first {number} of {len(sources)} sources were read in {seconds:g} s.")
            break
        read += [_numbered(one, number) for one in gather([source], company)]
    alike = [sources[at].url or f"source {at + 1}" for at, one in enumerate(read) if one.subject == "alike"]
    if alike:
        done.notes.append(f"Not used, about another of a name alike: {clip(', '.join(alike), 300)}")
    facts: dict[str, list[Fact]] = defaultdict(list)
    for evidence in read:
        for fact in evidence.facts:
            facts[fact.concept].append(fact)
    for leaf in shape.leaves:
        meaning = meaning_of(leaf)
        if meaning is not None:
            _fill(leaf, meaning, facts.get(meaning.concept, []), sources, done, shape)
        else:
            _fill_plainly(leaf, read, sources, done)
    return done


def _numbered(evidence: Evidence, number: int) -> Evidence:
    facts = [Fact(f.concept, f.value, f.passage, number, f.weight, f.year, f.about) for f in evidence.facts]
    return Evidence(facts, [(pair, number) for pair, _ in evidence.pairs], evidence.subject)


def candidates(facts: Sequence[Fact], sources: Sequence[Source]) -> list[Candidate]:
    """Facts of one concept, those that say the same together; the best supported first."""
    groups: list[Candidate] = []
    for fact in sorted(facts, key=lambda fact: (fact.about, -fact.weight)):
        year = fact.year or (sources[fact.source].year if fact.concept in OF_NOW else None)
        for group in groups:
            if same(group.value, fact.value, fact.about or group.best.about) and _years_agree(fact, group, year):
                group.facts.append(fact)
                group.value = _finer(group.value, fact.value)
                group.year = max(filter(None, (group.year, year)), default=None)
                break
        else:
            groups.append(Candidate(fact.value, [fact], year))
    return sorted(groups, key=lambda group: -group.score(sources))


def _years_agree(fact: Fact, group: Candidate, year: int | None) -> bool:
    if not isinstance(fact.value, Money | Count) or year is None or group.year is None:
        return True
    return year == group.year


def choose(facts: Sequence[Fact], sources: Sequence[Source], year: int | None = None) -> tuple[Candidate | None, str]:
    """The one value that all this supports; or none, and why."""
    if not facts:
        return None, ""
    if year is not None:
        facts = [fact for fact in facts if fact.year == year]
        if not facts:
            return None, f"no source states it for {year}"
    groups = candidates(facts, sources)
    if len(groups) > 1 and facts[0].concept in OF_NOW:
        newest = max((group.year for group in groups if group.year), default=None)
        current = [group for group in groups if group.year in (newest, None)]
        groups = current or groups
        dated = [group for group in groups if group.year == newest and newest is not None]
        if len(dated) == 1 and len(groups) > 1 and all(isinstance(group.value, Money | Count) for group in groups):
            # A figure with its year goes before one that may be of any.
            undated = [group for group in groups if group.year is None]
            if all(
                len({fact.source for fact in one.facts}) <= len({fact.source for fact in dated[0].facts})
                for one in undated
            ):
                groups = dated
    if len(groups) == 1:
        return groups[0], ""
    first, second = groups[0], groups[1]
    if facts[0].concept in ("industry", "description", "name"):
        return first, ""
    if isinstance(first.value, tuple) and facts[0].concept == "founders":
        everyone = max(groups, key=lambda group: len(group.value))
        names = {letters(one) for one in everyone.value}
        if all({letters(one) for one in group.value} <= names for group in groups):
            return everyone, ""
    voices = [
        len({_site(sources[fact.source].url) or fact.source for fact in group.facts}) for group in (first, second)
    ]
    plainly = first.best.weight - second.best.weight
    one_page = {fact.source for fact in first.facts} == {fact.source for fact in second.facts}
    if (voices[0] >= 2 and voices[0] >= 2 * voices[1]) or (one_page and plainly >= 0.1 and voices[0] == 1):
        return first, ""
    said = "; ".join(f"{clip(told(group.value), 60)} ({_where(sources[group.best.source])})" for group in groups[:3])
    return None, f"sources disagree: {said}"


def _where(source: Source) -> str:
    return clip(source.url or source.title or "the notes", 80)


def told(value: Any) -> str:
    """A typed value in words, for a reason or an issue."""
    match value:
        case Money():
            return f"{value.amount.normalize():f} {value.currency}".strip() + (
                f" in {value.year}" if value.year else ""
            )
        case Count():
            return f"{value.number:,}" + (f" in {value.year}" if value.year else "")
        case Day():
            return value.iso()
        case Place():
            return value.text
        case tuple():
            return ", ".join(str(one) for one in value if one)
    return str(value)


def same(one: Any, other: Any, about: bool = False) -> bool:
    """Whether two values of a concept say the same."""
    match one, other:
        case Count(), Count():
            return one.number == other.number or (
                about and abs(one.number - other.number) <= 0.1 * max(one.number, other.number)
            )
        case Money(), Money():
            if one.currency and other.currency and one.currency != other.currency:
                return False
            return one.amount == other.amount or abs(one.amount - other.amount) <= Decimal("0.005") * max(
                abs(one.amount), abs(other.amount)
            )
        case Day(), Day():
            return (
                one.year == other.year
                and (one.month is None or other.month is None or one.month == other.month)
                and (one.day is None or other.day is None or one.day == other.day)
            )
        case Place(), Place():
            if one.city and other.city:
                return _city(one.city) == _city(other.city)
            return bool(one.country and other.country) and letters(one.country) == letters(other.country)
        case tuple(), tuple():
            return [letters(part) for part in one] == [letters(part) for part in other] or {
                letters(part) for part in one
            } == {letters(part) for part in other}
        case str(), str():
            left, right = letters(one), letters(other)
            return left == right or (
                len(left) > 7
                and re.sub(r"^httpswww|^https?|^www|^8210|^\d?82", "", left)
                == re.sub(r"^httpswww|^https?|^www|^8210|^\d?82", "", right)
            )
    return bool(one == other)


def _city(name: str) -> str:
    return re.sub(r"(?:특별자치시|특별시|광역시|시)$", "", name.casefold())


def _finer(one: Any, other: Any) -> Any:
    """Of two that say the same, the one that says more."""
    match one, other:
        case Day(), Day():
            return max(one, other, key=lambda day: len(day.iso()))
        case Place(), Place():

            def parts(where: Place) -> int:
                return sum(bool(part) for part in (where.city, where.region, where.country, where.street))

            return max(one, other, key=parts)
        case Money(), Money():
            return one if one.currency or not other.currency else other
    return one


def _fill(
    leaf: Leaf, meaning: Meaning, facts: Sequence[Fact], sources: Sequence[Source], done: Extraction, shape: Shape
) -> None:
    chosen, why = choose(facts, sources, meaning.year)
    if chosen is None:
        if why and facts:
            done.dropped.append(Left(leaf.name, told(max(facts, key=lambda fact: fact.weight).value), why))
        return
    score = chosen.score(sources)
    if chosen.best.about:
        score -= 0.1
    if len(candidates(facts, sources)) > 1:
        score -= 0.1
    score = round(max(0.05, score), 2)
    best = chosen.best
    listed = leaf.path.count("[]")
    made = convert(chosen.value, leaf, meaning)
    if isinstance(made, Unfit):
        if made.why:
            done.dropped.append(Left(leaf.name, told(chosen.value), made.why))
        return
    for at, value in enumerate(made if listed else [made]):
        if not fits(value, leaf.schema):
            done.dropped.append(Left(leaf.name, value, "does not fit the schema's bounds for it"))
            continue
        path: tuple[str | int, ...] = tuple(at if step == "[]" else step for step in leaf.path)
        fact = next((one for one in chosen.facts if _shows(one.passage, value)), best)
        put(done.data, path, value)
        done.fields.append(Found(path, value, score, sources[fact.source].url, fact.passage))


def _shows(passage: str, value: Any) -> bool:
    return str(value).casefold() in passage.casefold()


def _fill_plainly(leaf: Leaf, read: Sequence[Evidence], sources: Sequence[Source], done: Extraction) -> None:
    """A field that no concept is known for: a page that labels a value with the field's very name will do."""
    labels = plain_labels(leaf)
    if not labels or leaf.path.count("[]") > (1 if leaf.path[-1] == "[]" else 0):
        return
    found: list[tuple[Any, Any, int]] = []
    for evidence in read:
        for pair, number in evidence.pairs:
            if normal(pair.label) in labels:
                value = _plain_value(pair.value, leaf)
                if value is not None and fits(value, leaf.schema):
                    found.append((value, pair, number))
    if not found:
        return
    if len({letters(value) for value, _, _ in found}) > 1:
        said = "; ".join(f"{clip(str(value), 60)} ({_where(sources[number])})" for value, _, number in found[:3])
        done.dropped.append(Left(leaf.name, found[0][0], f"sources disagree: {said}"))
        return
    value, pair, number = found[0]
    several = len({number for _, _, number in found}) > 1
    listed = leaf.path[-1] == "[]"
    for at, one in enumerate(value if listed else [value]):
        place: tuple[str | int, ...] = (*leaf.path[:-1], at) if listed else leaf.path
        put(done.data, place, one)
        done.fields.append(Found(place, one, 0.8 if several else 0.65, sources[number].url, pair.passage))


_YES = {"yes", "true", "예", "네", "있음", "o", "✓", "✔"}
_NO = {"no", "false", "아니오", "아니요", "x", "✗"}


def _plain_value(text: str, leaf: Leaf) -> Any:
    text = " ".join(plain(text).split()).strip(" .;")
    if values.nothing(text) and leaf.type != "boolean":
        return None
    if leaf.path[-1] == "[]":
        parts = [part.strip() for part in re.split(r"\s*[,;·•]\s*", text) if part.strip()]
        return parts if leaf.type == "string" and len(parts) <= 20 and all(len(part) < 80 for part in parts) else None
    match leaf.type:
        case "boolean":
            return True if text.casefold() in _YES else False if text.casefold() in _NO else None
        case "integer" | "number":
            match = re.fullmatch(r"(-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d{1,15}(?:\.\d+)?)(?:\s?[^\W\d]{1,12})?", text)
            if match is None:
                day = values.day(text) if "year" in leaf.path[-1].casefold() else None
                return day.year if day else None
            amount = Decimal(match[1].replace(",", ""))
            whole = amount == amount.to_integral_value()
            return int(amount) if whole else None if leaf.type == "integer" else float(amount)
    if leaf.schema.get("format") == "date":
        day = values.day(text)
        return day.iso() if day and day.day else None
    if "enum" in leaf.schema:
        return member(text, leaf)
    return text if len(text) <= 160 else None


def put(data: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    at: Any = data
    for step, following in zip(path, (*path[1:], None), strict=True):
        if following is None:
            fresh: Any = value
        else:
            fresh = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            while len(at) <= step:
                at.append(None if following is None else type(fresh)())
            if following is None:
                at[step] = fresh
        elif following is None or step not in at:
            at[step] = fresh
        at = at[step]


def _site(url: str) -> str:
    return re.sub(r"^[a-z]+://(?:www\.)?", "", url.casefold()).split("/")[0]
