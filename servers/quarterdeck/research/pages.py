"""A page from the web as clean text: guarded against addresses inside, polite to its owner, bounded in every way."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import guarded_client, place_of
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import ResearchSettings
from quarterdeck.research import html, robots
from quarterdeck.research.apart import read_apart
from quarterdeck.research.cache import Cache, key_of
from quarterdeck.research.charset import decode
from quarterdeck.research.errors import Passing
from quarterdeck.research.limits import Limits, Rate
from quarterdeck.research.searching import ago
from quarterdeck.research.transfer import Received, TooLarge, receive, retry_after, trouble

MOST_HOPS = 5
PORTS = (80, 443)
POLITE = Rate(5.0, 5.0)
LARGE_HTML = 200_000
"""Longer pages are read in a child process: what makes the parser slow needs room."""
HTML = ("text/html", "application/xhtml+xml")
TEXT = (
    "text/plain", "text/markdown", "text/x-markdown", "text/csv", "text/xml", "application/xml", "application/json",
    "application/ld+json",
)  # fmt: skip
PDF = ("application/pdf", "application/x-pdf")


@dataclass(frozen=True)
class Page:
    final_url: str
    title: str
    text: str
    kind: Literal["html", "pdf", "text"]
    published: str | None = None
    note: str = ""


class Pages:
    def __init__(self, settings: ResearchSettings, limits: Limits, cache: Cache) -> None:
        self._settings, self._limits, self._cache = settings, limits, cache
        self._allowed = {place_of(origin) for origin in settings.allow}
        self._http = guarded_client(
            min(settings.page_s, 15.0), allow=settings.allow, headers={"user-agent": settings.user_agent}
        )
        self._flying: dict[str, asyncio.Task[tuple[Page, float | None]]] = {}

    async def fetch(self, address: str) -> tuple[Page, float | None]:
        """The page, and its age in seconds where it was kept. Raises Refusal, or Passing where it may come later."""
        url = self._checked(address.strip())
        key = key_of("page", str(url))
        task = self._flying.get(key)
        if task is None:
            task = asyncio.create_task(self._bounded(url, key))
            self._flying[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        for task in list(self._flying.values()):
            task.cancel()
        await asyncio.gather(*self._flying.values(), return_exceptions=True)
        await self._http.aclose()

    def _landed(self, key: str, task: asyncio.Task[tuple[Page, float | None]]) -> None:
        self._flying.pop(key, None)
        if not task.cancelled():
            task.exception()

    async def _bounded(self, url: httpx.URL, key: str) -> tuple[Page, float | None]:
        old: tuple[Page, float] | None = None
        fresh_s, stale_s = self._settings.page_ttl_s, self._settings.stale_s
        if (kept := await self._cache.get(key)) is not None:
            try:
                old = Page(**kept[0]), kept[1]
            except TypeError:  # written by another version of us
                pass
        if old is not None and old[1] <= fresh_s:
            return old
        try:
            page = await self._in_time(url)
        except Passing as error:
            if old is None or old[1] > fresh_s + stale_s:
                raise
            note = f"Stale: it was fetched {ago(old[1])} ago, and now: {error} {old[0].note}".strip()
            return replace(old[0], note=note), old[1]
        await self._cache.put(key, asdict(page), fresh_s + stale_s if fresh_s else 0.0)
        return page, None

    async def _in_time(self, url: httpx.URL) -> Page:
        try:
            async with asyncio.timeout(self._settings.page_s):
                return await self._fetch(url)
        except TimeoutError:
            raise Passing(f"{_shown(url)} was not there within {self._settings.page_s:.0f} s.") from None

    async def _fetch(self, url: httpx.URL) -> Page:
        try:
            received, final = await self._follow(url, self._settings.page_mb << 20, polite=True)
        except TooLarge as error:
            raise Refusal(f"{_shown(url)} is not read: {error}. Use another source.") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise Passing(
                f"{_shown(url)} {trouble(error) if isinstance(error, httpx.HTTPError) else 'broke off'}."
            ) from None
        if received.status != 200:
            raise _refused(final, received)
        page = await self._read(received, final)
        if not page.text:
            page = replace(page, note="The page holds no text; it may be made by scripts, which are not run.")
        return page

    async def _follow(self, url: httpx.URL, largest: int, *, polite: bool) -> tuple[Received, httpx.URL]:
        """Each address on the way is checked like the first, also against its own robots.txt."""
        for _ in range(MOST_HOPS + 1):
            if polite:
                wait = await robots.delay(url, self._quietly, self._cache)
                rate = Rate(1 / wait, 1.0) if wait else POLITE
                await self._limits.take(url.host, rate, self._settings.page_s)
            received = await receive(self._http, "GET", url, largest)
            if received.status not in (301, 302, 303, 307, 308):
                return received, url
            target = received.headers.get("location", "")
            try:
                url = self._checked(str(url.join(target))) if target else url
            except (httpx.InvalidURL, ValueError):
                raise Refusal(f"{_shown(url)} points to something that is no address.") from None
            if not target:
                return received, url
        raise Refusal(f"{_shown(url)} comes after more than {MOST_HOPS} redirects and was not followed further.")

    async def _quietly(self, url: httpx.URL, largest: int) -> tuple[Received, httpx.URL]:
        return await self._follow(url, largest, polite=False)

    def _checked(self, address: str) -> httpx.URL:
        if len(address) > 4000:
            raise Refusal("The address is longer than 4,000 characters.")
        host, port = place_of(address)
        if port not in PORTS and (host, port) not in self._allowed:
            raise Refusal(f"Port {port} of {clip(one_line(host), 80)} is not fetched from; pages stand at 80 and 443.")
        return httpx.URL(address).copy_with(fragment=None)

    async def _read(self, received: Received, url: httpx.URL) -> Page:
        declared = received.headers.get("content-type", "")
        kind = declared.partition(";")[0].strip().lower()
        body = received.body
        if kind in ("", "application/octet-stream", "binary/octet-stream"):
            start = body[:1024].lstrip().lower()
            kind = "application/pdf" if start.startswith(b"%pdf") else kind
            kind = "text/html" if start.startswith((b"<!doctype html", b"<html")) else kind
        changed = _date(received.headers)
        if kind in PDF:
            told = await read_apart("pdf", body)
            note = (
                f"Only its first {told['read']} of {told['pages']} pages were read."
                if told["read"] < told["pages"]
                else ""
            )
            return Page(str(url), told["title"], told["text"], "pdf", told["published"] or changed, note)
        if kind in HTML:
            text = decode(body, declared)
            if len(text) > LARGE_HTML:
                found: dict[str, Any] = await read_apart("html", text.encode(errors="replace"))
            else:
                found = asdict(await asyncio.to_thread(html.read, text))
            return Page(str(url), found["title"], found["text"], "html", found["published"] or changed)
        if kind in TEXT:
            text = decode(body, declared)
            note = f"Only its first {html.MOST_TEXT:,} characters were kept." if len(text) > html.MOST_TEXT else ""
            return Page(str(url), "", text[: html.MOST_TEXT].strip(), "text", changed, note)
        raise Refusal(
            f"{_shown(url)} is {clip(one_line(kind), 60) or 'of no stated kind'}: only HTML, PDF and text are read."
        )


def _refused(url: httpx.URL, received: Received) -> Refusal:
    status = received.status
    said = f"{_shown(url)} answered {status}."
    if status in (408, 425, 429) or status >= 500:
        return Passing(said, retry_after(received.headers))
    hints: dict[int, str] = {
        401: "It wants a login.",
        403: "It does not let us in.",
        404: "It is not there.",
        410: "It is gone.",
    }
    return Refusal(f"{said} {hints.get(status, '')} Use another source.".replace("  ", " "))


def _shown(url: httpx.URL) -> str:
    return clip(redact(one_line(str(url.copy_with(query=None)))), 160)


def _date(headers: httpx.Headers) -> str | None:
    try:
        return parsedate_to_datetime(headers["last-modified"]).date().isoformat()
    except (KeyError, TypeError, ValueError):
        return None
