"""Reflection by rules: is the data whole, sound and supported, and if not, what to search for next.

Completeness is the weight of the filled leaves over that of all: a required one weighs 3, any other 1. Data is complete
when every required leaf is filled and nothing serious is wrong: a value that does not fit the schema, one that no
source supports, one that sources contradict. Stale and doubtful values are issues, but not serious ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.research.converting import Unfit, convert
from quarterdeck.research.evidence import Fact, Source, gather
from quarterdeck.research.extraction import OF_NOW, choose, told
from quarterdeck.research.labels import Meaning, meaning_of, normal
from quarterdeck.research.layout import squeeze, visible_text
from quarterdeck.research.names import Company
from quarterdeck.research.schema import Leaf, Shape

REQUIRED, OPTIONAL = 3, 1
MOST_QUERIES = 5
MOST_ISSUES = 40
STALE_DAYS = 730
"""A source older than this may well be out of date on what changes."""
DOUBTFUL = 0.5

_WORDS = {  # concept: in English, in Korean
    "name": ("official name", "공식 회사명"), "legal_name": ("registered legal name", "법인명"),
    "founded": ("year founded", "설립연도"), "headquarters": ("headquarters location", "본사 위치"),
    "ceo": ("current CEO", "대표이사"), "founders": ("founders", "창업자"),
    "employees": ("number of employees", "임직원 수"), "revenue": ("annual revenue", "매출액"),
    "operating_profit": ("operating profit", "영업이익"), "net_income": ("net income", "당기순이익"),
    "total_funding": ("total funding raised", "누적 투자 유치 금액"), "valuation": ("valuation", "기업가치"),
    "market_cap": ("market capitalization", "시가총액"), "total_assets": ("total assets", "자산총계"),
    "capital": ("share capital", "자본금"), "industry": ("industry", "업종"),
    "products": ("main products and services", "주요 제품"), "website": ("official website", "공식 홈페이지"),
    "email": ("contact email", "대표 이메일"), "phone": ("phone number", "대표전화"),
    "ticker": ("stock ticker symbol", "종목코드"), "exchange": ("stock exchange listing", "상장 시장"),
    "parent": ("parent company", "모회사"), "company_type": ("company type legal form", "기업형태"),
    "registration_number": ("company registration number", "사업자등록번호"),
    "vat_number": ("VAT number", "사업자등록번호"),
    "cfo": ("CFO", "최고재무책임자"), "cto": ("CTO", "최고기술책임자"), "coo": ("COO", "최고운영책임자"),
    "chair": ("chairman of the board", "이사회 의장"), "slogan": ("slogan", "슬로건"),
    "description": ("company profile", "회사 소개"), "key_people": ("key people", "경영진"),
}  # fmt: skip


_AS_OF = re.compile(
    r"(?i)(?:as of|in|end of|fy|since)\s(?:the\s)?(?:year\s)?(?:[a-z]+\s)?((?:19|20)\d\d)"
    r"|\(((?:19|20)\d\d)년?[^)]*\)|((?:19|20)\d\d)년[^.]{0,12}기준"
)


@dataclass
class Issue:
    path: str
    what: str
    serious: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.path else self.what


@dataclass
class Reflection:
    completeness: float
    missing: list[str]
    missing_required: list[str]
    issues: list[Issue] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not self.missing_required and not any(issue.serious for issue in self.issues)


@dataclass(frozen=True)
class Claim:
    """A value of the data with what it is said to rest on."""

    path: str
    value: Any
    confidence: float | None
    source: str
    passage: str


def reflect(
    company_name: str,
    shape: Shape,
    data: dict[str, Any],
    claims: Sequence[Claim],
    sources: Sequence[Source],
    today: date | None = None,
) -> Reflection:
    today = today or datetime.now(UTC).date()
    missing = [leaf for leaf in shape.leaves if not any(True for _ in values_at(data, leaf.path))]
    whole = sum(_weight(leaf) for leaf in shape.leaves)
    score = 1 - sum(_weight(leaf) for leaf in missing) / whole
    done = Reflection(
        round(score, 3), [leaf.name for leaf in missing], [leaf.name for leaf in missing if leaf.required]
    )
    found = [
        *_misfits(shape, data),
        *_implausible(shape, data, today),
        *_unsupported(claims, sources, data),
        *_contradictions(company_name, shape, data, sources),
        *_stale(claims, sources, shape, today),
        *(
            Issue(one.path, f"is doubtful (confidence {one.confidence:.2f})", False)
            for one in claims
            if one.confidence is not None and one.confidence < DOUBTFUL
        ),
    ]  # fmt: skip
    unique = {(issue.path, issue.what): issue for issue in found}
    done.issues = sorted(unique.values(), key=lambda issue: not issue.serious)
    if len(done.issues) > MOST_ISSUES:
        rest = len(done.issues) - MOST_ISSUES
        done.issues = [*done.issues[:MOST_ISSUES], Issue("", f"and {rest} more issues", False)]
    done.queries = queries(company_name, shape, missing, done.issues)
    return done


def _weight(leaf: Leaf) -> int:
    return REQUIRED if leaf.required else OPTIONAL


def values_at(data: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values that stand at a leaf's place; none for null, an empty text or an empty list."""
    if not path:
        if data is not None and data != "" and data != [] and data != {}:
            yield data
    elif path[0] == "[]":
        for item in data if isinstance(data, list) else []:
            yield from values_at(item, path[1:])
    elif isinstance(data, dict) and path[0] in data:
        yield from values_at(data[path[0]], path[1:])


