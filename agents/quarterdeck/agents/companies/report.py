"""Results for whoever reads them: as plain JSON, as a table, in a sentence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from quarterdeck.agents.companies.models import Job, Result

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet would carry out."""


IDLE = "nobody is working on it now: the same command goes on with it, and so does `quarterdeck agents`"


def shown(job: Job) -> Job:
    """As people are told: a job that nobody works on has stopped, until somebody goes on with it."""
    return replace(job, state="stopped", why=IDLE) if job.idle else job


def job_json(job: Job) -> dict[str, Any]:
    return asdict(shown(job))


def result_json(result: Result) -> dict[str, Any]:
    return asdict(result)


def row(result: Result) -> dict[str, Any]:
    """A result without its passages: what fits into a page of them."""
    return {
        "n": result.n, "company_name": result.company_name, "state": result.state, "data": result.data,
        "confidence": result.confidence, "completeness": result.completeness, "problem": result.problem,
        "sources": result.sources[:5],
    }  # fmt: skip


def table(results: Sequence[Result]) -> str:
    """CSV, a column for each field at the top of the data."""
    names = list(dict.fromkeys(name for result in results for name in result.data))
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(["n", "company_name", "state", "confidence", "completeness", *names, "problem", "source"])
    for one in results:
        values = [_cell(one.data.get(name)) for name in names]
        source = one.sources[0] if one.sources else ""
        first = [one.n, _cell(one.company_name), one.state, one.confidence, one.completeness]
        writer.writerow([*first, *values, _cell(one.problem), _cell(source)])
    return made.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text


def sentence(job: Job) -> str:
    """How a job stands, as one says it."""
    job = shown(job)
    said = [f"{job.done:,} of {job.total:,} companies done"]
    if job.in_batches:
        said.append(in_batches(job))
    counted = [
        f"{number:,} {name}" for number, name in ((job.incomplete, "incomplete"), (job.failed, "failed")) if number
    ]
    if counted:
        said[0] += f" ({', '.join(counted)})"
    if not job.ended and job.rate_per_s:
        said.append(f"{job.rate_per_s:.1f} a second")
        if job.eta_s:
            said.append(f"about {_time(job.eta_s)} left")
    if job.cost is not None:
        partly = f" for {job.done - job.unpriced:,} of them, the others' price is not known" if job.unpriced else ""
        said.append(f"{job.cost:.4g} USD{partly}")
    return ", ".join(said) + "." + (f" It was {job.state}: {job.why}." if job.why else "") + _left_out(job)


def in_batches(job: Job) -> str:
    since = f"{datetime.fromtimestamp(job.batches_since).astimezone():%H:%M}"
    return f"{job.in_batches:,} of {job.total:,} in batches since {since}"


def _left_out(job: Job) -> str:
    said = [
        f"{number:,} {what}"
        for number, what in (
            (job.blank, "blank rows were skipped"),
            (job.duplicates, "names stood there more than once and were done once"),
            (job.clipped, "names were too long and were cut"),
        )
        if number
    ]
    return f" {'; '.join(said)}." if said else ""


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
