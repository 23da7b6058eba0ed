"""What one source says of the company: facts, each with its passage; nothing from a page about another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from quarterdeck.research import sentences, values
from quarterdeck.research.labels import CONCEPTS, concepts_of, normal
from quarterdeck.research.layout import Layout, Pair, Section, looks_like_html, read, squeeze
from quarterdeck.research.names import GENERIC, UP, Company
from quarterdeck.research.values import Count, Day, Money, Place

Standing = Literal["own", "open", "other"]
"""Whose section it is: the company's, nobody's in particular, another's."""


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


_ELSE = re.compile(
    r"(?i)^(?:our |key |main |other |selected |the |its )?(?:competit\w+|rivals?|alternatives|similar \w+|related \w+|parent(?: company)?|"
    r"partners?|customers?|clients?|investors? list|backers|subsidiar\w+|acquisitions|portfolio|affiliates?|peers?|suppliers?|see also|"
    r"sister \w+|other companies|you may also.*|more companies|people also.*|references|testimonials|case stud\w+|press agency|"
    r"media contact|press contact|agency|history|timeline|previous\w*|former\w*|outlook|forecast\w*|guidance|comments?|disclaimer|group companies|"
    r"참고|관계사|계열사|경쟁사|경쟁 ?업체|협력사|고객사|모회사|자회사|투자사|파트너|관련 기업|유사 기업|비교 기업|전망|연혁|관련 기사|댓글)\b[^.]{0,40}$|^(?:관계사|계열사|경쟁사|경쟁업체|협력사|고객사|모회사|자회사|관련 ?기업|유사 ?기업|비교 ?기업|연혁|주요 ?고객)"
)  # fmt: skip
_HEADING_WORDS_TEXT = """
    company corporate business key quick basic general financial financials figures numbers facts statistics stats data
    contact contacts address addresses location locations office offices headquarters leadership management board directors
    executive executives officers people team staff employees founders founder industry sector products product services
    solutions technology story history mission vision values five-year five year summary highlights performance results
    annual report reports profile overview information details registration legal imprint impressum about us our the we
    are who what do where how of in and at by for with a an to stock shares listing market share price investor investors
    relations news press media research development sustainability careers jobs ownership structure funding rounds total
    fact sheet snapshot introduction background operations revenue sales growth workforce culture today now glance
    footer identity general enquiries inquiries telephone phone email online web website links sources
    회사 기업 개요 소개 정보 현황 재무 조직 인사말 문의 연락처 주요 기본 일반 경영진 대표 사업 제품 분야 비전 요약 실적 매출 인력 위치
    오시는길 오시는 길 주소 본사 채용 회사개요 기업개요 회사소개 기업정보 회사정보 재무정보 기본정보 재무현황 일반현황 회사현황 기업현황 주요현황 상세 상세정보 및 지표
"""
_HEADING_WORDS = frozenset(_HEADING_WORDS_TEXT.split()) | GENERIC
_CEO_ROLE = re.compile(
    r"(?i)(?:(?P<a>(?:co-?\s?)?founder)\s?(?:&|and|,|/)\s?)?(?:president\s?(?:&|and)\s?)?(?:chairman\s?(?:&|and)\s?)?(?:group\s)?"
    r"(?:CEO|chief executive(?: officer)?(?:\s?\(CEO\))?|managing director|대표이사|대표)(?:\s?(?:&|and|,|/)\s?(?P<b>(?:co-?\s?)?founder))?"
)
_GONE = re.compile(
    r"(?i)\b(?:until|former|formerly|ex|resigned|interim|acting|designate|elect|previous|left|emeritus|deputy|vice|outgoing)\b|전\s|前|직무대행|권한대행"
)
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
            standing = self._standing(section.heading, around)
            stack.append((section.level, standing))
            found.append(standing)
        return found

    def _standing(self, heading: str, around: Standing) -> Standing:
        if not heading:
            return around
        bare = re.sub(r"^\d{1,2}[.)]\s*", "", squeeze(heading))
        titled = self.company.titled(bare)
        if titled == "alike":
            return "other"
        if titled == "profile":
            return "own"
        if around == "other" or _ELSE.match(bare):
            return "other"
        if titled == "article":
            return around
        words = re.findall(r"[^\W_]+(?:-[^\W_]+)*", bare)
        unknown = [word for word in words if word.casefold() not in _HEADING_WORDS and not word.isdigit()]
        if not unknown or values.person(bare):
            return around
        if re.match(r"(?i)about\s", bare) or concepts_of(bare):
            return "other" if re.match(r"(?i)about\s", bare) else around
        # "Clean power for farms" is a phrase; "Vectra Buses" may well be another company.
        if any(word[0].isupper() or re.search(r"[가-힣]", word) for word in unknown[:1] if word != words[0]) or (
            len(words) <= 4 and all(word[0].isupper() or re.match(r"[가-힣]", word) for word in words)
        ):
            return "other" if around == "own" and not self._phrase(bare) else around
        return around

    def _phrase(self, heading: str) -> bool:
        return len(heading.split()) > 5 or bool(re.search(r"[,!?]|\b(?:for|with|that|your|we|is)\b", heading))

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
        if passage := self._held(passage):
            self.evidence.facts.append(
                Fact(concept, value, passage, self.number, weight, year, about or getattr(value, "about", False))
            )

    def _held(self, passage: str) -> str:
        return squeeze(passage)[:240].strip()

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
            for made in _typed(concept, value, unit, label, self.company):
                self._put(made[0], made[1], passage, weight, year)

    def _people(self, section: Section) -> None:
        """'Ruth Okafor, CEO' on a line; a name and below it the role."""
        lines = section.lines
        heads = [section.heading, *lines]
        for at, line in enumerate(lines):
            split = re.match(r"^(?P<who>[^,–—|:-]{4,50}?)\s*(?:,|–|—|\||:|\s-)\s*(?P<role>.{3,60})$", line)
            if split is not None and not _GONE.search(split["role"]):
                role = _CEO_ROLE.fullmatch(re.sub(r"\s*\(since \d{4}\)$", "", split["role"].strip(" .")))
                who = values.person(split["who"])
                if role is not None and who is not None:
                    self._role(who, role, line)
            role = _CEO_ROLE.fullmatch(line.strip())
            if role is not None and at < len(heads) and (who := values.person(heads[at])) is not None:
                below = lines[at + 1] if at + 1 < len(lines) else ""
                if values.person(below) is None or heads[at] == section.heading:
                    self._role(who, role, f"{heads[at]} {line}" if squeeze(f"{heads[at]} {line}") in self.raw else who)
            if values.person(line) is None and concepts_of(line) == ("founded",) and at + 1 < len(lines):
                when = values.day(lines[at + 1])
                if when is not None and len(lines[at + 1]) < 24:
                    self._put("founded", when, lines[at + 1], 0.75)

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
                for made in _typed(concept, said.removeprefix("mailto:").strip(), None, key, self.company):
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


