"""Exa's search API."""

from __future__ import annotations

from typing import Any

import httpx

from quarterdeck.keel.settings import ResearchSettings
from quarterdeck.research.providers import (
    MOST_CONTENT,
    Api,
    Found,
    Hit,
    Question,
    Request,
    Said,
    need,
    outside,
    rows_of,
    text_of,
)

LONGEST = 1000
UNUSABLE = {
    401: "the key is not accepted; check QUARTERDECK_RESEARCH_EXA_KEY",
    402: "no credit is left",
    403: "the key may not search; check QUARTERDECK_RESEARCH_EXA_KEY",
}


def api(settings: ResearchSettings) -> Api:
    key = settings.exa_key.get_secret_value()

    def ask(question: Question) -> Request:
        body = {
            "query": question.text[:LONGEST],
            "type": "auto",
            "numResults": min(100, question.most),
            "contents": {"text": {"maxCharacters": MOST_CONTENT}},
        }
        return Request("POST", f"{settings.exa_url}/search", {"x-api-key": key}, json=body)

    return Api("exa", need("exa", key), ask, read, said, UNUSABLE)


def read(answer: Any) -> Found:
    hits = []
    for row in rows_of(answer, "results"):
        marked = row.get("highlights")
        parts = [part for part in marked if isinstance(part, str)] if isinstance(marked, list) else []
        content = text_of(row.get("text")) or text_of(row.get("summary")) or text_of("\n".join(parts))
        hits.append(Hit(row["url"], text_of(row.get("title")), content, "exa", text_of(row.get("publishedDate"))))
    cost = answer.get("costDollars") if isinstance(answer, dict) else None
    total = cost.get("total") if isinstance(cost, dict) else None
    return Found(hits, float(total) if isinstance(total, int | float) else None, _failed(answer))


def _failed(answer: Any) -> str:
    """Pages that Exa found but could not read are named inside a good answer."""
    statuses = answer.get("statuses") if isinstance(answer, dict) else None
    bad = (
        [one for one in statuses if isinstance(one, dict) and one.get("status") == "error"]
        if isinstance(statuses, list)
        else []
    )
    if not bad:
        return ""
    inner = bad[0].get("error")
    why = outside(inner.get("tag"), 60) if isinstance(inner, dict) else ""
    return f"exa could not read {len(bad)} of its pages{f' ({why})' if why else ''}"


def said(_: httpx.Headers, answer: Any) -> Said:
    if not isinstance(answer, dict):
        return "", None
    parts = [outside(answer.get(name), 120) for name in ("tag", "error")]  # the tags are an open set
    return ": ".join(part for part in parts if part), None
