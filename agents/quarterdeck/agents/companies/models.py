"""What a job of company research is, and what comes out of it. Times are seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

JobState = Literal["queued", "running", "completed", "cancelled", "stopped", "failed"]
ResultState = Literal["complete", "incomplete", "failed"]
ENDED = frozenset({"completed", "cancelled", "stopped", "failed"})


@dataclass(frozen=True)
class Job:
    """A job as it stands."""

    id: str
    state: JobState
    why: str = ""
    """Why it was stopped or failed; what was skipped; that a cost is only a part of it."""
    total: int = 0
    """Companies to do: without blanks, and each name once."""
    done: int = 0
    good: int = 0
    incomplete: int = 0
    failed: int = 0
    iterations: int = 0
    cost: float | None = None
    """US dollars so far; None when no price is known."""
    tokens: int = 0
    created: float = 0.0
    updated: float = 0.0
    rate_per_s: float = 0.0
    eta_s: float | None = None
    priority: int = 0
    label: str = ""
    blank: int = 0
    """Rows that held no name."""
    duplicates: int = 0
    """Rows whose name stood there before."""
    clipped: int = 0
    """Names that were longer than anybody's, and cut."""
    unpriced: int = 0
    """Finished companies whose cost is not known, and so not in `cost`."""
    by: str = ""
    budget: float | None = None
    in_batches: int = 0
    """Companies whose pages are with the model in a batch: cheap mode."""
    batches_since: float = 0.0
    """When the oldest of these batches was sent."""
    idle: bool = False
    """It is not over, and nobody works on it."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Result:
    """What was found out about one company; `problem` says why a failed one failed."""

    n: int
    company_name: str
    state: ResultState
    data: dict[str, Any] = field(default_factory=dict)
    confidence: float = 0.0
    completeness: float = 0.0
    iterations: int = 0
    sources: list[str] = field(default_factory=list)
    """Addresses."""
    fields: list[dict[str, Any]] = field(default_factory=list)
    """{path, value, confidence, source, passage}"""
    problem: str = ""
    cost: float | None = None
    tokens: int = 0
    duration_s: float = 0.0
    finished: float = 0.0
    job: str = ""
