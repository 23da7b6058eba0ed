"""The four workers' flows. Each makes one tool call, or one entry in the store, and returns what came of it as data.

They run on an engine in memory: a worker may forget, the coordinator remembers. An error that is worth trying again
begins with "Try again", also when this worker has its hands full.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.outfit import bench
from quarterdeck.agents.runtime.toolbox import Unreachable
from quarterdeck.keel import flows
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.identity import SPEND

SERVER = "research"
TIMEOUT_S = {"research": 120.0, "extraction": 60.0, "reflection": 30.0, "storage": 30.0}
"""What each worker says it may take."""
AGAIN = "Try again"
RESTART_S = 5.0
"""A server that does not answer may be starting again."""
Json = dict[str, Any]


@flows.flow("companies.worker.research")
async def research(argument: Json) -> Json:
    may_work(argument)
    return await _tool("research", "research_company", argument["input"])


@flows.flow("companies.worker.extraction")
async def extraction(argument: Json) -> Json:
    may_work(argument)
    given = {**argument["input"]}
    by_batch = {name: given.pop(name) for name in ("batch", "answer", "cut")}
    if not by_batch.pop("batch"):
        return await _tool("extraction", "extract_data", given)
    del given["mode"]
    return await _tool("extraction", "extract_by_batch", {**given, **by_batch})


@flows.flow("companies.worker.reflection")
async def reflection(argument: Json) -> Json:
    may_work(argument)
    return await _tool("reflection", "reflect_quality", argument["input"])


@flows.flow("companies.worker.storage")
async def storage(argument: Json) -> Json:
    """Write a result once, whoever sends it again; raw notes go first, so that no result points to nothing."""
    may_work(argument)
    given = dict(argument["input"])
    work = bench()
    assert work.store is not None
    with _hand("storage"):
        if not hmac.compare_digest(given.pop("seal").encode(), (await work.seal(given["job"])).encode()):
            raise Denied(f"Results of job {given['job'][:60]!r} are stored by its coordinator, who has the job's key.")
        tries, notes = given.pop("tries"), given.pop("notes")
        found = Result(**given)
        if notes is not None and work.objects is not None:
            if await work.store.state_of(found.job, found.n) == "waiting":
                await work.objects.put(f"{found.job}/{found.n:07d}.json", {**notes, "company_name": found.company_name})
            notes = None
        stored = await work.store.put(found, tries, notes)
        if not stored and not await work.store.state_of(found.job, found.n):
            raise Refusal(f"There is no company {found.n} in a job {found.job[:60]!r}.")
        return _made({"stored": stored, "state": found.state})


def may_work(argument: Json) -> None:
    if SPEND not in argument["scopes"]:
        raise Denied(f"{argument['caller']} may give no work here: its token lacks the scope '{SPEND}'.")


async def _tool(worker: str, tool: str, given: Json) -> Json:
    tools = bench().tools
    assert tools is not None
    with _hand(worker):
        try:
            said = await tools.call(SERVER, tool, given, timeout_s=TIMEOUT_S[worker])
        except Unreachable as error:
            raise Refusal(f"{AGAIN} in {RESTART_S:g} s: {error}") from None
    return _made(said.data)


@contextmanager
def _hand(worker: str) -> Iterator[None]:
    """One of the calls that this worker takes at once."""
    work = bench()
    busy = work.busy.get(worker, 0)
    if busy >= work.at_once[worker]:
        raise Refusal(f"{AGAIN} in 1 s: this {worker} agent is busy with {busy} calls.")
    work.busy[worker] = busy + 1
    try:
        yield
    finally:
        work.busy[worker] -= 1


def _made(data: Json) -> Json:
    return {"artifacts": [{"name": "result", "data": data}]}
