"""What stands behind a label, read as what the label is about; nothing where it does not read as that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from quarterdeck.research import values
from quarterdeck.research.labels import CONCEPTS, normal
from quarterdeck.research.names import UP, Company
from quarterdeck.research.values import Day

CEO_ROLE = re.compile(
    r"(?i)(?:(?P<a>(?:co-?\s?)?founder)\s?(?:&|and|,|/)\s?)?(?:president\s?(?:&|and)\s?)?(?:chairman\s?(?:&|and)\s?)?"
    r"(?:group\s)?(?:CEO|chief executive(?: officer)?(?:\s?\(CEO\))?|managing director|대표이사|대표)"
    r"(?:\s?(?:&|and|,|/)\s?(?P<b>(?:co-?\s?)?founder))?"
)
GONE = re.compile(
    r"(?i)\b(?:until|former|formerly|ex|resigned|interim|acting|designate|elect|previous|left|emeritus|deputy|vice|outgoing)\b|전\s|前|직무대행|권한대행"
)


def typed(
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
            value = None if GONE.search(text) else values.person(re.split(r",\s(?=(?:since|appointed)\b)", text)[0])
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
                    and CEO_ROLE.fullmatch(role["role"].strip())
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
