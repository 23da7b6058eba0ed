"""The coordinator as an A2A agent: a person names companies and fields, watches, and reads the table."""

from __future__ import annotations

import json
import re
from typing import Any

from a2a.types.a2a_pb2 import Message

from quarterdeck.agents.companies import report
from quarterdeck.agents.companies.cards import VERSION
from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.outfit import office
from quarterdeck.agents.runtime.agent import Agent, Skill, data_of, text_of
from quarterdeck.agents.runtime.tasks import mark
from quarterdeck.keel import flows
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller

NAME = "companies"
LONG_S = 86_400.0 * 30
MOST_COMPANIES = 10_000
"""In one message; longer lists come over REST or the command."""
IN_TABLE = 200
"""Jobs up to this size bring their table along."""
FIRST_PAGE = 20
LARGEST_PAGE = 150_000
TOLD = 150
"""Reports of one job, at most about so many."""
FIELDS = ("description", "founded", "headquarters", "ceo", "employees", "website")
OPTIONS = ("max_iterations", "max_queries", "provider", "mode", "priority", "budget", "cheap", "label", "id")
Json = dict[str, Any]
_ASKED = re.compile(
    r"(?is)^\W*(?:please\s+)?research\s+(?:the\s+)?(?:compan(?:y|ies)\s*:?\s+)?(?P<names>.+?)"
    r"(?:\s+(?:with|for)\s+(?:the\s+)?fields?\s*:?\s*(?P<fields>.+))?$"
)


def read(message: Message) -> Json:
    """A data part `{"companies", "extraction_schema" | "fields", …}`, or "research ACME, Foo with fields ceo"."""
    return {"asked": asked(text_of(message), data_of(message))}


