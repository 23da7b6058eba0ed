"""Which agents there are for a caller, what each can do, and which fits a task."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from quarterdeck.keel.answers import one_line, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.redact import remember
from quarterdeck.keel.settings import BridgeSettings

if TYPE_CHECKING:
    from quarterdeck.bridge.cards import Card, Skill
    from quarterdeck.bridge.client import Line
    from quarterdeck.bridge.tasks import Memory

AT_ONCE = 16
MOST_STRANGERS = 50


class Directory:
    """The agents of the settings, each with the line to it. Lines are opened when they are first needed."""

    def __init__(self, settings: BridgeSettings, memory: Memory) -> None:
        self._settings, self._memory = settings, memory
        self._lines: dict[str, Line] = {}

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()
        self._lines.clear()

    def names(self, caller: Caller) -> list[str]:
        return [name for name in self._settings.agents if self._may(name, caller)]

    def _may(self, name: str, caller: Caller) -> bool:
        globs = self._settings.callers.get(name, "*").split()
        return any(fnmatchcase(caller.id, glob) for glob in globs)

    def line(self, name: str, caller: Caller) -> Line:
        """The line to an agent by its name, or by its address where the settings allow any."""
        from quarterdeck.bridge.client import Agent, Line

        known = self.names(caller)
        if name not in known:
            if not name.startswith(("http://", "https://")):
                there = f"There are: {', '.join(known[:20])}." if known else NO_AGENTS
                raise Refusal(f"There is no agent {one_line(name)[:60]!r}. {there}")
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
                agent = Agent(name, (name,), trusted=False)
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

    async def cards(self, caller: Caller, *, fresh: bool = False) -> list[tuple[str, Card | Refusal]]:
        """The card of each agent, or why there is none. Agents that hang cost the time of one."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> tuple[str, Card | Refusal]:
            async with gate:
                try:
                    return name, await self.line(name, caller).card(fresh=fresh)
                except Refusal as error:
                    return name, error

        return list(await asyncio.gather(*(one(name) for name in self.names(caller))))

    async def with_skill(self, skill: str, caller: Caller) -> str:
        """The agent that has this skill, if exactly one of them has."""
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
    "QUARTERDECK_BRIDGE_AGENTS=name=http://…"
)


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


# Which agent fits

_WORD = re.compile(r"[a-z0-9]+|[^\W\d_a-zA-Z]+")
_COMMON_TEXT = """
    a an and are as at be by can do find for from get have help how i in into is it its me my of on or our please that
    the their them this to us use what when which who why will with you your
"""
_COMMON = frozenset(_COMMON_TEXT.split())


def words(text: str) -> list[str]:
    """What is compared: words without common ones and endings; other scripts by pairs of letters."""
    found = []
    for word in _WORD.findall(plain(text).lower().replace("_", " ")):
        if not word.isascii():
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word not in _COMMON:
            found.append(_stem(word))
    return found


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ers", "er", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def rank(task: str, having: list[tuple[str, Card]]) -> list[tuple[float, str, Skill, list[str]]]:
    """Skills by how well their words fit the task's; rare words count for more. 1.0 is every word of the task."""
    asked = set(words(task))
    skills = [
        (name, skill, Counter(words(skill.words)), Counter(words(f"{card.title} {card.about}")))
        for name, card in having
        for skill in card.skills
    ]
    if not asked or not skills:
        return []
    spread = Counter(word for *_, own, around in skills for word in {*own, *around} & asked)
    weight = {word: math.log(1 + len(skills) / (0.5 + spread[word])) for word in asked}
    total = sum(weight.values())
    ranked = []
    for name, skill, own, around in skills:
        hits = [word for word in asked if own[word] or around[word]]
        score = sum(weight[word] * (1.0 if own[word] else 0.4) for word in hits) / total
        if score > 0.05:
            ranked.append((round(score, 3), name, skill, sorted(hits, key=lambda word: -weight[word])))
    return sorted(ranked, key=lambda row: -row[0])
