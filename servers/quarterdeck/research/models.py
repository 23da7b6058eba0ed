"""What the searching tools answer. Text of pages in them is data: it is fenced in the text and labelled here."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from quarterdeck.keel.answers import UNTRUSTED, Answer, fence
from quarterdeck.research.notes import notes_of


class ResearchAnswer(Answer):
    def size(self) -> int:
        """In characters, since callers say `max_chars`: Korean must not count three times."""
        return max(len(self.text()), len(json.dumps(self.structure(), ensure_ascii=False)))


class Tried(BaseModel):
    name: str
    problem: str


class WebResult(BaseModel):
    url: str
    title: str
    content: str
    provider: str
    age_s: int | None = None
    """Seconds since the provider was asked, where the result was kept from then."""
    published: str | None = None


class WebResults(ResearchAnswer):
    query: str
    results: list[WebResult]
    provider: str
    providers_tried: list[Tried]
    cached: bool
    note: str = ""
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        heading = f"{len(self.results)} results from {self.provider} for {self.query!r}{_kept(self.results)}."
        rows = [(one.url, _dated(one.title, one.published), one.content) for one in self.results]
        tried = [f"note: {one.name}: {one.problem}" for one in self.providers_tried]
        return _lines(heading, fence(notes_of(rows), "search results") if rows else "", *tried, self.note)


class FetchedPage(ResearchAnswer):
    url: str
    final_url: str
    title: str
    content: str = Field(serialization_alias="text")  # `text` is the method that every answer has
    total_chars: int
    next_offset: int | None = None
    kind: Literal["html", "pdf", "text"]
    age_s: int
    published: str | None = None
    note: str = ""
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        shown = f"{len(self.content):,} of {self.total_chars:,} characters"
        more = f"More: call again with offset={self.next_offset}." if self.next_offset is not None else ""
        heading = (
            f"{_dated(self.title or 'A page', self.published)} ({self.kind}), {shown}, fetched {self.age_s} s ago."
        )
        return _lines(heading, fence(self.content, self.final_url) if self.content else "", more, self.note)

    def structure(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


class CompanyResult(BaseModel):
    url: str
    title: str
    content: str
    provider: str
    published: str | None = None


class ResearchMetadata(BaseModel):
    provider: str
    queries_executed: int
    results_found: int
    duration_seconds: float
    cached: bool
    cost: float | None = None
    """US dollars; left out where a price is not known."""
    problems: list[str]
    stale_s: int | None = None
    """How old the oldest results are that only stand in, since no provider answered."""


class CompanyResearch(ResearchAnswer):
    research_queries: list[str]
    search_results: list[CompanyResult]
    research_notes: str
    metadata: ResearchMetadata
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        about = self.metadata
        cost = "unknown" if about.cost is None else f"${about.cost:.4f}"
        pages = "1 page" if about.results_found == 1 else f"{about.results_found} pages"
        heading = (
            f"{pages} from {about.provider} in {about.duration_seconds:.1f} s, cost {cost}."
            f" Queries: {'; '.join(self.research_queries)}."
        )
        notes = fence(self.research_notes, "search results") if self.research_notes else ""
        return _lines(heading, notes, *(f"note: {one}" for one in about.problems))


class SourceState(BaseModel):
    name: str
    kind: str
    ready: bool
    why_not: str = ""
    per_minute: float | None = None
    left: int | None = None
    """Searches that can be made at once now."""
    opens_again_s: float | None = None
    """Seconds until it is asked again: it failed too often, or its limit is used up."""
    documents: int | None = None
    price_per_search: float | None = None

    def row(self) -> str:
        if not self.ready:
            return f"{self.name} ({self.kind}): not ready, {self.why_not}"
        said = [
            f"{self.documents:,} documents" if self.documents is not None else "",
            f"{self.per_minute:g} a minute, {self.left} at once now" if self.per_minute is not None else "",
            f"${self.price_per_search:g} a search" if self.price_per_search is not None else "",
            f"left alone for {self.opens_again_s:.0f} s: {self.why_not}" if self.opens_again_s else "",
        ]
        return f"{self.name} ({self.kind}): ready; " + ", ".join(part for part in said if part)


class Sources(ResearchAnswer):
    providers: list[SourceState]
    order: list[str]
    note: str = ""

    def text(self) -> str:
        asked = f"Asked in this order: {', '.join(self.order)}." if self.order else "Nobody can be asked yet."
        return _lines(asked, *(one.row() for one in self.providers), self.note)


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _dated(title: str, published: str | None) -> str:
    return f"{title} ({published})" if published else title


def _kept(results: list[WebResult]) -> str:
    ages = [one.age_s for one in results if one.age_s is not None]
    return f", found {max(ages)} s ago" if ages else ""
