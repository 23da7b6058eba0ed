"""Wakes whoever waits for news of a flow in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Bells:
    def __init__(self) -> None:
        self._hung: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def hung(self, flow: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something happens in a flow."""
        bell = asyncio.Event()
        self._hung.setdefault(flow, set()).add(bell)
        try:
            yield bell
        finally:
            self._hung[flow].discard(bell)
            if not self._hung[flow]:
                del self._hung[flow]

    def ring(self, flow: str) -> None:
        for bell in self._hung.get(flow, ()):
            bell.set()

    def ring_all(self) -> None:
        for flow in self._hung:
            self.ring(flow)


async def rung(bell: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(bell.wait(), timeout_s)
    except TimeoutError:
        pass
