"""Brave's web search API."""

from __future__ import annotations

from typing import Any

import httpx
from selectolax.lexbor import LexborHTMLParser

from quarterdeck.keel.settings import ResearchSettings
from quarterdeck.research.providers import Api, Found, Hit, Question, Request, Said, need, outside, rows_of, text_of

LONGEST = 400
MOST_WORDS = 50
UNUSABLE = {
    401: "the key is not accepted; check QUARTERDECK_RESEARCH_BRAVE_KEY",
    402: "no credit is left",
    403: "the key may not search; check QUARTERDECK_RESEARCH_BRAVE_KEY",
}


def api(settings: ResearchSettings) -> Api:
    key = settings.brave_key.get_secret_value()

    def ask(question: Question) -> Request:
        text = " ".join(question.text.split()[:MOST_WORDS])[:LONGEST]
        params = {"q": text, "count": str(min(20, question.most)), "result_filter": "web", "text_decorations": "false"}
        headers = {"x-subscription-token": key, "accept": "application/json"}
        return Request("GET", f"{settings.brave_url}/res/v1/web/search", headers, params)

    return Api("brave", need("brave", key), ask, read, said, UNUSABLE, used_up)


def read(answer: Any) -> Found:
    hits = []
    for row in rows_of(answer, "web", "results"):
        extra = row.get("extra_snippets")
        parts = [row.get("description"), *(extra if isinstance(extra, list) else [])]
        content = "\n".join(_bare(text_of(part)) for part in parts if part)
        published = text_of(row.get("page_age")) or text_of(row.get("age"))
        hits.append(Hit(row["url"], _bare(text_of(row.get("title"))), content, "brave", published))
    return Found(hits)


def said(headers: httpx.Headers, answer: Any) -> Said:
    error = answer.get("error") if isinstance(answer, dict) else None
    text = outside(error.get("detail") or error.get("code")) if isinstance(error, dict) else ""
    return text, used_up(headers) or None


def used_up(headers: httpx.Headers) -> float:
    """Seconds until every window has room again. The headers list the windows: `1, 15000` a second and a month."""
    left, reset = (_numbers(headers.get(f"x-ratelimit-{name}", "")) for name in ("remaining", "reset"))
    # The window of a second is what our own limit is for; here it counts only where a 429 says so, by its reset.
    return max((again for none, again in zip(left, reset, strict=False) if none <= 0), default=0.0)


def _numbers(text: str) -> list[float]:
    parts = [part.strip() for part in text.split(",")]
    return [float(part) for part in parts if part.isascii() and part.isdigit()]


def _bare(text: str) -> str:
    """Titles and descriptions may hold <strong> and entities."""
    if "<" not in text and "&" not in text:
        return text
    return str(LexborHTMLParser(text).text())
