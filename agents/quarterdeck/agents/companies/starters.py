"""Schemas to start from: copy one, and change it to what you want to know."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def _count(description: str) -> Json:
    return {"type": "integer", "minimum": 0, "description": description}


def _all(item: Json, description: str) -> Json:
    return {"type": "array", "items": item, "description": description}


def _object(properties: Json, *required: str, description: str = "") -> Json:
    made: Json = {"type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    return {"description": description, **made} if description else made


_MONEY = {
    "amount": {"type": "number", "description": "in whole units of the currency, not in thousands"},
    "currency": _text("ISO code, such as USD or KRW"),
    "year": {"type": "integer", "description": "the year it is of"},
}
_PERSON = _object({"name": _text("full name"), "title": _text("what they are there")}, "name")

STARTERS: dict[str, Json] = {
    "basics": {
        "title": "What the company is",
        **_object(
            {
                "description": _text("what it does, in one sentence"),
                "website": _text("address of its own site", format="uri"),
                "industry": _text("the line of business"),
                "founded": {"type": "integer", "minimum": 1500, "description": "year"},
                "headquarters": _object({"city": _text("city"), "country": _text("country")}),
                "employees": _count("how many people work there"),
                "ceo": _text("who leads it now"),
            },
            "description", "website", "founded", "ceo",
        ),
    },
    "people": {
        "title": "Who leads the company",
        **_object(
            {
                "ceo": _text("who leads it now"),
                "founders": _all(_text("full name"), "everybody who founded it"),
                "founded": {"type": "integer", "minimum": 1500, "description": "year"},
                "leaders": _all(_PERSON, "the board of management"),
                "employees": _count("how many people work there"),
            },
            "ceo", "founders",
        ),
    },
    "finance": {
        "title": "How the company does",
        **_object(
            {
                "revenue": _object(_MONEY, "amount", "currency", description="the last full year"),
                "operating_profit": _object(_MONEY, description="the last full year"),
                "employees": _count("how many people work there"),
                "listed": {"type": "boolean", "description": "whether its shares are traded on an exchange"},
                "ticker": _text("such as 005930.KS"),
                "funding": _object(
                    {
                        "total": _object(_MONEY, description="all that was ever raised"),
                        "last_round": _text("such as Series B"),
                        "investors": _all(_text("name"), "who put money in"),
                    }
                ),
            },
            "revenue",
        ),
    },
}  # fmt: skip


def starter(name: str) -> Json:
    return {"$schema": DRAFT, **STARTERS[name]}
