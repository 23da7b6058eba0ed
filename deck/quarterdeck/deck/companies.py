"""`quarterdeck companies`: facts about many companies, from a list of names to a table with sources."""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarterdeck.keel import signals
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import load

if TYPE_CHECKING:
    from quarterdeck.agents.companies.models import Job, Result

STARTERS = ("basics", "people", "finance")
QUIET_S = 60.0
"""After which a job that should run is said to be silent: perhaps nobody is at it."""
LONG_FILE = 2_000
PROVIDERS = ("corpus", "tavily", "exa", "brave", "searxng", "hybrid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Facts about many companies: names in, a table with its sources out. A job survives "
        "Ctrl-C, a crash and a reboot: the same command goes on where it stopped."
    )
    parser.epilog = (
        "Try it with nothing set up: `quarterdeck companies run examples/companies/companies.csv --schema "
        "examples/companies/schema.json --corpus examples/companies/pages --out results.csv`."
    )
    what = parser.add_subparsers(metavar="WHAT", dest="what")
    parser.set_defaults(say=parser.print_help)
    _run_arguments(_sub(what, "run", "research the companies of a file; the same command again goes on"))
    listing = _sub(what, "list", "jobs, newest first")
    listing.add_argument("--last", type=int, default=20, metavar="N", help="at most N (default 20)")
    status = _sub(what, "status", "how a job stands")
    status.add_argument("job", nargs="?", default="", metavar="JOB", help="its id (default: the newest job)")
    results = _sub(what, "results", "what came out of a job so far: shown, or written as a table")
    results.add_argument("job", nargs="?", default="", metavar="JOB", help="its id (default: the newest job)")
    results.add_argument("--out", type=Path, metavar="FILE", help="write all of them: .csv, .xlsx, .parquet or .jsonl")
    results.add_argument("--failed", action="store_true", help="only companies that failed")
    results.add_argument("--last", type=int, default=20, metavar="N", help="show the N latest (default 20)")
    cancel = _sub(what, "cancel", "start no further company of a job; what was found is kept")
    cancel.add_argument("job", metavar="JOB", help="its id, as `companies list` shows it")
    history = _sub(what, "history", "what was found out about one company, in any job")
    history.add_argument("name", metavar="NAME", help="the company's name")
    history.add_argument("--last", type=int, default=10, metavar="N", help="at most N (default 10)")
    for command in (listing, status, results, history):
        command.add_argument("--json", action="store_true", help="as JSON, one line each")
    schema = _sub(what, "schema", "print a schema to start from: quarterdeck companies schema basics > schema.json")
    schema.add_argument("name", nargs="?", choices=STARTERS, default="basics", help="basics (default), people, finance")


