"""robots.txt: whether a site's owner lets us read a page, asked once a day for each origin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
from protego import Protego

from quarterdeck.keel.errors import Refusal
from quarterdeck.research.cache import Cache, key_of
from quarterdeck.research.charset import decode
from quarterdeck.research.transfer import Received, TooLarge

NAME = "Quarterdeck"
KEPT_S = 86_400.0
KEPT_TROUBLE_S = 300.0
LARGEST = 512 * 1024
LONGEST_DELAY_S = 10.0

Fetch = Callable[[httpx.URL, int], Awaitable[tuple[Received, httpx.URL]]]


async def delay(url: httpx.URL, fetch: Fetch, cache: Cache) -> float:
    """The seconds that the site wants between two pages. Raises Refusal where it wants none read."""
    origin = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
    key = key_of("robots", origin)
    kept = await cache.get(key)
    if kept is not None and isinstance(kept[0], list) and len(kept[0]) == 2:
        status, text = kept[0]
    else:
        status, text = await _read(httpx.URL(f"{origin}/robots.txt"), fetch)
        await cache.put(key, [status, text], KEPT_TROUBLE_S if status >= 500 else KEPT_S)
    if status >= 500:
        raise Refusal(f"The robots.txt of {url.host} cannot be read, so nothing there is fetched for now.")
    if status != 200:
        return 0.0  # there is none: everything may be read
    rules = Protego.parse(text)
    if not rules.can_fetch(str(url), NAME):
        raise Refusal(f"The robots.txt of {url.host} asks not to fetch {url.path[:100]}. Use another source.")
    return min(LONGEST_DELAY_S, float(rules.crawl_delay(NAME) or 0.0))


async def _read(url: httpx.URL, fetch: Fetch) -> tuple[int, str]:
    try:
        received, _ = await fetch(url, LARGEST)
    except TooLarge:
        return 503, ""
    except (httpx.HTTPError, TimeoutError):
        return 503, ""
    if received.status >= 500 or received.status == 429:
        return 503, ""
    return (200, decode(received.body)) if received.status == 200 else (404, "")
