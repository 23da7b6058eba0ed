"""A stand-in for the research server with the same tools: quick, and as faulty as a test wants it.

In a process of its own: `research_standin.py PORT LOG [LATENCY_S]`. Each call that does its work is a line in LOG.
What it knows of a company depends on its name alone. In the first round `founded` is found for about half of them, the
rest of them need a follow-up query. Names with "cursed" in them fail for good, those with
"garbled" get an answer that is none, those with "shy" never have a `founded`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

Json = dict[str, Any]
SCHEMA: Json = {
    "type": "object",
    "properties": {"ceo": {"type": "string"}, "founded": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["ceo", "founded"],
}


@dataclass
class Weather:
    latency_s: dict[str, float] = field(default_factory=dict)
    passing: float = 0.0
    """The share of calls that fail with words that say to try again."""
    hanging: float = 0.0
    price: float | None = 0.001
    unpriced: str = "\n"
    """Companies with this in their names cost nobody knows what."""
    log: Path | None = None
    down: str = ""
    """What every call is refused with, while set."""
    calls: list[str] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    async def call(self, tool: str, company: str, more: str = "") -> None:
        now = self.running[tool] = self.running.get(tool, 0) + 1
        self.most[tool] = max(now, self.most.get(tool, 0))
        try:
            if self.down and tool != "reflect_quality":  # which asks nobody outside
                raise ToolError(self.down)
            chance = self.chance.random()
            if chance < self.hanging:
                await asyncio.sleep(300)
            await asyncio.sleep(self.latency_s.get(tool, self.latency_s.get("", 0.0)))
            if chance < self.hanging + self.passing:
                raise ToolError("Try again in 0.1 s: the provider answered 429.")
            if "cursed" in company:
                raise ToolError(f"Nothing may be said about {company}.")
            self.note(f"{tool} {company} {more}".strip())
        finally:
            self.running[tool] -= 1

    def note(self, line: str) -> None:
        self.calls.append(line)
        if self.log is not None:  # one line that no other process can break into
            handle = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, f"{line}\n".encode())
            os.close(handle)


def facts(company: str) -> Json:
    mark = hashlib.sha256(company.encode()).hexdigest()
    found: Json = {"ceo": f"Chief {mark[:4]}", "founded": 1900 + int(mark[:2], 16) % 120, "city": f"Town {mark[4:6]}"}
    return {name: value for name, value in found.items() if not (name == "founded" and "shy" in company)}


def hides(company: str) -> bool:
    """Whether its year is only found by a follow-up query."""
    return int(hashlib.sha256(company.encode()).hexdigest()[-1], 16) < 6


def create(weather: Weather) -> FastMCP[None]:
    server: FastMCP[None] = FastMCP("research")

    @server.tool
    async def research_company(
        company_name: str,
        extraction_schema: Json | None = None,
        search_provider: str = "",
        max_queries: int = 3,
        follow_up_queries: list[str] | None = None,
        max_chars: int = 8000,
        accept_stale: bool = True,
    ) -> Json:
        round = "again" if follow_up_queries else "first"
        await weather.call("research_company", company_name, round)
        known = facts(company_name)
        if follow_up_queries:
            known = {"founded": known["founded"]} if "founded" in known else {}
        elif hides(company_name):
            known.pop("founded", None)
        lines = [f"{name}: {value}" for name, value in known.items()]
        content = "\n".join([*lines, "lorem ipsum " * 100])
        url = f"http://pages.test/{round}/{hashlib.sha256(company_name.encode()).hexdigest()[:8]}"
        results = [{"url": url, "title": company_name, "content": content, "provider": "standin", "published": None}]
        metadata = {"provider": "standin", "queries_executed": 1, "results_found": 1, "duration_seconds": 0.0}
        price = None if weather.unpriced in company_name else weather.price
        metadata |= {"cached": False, "cost": price, "problems": []}
        queries = follow_up_queries or [f"{company_name} ceo"]
        notes = f"[1] {company_name} — {url}\n{content}"
        return {"research_queries": queries, "search_results": results, "research_notes": notes, "metadata": metadata}

    @server.tool
    async def extract_data(
        company_name: str,
        extraction_schema: Json,
        research_notes: str = "",
        sources: list[Json] | None = None,
        mode: str = "auto",
    ) -> Json:
        await weather.call("extract_data", company_name)
        if "garbled" in company_name:
            return {"what": "is this"}
        data: Json = {}
        fields = []
        for source in sources or []:
            for line in source["content"].splitlines():
                name, _, value = line.partition(": ")
                if name in extraction_schema["properties"] and value:
                    data[name] = int(value) if value.isdigit() else value
                    fields.append({"path": name, "value": data[name], "confidence": 0.9, "source": source["url"]})
                    fields[-1]["passage"] = line
        usage = {"model": "standin", "calls": 1, "input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 0}
        usage["cost"] = weather.price
        return {
            "extracted_data": data, "confidence_score": 0.9 if data else 0.0, "fields": fields, "dropped": [],
            "by": "model", "usage": usage, "note": "",
        }  # fmt: skip

    @server.tool
    async def reflect_quality(
        extracted_data: Json,
        extraction_schema: Json,
        company_name: str,
        fields: list[Json] | None = None,
        sources: list[Json] | None = None,
        mode: str = "auto",
    ) -> Json:
        if "not" in extraction_schema:
            raise ToolError("The root of extraction_schema uses `not`, which is not read here.")
        if extracted_data or company_name != "Example":
            await weather.call("reflect_quality", company_name)
        wanted = extraction_schema.get("required") or []
        missing = [name for name in wanted if name not in extracted_data]
        return {
            "is_complete": not missing, "completeness_score": 1 - len(missing) / max(1, len(wanted)),
            "missing_fields": missing, "follow_up_queries": [f"{company_name} {name}" for name in missing],
            "quality_issues": [], "usage": None, "by": "rules",
        }  # fmt: skip

    return server


if __name__ == "__main__":
    weather = Weather(log=Path(sys.argv[2]), latency_s={"": float(sys.argv[3]) if len(sys.argv) > 3 else 0.05})
    create(weather).run(
        "http", host="127.0.0.1", port=int(sys.argv[1]), path="/research", show_banner=False, log_level="error"
    )
