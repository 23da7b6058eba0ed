"""The face of company research: submit a job, see how it stands, read what came out, cancel it.

async with companies(settings) as jobs:                       # deck.crew: runs jobs in this process
    job = await jobs.submit(names, schema, id="q3", by=caller)    # the same id again goes on with that job
    async for job in jobs.watch("q3"):                            # until it ends
        print(job.done, job.total, job.rate_per_s, job.eta_s)
    page = await jobs.results("q3", after=-1, limit=500)          # in the order of the list

async with looking(settings) as jobs:                         # sees and cancels what other processes run
    print(await jobs.list())
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Literal

from quarterdeck.agents.companies.models import Job, Result
from quarterdeck.keel.identity import Caller

Mode = Literal["auto", "rules", "model"]
PAGE = 500
"""Results that one call returns at most."""


class Jobs:
    async def submit(
        self,
        companies: AsyncIterable[str] | Iterable[str],
        schema: dict[str, Any],
        *,
        by: Caller,
        id: str = "",
        label: str = "",
        max_iterations: int = 2,
        max_queries: int = 3,
        provider: str = "",
        mode: Mode = "auto",
        priority: int = 0,
        budget: float | None = None,
    ) -> Job:
        """Store the list, bounded memory whatever its length, and start the job.

        The same id again continues that job: one that runs goes on, one that was stopped or cancelled is taken up
        where it was (with the new budget), and what failed is tried again. Another list or schema under a known id
        is refused. Names are trimmed; blank ones are skipped and counted, those that come again are done once."""
        raise NotImplementedError

    async def status(self, id: str, *, by: Caller | None = None) -> Job:
        """Raises Refusal ("There is no job …") also for a job that is not `by`'s, unless `by` may approve."""
        raise NotImplementedError

    async def list(self, limit: int = 50, *, by: Caller | None = None) -> builtins.list[Job]:
        """Newest first."""
        raise NotImplementedError

    async def cancel(self, id: str, *, by: Caller | None = None) -> Job:
        """Start no further company; those in flight end. Of another process too, within a second or two."""
        raise NotImplementedError

    async def results(
        self, id: str, after: int = -1, limit: int = PAGE, *, newest: bool = False, by: Caller | None = None
    ) -> builtins.list[Result]:
        """Finished companies with n > `after`, by n; `newest`: the latest finished ones first. At most PAGE."""
        raise NotImplementedError

    def watch(self, id: str, *, every_s: float = 1.0, by: Caller | None = None) -> AsyncIterator[Job]:
        """How the job stands, whenever that changed (looked at every `every_s`), until it has ended."""
        raise NotImplementedError

    async def history(self, company_name: str, limit: int = 20, *, by: Caller | None = None) -> builtins.list[Result]:
        """What was found out about one company over time, in any job; newest first. `Result.job` says which."""
        raise NotImplementedError
