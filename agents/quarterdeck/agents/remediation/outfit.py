"""What the flow works with in this process: its tools, its settings, the ledger, the reports, perhaps a model.

A flow's own arguments and results are plain JSON and outlive the process; this does not, so it is kept apart and
handed out by `worn()`. Whoever serves or runs the agent puts it on first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from quarterdeck.agents.remediation.reports import Reports
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.model import Model
from quarterdeck.keel.settings import Settings


@dataclass(frozen=True)
class Outfit:
    settings: Settings
    tools: Toolbox
    changes: Changes
    reports: Reports
    model: Model | None


_worn: list[Outfit] = []


@contextmanager
def wearing(settings: Settings, tools: Toolbox) -> Iterator[Outfit]:
    outfit = Outfit(settings, tools, Changes.of(settings), Reports.of(settings), Model.of(settings))
    _worn.append(outfit)
    try:
        yield outfit
    finally:
        _worn.remove(outfit)


def worn() -> Outfit:
    if not _worn:
        raise RuntimeError("the remediation agent has no tools in this process")
    return _worn[-1]
