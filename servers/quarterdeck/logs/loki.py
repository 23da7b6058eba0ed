"""Logs in Grafana Loki, through its HTTP API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

import httpx

from quarterdeck.keel import web
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import LogsSettings
from quarterdeck.logs.records import Record, join
from quarterdeck.logs.search import Pattern, Stop
from quarterdeck.logs.sources import Found, Hit, Reading, Window, in_order, newest, outside, pick

PAGE = 2_000
"""Entries asked for at once; Loki's own limit is 5,000 unless its owner lowered it."""
LOOK_BACK = 3_600.0
"""Seconds that are searched where the caller names no start: Loki wants one."""
AROUND = 30.0
"""Seconds before and after a hit in which its own lines and its context are looked for."""
AT_ONCE = 4
NAMES = (("pod", "container"), ("instance",), ("filename",), ("host",))

Entry = tuple[int, str]


class Loki:
    def __init__(self, settings: LogsSettings) -> None:
        if not settings.loki_url:
            raise Refusal("No Loki is configured. Set QUARTERDECK_LOGS_LOKI_URL, e.g. http://127.0.0.1:3100.")
        self.settings = settings
        url = httpx.URL(settings.loki_url.rstrip("/"))
        self.auth = (url.username, url.password) if url.userinfo else None
        self.url = str(url.copy_with(userinfo=b""))
        # Without this, structured metadata is mixed into a stream's labels, and they no longer select it.
        self.headers = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
        if settings.loki_tenant:
            self.headers["X-Scope-OrgID"] = settings.loki_tenant
        if token := settings.loki_token.get_secret_value():
            self.headers["Authorization"] = f"Bearer {token}"

    async def services(self) -> list[str]:
        end = time.time()
        async with self._client() as http:
            return await self._values(http, end - 24 * 3600, end)

    async def read(self, service: str | None, window: Window, most: int, stop: Stop) -> Reading:
        start, end = _closed(window)
        async with self._client() as http:
            selector = await self._selector(http, service, start, end)
            streams, more = await self._entries(http, selector, start, end, most, stop)
        reading = Reading(more=more)
        groups = []
        for labels, entries in streams.items():
            reading.parts.append(_name(labels, self.settings.loki_label))
            groups.append(_records(reading.parts[-1], entries))
        reading.records = in_order(groups)
        return reading

    async def search(
        self, service: str | None, pattern: Pattern, window: Window, limit: int, context: int, stop: Stop
    ) -> Found:
        start, end = _closed(window)
        found = Found()
        async with self._client() as http:
            selector = await self._selector(http, service, start, end)
            query = f"{selector} |~ {_quoted('(?m)' + pattern.text)}"
            (streams, more), counted = await asyncio.gather(
                self._entries(http, query, start, end, 4 * limit, stop), self._count(http, query, start, end)
            )
            found.matches = sum(map(len, streams.values())) if counted is None else counted
            found.complete = counted is not None or not more
            if window.start is None:
                found.notes.append("without `since` the last hour was searched")
            wanted = sorted(((entry, labels) for labels, entries in streams.items() for entry in entries), reverse=True)
            gate = asyncio.Semaphore(AT_ONCE)
            hits = await self._whole(http, wanted, limit, context, gate)
        found.parts = sorted({_name(labels, self.settings.loki_label) for labels in streams})
        found.hits = newest(hits, limit)
        return found

    async def _whole(
        self,
        http: httpx.AsyncClient,
        wanted: list[tuple[Entry, str]],
        limit: int,
        context: int,
        gate: asyncio.Semaphore,
    ) -> list[Hit]:
        """The newest hits with the lines around them, each fetched from its own stream."""

        async def around(entry: Entry, labels: str) -> tuple[Hit, frozenset[Entry]]:
            async with gate:
                moment, selector = entry[0], _exactly(labels)
                span = int(AROUND * 1e9)
                size = max(60, 2 * context)
                before = self._page(http, selector, moment - span, moment, size, "backward")
                after = self._page(http, selector, moment, moment + span, size, "forward")
                pages = [page.get(labels, []) for page in await asyncio.gather(before, after)]
            entries = sorted({*pages[0], entry, *pages[1]})
            return _hit(_name(labels, self.settings.loki_label), entries, entry, context)

        hits: list[Hit] = []
        covered: set[tuple[str, Entry]] = set()
        queue = list(wanted)
        while queue and len(hits) < limit:
            batch: list[tuple[Entry, str]] = []
            while queue and len(batch) < min(AT_ONCE, limit - len(hits)):
                entry, labels = queue.pop(0)
                if (labels, entry) not in covered:
                    batch.append((entry, labels))
            for (entry, labels), (hit, own) in zip(
                batch, await asyncio.gather(*(around(*one) for one in batch)), strict=True
            ):
                if (labels, entry) not in covered:
                    hits.append(hit)
                covered |= {(labels, one) for one in own}
        return hits

    def _client(self) -> httpx.AsyncClient:
        client = web.client(self.settings.timeout_s, self.headers)
        if self.auth:
            client.auth = httpx.BasicAuth(*self.auth)
        return client

    async def _selector(self, http: httpx.AsyncClient, service: str | None, start: float, end: float) -> str:
        label = self.settings.loki_label
        if service is None:
            return f'{{{label}=~".+"}}'
        known = await self._values(http, min(start, end - 24 * 3600), end)
        return f"{{{label}={_quoted(pick(service, known))}}}"

    async def _values(self, http: httpx.AsyncClient, start: float, end: float) -> list[str]:
        data = await self._get(http, f"label/{self.settings.loki_label}/values", {"start": _ns(start), "end": _ns(end)})
        return sorted(str(value) for value in data or [])

    async def _entries(
        self, http: httpx.AsyncClient, query: str, start: float, end: float, most: int, stop: Stop
    ) -> tuple[dict[str, list[Entry]], bool]:
        """The newest `most` entries by stream, each stream's oldest first, and whether there are more."""
        streams: dict[str, set[Entry]] = {}
        low, high, count = _ns(start), _ns(end), 0
        while count < most and not stop:
            size = min(PAGE, most - count)
            page = await self._page(http, query, low, high, size, "backward")
            got = sum(map(len, page.values()))
            fresh = 0
            for labels, entries in page.items():
                known = streams.setdefault(labels, set())
                fresh -= len(known)
                known.update(entries)
                fresh += len(known)
            count += fresh
            if got < size:
                return {labels: sorted(entries) for labels, entries in streams.items()}, False
            oldest = min(entries[0][0] for entries in page.values() if entries)
            # The end of a range is exclusive: entries of the oldest moment may stand on both sides of the page's edge.
            high = oldest + 1 if fresh else oldest
        return {labels: sorted(entries) for labels, entries in streams.items()}, True

    async def _page(
        self, http: httpx.AsyncClient, query: str, start: int, end: int, size: int, direction: str
    ) -> dict[str, list[Entry]]:
        data = await self._get(
            http,
            "query_range",
            {
                "query": query,
                "start": start,
                "end": end + (direction == "forward"),
                "limit": size,
                "direction": direction,
            },
        )
        if data.get("resultType") != "streams":
            raise Refusal("Loki answered something that is no list of streams. Is the address that of Loki?")
        page: dict[str, list[Entry]] = {}
        for stream in data.get("result") or []:
            known = {name: value for name, value in (stream.get("stream") or {}).items() if name != "detected_level"}
            labels = json.dumps(known, sort_keys=True)
            entries = ((int(value[0]), str(value[1])) for value in stream.get("values") or [])
            page.setdefault(labels, []).extend(sorted(entries))
        return page

    async def _count(self, http: httpx.AsyncClient, query: str, start: float, end: float) -> int | None:
        """How many entries a query finds in all; None where Loki does not say."""
        seconds = max(1, round(end - start))
        try:
            data = await self._get(
                http, "query", {"query": f"sum(count_over_time({query}[{seconds}s]))", "time": _ns(end)}
            )
            result = data.get("result") or []
            return int(float(result[0]["value"][1])) if result else 0
        except (Refusal, KeyError, IndexError, TypeError, ValueError, AttributeError):
            return None

    async def _get(self, http: httpx.AsyncClient, path: str, params: dict[str, Any]) -> Any:
        response = await web.get(
            http, f"{self.url}/loki/api/v1/{path}", "Loki", params=params, total_s=self.settings.timeout_s
        )
        if response.status_code == 200:
            answer = web.json_of(response, "Loki")
            if isinstance(answer, dict) and answer.get("status") == "success":
                return answer.get("data")
            raise Refusal("Loki answered something unexpected. Is the address that of Loki?")
        raise _refused(response, bool(self.headers.get("Authorization") or self.auth), self.settings.loki_tenant)


