"""Which agents there are for a caller, what each can do, and which fits a task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import TYPE_CHECKING

from quarterdeck.bridge.ranking import words
from quarterdeck.bridge.registries import Known, Registries
from quarterdeck.keel.answers import one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.redact import remember
from quarterdeck.keel.settings import BridgeSettings

if TYPE_CHECKING:
    from quarterdeck.bridge.cards import Card
    from quarterdeck.bridge.client import Line
    from quarterdeck.bridge.tasks import Memory
    from quarterdeck.registry.entries import Entry

AT_ONCE = 16
MOST_STRANGERS = 50
MOST_FOUND = 50
"""Agents of registries whose cards one call asks for."""
FOUND_S = 10.0
"""So long in all."""
MOST_LINES = 500


@dataclass
class Overview:
    """What there is for a caller."""

    cards: list[tuple[str, Card | Refusal]]
    """Of each agent its card, or why there is none; those of the settings first."""
    left_out: int = 0
    """Agents of registries that were not asked for their cards: there are too many."""
    hits: dict[str, Entry] = field(default_factory=dict)
    """What registries found for the task, with how relevant they think it is."""
    registries: list[str] = field(default_factory=list)
    """How each registry was read, in words."""


class Directory:
    """The agents of the settings and of the registries, each with the line to it, opened when it is first needed.

    An agent of a registry is named REGISTRY/PUBLISHER:NAME, which is no name that settings can have: no entry takes the
    place of an agent that a person named. It is given no credential, and is inside only where the settings say so."""

    def __init__(self, settings: BridgeSettings, memory: Memory) -> None:
        self._settings, self._memory = settings, memory
        self._lines: dict[str, Line] = {}
        self._found: dict[str, tuple[Entry, Line]] = {}
        self._retired: list[Line] = []
        self._registries = Registries(settings, memory, self._credential)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._found_gate = asyncio.Semaphore(AT_ONCE)  # a registry full of agents that hang holds up no other

    async def close(self) -> None:
        for line in [*self._lines.values(), *(line for _, line in self._found.values()), *self._retired]:
            await line.close()
        self._lines.clear()
        self._found.clear()
        self._retired.clear()
        await self._registries.close()

    def names(self, caller: Caller) -> list[str]:
        """Those of the settings."""
        return [name for name in self._settings.agents if self._may(name, caller)]

    def registries(self, caller: Caller) -> list[str]:
        return [name for name in self._settings.registries if self._may(name, caller)]

    def _may(self, name: str, caller: Caller) -> bool:
        globs = self._settings.callers.get(name, "*").split()
        return any(fnmatchcase(caller.id, glob) for glob in globs)

    async def line(self, name: str, caller: Caller) -> Line:
        """The line to an agent by its name, or by its address where the settings allow any."""
        from quarterdeck.bridge.client import Agent, Line

        known = self.names(caller)
        if name not in known:
            registry, mark, rest = name.partition("/")
            if mark and registry in self.registries(caller) and self._may(name, caller):
                return await self._line_by(registry, rest, caller)
            if not name.startswith(("http://", "https://")):
                more = self.registries(caller)
                said = [f"There are: {', '.join(known[:20])}."] if known else [] if more else [NO_AGENTS]
                said += [f"list_agents shows those of {', '.join(more[:20])}."] if more else []
                raise Refusal(f"There is no agent {one_line(name)[:60]!r}. {' '.join(said)}")
            if not self._settings.any_address:
                raise Refusal(
                    "Agents are named in the settings, not by address. An administrator adds one under "
                    "[bridge.agents], or sets any_address = true there."
                )
        if name not in self._lines:
            if name in known:
                places = tuple(self._settings.agents[name].split())
                also = tuple(self._settings.also.get(name, "").split())
                agent = Agent(name, places, self._credential(name), self._settings.keys.get(name, ""), also)
            else:
                agent = Agent(name, (name,), trusted=False, closed=self._closed())
                strangers = [one for one in self._lines if one.startswith("http")]
                if len(strangers) >= MOST_STRANGERS:
                    raise Refusal(f"{MOST_STRANGERS} agents were named by address already. Name them in the settings.")
            self._lines[name] = Line(agent, self._settings, self._memory)
        return self._lines[name]

    def _credential(self, name: str) -> str:
        secret = self._settings.credentials.get(name)
        value = secret.get_secret_value() if secret is not None else ""
        where, _, what = value.partition(":")
        if where == "env":
            import os

            value = os.environ.get(what, "")
            if not value:
                raise Refusal(f"The credential of {name} should stand in the variable {what}, which is not set.")
        elif where == "keyring":
            value = _from_keyring(name, what or "quarterdeck")
        remember([value])
        return value

    # Of the registries

    async def _line_by(self, registry: str, rest: str, caller: Caller) -> Line:
        from quarterdeck.registry.entries import address_key

        entry = await self._registries.entry(registry, f"urn:air:{rest}")
        if entry is None:
            known = await self._registries.known(registry)
            why = f" {known.problem}" if known.problem else ""
            raise Refusal(f"The registry {registry} lists no agent {one_line(rest)[:80]!r}.{why} See list_agents.")
        if address_key(entry.address) in self._places(self._hidden(caller)):
            raise Refusal(f"There is no agent {registry}/{entry.name!r} for you.")
        return await self._line_to(registry, entry)

    async def _line_to(self, registry: str, entry: Entry) -> Line:
        from quarterdeck.bridge.client import Agent, Line

        name = f"{registry}/{entry.name}"
        if name in self._found:
            known, line = self._found[name]
            if (known.address, known.card) == (entry.address, entry.card):
                return line
            self._retired.append(line)  # tasks may still be followed over it
        agent = Agent(
            name,
            (entry.address,),
            key_file=self._settings.keys.get(name, ""),
            trusted=False,
            vouched=self._registries.origins(registry),
            card=entry.card,
            closed=self._closed(),
        )
        line = Line(agent, self._settings, self._memory)
        self._found[name] = entry, line
        if len(self._found) + len(self._retired) > MOST_LINES:
            oldest = self._retired.pop(0) if self._retired else self._found.pop(next(iter(self._found)))[1]
            await oldest.close()
        return line

    def _hidden(self, caller: Caller) -> list[str]:
        return [name for name in self._settings.agents if not self._may(name, caller)]

    def _closed(self) -> tuple[str, ...]:
        return tuple(self._places(name for name in self._settings.agents if name in self._settings.callers))

    def _places(self, names: Iterable[str]) -> set[str]:
        from quarterdeck.registry.entries import address_key

        addresses = (f"{self._settings.agents[name]} {self._settings.also.get(name, '')}" for name in names)
        return {address_key(place) for places in addresses for place in places.split()}

    async def catalogues(self, caller: Caller, *, fresh: bool = False) -> dict[str, Known]:
        """What each registry lists."""
        names = self.registries(caller)
        read = await asyncio.gather(*(self._registries.known(name, fresh=fresh) for name in names))
        return dict(zip(names, read, strict=True))

    async def _listed(self, caller: Caller, task: str, fresh: bool, overview: Overview) -> dict[str, tuple[str, Entry]]:
        """What the registries list, and find for the task where they hold more than is shown; each agent once."""
        from quarterdeck.registry.entries import address_key

        catalogues = await self.catalogues(caller, fresh=fresh)
        names, read = list(catalogues), list(catalogues.values())
        overview.registries = [f"registry {name}: {known.line()}" for name, known in catalogues.items()]
        many = sum(len(known.agents) for known in read) > MOST_FOUND
        asked = [name for name, known in zip(names, read, strict=True) if task and (many or not known.whole)]
        hits = await asyncio.gather(*(self._registries.search(name, task) for name in asked))
        taken = self._places(self._settings.agents)
        found: dict[str, tuple[str, Entry]] = {}

        def take(registry: str, entry: Entry, *, hit: bool) -> None:
            name, place = f"{registry}/{entry.name}", address_key(entry.address)
            if place not in taken and self._may(name, caller):
                taken.add(place)
                found[name] = (registry, entry)
                if hit:
                    overview.hits[name] = entry

        for name, entries in zip(asked, hits, strict=True):
            for entry in entries:
                take(name, entry, hit=True)
        for row in zip_longest(*(known.agents for known in read)):  # in turn: a long list crowds out no other
            for name, one in zip(names, row, strict=True):
                if one is not None:
                    take(name, one, hit=False)
        return found

    async def overview(self, caller: Caller, *, task: str = "", fresh: bool = False) -> Overview:
        """Every agent of the settings, and as many of the registries' as are looked at in one call: for a task, those
        whose entries fit it best."""
        overview = Overview([])
        if not self.registries(caller):
            overview.cards = await self.cards(caller, fresh=fresh)
            return overview
        named = asyncio.create_task(self.cards(caller, fresh=fresh))
        try:
            found = await self._listed(caller, task, fresh, overview)
            chosen = list(found.items())
            if task and len(chosen) > MOST_FOUND:
                wanted = set(words(task))
                best = {name: len(wanted & set(words(entry.words))) for name, (_, entry) in chosen}
                chosen.sort(key=lambda one: (one[0] not in overview.hits, -best[one[0]]))
            overview.left_out = max(0, len(chosen) - MOST_FOUND)
            shown = chosen[:MOST_FOUND]
            asking = [asyncio.create_task(self._card_of(*where, fresh=fresh)) for _, where in shown]
            try:
                await asyncio.wait(asking, timeout=FOUND_S) if asking else None
                cards = [one.result() if one.done() else Refusal(TOO_SLOW) for one in asking]
            finally:
                for one in asking:
                    one.cancel()
                await asyncio.gather(*asking, return_exceptions=True)
            overview.cards = [*await named, *zip([name for name, _ in shown], cards, strict=True)]
        finally:
            named.cancel()
        return overview

    async def _card_of(self, registry: str, entry: Entry, *, fresh: bool) -> Card | Refusal:
        async with self._found_gate:
            try:
                return await (await self._line_to(registry, entry)).card(fresh=fresh)
            except Refusal as error:
                return error

    # All of them

    async def cards(self, caller: Caller, *, fresh: bool = False) -> list[tuple[str, Card | Refusal]]:
        """The card of each agent of the settings, or why there is none. Agents that hang cost the time of one."""

        async def one(name: str) -> tuple[str, Card | Refusal]:
            async with self._gate:
                try:
                    return name, await (await self.line(name, caller)).card(fresh=fresh)
                except Refusal as error:
                    return name, error

        return list(await asyncio.gather(*(one(name) for name in self.names(caller))))

    async def with_skill(self, skill: str, caller: Caller) -> str:
        """The agent that has this skill, if exactly one of them has. One that only a registry lists is chosen by its
        name: anybody may claim to have a skill."""
        having = [
            name
            for name, card in await self.cards(caller)
            if not isinstance(card, Refusal) and any(skill in (one.id, one.about.split(":")[0]) for one in card.skills)
        ]
        if len(having) == 1:
            return having[0]
        if not having:
            raise Refusal(f"No agent that answers has the skill {one_line(skill)[:60]!r}. find_agent_for finds one.")
        raise Refusal(f"{', '.join(having[:10])} all have this skill. Say which agent.")


NO_AGENTS = (
    "No agent is named yet: a person adds them to the settings file under [bridge.agents], or with "
    "QUARTERDECK_BRIDGE_AGENTS=name=http://…; or a registry of agents under [bridge.registries]"
)
TOO_SLOW = "It did not show its card in time. describe_agent asks it by itself."


def _from_keyring(name: str, service: str) -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise Refusal(
            f"The credential of {name} is in the keyring; install the package `keyring` to read it."
        ) from None
    try:
        value = keyring.get_password(service, name)
    except KeyringError as error:
        raise Refusal(
            f"The keyring does not give out the credential of {name} ({type(error).__name__}). A machine without a "
            "desktop has none: use env:VARIABLE there."
        ) from None
    if not value:
        raise Refusal(
            f"The keyring has no credential for {name}. Store it: {sys.executable} -m keyring set {service} {name}"
        )
    return value
