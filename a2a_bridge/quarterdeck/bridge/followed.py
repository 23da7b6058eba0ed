"""A task that is listened to in this process: what the agent made and said so far, and who waits for more."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quarterdeck.bridge.tasks import Record

if TYPE_CHECKING:
    from quarterdeck.bridge.client import Line

Json = dict[str, Any]

NEWS = 50


@dataclass
class Followed:
    record: Record
    line: Line
    artifacts: list[Json] = field(default_factory=list)
    news: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=NEWS))
    told: int = 0
    """How many news there were; each has a number."""
    size: int = 0
    waiters: set[asyncio.Event] = field(default_factory=set)
    poked: asyncio.Event = field(default_factory=asyncio.Event)
    listener: asyncio.Task[None] | None = None
    flush: asyncio.Task[None] | None = None
    later: asyncio.TimerHandle | None = None
    saved_at: float = 0.0
    saved_state: tuple[str, str] = ("", "")
    changed: bool = False
    """Artifacts came that are not saved yet."""
    saving: int = 0
    """Nobody is told that it rests before that is written down."""
    quiet: bool = False
    """The agent was just heard, so it need not be asked."""
    replied: str = ""
    """The id of the last answer that was sent into it."""
    answered: dict[str, float] = field(default_factory=dict)
    """Questions that were answered, and when: for a moment the agent may still show them."""

    @property
    def listening(self) -> bool:
        return self.listener is not None and not self.listener.done()

    def wake(self) -> None:
        for event in self.waiters:
            event.set()
