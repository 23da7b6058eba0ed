"""The plain REST face: POST /research/single and /research/batch, GET /jobs, /jobs/{id} and its results, cancel."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from quarterdeck.agents.companies import coordinator
from quarterdeck.agents.companies.errors import refusal
from quarterdeck.agents.companies.jobs import PAGE, Jobs
from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.outfit import office
from quarterdeck.agents.companies.report import job_json, result_json
from quarterdeck.agents.runtime.app import Runtime
from quarterdeck.keel.errors import Away, Denied, Refusal
from quarterdeck.keel.identity import Caller

WAIT_S, LONGEST_WAIT_S = 120.0, 300.0
AGAIN_S = 5.0
"""When to ask again, where nobody knows better."""
MOST_AWAY = 30
"""Seconds that a stream of results waits for its database in the middle."""
INTERACTIVE = 2
"""The priority of a single company: somebody waits for it."""
MOST_IN_BODY = 100_000
Face = Callable[[Request], Awaitable[Response]]


def routes(runtime: Runtime) -> Iterable[BaseRoute]:
    @_answering
    async def single(request: Request) -> Response:
        """`{"company_name", "extraction_schema", "wait_s"?, …}` → its result; 202 and the job when it takes longer."""
        sent = await _json(request)
        wait_s = sent.pop("wait_s", WAIT_S)
        if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not 0 <= wait_s <= LONGEST_WAIT_S:
            raise Refusal(f"`wait_s` must be a number from 0 to {LONGEST_WAIT_S:g}.")
        if not isinstance(sent.get("company_name"), str) or "companies" in sent:
            raise Refusal("`company_name` must be the name of a company.")
        job = await _submit(request, {"priority": INTERACTIVE, **sent})
        found: list[Result] = []
        with suppress(TimeoutError, Away):  # it goes on, and can be asked for
            async with asyncio.timeout(wait_s):
                async for _ in _jobs().watch(job.id):
                    pass
            found = await _jobs().results(job.id, limit=1)
        if not found:
            return JSONResponse({"job": job_json(job)}, 202, {"location": f"/jobs/{job.id}"})
        return JSONResponse({**result_json(found[0]), "job": job.id})

    @_answering
    async def batch(request: Request) -> Response:
        """`{"companies": […], "extraction_schema", "id"?, "max_iterations"?, "budget"?, …}` → 202 and the job."""
        job = await _submit(request, await _json(request))
        said = {"job_id": job.id, "status": job.state, "total_companies": job.total, "job": job_json(job)}
        return JSONResponse(said, 202, {"location": f"/jobs/{job.id}"})

    @_answering
    async def listed(request: Request) -> Response:
        limit = _whole(request.query_params.get("limit", "50"), "limit")
        return JSONResponse({"jobs": [job_json(job) for job in await _jobs().list(limit, by=_caller(request))]})

    @_answering
    async def status(request: Request) -> Response:
        return JSONResponse(job_json(await _jobs().status(_id(request), by=_caller(request))))

    @_answering
    async def results(request: Request) -> Response:
        """A page after `after`, of `limit`; or with `stream=1` all there are, a line each."""
        query, id, by = request.query_params, _id(request), _caller(request)
        after = -1 if query.get("after", "-1") == "-1" else _whole(query["after"], "after")
        if query.get("stream", "") in ("1", "true"):
            await _jobs().status(id, by=by)
            return StreamingResponse(_lines(id, after), media_type="application/x-ndjson")
        limit = min(_whole(query.get("limit", "100"), "limit"), PAGE)
        found = await _jobs().results(id, after, limit, newest=query.get("newest", "") in ("1", "true"), by=by)
        last = found[-1].n if len(found) == limit and "newest" not in query else None
        return JSONResponse({"results": [result_json(one) for one in found], "next_after": last})

    @_answering
    async def cancel(request: Request) -> Response:
        return JSONResponse(job_json(await _jobs().cancel(_id(request), by=_caller(request))))

    @_answering
    async def history(request: Request) -> Response:
        """What was found about `?company=` over time."""
        name = request.query_params.get("company", "")
        if not name.strip():
            raise Refusal("Say which company: /research/history?company=ACME.")
        found = await _jobs().history(name, by=_caller(request))
        return JSONResponse({"results": [result_json(one) for one in found]})

    return [
        Route("/research/single", single, methods=["POST"]),
        Route("/research/batch", batch, methods=["POST"]),
        Route("/research/history", history, methods=["GET"]),
        Route("/jobs", listed, methods=["GET"]),
        Route("/jobs/{id}", status, methods=["GET"]),
        Route("/jobs/{id}", cancel, methods=["DELETE"]),
        Route("/jobs/{id}/cancel", cancel, methods=["POST"]),
        Route("/jobs/{id}/results", results, methods=["GET"]),
    ]


def _jobs() -> Jobs:
    return office().jobs


def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


def _id(request: Request) -> str:
    return str(request.path_params["id"])[:100]


async def _submit(request: Request, sent: dict[str, Any]) -> Any:
    companies = sent.get("companies")
    if isinstance(companies, list) and len(companies) > coordinator.MOST_COMPANIES:
        if len(companies) > MOST_IN_BODY or not all(isinstance(one, str) for one in companies):
            raise Refusal(f"`companies` must be a list of at most {MOST_IN_BODY} names.")
        given = coordinator.asked("", {**sent, "companies": companies[:1]}) | {"companies": companies}
    elif not sent:
        raise Refusal('Send for example {"companies": ["ACME"], "extraction_schema": {"properties": {…}}}.')
    else:
        given = coordinator.asked("", sent)
    return await _jobs().submit(given["companies"], given["schema"], by=_caller(request), **given["options"])


async def _lines(id: str, after: int) -> AsyncIterator[bytes]:
    away = 0
    while True:
        try:
            found = await _jobs().results(id, after)
        except Away as error:  # a stream that just breaks off would look like a whole one to some
            away += 1
            if away > MOST_AWAY:
                yield f"{json.dumps({'error': str(error)}, ensure_ascii=False)}\n".encode()
                return
            await asyncio.sleep(1.0)
            continue
        if not found:
            return
        after, away = found[-1].n, 0
        yield "".join(f"{json.dumps(result_json(one), ensure_ascii=False)}\n" for one in found).encode()


def _answering(face: Face) -> Face:
    """A caller's mistake is an answer in a sentence."""

    @functools.wraps(face)
    async def answer(request: Request) -> Response:
        try:
            return await face(request)
        except Denied as error:
            return JSONResponse({"error": str(error)}, 403)
        except Refusal as error:
            text = str(error)
            if isinstance(error, Away) or text.startswith("Try again"):
                after_s = getattr(refusal(text), "after_s", 0.0) or AGAIN_S
                return JSONResponse({"error": text}, 503, {"retry-after": f"{after_s:.0f}"})
            return JSONResponse({"error": text}, 404 if text.startswith("There is no job") else 400)

    return answer


async def _json(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise Refusal("The body is no JSON. Send one JSON object in UTF-8.") from None
    if not isinstance(found, dict):
        raise Refusal("The body must be a JSON object.")
    return found


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(f"`{name}` must be a whole number.")
    return int(text)
