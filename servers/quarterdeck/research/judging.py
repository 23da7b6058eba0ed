"""The tools that judge what was found: data to a schema, and whether it is whole and sound."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from fastmcp import FastMCP
from pydantic import Field

from quarterdeck.keel.answers import clip, fit, one_line
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.identity import SPEND, caller_now
from quarterdeck.keel.model import Model, ModelFailed, Usage
from quarterdeck.keel.settings import Settings
from quarterdeck.keel.structured import Brought
from quarterdeck.keel.tools import look
from quarterdeck.research.asking import extract_with_model, to_batch
from quarterdeck.research.doubting import doubt, worth_asking
from quarterdeck.research.errors import Passing
from quarterdeck.research.evidence import Source
from quarterdeck.research.extraction import Extraction, Found, Left, extract, sources_of_notes
from quarterdeck.research.findings import ROOM, Batched, Extracted, FieldFound, FieldLeft, GivenSource, Reflected
from quarterdeck.research.reflection import Claim, Reflection, reflect
from quarterdeck.research.schema import check

MOST_SOURCES = 50
MOST_NOTES = 200_000
"""Characters of research notes."""
MOST_TEXT = 2_000_000
"""Characters of all sources together."""
LONGEST_NAME = 300

Mode = Annotated[
    Literal["auto", "rules", "model"],
    Field(description="rules: no model, no cost; model: Claude, needs a key; auto: the model when there is a key"),
]
CompanyName = Annotated[str, Field(description="e.g. Brightwater Instruments")]
Schema = Annotated[
    dict[str, Any],
    Field(description='JSON schema, e.g. {"type": "object", "properties": {"ceo": {"type": "string"}}}'),
]
Sources = Annotated[list[GivenSource], Field(description=f"search_results of research_company, up to {MOST_SOURCES}")]


def add_tools(server: FastMCP[Any], settings: Settings) -> None:
    model = Model.of(settings)
    # So that the model is never waited for longer than needed, callers may have more in hand than it gets at once.
    extracting = asyncio.Semaphore(settings.research.extract_at_once)
    reflecting = asyncio.Semaphore(settings.research.reflect_at_once)

    @look(server, timeout=600.0)
    async def extract_data(
        company_name: CompanyName,
        extraction_schema: Schema,
        research_notes: Annotated[
            str, Field(description="research_notes of research_company; enough without sources")
        ] = "",
        sources: Sources = [],  # noqa: B006
        mode: Mode = "auto",
    ) -> Extracted:
        """Fill a JSON schema with what sources say about one company, each value with its source and passage.

        Give the search_results of research_company as `sources`, or its research_notes. A field that no source states
        plainly, or that sources contradict, stays out of extracted_data; `dropped` says what was seen and not used.
        Then call reflect_quality with extracted_data, fields and the same sources."""
        name = company(company_name)
        shape = await asyncio.to_thread(check, extraction_schema)
        given, note = gathered(research_notes, sources)
        if not given:
            return nothing()
        using = by_model(mode, model)
        if using is not None:
            try:
                done, usage = await extract_with_model(using, name, shape, given, extracting)
                return answered(done, "model", usage, note)
            except ModelFailed as error:
                note = fallen_back(error, mode, note)
        done = await asyncio.to_thread(extract, name, shape, given)
        return answered(done, "rules", None, note)

    @look(server, timeout=600.0)
    async def extract_by_batch(
        company_name: CompanyName,
        extraction_schema: Schema,
        research_notes: Annotated[str, Field(description="as in extract_data")] = "",
        sources: Sources = [],  # noqa: B006
        answer: Annotated[str, Field(description="what the batch answered; empty: make the request")] = "",
        cut: Annotated[bool, Field(description="its stop_reason was max_tokens")] = False,
    ) -> Batched:
        """For programs: extract_data through the Message Batches API, at half the price. Without `answer`: the
        `request` to send in a batch. With it and the same sources: `extracted`, as judged by extract_data."""
        name = company(company_name)
        shape = await asyncio.to_thread(check, extraction_schema)
        given, note = gathered(research_notes, sources)
        using = by_model("model", model)
        assert using is not None
        if not given:
            return Batched(extracted=nothing())
        if not answer:
            return Batched(request=await to_batch(using, name, shape, given))
        try:
            brought = Brought(answer, cut)
            done, usage = await extract_with_model(using, name, shape, given, extracting, brought)
        except ModelFailed as error:
            note = fallen_back(error, "auto", note)
            done = await asyncio.to_thread(extract, name, shape, given)
            return Batched(extracted=answered(done, "rules", error.usage, note))
        return Batched(extracted=answered(done, "model", usage, note))

    @look(server, timeout=600.0)
    async def reflect_quality(
        extracted_data: Annotated[dict[str, Any], Field(description="extracted_data of extract_data")],
        extraction_schema: Schema,
        company_name: CompanyName,
        fields: Annotated[
            list[dict[str, Any]], Field(description="fields of extract_data, so that passages are checked")
        ] = [],  # noqa: B006
        sources: Sources = [],  # noqa: B006
        mode: Mode = "auto",
    ) -> Reflected:
        """Judge extracted data: what is missing, wrong, contradicted, stale or unsupported; what to search next.

        completeness_score weighs required fields 3, others 1. is_complete: every required field is there and nothing
        serious is wrong. Hand follow_up_queries to research_company, extract again, and reflect again."""
        name = company(company_name)
        shape = await asyncio.to_thread(check, extraction_schema)
        measured(extracted_data)
        given, note = gathered("", sources)
        using, claims = by_model(mode, model), claims_of(fields)
        done = await asyncio.to_thread(reflect, name, shape, extracted_data, claims, given)
        usage = None
        if using is not None and worth_asking(done):
            try:
                usage = await doubt(using, name, shape, extracted_data, claims, given, done, reflecting)
            except ModelFailed as error:
                note = fallen_back(error, mode, note)
        return judged(done, usage, note)


def fallen_back(error: ModelFailed, mode: str, note: str) -> str:
    """What passes is worth trying again; what stays leaves the rules, when the caller has left the choice to us."""
    if error.passing:
        raise Passing(str(error), error.after_s) from error
    if mode == "model":
        raise error
    return f"{note} By rules, since the model could not be used: {error}".strip()


def by_model(mode: str, model: Model | None) -> Model | None:
    """The model that is to be used, if any; rules where it is left to us and the caller may cause no costs."""
    if mode == "model" and model is None:
        raise Refusal("There is no model's key. Set QUARTERDECK_MODEL_API_KEY, or use mode rules.")
    if mode == "rules" or model is None:
        return None
    if may_spend():
        return model
    if mode == "model":
        raise Denied(f"The model costs money: your token lacks the scope '{SPEND}'. Use mode rules.")
    return None


def may_spend() -> bool:
    return SPEND in caller_now().scopes


def company(name: str) -> str:
    bare = one_line(name)
    if not any(letter.isalnum() for letter in bare):
        raise Refusal("company_name is empty. Give the name of one company.")
    if len(bare) > LONGEST_NAME:
        raise Refusal(f"company_name has {len(bare):,} characters; a name has at most {LONGEST_NAME}.")
    return bare


def gathered(notes: str, given: list[GivenSource]) -> tuple[list[Source], str]:
    """Sources and notes as one list without repetition, within bounds; and what was left out."""
    if len(given) > MOST_SOURCES:
        raise Refusal(f"{len(given)} sources are too many; give the best {MOST_SOURCES}.")
    if len(notes) > MOST_NOTES:
        raise Refusal(f"research_notes has {len(notes):,} characters; {MOST_NOTES:,} are read. Give sources instead.")
    found = [Source(one.url, one_line(one.title), one.content, one.published) for one in given if one.content.strip()]
    known = {source.url for source in found}
    found += [
        source
        for source in sources_of_notes(notes)
        if (not source.url and not found) or (source.url and source.url not in known)
    ]
    kept: list[Source] = []
    room = MOST_TEXT
    for source in found[: MOST_SOURCES * 2]:
        if len(source.content) > room:
            return (
                kept,
                f"Not read, beyond {MOST_TEXT:,} characters: {clip(source.url, 120) or 'the notes'} and what follows.",
            )
        room -= len(source.content)
        kept.append(source)
    return kept, ""


def measured(data: dict[str, Any]) -> None:
    try:
        size = len(json.dumps(data))
    except (ValueError, RecursionError):
        raise Refusal("extracted_data is not plain JSON. Hand over extracted_data of extract_data.") from None
    if size > MOST_NOTES:
        raise Refusal(f"extracted_data takes {size:,} bytes; {MOST_NOTES:,} are read.")


def claims_of(fields: list[dict[str, Any]]) -> list[Claim]:
    found = []
    for one in fields[:1000]:
        path, sure = one.get("path"), one.get("confidence")
        if isinstance(path, str) and path:
            told = float(sure) if isinstance(sure, int | float) else None
            found.append(
                Claim(
                    path[:300],
                    one.get("value"),
                    told,
                    str(one.get("source") or "")[:2000],
                    str(one.get("passage") or "")[:1000],
                )
            )
    return found


def nothing() -> Extracted:
    return Extracted(
        extracted_data={}, confidence_score=0.0, fields=[], dropped=[], by="rules",
        note="There was nothing to read: give research_notes, or sources with content.",
    )  # fmt: skip


def answered(done: Extraction, by: Literal["model", "rules"], usage: Usage | None, *notes: str) -> Extracted:
    def make(count: int) -> Extracted:
        left = len(done.fields) - min(count, len(done.fields))
        cut = f"The passages of {left} further values did not fit." if left else ""
        return Extracted(
            extracted_data=done.data,
            confidence_score=done.confidence,
            fields=[
                _found(one)
                for one in done.fields[:count]
            ],
            dropped=[
                _left(one)
                for one in done.dropped[:30]
            ],
            by=by,
            usage=usage,
            note=" ".join(part for part in (*notes, *done.notes, cut) if part),
        )  # fmt: skip

    return fit(make, len(done.fields), ROOM)


def _found(one: Found) -> FieldFound:
    return FieldFound(path=one.name, value=one.value, confidence=one.confidence, source=one.source, passage=one.passage)


def _left(one: Left) -> FieldLeft:
    value = one.value if isinstance(one.value, int | float) else clip(str(one.value), 120)
    return FieldLeft(path=one.path, value=value, why=clip(one.why, 300))


def judged(done: Reflection, usage: Usage | None, *notes: str) -> Reflected:
    return Reflected(
        is_complete=done.is_complete,
        completeness_score=done.completeness,
        missing_fields=done.missing,
        follow_up_queries=done.queries,
        quality_issues=[clip(str(issue), 300) for issue in done.issues],
        usage=usage,
        by="model" if usage else "rules",
        note=" ".join(part for part in notes if part),
    )
