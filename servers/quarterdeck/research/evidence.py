"""What one source says of the company: facts, each with its passage; nothing from a page about another."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from quarterdeck.research import sentences, values
from quarterdeck.research.headings import Standing, standing_of
from quarterdeck.research.labels import CONCEPTS, concepts_of
from quarterdeck.research.layout import Layout, Pair, Section, looks_like_html, read, seen_text, squeeze
from quarterdeck.research.names import Company
from quarterdeck.research.readings import CEO_ROLE, GONE, typed
from quarterdeck.research.values import Count, Day, Money, Place


@dataclass(frozen=True)
class Source:
    url: str
    title: str
    content: str
    published: str | None = None

    @property
    def year(self) -> int | None:
        found = re.match(r"\s*((?:19|20)\d\d)", self.published or "")
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Fact:
    concept: str
    value: Any
    passage: str
    source: int
    weight: float
    """How plainly it is stated: structured data, a label, a sentence."""
    year: int | None = None
    about: bool = False


@dataclass
class Evidence:
    facts: list[Fact] = field(default_factory=list)
    pairs: list[tuple[Pair, int]] = field(default_factory=list)
    """Pairs of the company's own sections, for fields that no concept is known for."""
    subject: str = ""
    """profile, article, alike, or nothing: what the page is to the company."""


_UNMISTAKEN = {"day", "place", "count", "money", "url", "email", "phone"}
_ORGANISATIONS = re.compile(
    r"(?i)organi[sz]ation|corporation|business|company|store|airline|consortium|bank|restaurant|hotel|agency"
)


def gather(sources: list[Source], company: Company) -> list[Evidence]:
    return [_Reading(number, source, company).evidence for number, source in enumerate(sources)]


