"""Reads a catalogue of agents that speaks ARD (Agentic Resource Discovery): which agents are listed, which fit a task.

    catalogue = Catalogue("work", "https://registry.example/api/v1", credential="…")
    listing = await catalogue.agents()               # Refusal when it cannot be read
    for entry in await catalogue.search("restart crashed pods"): ...

The address is a registry's API, a domain (its `/.well-known/ard.json`, and the registry that it names), or a manifest
that ends in `.json`. Listing is optional for registries and searching is not, so a listing says whether it is whole.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from quarterdeck.keel import web
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import guarded_client, host_of, place_of
from quarterdeck.keel.redact import redact
from quarterdeck.registry.entries import AGENT, CATALOGUE, REGISTRY, BadEntry, Entry, aligned, kind_of, read

WELL_KNOWN = ("/.well-known/ard.json", "/.well-known/ai-catalog.json")
LARGEST = 2 * 1024 * 1024
TOTAL_S = 10.0
PAGE = 100
MOST_PAGES = 20
MOST_ITEMS = 2_000
"""Entries that one listing looks at, of whatever kind."""
MOST_AGENTS = 200
MOST_SIZE = 2 * 1024 * 1024
"""Of all embedded cards of one listing, roughly."""
MOST_HITS = 10
DEEPEST = 3
_NOT_OFFERED = (404, 405, 501)


@dataclass
class Listing:
    agents: list[Entry] = field(default_factory=list)
    whole: bool = True
    """False: there are more, which only a search finds."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Entries that are not used, by why."""
    problem: str = ""
    """What could not be read beside what is here."""
    size: int = 0
    """Of the embedded cards, in letters."""

    @property
    def full(self) -> bool:
        return len(self.agents) >= MOST_AGENTS or self.size >= MOST_SIZE


