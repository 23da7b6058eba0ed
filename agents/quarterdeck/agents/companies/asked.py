"""What each worker is asked for: the inputs of the four skills, checked. Unknown fields are refused by their name."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar

from a2a.types.a2a_pb2 import Message
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quarterdeck.agents.runtime.agent import data_of
from quarterdeck.keel.errors import Refusal

Json = dict[str, Any]
Name = Field(min_length=1, max_length=10_000)


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Research(Asked):
    """research_company"""

    company_name: str = Name
    extraction_schema: Json
    search_provider: str = Field("", max_length=60)
    max_queries: int = Field(3, ge=1, le=10)
    follow_up_queries: list[str] = Field([], max_length=20)
    max_chars: int = Field(24_000, ge=500, le=100_000)
    accept_stale: bool = True
    """When all providers fail, what was found earlier will do; the metadata says how old it is."""


class Extract(Asked):
    """extract_data"""

    company_name: str = Name
    extraction_schema: Json
    research_notes: str = Field("", max_length=200_000)
    sources: list[Json] = Field([], max_length=100)
    mode: Literal["auto", "rules", "model"] = "auto"
    batch: bool = False
    """Make the request for a message batch; with `answer`, judge what the batch answered."""
    answer: str = Field("", max_length=400_000)
    cut: bool = False
    """Whether that answer was longer than it might be."""


class Reflect(Asked):
    """reflect_quality"""

    extracted_data: Json
    extraction_schema: Json
    company_name: str = Name
    fields: list[Json] = Field([], max_length=2_000)
    sources: list[Json] = Field([], max_length=100)
    mode: Literal["auto", "rules", "model"] = "auto"


class Store(Asked):
    """store_results"""

    job: str = Field(min_length=1, max_length=100)
    n: int = Field(ge=0)
    tries: int = Field(0, ge=0)
    company_name: str = Name
    state: Literal["complete", "incomplete", "failed"]
    data: Json = {}
    confidence: float = Field(0.0, ge=0, le=1)
    completeness: float = Field(0.0, ge=0, le=1)
    iterations: int = Field(0, ge=0)
    sources: list[str] = Field([], max_length=500)
    fields: list[Json] = Field([], max_length=2_000)
    problem: str = Field("", max_length=4_000)
    cost: float | None = None
    tokens: int = Field(0, ge=0)
    duration_s: float = Field(0.0, ge=0)
    finished: float = Field(0.0, ge=0)
    seal: str = Field("", max_length=100)
    """The job's key, which its coordinator has."""
    notes: Json | None = None
    """What the result rests on, as it was read: {queries, sources}."""


A = TypeVar("A", bound=Asked)


def _json(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}


def read(kind: type[A], message: Message) -> Json:
    """A message's data part, or its text if that is a JSON object, as this skill's input."""
    given = data_of(message) or _json("".join(part.text for part in message.parts))
    try:
        return kind.model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80] or "the data part"
        fields = ", ".join(kind.model_fields)
        said = "There is no such field" if first["type"] == "extra_forbidden" else first["msg"]
        raise Refusal(
            f"{kind.__doc__}: {where}: {said}. Send one data part, or a text that is a JSON object, with: {fields}."
        ) from None