def _typed(
    concept: str, text: str, unit: tuple[str, int] | None, label: str, company: Company
) -> Iterator[tuple[str, Any]]:
    """A label's value as what the label is about; nothing when it does not read as that."""
    value: Any = None
    match CONCEPTS[concept][0]:
        case "day":
            value = values.day(text) if len(text) <= 120 else None
            if isinstance(value, Day) and concept == "founded":
                by = re.search(r"\bby (.{4,120})$", text)
                found = values.people(by[1]) if by else None
                if found:
                    yield "founders", tuple(found)
        case "place":
            value = values.place(text)
        case "person":
            value = None if _GONE.search(text) else values.person(re.split(r",\s(?=(?:since|appointed)\b)", text)[0])
        case "people":
            found = values.people(text)
            value = tuple(found) if found and not re.search(r"(?i)\b(?:until|unknown|disputed)\b", text) else None
        case "count":
            value = values.count(text)
        case "money":
            value = (
                None
                if re.search(r"(?i)forecast|expected|estimate|target|예상|목표|전망|추정", f"{label} {text}")
                else values.money(text, unit)
            )
        case "url":
            value = values.web_address(text)
        case "email":
            value = values.address_of_mail(text)
        case "phone":
            value = values.phone(text)
        case "ticker":
            value = values.ticker(text)
        case "exchange":
            value = text if re.fullmatch(values._EXCHANGE, text) else None
        case "list":
            parts = [part.strip(" .") for part in re.split(r"\s*[,;·/•]\s*(?:and\s)?|\s및\s", text) if part.strip(" .")]
            value = tuple(parts) if 0 < len(parts) <= 20 and all(len(part) <= 60 for part in parts) else None
        case "staff":
            for part in re.split(r"[;,](?![^(]*\))", text):
                role = re.fullmatch(r"(?P<who>[^(]{4,60})\((?P<role>[^)]{2,60})\)", part.strip())
                if (
                    role is not None
                    and _CEO_ROLE.fullmatch(role["role"].strip())
                    and (who := values.person(role["who"]))
                ):
                    yield "ceo", who
            return
        case "text":
            value = _text(concept, text, label, company)
    if value is not None:
        yield concept, value


def _text(concept: str, text: str, label: str, company: Company) -> str | None:
    text = re.sub(r"\[[^\]]{0,20}\]", "", text).strip(" ;")
    if concept == "legal_name":
        return (
            text
            if len(text) <= 120
            and (
                company.same(text)
                or normal(label)
                in ("legal name", "registered name", "legalname", "full legal name", "legal entity name")
            )
            else None
        )
    if concept == "name":
        return text if company.same(text) else None
    if concept == "parent":
        found = re.match(
            r"(?i)(?:(?:wholly[- ]owned )?subsidiary of|owned by|part of)\s(?:the )?(?P<who>.{2,80})$", text
        )
        if found is not None:
            return found["who"].strip(" .")
        named = normal(label) not in ("ownership", "owner", "owned by") or bool(
            re.search(r"(?i)\b(?:inc|ltd|group|holdings?|corp|plc|ag|gmbh)\b", text)
        )
        if not named or company.same(text) or re.search(r"(?i)independent|private|public|family|founder", text):
            return None
    if concept == "industry":
        text = re.sub(r"^\d{3,6}\s*[-–:]\s*", "", text)
    if len(text) > (400 if concept == "description" else 100) or not re.search(rf"[{UP}\w]", text):
        return None
    return text


__all__ = ["Count", "Evidence", "Fact", "Money", "Source", "gather"]
