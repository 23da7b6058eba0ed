"""SearXNG, the metasearch engine one runs oneself. Most public instances do not answer in JSON."""

from __future__ import annotations

from typing import Any

import httpx

from quarterdeck.keel.settings import ResearchSettings
from quarterdeck.research.errors import Passing
from quarterdeck.research.providers import Api, Found, Hit, Question, Request, Said, outside, rows_of, text_of

LONGEST = 400
UNUSABLE = {
    401: "it wants a password, which we do not send",
    403: "its format json is switched off, or it takes us for a robot; add json to search.formats in its settings.yml",
    404: "there is no SearXNG at this address",
}


def api(settings: ResearchSettings) -> Api:
    def ask(question: Question) -> Request:
        params = {"q": question.text[:LONGEST], "format": "json"}
        return Request("GET", f"{settings.searxng_url}/search", {"accept": "application/json"}, params)

    missing = "" if settings.searxng_url else "no address; set QUARTERDECK_RESEARCH_SEARXNG_URL"
    return Api("searxng", missing, ask, read, said, UNUSABLE)


def read(answer: Any) -> Found:
    hits = [
        Hit(
            row["url"],
            text_of(row.get("title")),
            text_of(row.get("content")),
            "searxng",
            text_of(row.get("publishedDate")),
        )
        for row in rows_of(answer, "results")
    ]
    silent = answer.get("unresponsive_engines") if isinstance(answer, dict) else None
    if not hits and silent:  # nothing found and nobody asked look the same otherwise
        raise Passing(f"none of searxng's engines answered ({outside(silent, 120)}).")
    return Found(hits)


def said(_: httpx.Headers, answer: Any) -> Said:
    return (outside(answer.get("error") or answer.get("message")) if isinstance(answer, dict) else ""), None