def _refused(response: httpx.Response, authorised: bool, tenant: str) -> Refusal:
    said = outside(response.text[:600], 240)
    match response.status_code:
        case 401 if "org id" in said.lower():
            return Refusal("Loki wants a tenant (401). Set QUARTERDECK_LOGS_LOKI_TENANT.")
        case 401 | 403:
            mend = "Check the token" if authorised else "Set QUARTERDECK_LOGS_LOKI_TOKEN"
            about = f" for the tenant {tenant!r}" if tenant else ""
            return Refusal(f"Loki does not let us in{about} ({response.status_code}): {said}. {mend}.")
        case 404:
            return Refusal("Loki answered 404. Is QUARTERDECK_LOGS_LOKI_URL its root, without /loki/api/v1?")
        case 400 if "limit" in said.lower():
            return Refusal(f"Loki refuses so much at once (400): {said}. Ask for less: a smaller `since` or limit.")
    return Refusal(f"Loki refused the query ({response.status_code}): {said}.")


def _closed(window: Window) -> tuple[float, float]:
    end = window.end if window.end is not None else time.time()
    return (window.start if window.start is not None else end - LOOK_BACK), end


def _ns(seconds: float) -> int:
    return int(seconds * 1e6) * 1000


def _quoted(text: str) -> str:
    """A LogQL string: its escapes are Go's, which has those of JSON but for surrogate pairs."""
    return json.dumps(text.encode(errors="replace").decode(), ensure_ascii=False)


def _exactly(labels: str) -> str:
    terms = (f"{name}={_quoted(str(value))}" for name, value in json.loads(labels).items() if not name.startswith("__"))
    return f"{{{','.join(terms)}}}"


def _name(labels: str, service_label: str) -> str:
    """A short name for a stream: its pod and container, else what else tells it from others."""
    known = json.loads(labels)
    for keys in NAMES:
        if keys[0] in known:
            return outside("/".join(str(known[key]) for key in keys if key in known), 80)
    return outside(str(known.get(service_label, "stream")), 80)


def _records(name: str, entries: Iterable[Entry]) -> list[Record]:
    entries = list(entries)
    times = iter([moment / 1e9 for moment, _ in entries])
    return list(join((text for _, text in entries), name, unwrap=lambda text: (next(times), text)))


def _hit(name: str, entries: list[Entry], entry: Entry, context: int) -> tuple[Hit, frozenset[Entry]]:
    """The record that holds an entry among those around it, and the entries it is made of."""
    index = entries.index(entry)
    record = next(one for one in _records(name, entries) if one.end > index)
    before = [text for _, text in entries[max(0, record.first - context) : record.first]]
    after = [text for _, text in entries[record.end : record.end + context]]
    return Hit(record, before, after), frozenset(entries[record.first : record.end])