class _Reading:
    def __init__(self, number: int, source: Source, company: Company) -> None:
        self.number, self.source, self.company = number, source, company
        self.layout: Layout = read(source.content)
        self.evidence = Evidence()
        self.raw = squeeze(source.content[:400_000])
        text = " ".join([source.title, source.content[:100_000]])
        company.known_short(text)
        self.kind = self.evidence.subject = self._subject()
        if self.kind == "alike":
            return
        if self.kind == "":
            company.short = None
        this_year = self.source.year or datetime.now(UTC).year
        stated = [int(year) for year in re.findall(r"(?<!\d)(20\d\d)(?!\d)", text)]
        self.newest = max((year for year in stated if year <= this_year), default=None)
        self._entities()
        standings = self._standings()
        self.official = self._is_official()
        for section, standing in zip(self.layout.sections, standings, strict=True):
            self._grids(section, standing)
            if standing == "own":
                self._pairs(section)
                self._people(section)
                self._address(section)
            self._lines(section, standing)
        self._names(standings)

    def _subject(self) -> str:
        heads = [section.heading for section in self.layout.sections if section.heading and section.level == 1][:2]
        said = [
            self.company.titled(text)
            for text in (self.source.title, self.layout.title, *heads, self.layout.site)
            if text
        ]
        named = [
            str(one.get("name"))
            for one in self.layout.entities
            if _ORGANISATIONS.search(str(one.get("@type"))) and isinstance(one.get("name"), str)
        ]
        if "alike" in said:
            return "alike"
        if "profile" in said or (len(named) == 1 and self.company.same(named[0])):
            return "profile"
        labelled = [
            pair.value for section in self.layout.sections for pair in section.pairs
            if {"name", "legal_name"} & set(concepts_of(pair.label))
        ]  # fmt: skip
        if labelled and self.company.same(labelled[0]) and "article" not in said:
            return "profile"
        return "article" if "article" in said else ""

    def _is_official(self) -> bool:
        """Whether "we" on this page is the company: its own site, by its address or the site's name."""
        host = re.sub(r"^https?://(?:www\.)?", "", self.source.url).split("/")[0].casefold()
        compact = "".join(re.findall(r"[a-z0-9]+", self.company.core.casefold()))
        first = re.match(r"[a-z0-9]+", self.company.core.casefold())
        label = re.sub(r"[^a-z0-9]", "", host.split(".")[0])
        return self.kind == "profile" and (
            bool(self.layout.site and self.company.same(self.layout.site))
            or bool(compact and len(label) > 2 and (label == compact or compact.startswith(label)))
            or bool(
                first
                and len(first[0]) > 3
                and label.startswith(first[0])
                and not re.search(r"wiki|directory|news", host)
            )
            or (self.company.korean and bool(re.search(r"당사|저희", self.source.content[:50_000])))
        )

    def _standings(self) -> list[Standing]:
        found: list[Standing] = []
        stack: list[tuple[int, Standing]] = [(-1, "own" if self.kind == "profile" else "open")]
        for section in self.layout.sections:
            while len(stack) > 1 and stack[-1][0] >= section.level:
                stack.pop()
            around = stack[-1][1]
            standing = standing_of(section.heading, around, self.company)
            stack.append((section.level, standing))
            found.append(standing)
        return found

    def _put(
        self, concept: str, value: Any, passage: str, weight: float, year: int | None = None, about: bool = False
    ) -> None:
        year = year or getattr(value, "year", None) if not isinstance(value, Day) else None
        if (
            concept in ("employees", "revenue", "operating_profit", "net_income")
            and year
            and self.newest
            and year < self.newest - 3
        ):
            return  # a figure of the past, told in passing
        if year and isinstance(value, Money | Count) and value.year is None:
            value = replace(value, year=year)
        if passage := self._held(passage):
            self.evidence.facts.append(
                Fact(concept, value, passage, self.number, weight, year, about or getattr(value, "about", False))
            )

    def _held(self, passage: str) -> str:
        """The passage as it stands in the source; nothing when it does not stand there."""
        wanted = squeeze(passage)[:240].strip()
        if wanted in self.raw or wanted in self.seen:
            return wanted
        # Markdown's marks and a table's bars stand between the words.
        words = [re.escape(word) for word in re.findall(r"[^\W_]+", wanted)][:60]
        found = re.search(r"[\W_]{0,12}".join(words), self.raw) if words else None
        return found.group()[:240] if found is not None else ""

    @cached_property
    def seen(self) -> str:
        return seen_text(self.layout) if looks_like_html(self.source.content) else ""

    # labels

    def _pairs(self, section: Section) -> None:
        blocked = False
        stated = self._stated(section)
        for pair in section.pairs:
            concepts = concepts_of(pair.label)
            if "name" in concepts and not values.nothing(pair.value):
                blocked = not self.company.same(pair.value) and "legal_name" not in concepts
            if blocked:
                continue
            self.evidence.pairs.append((pair, self.number))
            self._pair(pair.label, pair.value, pair.passage, concepts, stated)

    def _stated(self, section: Section) -> tuple[str, int] | None:
        for line in [*section.lines[:6], section.heading]:
            if (
                len(line) < 120
                and re.search(r"(?i)\b(?:in|figures|amounts|unit)\b|단위", line)
                and (unit := values.unit_of(line))
            ):
                return unit
        return None

    def _pair(
        self,
        label: str,
        value: str,
        passage: str,
        concepts: tuple[str, ...],
        stated: tuple[str, int] | None,
        year: int | None = None,
        weight: float = 0.85,
    ) -> None:
        value = squeeze(value.rstrip(" ;"))
        if values.nothing(value) or len(value) > 300 or values.nothing(value.split(" (")[0]):
            return
        year = year or values.year_in(" ".join(re.findall(r"\(([^)]*)\)", label)) or label)
        unit = values.unit_of(" ".join(re.findall(r"[(\[]([^)\]]*)[)\]]", label))) or stated
        for concept in concepts:
            for made in typed(concept, value, unit, label, self.company):
                self._put(made[0], made[1], passage, weight, year)

    def _people(self, section: Section) -> None:
        """'Ruth Okafor, CEO' on a line; a name and below it the role."""
        lines = section.lines
        heads = [section.heading, *lines]
        for at, line in enumerate(lines):
            split = re.match(r"^(?P<who>[^,–—|:-]{4,50}?)\s*(?:,|–|—|\||:|\s-)\s*(?P<role>.{3,60})$", line)
            if split is not None and not GONE.search(split["role"]):
                role = CEO_ROLE.fullmatch(re.sub(r"\s*\(since \d{4}\)$", "", split["role"].strip(" .")))
                who = values.person(split["who"])
                if role is not None and who is not None:
                    self._role(who, role, line)
            role = CEO_ROLE.fullmatch(line.strip())
            if role is not None and at < len(heads) and (who := values.person(heads[at])) is not None:
                below = lines[at + 1] if at + 1 < len(lines) else ""
                if values.person(below) is None or heads[at] == section.heading:
                    self._role(who, role, f"{heads[at]} {line}" if squeeze(f"{heads[at]} {line}") in self.raw else who)
            self._below(heads[at], line)

    def _below(self, label: str, line: str) -> None:
        """A label on a line of its own, and below it a value that can be nothing else."""
        concepts = concepts_of(label)
        if len(concepts) != 1 or len(line) > 80 or CONCEPTS[concepts[0]][0] not in _UNMISTAKEN:
            return
        if CONCEPTS[concepts[0]][0] == "place" and not re.search(r", |[가-힣]", line):
            return
        self._pair(label, line, line, concepts, None, weight=0.75)

    def _role(self, who: str, role: re.Match[str], passage: str) -> None:
        self._put("ceo", who, passage, 0.8)
        if role["a"] or role["b"]:
            self._put("founders", (who,), passage, 0.7)

    def _address(self, section: Section) -> None:
        """The company's name on a line of its own, and its address below."""
        for at, line in enumerate(section.lines):
            if not self.company.same(line):
                continue
            below = []
            for part in section.lines[at + 1 : at + 6]:
                if len(part) > 60 or re.search(r"[:：@]|\.$", part):
                    break
                below.append(part)
            for count in range(len(below), 1, -1):
                where = values.place(", ".join(below[:count]))
                if where is not None and where.street and where.city and where.postcode:
                    joined = " ".join(below[:count])
                    self._put(
                        "headquarters",
                        where,
                        joined if joined in self.raw or looks_like_html(self.source.content) else below[1],
                        0.75,
                    )
                    break

    # tables

    def _grids(self, section: Section, standing: Standing) -> None:
        for rows in section.grids:
            self._by_company(rows)
            if standing == "own":
                self._by_year(rows, section)

    def _by_company(self, rows: list[list[str]]) -> None:
        heads = [concepts_of(cell) for cell in rows[0]]
        known = sum(bool(head) for head in heads)
        column = next((at for at, head in enumerate(heads) if "name" in head), None)
        if column is None or known < 2:
            return
        mine = [row for row in rows[1:] if len(row) > column and self.company.same(row[column])]
        if len(mine) != 1 or len(mine[0]) != len(rows[0]):
            return
        passage = " ".join(mine[0])
        formed = [one.full for one in self.company.mentions(mine[0][column]) if one.formed]
        if formed:
            self._put("legal_name", formed[0], passage, 0.6)
        for label, concepts, cell in zip(rows[0], heads, mine[0], strict=True):
            if concepts and "name" not in concepts and cell:
                self._pair(label, cell, passage, concepts, None, weight=0.8)

    def _by_year(self, rows: list[list[str]], section: Section) -> None:
        years = [
            values.year_in(cell)
            if len(cell) < 16 and not re.search(r"(?i)[ep]$|expected|forecast|예상|전망|q[1-4]|분기", cell)
            else None
            for cell in rows[0]
        ]
        unit = values.unit_of(rows[0][0]) or self._stated(section) or self._nearby(section)
        if sum(year is not None for year in years) >= 2:
            for row in rows[1:]:
                for year, cell in zip(years, row, strict=False):
                    if year is not None and row[0] and cell:
                        self._pair(row[0], cell, " ".join(row), concepts_of(row[0]), unit, year, 0.8)
            return
        heads = [concepts_of(cell) for cell in rows[0]]
        if sum(bool(head) for head in heads[1:]) and re.search(
            r"(?i)^(?:(?:fiscal |financial )?year|fy|연도|구분|년도|period)?$", rows[0][0].strip()
        ):
            for row in rows[1:]:
                year = (
                    values.year_in(row[0])
                    if len(row[0]) < 16 and not re.search(r"(?i)[ep]$|forecast|예상|전망", row[0])
                    else None
                )
                for label, concepts, cell in zip(rows[0], heads, row, strict=False):
                    if year is not None and concepts and cell:
                        self._pair(label, cell, " ".join(row), concepts, unit, year, 0.8)

    def _nearby(self, section: Section) -> tuple[str, int] | None:
        at = self.layout.sections.index(section)
        return self._stated(self.layout.sections[at - 1]) if at and not section.lines else None

    # structured data

    def _entities(self) -> None:
        organisations = [one for one in self.layout.entities if _ORGANISATIONS.search(str(one.get("@type")))]
        for one in organisations:
            name = one.get("name")
            alone = len(organisations) == 1 and self.kind == "profile"
            if (isinstance(name, str) and self.company.same(name)) or (name is None and alone):
                self._entity(one)

    def _entity(self, one: dict[str, Any]) -> None:
        def put(concept: str, key: str, value: Any, said: str) -> None:
            passage = self._raw_passage(key, said)
            if value is not None and passage:
                self._put(concept, value, passage, 0.9)

        for key, concept in (
            ("foundingDate", "founded"),
            ("email", "email"),
            ("telephone", "phone"),
            ("url", "website"),
            ("legalName", "legal_name"),
            ("tickerSymbol", "ticker"),
            ("vatID", "vat_number"),
        ):
            said = one.get(key)
            if isinstance(said, str) and said.strip():
                for made in typed(concept, said.removeprefix("mailto:").strip(), None, key, self.company):
                    put(made[0], key, made[1], said.removeprefix("mailto:").strip())
        founders = [_called(entry) for entry in _listed(one.get("founder") or one.get("founders"))]
        names = [values.person(name) for name in founders if name]
        if names and all(names) and len(names) == len(founders):
            put("founders", "founder", tuple(name for name in names if name), str(names[0]))
        parent = _called(one.get("parentOrganization"))
        if parent:
            put("parent", "parentOrganization", parent, parent)
        many = one.get("numberOfEmployees")
        many = many.get("value") if isinstance(many, dict) else many
        if isinstance(many, str | int) and not isinstance(many, bool):
            put("employees", "numberOfEmployees", values.count(str(many)), str(many))
        address = one.get("address")
        for entry in _listed(address)[:1] if len(_listed(address)) == 1 else []:
            if isinstance(entry, dict):
                parts = {
                    key: squeeze(str(entry[key]))
                    for key in ("streetAddress", "addressLocality", "addressRegion", "postalCode", "addressCountry")
                    if isinstance(entry.get(key), str)
                }
                country = parts.get("addressCountry") or _called(entry.get("addressCountry")) or ""
                if parts.get("addressLocality") or country:
                    where = Place(
                        ", ".join(parts.values()),
                        parts.get("addressLocality", ""),
                        parts.get("addressRegion", ""),
                        values.country_name(country),
                        parts.get("streetAddress", ""),
                        parts.get("postalCode", ""),
                    )
                    key = "addressLocality" if parts.get("addressLocality") else "addressCountry"
                    put("headquarters", key, where, parts.get(key) or country)
            elif isinstance(entry, str):
                put("headquarters", "address", values.place(entry), entry)

    def _raw_passage(self, key: str, value: str) -> str:
        """The stretch of the source, as it stands there, that names the key and the value."""
        found = re.search(rf"\"?{re.escape(key)}\"?.{{0,160}}?{re.escape(value[:80])}", self.raw)
        if found is not None and len(found.group()) <= 240:
            return found.group()
        return value[:240] if squeeze(value) in self.raw else ""

    # sentences

    def _lines(self, section: Section, standing: Standing) -> None:
        if standing == "other":
            return
        trusted = standing == "own"
        for line in section.lines:
            pair = next((pair for pair in section.pairs if pair.passage.startswith(line[:200])), None)
            if pair is not None and len(line) < 120 and concepts_of(pair.label):
                continue
            for said in sentences.read(line, self.company, trusted=trusted, official=self.official):
                self._put(said.concept, said.value, said.passage, 0.7, said.year, said.about)

    def _names(self, standings: list[Standing]) -> None:
        formed: dict[str, tuple[str, str]] = {}
        seen = ""
        lines = [
            (line, standing)
            for section, standing in zip(self.layout.sections, standings, strict=True)
            for line in (section.heading, *section.lines, *(pair.passage for pair in section.pairs))
            if line
        ]
        for line, standing in [(self.layout.title, "own"), *lines]:
            for one in self.company.mentions(line):
                if one.verdict == "same":
                    seen = seen or line
                    if one.formed and standing != "other":
                        formed.setdefault(re.sub(r"\W", "", one.full.casefold()), (one.full, line))
        if seen:
            self._put("name", self.company.asked, seen, 0.9)
        if len(formed) == 1:
            full, line = next(iter(formed.values()))
            at = line.find(full)
            self._put("legal_name", full, line[max(0, at - 60) : at + 160] if len(line) > 240 else line, 0.65)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _called(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name")
    return squeeze(value) if isinstance(value, str) else ""
