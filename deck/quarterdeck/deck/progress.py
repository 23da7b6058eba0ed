"""How a job goes on, on stderr: one line that is drawn anew on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from quarterdeck.agents.companies.estimate import duration
from quarterdeck.agents.companies.models import Job
from quarterdeck.agents.companies.report import in_batches
from quarterdeck.deck.screen import columns, cut

EVERY_S = 10.0
"""Between two lines where there is no terminal."""
BAR = 24


class Progress:
    """`show` as often as you like, `end` once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.said = 0.0
        self.drawn = False

    def show(self, job: Job) -> None:
        if self.live:
            wide = shutil.get_terminal_size().columns
            self.stream.write(f"\r\x1b[K{fitting(job, wide - 1)}")
            self.stream.flush()
            self.drawn = True
        elif time.monotonic() - self.said >= EVERY_S:
            self.said = time.monotonic()
            print(f"{self._now()}  {' · '.join(parts(job))}", file=self.stream, flush=True)

    def end(self) -> None:
        """Leave the line to whatever is printed next."""
        if self.drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.drawn = False

    @staticmethod
    def _now() -> str:
        return time.strftime("%H:%M:%S")


def parts(job: Job) -> list[str]:
    """What is worth knowing, the most important first."""
    share = job.done / job.total if job.total else 0.0
    told = [f"{job.done:,}/{job.total:,} {share:.0%}"]
    if job.state == "queued":
        told.append("waiting for its turn")
    if job.in_batches:
        told.append(in_batches(job))
    if job.rate_per_s and not job.in_batches:
        told.append(pace(job.rate_per_s))
    if job.eta_s is not None and job.done < job.total and not job.in_batches:
        told.append(f"{duration(job.eta_s)} left")
    told.append(f"complete {job.good:,}")
    told += [f"{name} {count:,}" for name, count in (("incomplete", job.incomplete), ("failed", job.failed)) if count]
    if job.cost is not None and (job.cost or job.tokens):
        told.append(money(job.cost))
    elif job.tokens:
        told.append(f"{job.tokens:,} tokens")
    return told


def fitting(job: Job, wide: int) -> str:
    """A bar and as many of the parts as the terminal has room for."""
    told = parts(job)
    share = min(1.0, job.done / job.total) if job.total else 0.0
    filled = round(share * BAR)
    line = f"{'█' * filled}{'░' * (BAR - filled)}  {told[0]}" if wide >= 60 else told[0]
    for part in told[1:]:
        if columns(line) + columns(part) + 3 > wide:
            break
        line = f"{line} · {part}"
    return cut(line, wide)


def pace(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def money(cost: float) -> str:
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}"
