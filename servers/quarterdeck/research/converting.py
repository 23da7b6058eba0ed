"""A typed value as the JSON that a place in the schema wants; or why it cannot be put there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from quarterdeck.research.labels import Meaning
from quarterdeck.research.schema import Leaf
from quarterdeck.research.values import Count, Day, Money, Place


def letters(text: Any) -> str:
    """Its letters and figures alone, for comparing."""
    return re.sub(r"[\W_]", "", str(text).casefold())


@dataclass(frozen=True)
class Unfit:
    """Why a value cannot be put where it is wanted."""

    why: str


def convert(value: Any, leaf: Leaf, meaning: Meaning) -> Any:
    """A typed value as the JSON that the leaf wants; a list where the leaf is in one."""
    made = _CONVERT.get(type(value), _text)(value, leaf, meaning)
    if "enum" in leaf.schema and not isinstance(made, Unfit | list):
        if isinstance(value, Count) and leaf.type == "string":
            return _band(value.number, leaf)
        fitting = member(made, leaf)
        return Unfit("is none of the values that the schema allows") if fitting is None else fitting
    return made


def _day(day: Day, leaf: Leaf, meaning: Meaning) -> Any:
    if meaning.part in ("month", "day"):
        part = day.month if meaning.part == "month" else day.day
        return Unfit("") if part is None else part if leaf.type != "string" else str(part)
    yearly = meaning.part == "year" or re.search(r"(?i)year|연도|년도", leaf.path[-1])
    if leaf.type in ("integer", "number"):
        return day.year
    if leaf.type != "string":
        return Unfit("is a date, and the schema wants something else")
    wanted = leaf.schema.get("format")
    if wanted == "date" and day.day is None:
        return Unfit(f"only {day.iso()} is known, and the schema wants a whole date")
    if wanted == "date-time":
        return Unfit("is a date without a time")
    return str(day.year) if yearly or wanted == "year" else day.iso()


def _count(count: Count, leaf: Leaf, meaning: Meaning) -> Any:
    number: Any = count.year if meaning.part == "year" else count.number
    if number is None:
        return Unfit("")
    if leaf.type == "string":
        return str(number) if "enum" not in leaf.schema else number
    return number if leaf.type in ("integer", "number") else Unfit("is a number, and the schema wants something else")


def _money(money: Money, leaf: Leaf, meaning: Meaning) -> Any:
    if meaning.part == "currency":
        return money.currency or Unfit("")
    if meaning.part == "year":
        return Unfit("") if money.year is None else money.year if leaf.type != "string" else str(money.year)
    if meaning.currency and money.currency != meaning.currency:
        return Unfit(f"is in {money.currency or 'an unnamed currency'}, and the schema wants {meaning.currency}")
    if leaf.type == "string":
        return money.text if meaning.power is None else Unfit("is text, and the schema wants a unit")
    if leaf.type == "boolean":
        return Unfit("is an amount, and the schema wants yes or no")
    amount = money.amount / (Decimal(10) ** (meaning.power or 0))
    if amount == amount.to_integral_value():
        return int(amount)
    return float(amount) if leaf.type == "number" else Unfit("is no whole number in the unit that the schema wants")


def _place(where: Place, leaf: Leaf, meaning: Meaning) -> Any:
    if leaf.type != "string":
        return Unfit("is a place, and the schema wants something else")
    if meaning.part in ("", "text"):
        return where.text
    return getattr(where, meaning.part) or Unfit("")


def _several(names: tuple[Any, ...], leaf: Leaf, meaning: Meaning) -> Any:
    if meaning.concept == "ticker":
        if leaf.type != "string":
            return Unfit("is a ticker symbol, and the schema wants text")
        return (names[0] or Unfit("")) if meaning.part == "exchange" else names[1]
    if leaf.type != "string":
        return Unfit("is text, and the schema wants something else")
    return list(names) if "[]" in leaf.path else ", ".join(names)


def _text(text: Any, leaf: Leaf, meaning: Meaning) -> Any:
    if leaf.type != "string":
        return Unfit("is text, and the schema wants something else")
    if "[]" in leaf.path:
        return [part for part in re.split(r"\s*[,;·/]\s*", text) if part]
    if leaf.schema.get("format") in ("uri", "url") and "://" not in text:
        return f"https://{text}"
    return text


_CONVERT: dict[type, Callable[[Any, Leaf, Meaning], Any]] = {
    Day: _day, Count: _count, Money: _money, Place: _place, tuple: _several,
}  # fmt: skip


def member(value: Any, leaf: Leaf) -> Any:
    members = leaf.schema["enum"]
    if value in members:
        return value
    found = [one for one in members if letters(one) == letters(value)]
    return found[0] if len(found) == 1 else None


def _band(number: int, leaf: Leaf) -> Any:
    """The member that is a range with the number in it: 340 is in '201-500', and 12,000 in '10,001+'."""
    found = []
    for member in leaf.schema["enum"]:
        figures = [int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", str(member))]
        if (len(figures) == 2 and figures[0] <= number <= figures[1]) or (
            len(figures) == 1 and re.search(r"\+|more|over|이상|>", str(member)) and number >= figures[0]
        ):
            found.append(member)
    return found[0] if len(found) == 1 else Unfit("is in none of the ranges that the schema allows")