class Catalogue:
    def __init__(self, name: str, address: str, *, credential: str = "", allow: Iterable[str] = ()) -> None:
        """`allow` holds origins that an administrator vouches for, beside the catalogue's own: entries may point
        there although they are inside, or not of their publisher's domain."""
        self._name, self._address = f"registry {name}", address.rstrip("/").removesuffix("/search")
        self._host = host_of(httpx.URL(address))
        origins = [address, *allow]
        self._vouched = {place_of(one) for one in origins}
        self._http = guarded_client(TOTAL_S, allow=origins)
        self._http.auth = _OwnOrigin(address, credential)
        path = httpx.URL(self._address).path
        self._is_manifest, self._is_domain = path.endswith(".json"), path in ("", "/")
        self._base = "" if self._is_manifest else self._address
        """Where the registry's API is; a manifest may name another place."""
        self._settled = not (self._is_manifest or self._is_domain)

    async def close(self) -> None:
        await self._http.aclose()

    async def agents(self) -> Listing:
        """The agents that it lists, within bounds."""
        listing = Listing()
        try:
            async with asyncio.timeout(TOTAL_S):
                manifest = await self._manifest()
                if manifest is not None:
                    self._take(manifest, listing)
                try:
                    await self._pages(listing, needed=manifest is None)
                except Refusal as error:
                    if manifest is None:
                        raise
                    if self._base == self._address:
                        self._base = ""  # a domain that only publishes
                    else:
                        listing.problem, listing.whole = str(error), False
        except TimeoutError:
            raise Refusal(f"The {self._name} did not show its list within {TOTAL_S:.0f} s.") from None
        return listing

    async def search(self, text: str, most: int = MOST_HITS) -> list[Entry]:
        """The agents that it finds to fit, best first; those whose entries cannot be used are passed over."""
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._search(text, most)
        except TimeoutError:
            raise Refusal(f"The {self._name} did not answer a search within {TOTAL_S:.0f} s.") from None

    async def _search(self, text: str, most: int) -> list[Entry]:
        await self._settle()
        if not self._base:
            return []
        query: dict[str, Any] = {"text": text, "filter": {"type": [f"{AGENT}+json"]}}
        # What it lists itself, and not what it heard from others.
        body = {"query": query, "federation": "none", "pageSize": most}
        url, name = f"{self._base}/search", f"The {self._name}"
        response = await web.post(self._http, url, name, body, largest=LARGEST, total_s=TOTAL_S)
        if response.status_code == 400:  # not every registry filters
            del query["filter"]
            response = await web.post(self._http, url, name, body, largest=LARGEST, total_s=TOTAL_S)
        results = _list_in(self._json(response, url), "results", self._name)
        found: dict[str, Entry] = {}
        for item in results[:most]:
            if isinstance(item, dict) and not {"url", "data"} & item.keys():  # a result may leave out all but its name
                item = await self._whole(item)
            if kind_of(item) != AGENT:
                continue
            try:
                entry = read(item, self._vouched)
            except BadEntry:
                continue
            found.setdefault(entry.identifier, entry)
        return list(found.values())

    async def agent(self, identifier: str) -> Entry | None:
        """One agent by its identifier; None when there is none that can be used."""
        await self._settle()
        item = await self._whole({"identifier": identifier})
        try:
            entry = read(item, self._vouched) if kind_of(item) == AGENT else None
        except BadEntry:
            return None
        return entry if entry is not None and entry.identifier == identifier else None

    # How it is read

    async def _settle(self) -> None:
        """Find out where the API is, if that was not read yet."""
        if not self._settled:
            self._take(await self._manifest() or [], Listing())

    async def _manifest(self) -> list[Any] | None:
        """The entries of the manifest, where the address is one or that of a domain that has one."""
        found = None
        if self._is_manifest:
            found = _list_in(self._json(await self._get(self._address), self._address), "entries", self._name)
        elif self._is_domain:
            for path in WELL_KNOWN:
                response = await self._get(self._address + path)
                try:
                    found = _list_in(self._json(response, path), "entries", self._name)
                    break
                except Refusal:  # many hosts answer every path with a page
                    continue
        self._settled = True
        return found

    def _take(self, items: list[Any], listing: Listing, depth: int = 0) -> None:
        if len(items) > MOST_ITEMS:
            listing.whole = False
        known = {entry.identifier for entry in listing.agents}
        for item in items[:MOST_ITEMS]:
            kind = kind_of(item)
            if kind == CATALOGUE:
                inner = item.get("data")
                entries = inner.get("entries") if isinstance(inner, dict) else None
                if isinstance(entries, list) and depth < DEEPEST:
                    self._take(entries, listing, depth + 1)
                    known = {entry.identifier for entry in listing.agents}
                else:
                    listing.left_out["catalogues of their own (name them as registries)"] += 1
            elif kind == REGISTRY and depth == 0:
                self._go_to(item.get("url"))
            elif kind == AGENT:
                try:
                    entry = read(item, self._vouched)
                except BadEntry as error:
                    listing.left_out[str(error)] += 1
                    continue
                if entry.identifier in known:
                    listing.left_out["named twice"] += 1
                elif listing.full:
                    listing.whole = False
                    return
                else:
                    known.add(entry.identifier)
                    listing.agents.append(entry)
                    listing.size += len(str(entry.card))

    def _go_to(self, url: Any) -> None:
        """The registry that a domain's manifest names, if it is the domain's own: no credential is shown to others,
        and nobody else is believed."""
        try:
            host, _ = place_of(url)
        except Refusal:
            return
        if place_of(url) in self._vouched or aligned(host, self._host):
            self._base = url.partition("?")[0].rstrip("/").removesuffix("/search")

    async def _pages(self, listing: Listing, *, needed: bool) -> None:
        """`GET /agents`, page by page; a registry need not offer it, nor filters."""
        if not self._base:
            return
        url, token, seen = f"{self._base}/agents", "", {""}
        params: dict[str, Any] = {"pageSize": PAGE, "filter": f"type = '{AGENT}+json'"}
        looked = 0
        for number in range(MOST_PAGES):
            response = await self._get(url, params)
            if number == 0 and response.status_code == 400:
                del params["filter"]
                response = await self._get(url, params)
            if number == 0 and response.status_code in _NOT_OFFERED:
                if needed:
                    await self.search("agent")  # it searches, or it is no registry
                    listing.whole = False
                return
            body = self._json(response, url)
            items = _list_in(body, "items", self._name)
            self._take(items, listing)
            looked += len(items)
            token = body.get("pageToken")
            if not token:
                return
            if not isinstance(token, str) or token in seen or len(token) > 2_000:
                listing.left_out["pages that repeat"] += 1
                break
            if looked >= MOST_ITEMS or listing.full:
                break
            seen.add(token)
            params["pageToken"] = token
        listing.whole = False

    async def _whole(self, item: Any) -> Any:
        """The entry behind an identifier."""
        identifier = item.get("identifier") if isinstance(item, dict) else None
        if not self._base or not isinstance(identifier, str) or len(identifier) > 500:
            return None
        url = f"{self._base}/agents/{quote(identifier, safe='')}"
        response = await self._get(url)
        if response.status_code in (400, *_NOT_OFFERED):
            return None
        whole = self._json(response, url)
        return {**whole, "score": item.get("score", 0)} if isinstance(whole, dict) else None

    async def _get(self, url: str, params: Any = None) -> httpx.Response:
        return await web.get(self._http, url, f"The {self._name}", params=params, largest=LARGEST, total_s=TOTAL_S)

    def _json(self, response: httpx.Response, what: str) -> Any:
        status = response.status_code
        if 300 <= status < 400:
            where = clip(redact(one_line(response.headers.get("location", "elsewhere"))), 120)
            raise Refusal(f"The {self._name} redirects to {where}. Redirects are not followed: name its own address.")
        if status in (401, 403):
            raise Refusal(
                f"The {self._name} answered {status}: it wants other credentials. They stand in the settings file "
                "under [bridge.credentials]; never ask for them in the chat."
            )
        if status != 200:
            path = clip(redact(one_line(what)), 80)
            raise Refusal(f"The {self._name} answered {status} at {path}. Is its address that of a registry?")
        return web.json_of(response, f"The {self._name}")


class _OwnOrigin(httpx.Auth):
    """The credential goes to the host and port that the settings name, whatever a manifest points to."""

    def __init__(self, address: str, credential: str) -> None:
        self._place, self._credential = place_of(address), credential

    def auth_flow(self, request: httpx.Request) -> Any:
        if self._credential and place_of(request.url) == self._place:
            request.headers["authorization"] = f"Bearer {self._credential}"
        yield request


def _list_in(body: Any, key: str, name: str) -> list[Any]:
    found = body.get(key) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise Refusal(f"The {name} answered without a list of {key}. Is its address that of a registry?")
    return found