def _sub(what: Any, name: str, line: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = what.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.")
    return made


def _run_arguments(run: argparse.ArgumentParser) -> None:
    run.add_argument("file", metavar="FILE", help="csv, tsv, xlsx, jsonl, parquet or txt with names; - reads a pipe")
    run.add_argument(
        "--schema", type=Path, required=True, metavar="S",
        help="JSON Schema of what you want to know; `quarterdeck companies schema` prints one to start from",
    )  # fmt: skip
    run.add_argument("--out", type=Path, metavar="FILE", help="the table: .csv, .xlsx, .parquet or .jsonl")
    run.add_argument("--column", default="", metavar="NAME", help="the column with the names (default: found out)")
    run.add_argument("--corpus", type=Path, metavar="FOLDER", help="look only into the pages of this folder")
    run.add_argument("--provider", choices=PROVIDERS, default="", help="where to search (default: as set)")
    run.add_argument("--mode", choices=["auto", "rules", "model"], default="auto",
                     help="who reads the pages: a model, rules, or a model where a key is set (default)")  # fmt: skip
    run.add_argument("--iterations", type=int, default=2, metavar="N", help="rounds for a company (default 2)")
    run.add_argument("--queries", type=int, default=3, metavar="N", help="searches in a round (default 3)")
    run.add_argument("--cheap", action="store_true",
                     help="the model reads in message batches, at half the price: results come within hours, usually "
                     "under one; stop it when you like, the same command goes on")  # fmt: skip
    run.add_argument("--budget", type=float, metavar="USD", help="stop the job when it has cost so much; needs prices")
    run.add_argument(
        "--priority", type=int, default=0, metavar="N", help="its share beside other jobs, -4 to 4 (default 0)"
    )
    run.add_argument("--label", default="", metavar="TEXT", help="shown in lists (default: the file's name)")
    run.add_argument("--dry-run", action="store_true", help="say what it will take, and do nothing")
    run.add_argument("--yes", action="store_true", help="do not ask before spending money")
    anew = run.add_mutually_exclusive_group()
    anew.add_argument("--retry-failed", action="store_true", help="try those that failed once more")
    anew.add_argument("--again", action="store_true", help="do a finished job anew, as a job of its own")


def run(arguments: argparse.Namespace) -> int:
    if arguments.what is None:
        arguments.say()
        return 0
    if arguments.what == "schema":
        from quarterdeck.agents.companies.starters import starter

        print(json.dumps(starter(arguments.name), ensure_ascii=False, indent=2))
        return 0
    if arguments.what == "run":
        if not arguments.dry_run and _may_be_long(arguments.file):
            from quarterdeck.deck.alongside import cores, prepare

            if cores() > 1:
                prepare(load())  # it takes as long as what is imported here, and there is another core
        from quarterdeck.deck.batch import run as run_batch

        return run_batch(arguments)
    return signals.run(_look(arguments))


def _may_be_long(file: str) -> bool:
    """Whether a list may be worth further processes, as far as its size tells."""
    path = Path(file)
    return file != "-" and path.is_file() and path.stat().st_size >= LONG_FILE


async def _look(arguments: argparse.Namespace) -> int:
    from quarterdeck.agents.companies.jobs import looking

    async with looking(load()) as jobs:
        if arguments.what == "list":
            _print_jobs(await jobs.list(max(1, min(arguments.last, 500))), arguments.json)
        elif arguments.what == "status":
            _print_job(await _named(jobs, arguments.job), arguments.json)
        elif arguments.what == "cancel":
            job = await jobs.cancel(arguments.job)
            print(f"{job.id} is {job.state}: {job.done:,} of {job.total:,} companies are done and kept.")
        elif arguments.what == "history":
            found = await jobs.history(arguments.name, max(1, min(arguments.last, 100)))
            if not found and not arguments.json:
                print(f"Nothing was found out about {arguments.name!r} yet.")
            _print_results(found, arguments.json, with_job=True)
        elif arguments.out is not None:
            return await _write(jobs, arguments)
        else:
            await _show(jobs, arguments)
    return 0


async def _named(jobs: Any, id: str) -> Job:
    """The job of that id; without one, the newest."""
    found: list[Job] = [await jobs.status(id)] if id else await jobs.list(1)
    if not found:
        raise Refusal("There is no job yet. `quarterdeck companies run --help` says how to start one.")
    return found[0]


async def _write(jobs: Any, arguments: argparse.Namespace) -> int:
    from quarterdeck.agents.companies.tables import check
    from quarterdeck.deck.batch import write_table

    job = await _named(jobs, arguments.job)
    check(arguments.out)
    count = (await write_table(jobs, job.id, arguments.out, failed_only=arguments.failed)).count
    still = "" if job.ended else f"; {job.total - job.done:,} are not done yet"
    print(f"{count:,} results stand in {arguments.out}{still}.")
    return 0


async def _show(jobs: Any, arguments: argparse.Namespace) -> None:
    job = await _named(jobs, arguments.job)
    most = max(1, min(arguments.last, 500))
    if arguments.failed:
        from quarterdeck.deck.batch import pages

        found: list[Result] = []
        async for page in pages(jobs, job.id):
            found += [one for one in page if one.state == "failed"][: most - len(found)]
            if len(found) >= most:
                break
    else:
        found = await jobs.results(job.id, limit=most, newest=True)
    _print_results(found, arguments.json)
    if not arguments.json:
        if not found:
            print("No company failed." if arguments.failed else "No company is done yet.")
        count = job.failed if arguments.failed else job.done
        if count > len(found):
            print(f"\n{len(found)} of {count:,}; `--out results.csv` writes all of them.")


def _print_jobs(found: list[Job], as_json: bool) -> None:
    from dataclasses import asdict

    from quarterdeck.agents.companies.report import shown
    from quarterdeck.deck.screen import cut, pad, width
    from quarterdeck.keel.answers import one_line

    if not found and not as_json:
        print("There is no job yet. `quarterdeck companies run --help` says how to start one.")
    for job in map(shown, found):
        if as_json:
            print(json.dumps(asdict(job), ensure_ascii=False))
            continue
        when = datetime.fromtimestamp(job.created).astimezone()
        counts = f"{job.done:,}/{job.total:,}"
        line = f"{pad(job.id, 18)}  {when:%Y-%m-%d %H:%M}  {job.state:<9}  {counts:>15}  {pad(one_line(job.label), 24)}"
        print(cut(f"{line}  {_troubles(job)}".rstrip(), width()))


def _troubles(job: Job) -> str:
    from quarterdeck.deck.progress import money

    told = [f"{count:,} {name}" for name, count in (("incomplete", job.incomplete), ("failed", job.failed)) if count]
    told += [money(job.cost)] if job.cost else []
    return ", ".join(told + ([job.why] if job.why else []))


def _print_job(job: Job, as_json: bool) -> None:
    from quarterdeck.agents.companies.estimate import duration
    from quarterdeck.agents.companies.report import shown
    from quarterdeck.deck.progress import parts
    from quarterdeck.keel.answers import one_line

    if as_json:
        _print_jobs([job], True)
        return
    job = shown(job)
    print(f"{job.id}  {job.state}  {one_line(job.label)}".rstrip())
    quiet = time.time() - job.updated
    silence = [f"nothing new for {duration(quiet)}"] if not job.ended and quiet > QUIET_S else []
    print(f"  {' · '.join([*parts(job), *silence])}")
    if job.why:
        print(f"  {one_line(job.why)}")
    if job.done:
        print(f"  `quarterdeck companies results {job.id} --out results.csv` writes what there is.")


def _print_results(found: list[Result], as_json: bool, with_job: bool = False) -> None:
    from dataclasses import asdict

    from quarterdeck.deck.screen import cut, pad, width
    from quarterdeck.keel.answers import one_line

    for one in found:
        if as_json:
            print(json.dumps(asdict(one), ensure_ascii=False))
            continue
        told = one.problem if one.state == "failed" else ", ".join(_values(one.data))
        when = f"{datetime.fromtimestamp(one.finished).astimezone():%Y-%m-%d %H:%M}  {one.job}  " if with_job else ""
        name = pad(one_line(one.company_name), 28)
        print(cut(f"{when}{one.state:<10}  {name}  {one.completeness:4.0%}  {one_line(told)}".rstrip(), width()))


def _values(data: dict[str, Any], prefix: str = "") -> list[str]:
    told: list[str] = []
    for name, value in data.items():
        if isinstance(value, dict):
            told += _values(value, f"{prefix}{name}.")
        elif value not in (None, "", []):
            told.append(f"{prefix}{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    return told
