"""What extract_data and reflect_quality answer. Values and passages come from outside: they are data."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from quarterdeck.keel.answers import UNTRUSTED, Answer, clip, fence, one_line
from quarterdeck.keel.model import Usage

ROOM = 24_000
"""Bytes of an extraction: what agents hand on whole. The data itself is never cut, only what explains it."""


class GivenSource(BaseModel):
    """One page or search result, as search_web and research_company return them."""

    url: str = Field("", max_length=2_000)
    title: str = Field("", max_length=1_000)
    content: str = Field("", max_length=200_000)
    published: str | None = Field(None, max_length=40)


class FieldFound(BaseModel):
    """One value with the passage that it rests on."""

    path: str
    value: Any
    confidence: float
    source: str
    passage: str


class FieldLeft(BaseModel):
    path: str
    value: Any
    why: str


class Extracted(Answer):
    extracted_data: dict[str, Any]
    confidence_score: float
    fields: list[FieldFound]
    dropped: list[FieldLeft]
    by: Literal["model", "rules"]
    usage: Usage | None = None
    note: str = ""
    untrusted: str = UNTRUSTED

    def text(self) -> str:
        rows = [
            f"{one.path} = {_said(one.value)} ({one.confidence:.2f}; {one_line(one.source) or 'the notes'}): "
            f"{one_line(one.passage)}"
            for one in self.fields
        ]
        rows += [f"left out: {one.path} = {_said(one.value)}: {one_line(one.why)}" for one in self.dropped]
        head = f"{len(self.fields)} values by {self.by}, confidence {self.confidence_score:.2f}."
        body = [fence("\n".join(rows), "what sources say")] if rows else []
        data = (
            fence(json.dumps(self.extracted_data, ensure_ascii=False), "extracted_data") if self.extracted_data else ""
        )
        used = self.usage.words() if self.usage else ""
        return "\n".join(part for part in (head, data, *body, used, self.note) if part)


class Batched(Answer):
    """One of two: what to send in a batch, or what came of its answer."""

    request: dict[str, Any] = Field({})
    extracted: Extracted | None = None

    def text(self) -> str:
        if self.extracted is not None:
            return self.extracted.text()
        return f"`request` holds one request of a message batch, for {self.request.get('model', 'the model')}."


class Reflected(Answer):
    is_complete: bool
    completeness_score: float
    missing_fields: list[str]
    follow_up_queries: list[str]
    quality_issues: list[str]
    usage: Usage | None = None
    by: Literal["model", "rules"] = "rules"
    note: str = ""

    def text(self) -> str:
        head = f"{'Complete' if self.is_complete else 'Not complete'}: {self.completeness_score:.0%} by weight."
        missing = f"Missing: {', '.join(self.missing_fields)}" if self.missing_fields else ""
        ask = "\n".join(["Search next for:", *self.follow_up_queries]) if self.follow_up_queries else ""
        issues = fence("\n".join(self.quality_issues), "issues, quoting sources") if self.quality_issues else ""
        used = self.usage.words() if self.usage else ""
        return "\n".join(part for part in (head, missing, ask, issues, used, self.note) if part)


def _said(value: Any) -> str:
    return clip(one_line(json.dumps(value, ensure_ascii=False)), 200)
