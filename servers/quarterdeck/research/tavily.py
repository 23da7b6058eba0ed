"""Tavily's search API."""

from __future__ import annotations

from typing import Any

import httpx

from quarterdeck.keel.settings import ResearchSettings
from quarterdeck.research.providers import Api, Found, Hit, Question, Request, Said, need, outside, rows_of, text_of

LONGEST = 400
UNUSABLE = {
    401: "the key is not accepted; check QUARTERDECK_RESEARCH_TAVILY_KEY",
    403: "the key may not search; check QUARTERDECK_RESEARCH_TAVILY_KEY",
    432: "the plan's limit is reached",
    433: "the pay-as-you-go limit is reached",
}


def api(settings: ResearchSettings) -> Api:
    key = settings.tavily_key.get_secret_value()

    def ask(question: Question) -> Request:
        # The page's text comes with the result and saves a fetch of our own.
        body = {
            "query": question.text[:LONGEST],
            "max_results": min(20, question.most),
            "search_depth": "basic",
            "include_raw_content": "text",
        }
        return Request("POST", f"{settings.tavily_url}/search", {"authorization": f"Bearer {key}"}, json=body)

    return Api("tavily", need("tavily", key), ask, read, said, UNUSABLE)


def read(answer: Any) -> Found:
    hits = []
    for row in rows_of(answer, "results"):
        snippet, raw = text_of(row.get("content")), text_of(row.get("raw_content"))
        content = raw if snippet and snippet in raw else f"{snippet}\n\n{raw}".strip()
        hits.append(Hit(row["url"], text_of(row.get("title")), content, "tavily", text_of(row.get("published_date"))))
    return Found(hits)


def said(_: httpx.Headers, answer: Any) -> Said:
    for name in ("detail", "error"):  # with a key, and without one
        inner = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(inner, str):
            return outside(inner), None
        if isinstance(inner, dict):
            after = inner.get("retry_after_seconds")
            return outside(inner.get("error") or inner.get("message")), after if isinstance(
                after, int | float
            ) else None
    return "", None
