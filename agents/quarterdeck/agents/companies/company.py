"""One company: research → extract → reflect, again with the questions that are left, then store. A durable flow.

Each arrow is a step and each step one A2A call, so a crash repeats at most the call in flight; under the same message
id, so that a worker that is still at it is not set to work twice.
"""

from __future__ import annotations

import random
import time
from typing import Any

from quarterdeck.agents.companies.estimate import duration
from quarterdeck.agents.companies.merging import Found, merge, ordered
from quarterdeck.agents.companies.outfit import office
from quarterdeck.keel import flows
from quarterdeck.keel.answers import clip
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowbells import rung

NAME = "companies.one"
UNSTORED = "The result could not be stored: "
LEFT = "Its job was stopped while it waited for a batch."
ELSEWHERE_S = 20.0
"""After which one looks by oneself whether a batch has answered: another process may be looking after it."""
LONG_S = 86_400.0 * 30
"""A step may wait its turn for as long as it takes: the pool bounds the calls."""
MOST_CHARS = 24_000
MOST_REFLECTED = 60_000
Json = dict[str, Any]


@flows.flow(NAME)
async def one(argument: Json) -> Json:
    """`{"job", "n", "name", "tries"}`; everything else stands in the job."""
    spec = await office().spec(argument["job"])
    schema, name = spec["schema"], argument["name"]
    found = Found()
    best: Json = {"is_complete": False}
    sources: list[Json] = []
    queries: list[str] = []
    spent = Spent()
    follow_up: list[str] = []
    problem, began, done, stale_s = "", 0.0, 0, 0
    for number in range(1, spec["max_iterations"] + 1):
        try:
            asked = {
                "company_name": name, "extraction_schema": schema, "search_provider": spec["provider"],
                "max_queries": spec["max_queries"], "follow_up_queries": follow_up, "max_chars": MOST_CHARS,
            }  # fmt: skip
            said = await _ask("research", number, argument, asked)
            began = began or said["began"]
            spent.add((said.get("metadata") or {}).get("cost"), {})
            stale_s = max(stale_s, int((said.get("metadata") or {}).get("stale_s") or 0))
            new, notes = said.get("search_results") or [], said.get("research_notes") or ""
            queries += said.get("research_queries") or []
            asked = {"company_name": name, "extraction_schema": schema, "mode": spec["mode"]}
            asked |= {"sources": new} if new else {"research_notes": notes}
            if spec.get("cheap"):
                said = await _in_batch(number, argument, asked, spent)
            else:
                said = await _ask("extraction", number, argument, asked)
            spent.use(said.get("usage"))
            now = Found(said["extracted_data"], said.get("fields") or [], float(said.get("confidence_score") or 0))
            found = merge(found, now) if number > 1 else now
            sources += [one for one in new if one.get("url") not in {known.get("url") for known in sources}]
            judge = "rules" if spec.get("cheap") else spec["mode"]
            asked = {
                "company_name": name, "extraction_schema": schema, "mode": judge,
                "extracted_data": found.data, "fields": found.fields, "sources": _some(sources),
            }  # fmt: skip
            best = await _ask("reflection", number, argument, asked)
            spent.use(best.get("usage"))
            done = number
        except Refusal as error:
            if str(error).startswith(LEFT):
                raise  # it stays undone, and goes on from here when its job does
            problem = clip(str(error), 1000)
            break
        follow_up = [str(query) for query in best.get("follow_up_queries") or []][:10]
        if best["is_complete"] or not follow_up:
            break
    state = "failed" if not done else "complete" if best["is_complete"] else "incomplete"
    if state == "incomplete" and not problem:
        missing = [str(path) for path in best.get("missing_fields") or []]
        problem = clip(f"not found: {', '.join(missing)}", 1000) if missing else ""
    if stale_s:
        old = f"stale: search providers did not answer, its sources were found {duration(stale_s)} ago"
        problem = clip(f"{problem}; {old}" if problem else old, 1000)
    outcome = {
        "job": argument["job"], "n": argument["n"], "tries": argument["tries"], "company_name": name, "state": state,
        "data": ordered(found.data, schema), "confidence": found.confidence, "iterations": done, "fields": found.fields,
        "completeness": float(best.get("completeness_score") or 0), "problem": problem,
        "sources": list(dict.fromkeys(str(one.get("url")) for one in sources)),
        "cost": spent.cost, "tokens": spent.tokens, "notes": {"queries": queries, "sources": sources},
    }  # fmt: skip
    try:
        await flows.step("store", _store, argument, outcome, began, waits=True, timeout_s=LONG_S)
    except Refusal as error:
        raise Refusal(f"{UNSTORED}{error}") from None
    return {"state": state, "cost": spent.cost, "problem": problem}