def asked(text: str, data: Json) -> Json:
    if not data and text.startswith("{"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise Refusal("That looks like JSON and is not. Send it as a data part, or say it in words.") from None
    if not data:
        found = _ASKED.match(text)
        if found is None:
            raise Refusal('Say for example "research ACME, Foo GmbH with fields ceo, founded", or send a data part.')
        data = {"companies": _list(found["names"])} | ({"fields": _list(found["fields"])} if found["fields"] else {})
    strange = sorted(set(data) - {"companies", "company_name", "extraction_schema", "fields", *OPTIONS})
    if strange:
        raise Refusal(f"There is no field {strange[0][:60]!r}. The fields are: companies, extraction_schema, fields, "
                      f"{', '.join(OPTIONS)}.")  # fmt: skip
    companies = data.get("companies") or ([data["company_name"]] if data.get("company_name") else [])
    if not isinstance(companies, list) or not companies or not all(isinstance(one, str) for one in companies):
        raise Refusal('`companies` must be a list of names, like ["ACME", "Foo GmbH"].')
    if len(companies) > MOST_COMPANIES:
        raise Refusal(f"More than {MOST_COMPANIES} companies in one message. Run `quarterdeck companies run FILE`.")
    schema = data.get("extraction_schema") or _schema(data.get("fields") or list(FIELDS))
    options = {name: data[name] for name in OPTIONS if data.get(name) is not None}
    return {"companies": companies, "schema": schema, "options": checked(options)}


def checked(options: Json) -> Json:
    """Options as `Jobs.submit` takes them; whole numbers come as floats over A2A."""
    for name in ("max_iterations", "max_queries", "priority"):
        if name in options:
            value = options[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
                raise Refusal(f"`{name}` must be a whole number.")
            options[name] = int(value)
    if isinstance(options.get("budget"), bool) or not isinstance(options.get("budget", 0.0), int | float):
        raise Refusal("`budget` must be a number of US dollars.")
    if not isinstance(options.get("cheap", False), bool):
        raise Refusal("`cheap` must be true or false.")
    for name in ("provider", "mode", "label", "id"):
        if not isinstance(options.get(name, ""), str):
            raise Refusal(f"`{name}` must be a text.")
    return options


def _list(text: str) -> list[str]:
    return [one for one in (part.strip(" .\t\r\"'") for part in re.split(r"[,;\n]|\s+and\s+", text)) if one]


def _schema(fields: Any) -> Json:
    if not isinstance(fields, list) or not all(isinstance(one, str) and one.strip() for one in fields):
        raise Refusal('`fields` must be a list of names, like ["ceo", "founded"].')
    names = [re.sub(r"\W+", "_", one.strip().lower()).strip("_") for one in fields]
    names = [name for name in dict.fromkeys(names) if name][:100]
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}


@flows.flow("companies.asked")
async def research(argument: Json) -> Json:
    caller = Caller(argument["caller"], frozenset(argument["scopes"]))
    given = argument["asked"]
    options = {**given["options"], "id": given["options"].get("id") or f"a2a-{mark(flows.flow_id())}"}
    id = await flows.step("submit", _submit, given, options, caller, tries=3, timeout_s=120)
    await flows.step("follow", _follow, id, waits=True, timeout_s=LONG_S, tries=50, retry_refusals=True)
    return await flows.step("report", _report, id, tries=5, retry_refusals=True)


async def _submit(given: Json, options: Json, caller: Caller) -> str:
    parent = flows.flow_id()
    job = await office().jobs.submit(given["companies"], given["schema"], by=caller, parent=parent, **options)
    return str(job.id)


async def _follow(id: str) -> None:
    """Say how it goes: at first every two seconds, in the end about as often as a hundredth of it is done."""
    said, share = 0, -1.0
    async for job in office().jobs.watch(id, every_s=2.0):
        now = job.done / job.total if job.total else 0.0
        if said >= 20 and now - share < 1 / (TOLD - 20) and not job.ended:
            continue
        said, share = said + 1, now
        counts = {"job": id, "state": job.state, "total": job.total, "done": job.done, "complete": job.good}
        counts |= {"incomplete": job.incomplete, "failed": job.failed, "rate_per_s": job.rate_per_s}
        counts |= {"eta_s": job.eta_s, "cost": job.cost, "tokens": job.tokens}
        await flows.progress(report.sentence(job), round(now, 4), counts)


async def _report(id: str) -> Json:
    jobs = office().jobs
    job = await jobs.status(id)
    results: list[Result] = await jobs.results(id, limit=IN_TABLE + 1)
    page, size = [], 0
    for one in results[:FIRST_PAGE]:
        size += len(json.dumps(shown := report.row(one), ensure_ascii=False))
        if size > LARGEST_PAGE:
            break
        page.append(shown)
    rest = f"GET /jobs/{id}/results?after={page[-1]['n'] if page else -1}, or `quarterdeck companies results {id}`"
    summary = {"job": report.job_json(job), "results": page, "rest": rest if job.done > len(page) else ""}
    artifacts: list[Json] = [{"id": "summary", "name": "summary", "data": summary}]
    if 0 < job.total <= IN_TABLE:
        text = report.table(results)
        artifacts.append({"id": "table", "name": f"{id}.csv", "text": text, "media_type": "text/csv"})
    where = f" The rest: {rest}." if summary["rest"] and job.total > IN_TABLE else ""
    return {"text": f"Job {id}: {report.sentence(job)}{where}", "artifacts": artifacts, "job": id}


COORDINATOR = Agent(
    name=NAME,
    title="Quarterdeck company research",
    description=(
        "Researches companies, one or thousands: searches, extracts data to a JSON schema with its sources, checks how "
        "complete it is, searches again, and stores the results. Survives crashes; the same id goes on."
    ),
    version=VERSION,
    skills=(
        Skill(
            "research_companies",
            "Research companies",
            "Data about each company of a list, by fields or a JSON schema; a table in the end. Data part: companies "
            f"(names), extraction_schema or fields, and if need be {', '.join(OPTIONS)}.",
            ("research", "companies", "batch", "extraction"),
            (
                "research ACME, Foo GmbH with fields ceo, founded",
                '{"companies": ["ACME"], "extraction_schema": {"properties": {"ceo": {"type": "string"}}}}',
            ),
        ),
    ),
    flow="companies.asked",
    read=read,
    output_modes=("application/json", "text/csv", "text/plain"),
)
