"""One entry of a catalogue: read with distrust, and held to the rule that nobody speaks for another's domain.

The words are those of ARD (Agentic Resource Discovery, 0.9 and 0.91). An entry's identifier is
`urn:air:<publisher>:<more>:<name>`, where the publisher is a domain. Whoever writes an entry can write any domain into
it, so an entry is believed only where its agent's card comes from that domain, or from a place that an administrator
vouches for; a trust manifest that names another domain spoils it too. A manifest's identity is not a proof here: it is
a claim that must at least agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import httpx

from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import Place, place_of
from quarterdeck.keel.redact import redact

Json = dict[str, Any]

AGENT = "application/a2a-agent-card"
REGISTRY = "application/ai-registry"
CATALOGUE = "application/ai-catalog"

IDENTIFIER = re.compile(r"urn:air:([A-Za-z0-9.-]{1,100})((?::[A-Za-z0-9._-]{1,100}){1,8})")
STRANGE = "speaking for a domain that is not their own"
"""What an administrator may mend by vouching for the place."""
LONGEST_NAME = 180
LARGEST_DATA = 64 * 1024
_LISTS_OF_ADDRESSES = {
    "supportedInterfaces", "supported_interfaces", "additionalInterfaces", "additional_interfaces",
}  # fmt: skip
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json")


class BadEntry(Exception):
    """Why an entry is left out, in a few words of ours."""


@dataclass(frozen=True)
class Entry:
    """An agent as a catalogue lists it. Every text in it came from outside, made fit to be shown on one line."""

    identifier: str
    title: str
    about: str = ""
    words: str = ""
    """Everything the entry says about itself, for searching."""
    url: str = ""
    """Where its card is; empty when the catalogue holds the card itself."""
    card: Json | None = field(default=None, hash=False)
    score: int = 0
    """How well a search found it to fit, 0 to 100. Relevance only: it says nothing about trust."""

    @property
    def name(self) -> str:
        """Without what every identifier begins with."""
        return self.identifier.removeprefix("urn:air:")

    @property
    def address(self) -> str:
        """Where the agent is found: of its card, or of the first interface that the embedded card names."""
        place = self.url or (_interfaces(self.card) or [""])[0]
        return place if "://" in place else f"https://{place}"


def kind_of(item: Any) -> str:
    """The media type without its ending and parameters: the registration of these types is not settled."""
    kind = item.get("type") if isinstance(item, dict) else None
    bare = kind.partition(";")[0].strip().lower().removesuffix("+json") if isinstance(kind, str) else ""
    return AGENT if bare == "application/agent-card" else bare


def read(item: Any, vouched: Collection[Place]) -> Entry:
    """An entry of type agent. Raises BadEntry for one that is not whole, or that speaks for somebody else."""
    identifier = item.get("identifier")
    found = IDENTIFIER.fullmatch(identifier) if isinstance(identifier, str) else None
    if found is None or len(identifier) > LONGEST_NAME:
        raise BadEntry("without a proper identifier")
    url, card = item.get("url"), item.get("data")
    if (url is None) == (card is None):
        raise BadEntry("without exactly one of url and data")
    if card is not None and not (isinstance(card, dict) and len(json.dumps(card)) <= LARGEST_DATA):
        raise BadEntry("with a card that is no object or too large")
    places = _interfaces(card) if card is not None else [url]
    if not places or len(places) > 20:
        raise BadEntry("with a card that names no address")
    if not all(_speaks_for(place, found[1], vouched) for place in places) or not _agrees(item, found[1]):
        raise BadEntry(STRANGE)
    queries = _texts(item.get("representativeQueries"))
    more = [*_texts(item.get("capabilities")), *_texts(item.get("tags")), *queries]
    title, about = _text(item.get("displayName"), 80), _text(item.get("description"), 400)
    score = item.get("score")
    return Entry(
        identifier=identifier,
        title=title or found[2].rpartition(":")[2],
        about=about,
        words=plain(" ".join((found[2].replace(":", " "), title, about, *more)))[:2000],
        url=url or "",
        card=card,
        score=min(100, max(0, score)) if isinstance(score, int) else 0,
    )


def aligned(host: str, domain: str) -> bool:
    """Whether the host is the domain or below it."""
    host, domain = host.lower().rstrip("."), domain.lower().rstrip(".")
    return "." in domain and (host == domain or host.endswith(f".{domain}"))


def address_key(address: str) -> str:
    """The same for every way to write where one agent is found."""
    try:
        host, port = place_of(address)
        path = httpx.URL(address).path
    except (Refusal, httpx.InvalidURL):
        return address
    for ending in _CARD_PATHS:
        path = path.removesuffix(ending)
    host = _LOOPBACK[0] if host in _LOOPBACK else host
    return f"{host}:{port}{path.rstrip('/')}"


def _speaks_for(address: Any, publisher: str, vouched: Collection[Place]) -> bool:
    """Whether what is said there is said by the publisher. Without encryption anybody on the way could say it."""
    if not isinstance(address, str) or len(address) > 500:
        return False
    whole = address if "://" in address else f"https://{address}"  # gRPC is named as host:port
    try:
        place = place_of(whole)
    except Refusal:
        return False
    return place in vouched or (whole.startswith("https://") and aligned(place[0], publisher))


def _agrees(item: Json, publisher: str) -> bool:
    """Whether the trust manifest, where there is one, names the publisher's own domain."""
    manifest = item.get("trustManifest")
    if manifest is None:
        return True
    identity = manifest.get("identity") if isinstance(manifest, dict) else None
    if not isinstance(identity, str):
        return False
    if identity.startswith("did:web:"):
        host = identity.split(":")[2].partition("%")[0]
    elif "://" in identity:
        host = identity.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
    else:
        host = identity.partition("/")[0]
    return aligned(host, publisher)


def _interfaces(card: Json | None) -> list[str]:
    """Every address that a card sends its callers to, in its 1.0 and its 0.3 form; "" for what may be read as one."""
    if card is None:
        return []
    found = [card.get("url")]
    for key in _LISTS_OF_ADDRESSES & card.keys():
        listed = card[key]
        found += (
            [one.get("url") if isinstance(one, dict) else "" for one in listed] if isinstance(listed, list) else [""]
        )
    return [one if isinstance(one, str) else "" for one in found if one is not None]


def _text(value: Any, most: int) -> str:
    return clip(redact(one_line(value[: most * 4])), most) if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [_text(one, 160) for one in value[:10] if isinstance(one, str)] if isinstance(value, list) else []
