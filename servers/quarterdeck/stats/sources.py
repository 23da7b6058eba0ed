"""What the stats server can be told by: one reading of the whole system, and one service's health."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.stats.models import Figures, Service

# How people and models name the services of the seed's system; the key is what the balancer calls them.
SYNONYMS = {
    "load-balancer": ("lb", "balancer", "loadbalancer"),
    "api-gateway": ("gateway", "gw", "apigateway"),
    "user_service": ("user", "users", "userservice"),
    "auth": ("authservice", "authentication"),
    "blog_service": ("blog", "blogservice"),
}


@dataclass(frozen=True)
class Reading:
    """The system at one moment, as its source tells it."""

    figures: Figures
    services: list[Service]
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each service says of itself, by name."""
    note: str = ""
    """How the source came to it, where that is not plain."""


class Source(Protocol):
    name: str

    async def read(self) -> Reading:
        """The system now. Raises Refusal when the source does not answer."""
        ...


def outside(text: object, most: int = 200) -> str:
    """Text that a service wrote, fit to be shown."""
    return clip(redact(plain(str(text))).replace("\n", " "), most)


def find(name: str, known: list[str], what: str = "service") -> str:
    """Which of the known ones is meant; synonyms and spellings are forgiven, the unknown gets near matches."""
    wanted = _bare(name)
    for one in known:
        if wanted in (_bare(one), *(_bare(s) for s in SYNONYMS.get(one, ()))):
            return one
    shortened = [one for one in known if _bare(one).removesuffix("service") == wanted.removesuffix("service")]
    if len(shortened) == 1:
        return shortened[0]
    spellings = {_bare(spelling): one for one in known for spelling in (*SYNONYMS.get(one, ()), one)}
    near = get_close_matches(wanted, list(spellings), n=3, cutoff=0.6)
    meant = list(dict.fromkeys(spellings[one] for one in near))
    hint = f"Did you mean {' or '.join(meant)}?" if meant else f"Known: {', '.join(known[:20]) or 'none'}."
    raise Refusal(f"There is no {what} {clip(plain(name), 60)!r}. {hint}")


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
