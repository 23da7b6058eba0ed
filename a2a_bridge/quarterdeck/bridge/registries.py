"""The registries of the settings, as far as they were read: kept with their age, also across restarts, so that one that
is down costs nobody their agents."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.durations import say_duration
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import BridgeSettings

if TYPE_CHECKING:
    from quarterdeck.bridge.tasks import Memory
    from quarterdeck.registry.client import Catalogue
    from quarterdeck.registry.entries import Entry

FRESH_S = 300.0
"""A registry is read anew after this long."""
REST_S = 30.0
"""One that failed is left alone for so long."""
MOST_FOUND = 200
"""Agents that were found beside a list and are remembered, for each registry."""


@dataclass
class Known:
    """What one registry listed when it was last read."""

    agents: list[Entry] = field(default_factory=list)
    whole: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    heard: float = 0.0
    problem: str = ""
    """Why it could not be read anew."""

    def line(self) -> str:
        """What there is, how old it is, what is missing and why."""
        parts = [f"{len(self.agents)} agents"]
        if self.heard:
            parts[0] += f", read {say_duration(max(0.0, time.time() - self.heard))} ago"
            if not self.whole:
                parts.append("it has more than it lists here: find_agent_for searches it")
            parts += [f"left out, {why}: {count}" for why, count in self.left_out.most_common(4)]
        return "; ".join([*parts, self.problem] if self.problem else parts)


@dataclass
class _Source:
    catalogue: Catalogue
    key: str
    """What its list is kept under. Under other rules, or from another place, it is another list."""
    known: Known = field(default_factory=Known)
    remembered: bool = False
    until: float = 0.0
    read_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    found: dict[str, tuple[float, Entry]] = field(default_factory=dict)


class Registries:
    def __init__(self, settings: BridgeSettings, memory: Memory, credential: Callable[[str], str]) -> None:
        self._settings, self._memory, self._credential = settings, memory, credential
        self._sources: dict[str, _Source] = {}

    async def close(self) -> None:
        for source in self._sources.values():
            await source.catalogue.close()
        self._sources.clear()

    def origins(self, name: str) -> tuple[str, ...]:
        """Places that agents of this registry may be at, though they are inside."""
        return (self._settings.registries[name], *self._settings.registry_allow)

    async def known(self, name: str, *, fresh: bool = False) -> Known:
        """What this registry lists, read anew where that is old. Never raises: what is wrong stands in it."""
        try:
            source = self._source(name)
        except Refusal as error:
            return Known(problem=_said(error))
        asked = time.monotonic()
        if asked < source.until and not fresh:
            return source.known
        async with source.lock:
            if source.read_at <= asked:  # else somebody read it meanwhile
                await self._read(source)
                source.read_at = time.monotonic()
        return source.known

    async def _read(self, source: _Source) -> None:
        if not source.remembered:
            source.remembered = True
            await self._recall(source)
            young = FRESH_S - (time.time() - source.known.heard)
            if 0 < young <= FRESH_S and source.known.heard:
                source.until = time.monotonic() + young
                return
        try:
            listing = await source.catalogue.agents()
        except Refusal as error:
            source.known.problem = _said(error)
            source.until = time.monotonic() + REST_S
            return
        source.known = Known(listing.agents, listing.whole, listing.left_out, time.time(), listing.problem)
        source.until = time.monotonic() + FRESH_S
        with suppress(Refusal):  # a list that is not kept is no reason not to show it
            await self._memory.keep_catalogue(source.key, source.known.heard, _dumped(source.known))

    async def _recall(self, source: _Source) -> None:
        with suppress(Refusal):
            heard, body = await self._memory.kept_catalogue(source.key)
            if body:
                with suppress(ValueError, KeyError, TypeError):  # another version may have kept it
                    source.known = _loaded(body, heard)

    async def search(self, name: str, task: str) -> list[Entry]:
        """Agents that the registry finds for a task beside those it lists; none when it cannot be asked."""
        try:
            source = self._source(name)
            hits = await source.catalogue.search(task)
        except Refusal:
            return []
        listed = {entry.identifier: entry for entry in source.known.agents}
        for entry in hits:
            if entry.identifier not in listed:
                self._remember(source, entry)
        # One name, one agent: where the list and the search differ, the list counts.
        return [replace(listed.get(entry.identifier, entry), score=entry.score) for entry in hits]

    async def entry(self, name: str, identifier: str) -> Entry | None:
        """One agent of this registry: as it lists it, as a search found it, or as it tells of it now."""
        known = await self.known(name)
        if name not in self._sources:  # its credential cannot be had
            return None
        source = self._sources[name]
        for entry in known.agents:
            if entry.identifier == identifier:
                return entry
        if known.whole:
            return None
        heard, found = source.found.get(identifier, (0.0, None))
        if found is not None and time.monotonic() - heard < FRESH_S:
            return found
        try:
            told = await source.catalogue.agent(identifier)
        except Refusal:
            told = None
        if told is not None:
            self._remember(source, told)
        return told or found

    def _remember(self, source: _Source, entry: Entry) -> None:
        source.found.pop(entry.identifier, None)
        source.found[entry.identifier] = (time.monotonic(), entry)
        while len(source.found) > MOST_FOUND:
            del source.found[next(iter(source.found))]

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            from quarterdeck.registry.client import Catalogue

            address, allow = self._settings.registries[name], self._settings.registry_allow
            catalogue = Catalogue(name, address, credential=self._credential(name), allow=allow)
            self._sources[name] = _Source(catalogue, " ".join([name, address, *sorted(allow)]))
        return self._sources[name]


def _said(error: Refusal) -> str:
    return clip(redact(one_line(str(error))), 300)


def _dumped(known: Known) -> str:
    return json.dumps(
        {"agents": [asdict(entry) for entry in known.agents], "whole": known.whole, "left_out": known.left_out}
    )


def _loaded(body: str, heard: float) -> Known:
    from quarterdeck.registry.entries import Entry

    found: dict[str, Any] = json.loads(body)
    agents = [Entry(**entry) for entry in found["agents"]]
    return Known(agents, found["whole"], Counter(found["left_out"]), heard)
