"""`quarterdeck companies run`: a job from its list to its table, in this terminal; the same command goes on with it."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarterdeck.agents.companies.estimate import Capacity, Estimate, duration, estimate
from quarterdeck.agents.companies.jobs import checked_spec, looking
from quarterdeck.agents.companies.lists import CompanyList, read_list
from quarterdeck.agents.companies.tables import Unwritable, check, table
from quarterdeck.deck.alongside import cores, prepare
from quarterdeck.deck.progress import Progress, money
from quarterdeck.keel import signals
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import READ, SPEND, Caller, local_user
from quarterdeck.keel.settings import PREFIX, Settings, config_path, load

if TYPE_CHECKING:
    from quarterdeck.agents.companies.models import Job, Result

LARGEST_SCHEMA = 100_000
PAGE = 500
LIMITS = {"iterations": (1, 5), "queries": (1, 10), "priority": (-4, 4)}
GROUPS = 200
"""Kinds of problems that are told apart; what comes after them is counted together."""
SHOWN = 8
LONG_LIST, MOST_PROCESSES = 200, 4


def run(arguments: argparse.Namespace) -> int:
    for name, (least, most) in LIMITS.items():
        if not least <= getattr(arguments, name) <= most:
            raise Refusal(f"--{name} takes a number from {least} to {most}.")
    if arguments.budget is not None and not 0 < arguments.budget < 1e9:
        raise Refusal("--budget takes US dollars, such as --budget 2.50.")
    settings = chosen(load(), arguments)
    schema = read_schema(arguments.schema)
    checked_spec(schema, arguments.iterations, arguments.queries, arguments.provider, arguments.mode, arguments.cheap)
    if not settings.companies.extraction:
        from quarterdeck.research.schema import check as check_fields  # what will read it says so now

        check_fields(schema)
    if arguments.out is not None:
        check(arguments.out)
    refuse_nothing_to_search(settings, arguments.provider)
    with read_list(arguments.file, arguments.column) as companies:
        say(f"{one_line(companies.source)}: {companies.words()}.")
        for row in companies.broken[:5]:
            say(f"  line {row.line:,}: {row.why}")
        if companies.unread > 5:
            say(f"  … and {companies.unread - 5:,} more")
        told = estimated(settings, schema, companies, arguments)
        if arguments.dry_run:
            print(told.words())
            return 0
        if arguments.budget is not None and told.unknown:
            raise Refusal(f"--budget needs prices to count with, in {config_path()}: {told.unknown[0]}.")
        if processes(settings, companies):
            prepare(settings)
        with own_umask(arguments.out):
            return signals.run(Batch(settings, schema, companies, told, arguments).run())


@contextmanager
def own_umask(out: Path | None) -> Iterator[None]:
    """A new table is for whom the person's umask says; what lies in home is made for nobody else meanwhile."""
    new = out is not None and not out.exists()
    was = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(was)
        if out is not None and new and out.exists():
            out.chmod(0o666 & ~was)


def chosen(settings: Settings, arguments: argparse.Namespace) -> Settings:
    """The settings, with what the command line says of them."""
    if arguments.mode == "model" and not settings.model.api_key.get_secret_value():
        raise Refusal("--mode model needs a key: set ANTHROPIC_API_KEY, or leave --mode out for reading by rules.")
    if arguments.cheap and not settings.model.api_key.get_secret_value():
        raise Refusal("--cheap reads with a model and needs a key: set ANTHROPIC_API_KEY, or leave --cheap out.")
    if arguments.corpus is None:
        return settings
    if arguments.provider not in ("", "corpus"):
        raise Refusal(f"--corpus looks into a folder only; leave out --provider {arguments.provider}.")
    if not arguments.corpus.is_dir():
        raise Refusal(f"--corpus {arguments.corpus}: there is no such folder of pages.")
    research = settings.research.model_copy(
        update={"provider": "corpus", "corpus": [str(arguments.corpus.resolve())], "order": ["corpus"]}
    )
    return settings.model_copy(update={"research": research})


