"""Redis, when several processes share their limits and their cache. Imported only when it is configured."""

from __future__ import annotations

from typing import Any

from quarterdeck.keel.errors import Refusal

PATIENCE_S = 1.0
"""A Redis that does not answer in this time is done without."""


def connect(url: str) -> Any:
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
        return Redis.from_pool(pool)
    except ValueError:
        raise Refusal(
            "QUARTERDECK_RESEARCH_REDIS_URL is no Redis address. Write one like redis://localhost:6379/0."
        ) from None