async def _ask(worker: str, number: int, argument: Json, asked: Json) -> Json:
    key = f"{_key(argument)}/{number}/{worker}"
    return await flows.step(
        f"{worker} {number}", _call, worker, argument["job"], key, asked, number, waits=True, timeout_s=LONG_S
    )


async def _in_batch(number: int, argument: Json, asked: Json, spent: Spent) -> Json:
    """Extraction at half the price: the question goes into a batch, and its answer is judged like any other."""
    made = await flows.step(f"question {number}", _question, argument, asked, number, waits=True, timeout_s=LONG_S)
    if not made["asked"]:
        return await _ask("extraction", number, argument, {**asked, "mode": "rules"})  # there was nothing to read
    told = await flows.step(f"answer {number}", _answer, argument, number, waits=True, timeout_s=LONG_S)
    spent.use(told["usage"])
    brought = {"batch": True, "answer": told["text"] or "(nothing)", "cut": told["cut"]}
    judged = await _ask("extraction", number, argument, {**asked, **brought})
    return dict(judged["extracted"])


async def _question(argument: Json, asked: Json, number: int) -> Json:
    own, job, key = office(), argument["job"], _question_key(argument, number)
    if not await own.questions.known(job, key):
        call = f"{_key(argument)}/{number}/question"
        weight = (await own.spec(job))["weight"]
        said = await own.pools["extraction"].call(job, call, {**asked, "batch": True}, weight, 2 * number)
        if not said.get("request"):
            return {"asked": False}
        await own.questions.ask(job, key, said["request"])
    return {"asked": True}


async def _answer(argument: Json, number: int) -> Json:
    own, job, key = office(), argument["job"], _question_key(argument, number)
    with own.answered.hung(f"{job}/{key}") as bell:
        while True:
            bell.clear()
            told = await own.questions.told(job, key)
            if told.state == "done":
                return told.answer
            if told.state == "failed":
                raise Refusal(told.problem)
            if told.left:
                raise Refusal(LEFT)
            await rung(bell, ELSEWHERE_S * random.uniform(0.5, 1.5))


def _question_key(argument: Json, number: int) -> str:
    return f"{argument['n']}.{argument['tries']}/{number}"


async def _call(worker: str, job: str, key: str, asked: Json, number: int) -> Json:
    """One piece of work for a worker; and when it began, for the first of a company."""
    began, own = time.time(), office()
    pool, weight = own.pools[worker], (await own.spec(job))["weight"]
    # First iterations go first: then there are enough second ones at the end of a job to keep everybody busy.
    if worker == "research":
        try:
            said = await pool.call(job, key, {**asked, "accept_stale": False}, weight, 2 * number)
        except Refusal as error:  # nobody answers, however often asked: what was found earlier is better than nothing
            try:
                said = await pool.call(job, f"{key}/stale", asked, weight, 2 * number)
            except Refusal:
                raise error from None
    else:
        said = await pool.call(job, key, asked, weight, 2 * number)
    if said.get("search_results"):
        said = {name: value for name, value in said.items() if name != "research_notes"}  # the same once more
    return {**said, "began": began}


async def _store(argument: Json, outcome: Json, began: float) -> Json:
    now = time.time()
    times = {"finished": now, "duration_s": round(max(0.0, now - began), 3) if began else 0.0}
    own = office()
    pool, spec = own.pools["storage"], await own.spec(argument["job"])
    sealed = {**outcome, **times, "seal": spec.get("seal", "")}
    return await pool.call(argument["job"], f"{_key(argument)}/store", sealed, spec["weight"])


def _key(argument: Json) -> str:
    return f"{argument['job']}/{argument['n']}.{argument['tries']}"


def _some(sources: list[Json]) -> list[Json]:
    """The newest of the sources, as many as a judge can read."""
    left, some = MOST_REFLECTED, []
    for one in reversed(sources):
        left -= len(str(one.get("content") or "")) + 200
        if left < 0:
            break
        some.append(one)
    return some[::-1]


class Spent:
    """What a company cost. One price that is not known makes the sum unknown."""

    def __init__(self) -> None:
        self.cost: float | None = 0.0
        self.tokens = 0

    def add(self, cost: Any, usage: Json) -> None:
        known = isinstance(cost, int | float) and not isinstance(cost, bool)
        self.cost = None if self.cost is None or not known else round(self.cost + float(cost), 8)
        self.tokens += int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)

    def use(self, usage: Any) -> None:
        """What a model took; without one it was free."""
        if isinstance(usage, dict):
            self.add(usage.get("cost"), usage)
