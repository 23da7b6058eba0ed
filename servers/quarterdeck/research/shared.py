"""Redis, when several processes share their limits and their cache. Its client is imported only then."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from quarterdeck.keel.errors import Refusal

PATIENCE_S = 1.0
"""A Redis that does not answer in this time is done without."""


AWAY_S = 5.0
"""How often one caller looks whether it is back; nobody else waits for it meanwhile."""

log = logging.getLogger("quarterdeck.research")


class Shared:
    """A Redis that all processes share, and that each does without while it is away."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self._away = False
        self._look_at = 0.0

    async def ask(self, command: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """What it answers; None also while it is away."""
        from redis.exceptions import RedisError

        if self._away:
            if time.monotonic() < self._look_at:
                return None
            self._look_at = time.monotonic() + AWAY_S
        try:
            found = await command(*arguments, **options)
        except (RedisError, OSError, TimeoutError) as error:
            self._look_at = time.monotonic() + AWAY_S
            if not self._away:
                self._away = True
                why = type(error).__name__
                log.warning("Redis does not answer (%s): until it does, limits are this process' own, and what was "
                            "found is not reused", why)  # fmt: skip
            return None
        if self._away:
            self._away = False
            log.warning("Redis answers again")
        return found

    async def close(self) -> None:
        await self.redis.aclose()


def connect(url: str) -> Shared:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    try:
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 1),  # once more: an idle connection may have been closed
            max_connections=32,
            health_check_interval=30,
        )
        return Shared(Redis.from_pool(pool))
    except ValueError:
        raise Refusal(
            "QUARTERDECK_RESEARCH_REDIS_URL is no Redis address. Write one like redis://localhost:6379/0."
        ) from None