def read_schema(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if len(text) > LARGEST_SCHEMA:
            raise Refusal(f"{path} is no schema: it is larger than {LARGEST_SCHEMA // 1000} kB.")
        schema = json.loads(text)
    except FileNotFoundError:
        raise Refusal(
            f"There is no file {path}. `quarterdeck companies schema basics > {path}` makes one to start from."
        ) from None
    except json.JSONDecodeError as error:
        raise Refusal(f"{path} is not JSON: {error.msg} in line {error.lineno}.") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not a JSON text'}.") from None
    if not isinstance(schema, dict):
        raise Refusal(f"{path} is no JSON Schema: it must be an object with `properties`.")
    return dict(schema)


def refuse_nothing_to_search(settings: Settings, named: str) -> None:
    """Better now than a thousand companies later."""
    research = settings.research
    provider = named or research.provider
    ready = {
        "corpus": any(Path(one).expanduser().is_dir() for one in research.corpus or [str(settings.home / "corpus")]),
        "tavily": bool(research.tavily_key.get_secret_value()),
        "exa": bool(research.exa_key.get_secret_value()),
        "brave": bool(research.brave_key.get_secret_value()),
        "searxng": bool(research.searxng_url),
    }
    if settings.companies.research:  # other machines search, with settings of their own
        return
    if named in ready and not ready[named]:
        needs = "URL" if named == "searxng" else "KEY"
        how = (
            "name a folder of pages with --corpus"
            if named == "corpus"
            else f"set {PREFIX}RESEARCH_{named.upper()}_{needs}"
        )
        raise Refusal(f"--provider {named} is not set up: {how}.")
    if any(ready[one] for one in {*research.order, provider} if one in ready):
        return
    raise Refusal(
        "Nothing to search is set up. Name a folder of pages with --corpus FOLDER; or set a provider's key, such as "
        "QUARTERDECK_RESEARCH_TAVILY_KEY, and --provider tavily. To try it at once, with nothing set: "
        "`quarterdeck companies run examples/companies/companies.csv --schema examples/companies/schema.json "
        "--corpus examples/companies/pages --out results.csv`."
    )


def estimated(
    settings: Settings, schema: dict[str, Any], companies: CompanyList, arguments: argparse.Namespace
) -> Estimate:
    return estimate(
        settings,
        schema,
        companies.count,
        provider=arguments.provider,
        mode=arguments.mode,
        max_iterations=arguments.iterations,
        max_queries=arguments.queries,
        cheap=arguments.cheap,
        capacity=Capacity(
            **{worker: _at_once(settings, worker) for worker in ("research", "extraction", "reflection")}
        ),
    )


def _at_once(settings: Settings, worker: str) -> int:
    from quarterdeck.agents.companies.fleet import addresses, at_once

    return at_once(settings, worker) * max(1, len(addresses(settings, worker)))


def job_id(companies: CompanyList, schema: dict[str, Any], arguments: argparse.Namespace) -> str:
    """The same for the same companies, schema and options, wherever they are written down."""
    corpus = str(arguments.corpus.resolve()) if arguments.corpus else ""
    options = [arguments.provider, arguments.mode, arguments.iterations, arguments.queries, corpus]
    options += ["cheap"] if arguments.cheap else []
    told = json.dumps([companies.digest, schema, options], sort_keys=True)
    return f"job-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def processes(settings: Settings, companies: CompanyList) -> int:
    """A long list is worth the seconds that further processes take to start: one a core, a few at most."""
    from quarterdeck.agents.companies.fleet import BESIDE, addresses

    if all(addresses(settings, worker) for worker in BESIDE):
        return 0
    return min(MOST_PROCESSES, cores()) if companies.count >= LONG_LIST and cores() > 1 else 0


@dataclass
class Tally:
    """What was written, and what failed and why."""

    count: int = 0
    failed: int = 0
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Kind of problem → its first text, then the names of those that had it, a few of them."""
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        if result.state != "failed":
            return
        self.failed += 1
        text = one_line(result.problem) or "no reason is known"
        kind = re.sub(r"https?://\S+|\d+(\.\d+)?", "…", text.replace(one_line(result.company_name), "…"))
        if kind not in self.groups and len(self.groups) >= GROUPS:
            kind, text = "others", "other reasons"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        named = self.groups.setdefault(kind, [text])
        if len(named) <= 3:
            named.append(clip(one_line(result.company_name), 40))

    def words(self) -> list[str]:
        order = sorted(self.counts, key=lambda kind: -self.counts[kind])
        lines = []
        for kind in order[:SHOWN]:
            text, *names = self.groups[kind]
            more = ", …" if self.counts[kind] > len(names) else ""
            lines.append(f"  {self.counts[kind]:,} × {clip(text, 160)}  ({', '.join(names)}{more})")
        if len(order) > SHOWN:
            lines.append(f"  … and {len(order) - SHOWN} other reasons")
        return lines


@dataclass
class Batch:
    settings: Settings
    schema: dict[str, Any]
    companies: CompanyList
    told: Estimate
    arguments: argparse.Namespace

    async def run(self) -> int:
        from quarterdeck.deck.crew import companies

        logging.getLogger("quarterdeck").setLevel(logging.ERROR)  # a person reads here
        async with looking(self.settings) as jobs:  # what is done needs no workers
            known, _ = await latest(jobs, job_id(self.companies, self.schema, self.arguments))
            if known is not None and self._is_done(known):
                none = ", and nothing of it failed" if self.arguments.retry_failed else ""
                say(f"{known.id} is done already{none}; --again would do it anew.")
                return await self._finish(jobs, known)
        async with companies(self.settings, processes=processes(self.settings, self.companies)) as jobs:
            job = await self._job(jobs)
            await self._tell_others(jobs, job.id)
            job = await self._follow(jobs, job)
            return await self._finish(jobs, job)

    def _is_done(self, job: Job) -> bool:
        asked = self.arguments
        return job.state == "completed" and not asked.again and not (asked.retry_failed and job.failed)

    async def _tell_others(self, jobs: Any, own: str) -> None:
        """What was left unfinished goes on in whichever process is there, and may cost money."""
        for job in [one for one in await jobs.list(PAGE) if not one.ended and one.id != own][:3]:
            say(
                f"{job.id} ({one_line(job.label)}, {job.done:,} of {job.total:,} done) is unfinished and goes on "
                f"meanwhile; `quarterdeck companies cancel {job.id}` ends it."
            )

    async def _job(self, jobs: Any) -> Job:
        """The job of this very command: a new one, or the one that is there."""
        base = job_id(self.companies, self.schema, self.arguments)
        job, following = await latest(jobs, base)
        if job is not None and self.arguments.again and job.ended:
            job, base = None, following
        if job is None:
            self._consent()
            if not self.told.model_calls:
                say("No model key is set: rules read the pages." if self.arguments.mode == "auto" else "Rules read.")
            say(f"{base} begins: about {duration(self.told.seconds)}. Ctrl-C stops; the same command goes on.")
        else:
            base = job.id
            say(f"{job.id} goes on: {job.done:,} of {job.total:,} companies are done.")
        asked = self.arguments
        label = asked.label or Path(self.companies.source).name
        started: Job = await jobs.submit(
            self.companies,
            self.schema,
            id=base,
            label=clip(one_line(label), 60),
            max_iterations=asked.iterations,
            max_queries=asked.queries,
            provider=asked.provider,
            mode=asked.mode,
            priority=asked.priority,
            budget=asked.budget,
            cheap=asked.cheap,
            by=Caller(f"local:{local_user()}", frozenset({READ, SPEND})),
        )
        return started

    def _consent(self) -> None:
        """Money is spent only by somebody who said so."""
        if self.arguments.yes or (self.told.cost == 0 and not self.told.unknown):
            return
        cost = "an unknown sum" if self.told.cost is None else f"about {money(self.told.cost)}"
        if self.arguments.file == "-" or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Refusal(f"This will cost {cost}: --dry-run shows why, --yes begins.")
        say(self.told.words())
        sys.stderr.write("Type yes to begin: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("yes", "y"):
            raise Refusal("Nothing was begun.")

    async def _follow(self, jobs: Any, job: Job) -> Job:
        progress = Progress()
        try:
            async for now in jobs.watch(job.id, every_s=0.5):
                job = now
                progress.show(job)
        except asyncio.CancelledError:
            progress.end()
            batches = f" {job.in_batches:,} go on in batches and are fetched then." if job.in_batches else ""
            say(
                f"Stopped with {job.done:,} of {job.total:,} done and kept. The same command goes on, and so does any "
                f"other run here;{batches} `quarterdeck companies cancel {job.id}` ends it, `quarterdeck companies "
                f"results {job.id} --out …` writes what there is."
            )
            raise
        finally:
            progress.end()
        return job

    async def _finish(self, jobs: Any, job: Job) -> int:
        told = [f"{job.good:,} complete"]
        told += [f"{n:,} {name}" for name, n in (("incomplete", job.incomplete), ("failed", job.failed)) if n]
        took = f" in {duration(job.done / job.rate_per_s)}" if job.rate_per_s else ""
        cost = f", {money(job.cost)}" if job.cost else ""
        say(f"{job.id} is {job.state}: {job.done:,} companies{took}: {', '.join(told)}{cost}.")
        if job.why:
            say(f"  {one_line(job.why)}")
        out: Path | None = self.arguments.out
        try:
            tally = await write_table(jobs, job.id, out)
        except Unwritable as error:
            raise Refusal(
                f"{error} Nothing is lost: the same command writes the table later, "
                f"and so does `quarterdeck companies results {job.id} --out FILE`."
            ) from None
        for line in tally.words():
            say(line)
        if tally.failed:
            say("The same command with --retry-failed tries them once more.")
        if out is not None:
            say(f"{tally.count:,} rows stand in {out}.")
        else:
            say(f"`quarterdeck companies results {job.id} --out results.csv` writes the table.")
        return 0 if job.state == "completed" and not job.failed else 1


async def latest(jobs: Any, base: str) -> tuple[Job | None, str]:
    """The newest job of this list and these options, and what a further one would be called."""
    found, id = None, base
    for number in range(2, 1000):
        try:
            found = await jobs.status(id)
        except Refusal:
            break
        id = f"{base}-{number}"
    return found, id


async def pages(jobs: Any, id: str) -> AsyncIterator[list[Result]]:
    """All results, in the order of the list."""
    after = -1
    while page := await jobs.results(id, after=after, limit=PAGE):
        yield page
        after = page[-1].n


async def write_table(jobs: Any, id: str, path: Path | None, *, failed_only: bool = False) -> Tally:
    """All results of a job into a table, whole or not at all. Without a path they are only counted."""
    tally = Tally()
    if path is None:
        async for page in pages(jobs, id):
            _count(tally, page)
        return tally
    writing = table(path, await jobs.schema(id))
    rows = writing.__enter__()
    try:
        async for page in pages(jobs, id):
            _count(tally, page)
            wanted = [one for one in page if one.state == "failed" or not failed_only]
            tally.count += len(wanted)
            await asyncio.to_thread(_add, rows, wanted)
    except BaseException as error:
        writing.__exit__(type(error), error, error.__traceback__)
        raise
    await asyncio.to_thread(writing.__exit__, None, None, None)  # a large workbook takes its time
    return tally


def _count(tally: Tally, page: list[Result]) -> None:
    for one in page:
        tally.add(one)


def _add(rows: Any, page: list[Result]) -> None:
    for one in page:
        rows.add(one)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