def _misfits(shape: Shape, data: dict[str, Any]) -> Iterator[Issue]:
    for problem in shape.problems(data):
        path, _, what = problem.partition(": ")
        if "is a required property" not in what:  # said as missing
            yield Issue(path, what, True)


def _implausible(shape: Shape, data: dict[str, Any], today: date) -> Iterator[Issue]:
    for leaf in shape.leaves:
        meaning = meaning_of(leaf)
        if meaning is None:
            continue
        for value in values_at(data, leaf.path):
            if meaning.concept == "founded" and not meaning.part.startswith(("month", "day")):
                year = re.match(r"\d{1,6}", str(value))
                if year is not None and not 1200 <= int(year.group()) <= today.year:
                    yield Issue(
                        leaf.name, f"{clip(str(value), 40)} is no year in which a company can have been founded", True
                    )
            if meaning.kind in ("count", "money") and isinstance(value, int | float) and not isinstance(value, bool):
                if value < 0 and meaning.concept not in ("operating_profit", "net_income"):
                    yield Issue(leaf.name, f"{value} is negative", True)
                elif meaning.concept == "employees" and meaning.part != "year" and value > 5_000_000:
                    yield Issue(leaf.name, f"{value} is more people than any company employs", True)


def _unsupported(claims: Sequence[Claim], sources: Sequence[Source], data: dict[str, Any]) -> Iterator[Issue]:
    if not sources or not claims:
        return
    texts = {source.url: squeeze(source.content) for source in sources}
    everything: list[str] = []
    for claim in claims:
        if not claim.passage.strip():
            yield Issue(claim.path, "rests on no passage", True)
            continue
        wanted = squeeze(claim.passage).casefold()
        if wanted in texts.get(claim.source, "").casefold():
            continue
        if not everything:
            everything = [squeeze(visible_text(source.content)).casefold() for source in sources]
            everything += [text.casefold() for text in texts.values()]
        if not any(wanted in text for text in everything):
            yield Issue(
                claim.path, f"its passage is in none of the sources: {clip(one_line(claim.passage), 100)!r}", True
            )


def _contradictions(
    company_name: str, shape: Shape, data: dict[str, Any], sources: Sequence[Source]
) -> Iterator[Issue]:
    company = Company(company_name)
    facts: dict[str, list[Fact]] = {}
    for evidence in gather(list(sources), company):
        for fact in evidence.facts:
            facts.setdefault(fact.concept, []).append(fact)
    for leaf in shape.leaves:
        meaning = meaning_of(leaf)
        if (
            meaning is None
            or meaning.concept not in facts
            or (meaning.part in ("currency", "year") and meaning.kind != "day")
        ):
            continue
        chosen, why = choose(facts[meaning.concept], sources, meaning.year)
        if chosen is None and why.startswith("sources disagree"):
            yield Issue(leaf.name, why, True)
            continue
        if chosen is None or "[]" in leaf.path or leaf.type == "string":
            continue
        made = convert(chosen.value, leaf, meaning)
        for value in values_at(data, leaf.path):
            if not isinstance(made, Unfit) and made != value:
                where = sources[chosen.best.source].url or "a source"
                yield Issue(
                    leaf.name, f"is {clip(str(value), 40)} in the data, but {where} says {told(chosen.value)}", True
                )


def _stale(claims: Sequence[Claim], sources: Sequence[Source], shape: Shape, today: date) -> Iterator[Issue]:
    dated = {source.url: source.published for source in sources if source.published}
    changing: dict[str, Meaning] = {
        leaf.name: meaning for leaf in shape.leaves if (meaning := meaning_of(leaf)) and meaning.concept in OF_NOW
    }
    for claim in claims:
        meaning = changing.get(re.sub(r"\[\d+\]", "[]", claim.path))
        if meaning is None or meaning.year is not None:
            continue
        as_of = _AS_OF.search(claim.passage)
        year = next((int(one) for one in as_of.groups() if one), None) if as_of else None
        if (
            year is not None
            and year < today.year - STALE_DAYS // 365
            and meaning.concept not in ("ceo", "headquarters", "parent")
        ):
            yield Issue(claim.path, f"is as of {year}", False)
            continue
        published = _date(dated.get(claim.source))
        if published is not None and (today - published).days > STALE_DAYS:
            yield Issue(claim.path, f"rests on a source of {published.isoformat()}", False)


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat((text or "")[:10])
    except ValueError:
        year = re.match(r"(?:19|20)\d\d", text or "")
        return date(int(year.group()), 12, 31) if year else None


def queries(company_name: str, shape: Shape, missing: Sequence[Leaf], issues: Sequence[Issue]) -> list[str]:
    """What to search for next: for what is missing, required first, then for what is disputed or stale."""
    korean = bool(re.search(r"[가-힣]", company_name))
    name = clip(one_line(company_name).replace('"', " ").strip(), 120)
    doubted = {re.sub(r"\[\d+\]", "[]", issue.path) for issue in issues}
    wanted = [*sorted(missing, key=lambda leaf: not leaf.required)]
    wanted += [leaf for leaf in shape.leaves if leaf.name in doubted and leaf not in missing]
    found: list[str] = []
    for leaf in wanted:
        query = f"{name} {field_words(leaf, korean)}"
        if query not in found:
            found.append(query)
        if len(found) == MOST_QUERIES:
            break
    return found


def field_words(leaf: Leaf, korean: bool) -> str:
    meaning = meaning_of(leaf)
    if meaning is not None and meaning.concept in _WORDS:
        words = _WORDS[meaning.concept][korean]
        return f"{words} {meaning.year}" if meaning.year else words
    words = " ".join(dict.fromkeys(normal(step) or step for step in leaf.words))
    return clip(one_line(words), 80)
