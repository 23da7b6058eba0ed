"""What the tools share for as long as the server runs: providers, limits, cache, pages."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

import httpx

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact, remember
from quarterdeck.keel.settings import Settings
from quarterdeck.research.cache import Cache, FileCache, SharedCache
from quarterdeck.research.corpus import Corpus
from quarterdeck.research.limits import Limits, LocalLimits, SharedLimits
from quarterdeck.research.models import Sources, SourceState
from quarterdeck.research.pages import Page, Pages
from quarterdeck.research.providers import Provider
from quarterdeck.research.searching import Searching
from quarterdeck.research.shared import Shared, connect
from quarterdeck.research.web import APIS, Web

POOLS = 8


class Desk:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings.research
        own = settings.research
        self.wanted = own.provider
        remember(key.get_secret_value() for key in (own.tavily_key, own.exa_key, own.brave_key))
        self._shared: Shared | None = None
        self._limits: Limits = LocalLimits()
        self._cache: Cache = FileCache(settings.home / "research" / "cache.db", own.cache_mb << 20)
        if address := own.redis_url.get_secret_value():
            remember([address])
            self._shared = connect(address)
            self._limits, self._cache = SharedLimits(self._shared), SharedCache(self._shared)
        # No redirects: a key goes to the address it was given for.
        # Several small pools: the work that httpcore does for a request grows with the square of its connections.
        secure = httpx.create_ssl_context()
        self._http = [
            httpx.AsyncClient(
                verify=secure,
                timeout=httpx.Timeout(own.timeout_s, connect=min(own.timeout_s, 5.0)),
                headers={"user-agent": own.user_agent},
                follow_redirects=False,
                limits=httpx.Limits(max_connections=40, max_keepalive_connections=20),
            )
            for _ in range(POOLS)
        ]
        self.corpus = Corpus(settings)
        self._web = {name: Web(api(own), own, self._limits, self._http) for name, api in APIS.items()}
        every: dict[str, Provider] = {"corpus": self.corpus, **self._web}
        order = list(dict.fromkeys(own.order))
        self.searching = Searching(
            list(every.values()), order, self._cache, own.search_ttl_s, own.deadline_s, own.stale_s
        )
        self.pages = Pages(own, self._limits, self._cache)

    async def page(self, url: str) -> tuple[Page, float]:
        """A page and its age. What the corpus has under this address is taken from there: its owner put it there."""
        bare = url.strip()
        row = await self.corpus.page(bare, time.monotonic() + self._settings.page_s)
        if row is not None:
            page = Page(row.url, row.title, row.text, "text", row.published, "This is the local corpus' copy.")
            return page, 0.0
        if bare.startswith("corpus:"):
            raise Refusal(
                "The corpus has no such document. search_web with provider corpus gives addresses that it has."
            )
        page, age = await self.pages.fetch(bare)
        return page, age or 0.0

    async def sources(self) -> Sources:
        states = [await self._corpus_state()]
        note = self.corpus.note
        if states[0].ready and (problems := states[0].why_not):
            note = f"{note} {problems}".strip()
            states[0].why_not = ""
        for name, web in self._web.items():
            missing = web.why_not()
            state = SourceState(
                name=name, kind=web.kind, ready=not missing, why_not=missing, price_per_search=web.price
            )
            state.per_minute = round(web.rate.per_s * 60, 3)
            if not missing:
                left, held = await self._limits.left(name, web.rate)
                shut = web.breaker.opens_again_s()
                state.left = int(left)
                if max(shut, held) > 1:
                    state.opens_again_s = round(max(shut, held), 1)
                    state.why_not = redact(web.breaker.why) if shut else "its own limit is used up"
            states.append(state)
        return Sources(providers=states, order=self.searching.ready(), note=note)

    async def _corpus_state(self) -> SourceState:
        missing = self.corpus.why_not()
        state = SourceState(name="corpus", kind="folder", ready=not missing, why_not=missing, price_per_search=0.0)
        if not missing:
            try:
                state.documents, problems = await self.corpus.state()
                more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
                state.why_not = f"Not read: {'; '.join(problems[:3])}{more}." if problems else ""
            except Refusal as error:
                state.ready, state.why_not = False, str(error)
        return state

    async def close(self) -> None:
        closing: list[Awaitable[Any]] = [self.searching.close(), self.pages.close(), self.corpus.close()]
        closing += [*(http.aclose() for http in self._http), self._cache.close()]
        if self._shared is not None:
            closing.append(self._shared.close())
        for one in closing:
            await one
