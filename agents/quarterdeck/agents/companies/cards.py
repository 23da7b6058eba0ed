"""The cards of the four workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from a2a.types.a2a_pb2 import Message

from quarterdeck.agents.companies import asked
from quarterdeck.agents.runtime.agent import Agent, Skill

PER_INSTANCE = {"research": 5, "extraction": 5, "reflection": 10, "storage": 10}
"""Calls that one worker process takes at once."""
FLEET = {"research": 50, "extraction": 25, "reflection": 20, "storage": 10}
"""The same for all of a kind, when they are in this process: ten, five, two and one of them."""
VERSION = "1.0.0"
_NOTE = (
    "Needs the scope 'spend'. Input: one data part (or the same as JSON text) with the fields of the example. Output: "
    "one data artifact."
)


def _example(**given: Any) -> tuple[str, ...]:
    return (json.dumps(given),)


def _read(kind: type[asked.Asked]) -> Callable[[Message], dict[str, Any]]:
    return lambda message: {"input": asked.read(kind, message)}


_SCHEMA = {"type": "object", "properties": {"ceo": {"type": "string"}}, "required": ["ceo"]}

RESEARCH = Agent(
    name="research",
    title="Quarterdeck research worker",
    description="Searches for one company at a time, with several queries side by side, and returns notes.",
    version=VERSION,
    skills=(
        Skill(
            "research_company",
            "Research a company",
            f"Queries, search results and notes about one company, towards a JSON schema. {_NOTE}",
            ("research", "search", "companies"),
            _example(
                company_name="ACME", extraction_schema=_SCHEMA, search_provider="", max_queries=3, follow_up_queries=[]
            ),
        ),
    ),
    flow="companies.worker.research",
    read=_read(asked.Research),
    output_modes=("application/json",),
    durable=False,
)

EXTRACTION = Agent(
    name="extraction",
    title="Quarterdeck extraction worker",
    description="Reads values out of research notes by a JSON schema, each with the passage it rests on.",
    version=VERSION,
    skills=(
        Skill(
            "extract_data",
            "Extract data",
            f"Values by a JSON schema out of notes or sources, with a confidence score. {_NOTE}",
            ("extraction", "companies"),
            _example(company_name="ACME", extraction_schema=_SCHEMA, research_notes="[1] …", sources=[], mode="auto"),
        ),
    ),
    flow="companies.worker.extraction",
    read=_read(asked.Extract),
    output_modes=("application/json",),
    durable=False,
)

REFLECTION = Agent(
    name="reflection",
    title="Quarterdeck reflection worker",
    description="Judges extracted data against its schema and says what to search for next.",
    version=VERSION,
    skills=(
        Skill(
            "reflect_quality",
            "Reflect on quality",
            f"Whether it is complete, how far, which fields are missing, and queries that would find them. {_NOTE}",
            ("reflection", "quality", "companies"),
            _example(company_name="ACME", extracted_data={"ceo": "R. Runner"}, extraction_schema=_SCHEMA),
        ),
    ),
    flow="companies.worker.reflection",
    read=_read(asked.Reflect),
    output_modes=("application/json",),
    durable=False,
)

STORAGE = Agent(
    name="storage",
    title="Quarterdeck storage worker",
    description="Keeps the result of a company of a job, once; raw notes and sources too.",
    version=VERSION,
    skills=(
        Skill(
            "store_results",
            "Store results",
            f"Writes one company's result; sent again it changes nothing. Only with the job's key. {_NOTE}",
            ("storage", "companies"),
            _example(job="q3", n=0, company_name="ACME", state="complete", data={"ceo": "R. Runner"}),
        ),
    ),
    flow="companies.worker.storage",
    read=_read(asked.Store),
    output_modes=("application/json",),
    durable=False,
)

WORKERS = {agent.name: agent for agent in (RESEARCH, EXTRACTION, REFLECTION, STORAGE)}
