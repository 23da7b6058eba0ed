"""How often each provider may be asked: token buckets, in this process or in Redis for several.

A taker reserves its token and is told how long to wait for it, so that waiters come in order and nobody polls.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from quarterdeck.research.errors import Passing
from quarterdeck.research.shared import Shared


class Busy(Passing):
    """Our own limit is used up: nobody has failed."""


@dataclass(frozen=True)
class Rate:
    per_s: float
    burst: float
    """Tokens that may be taken at once after a pause."""

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`10/s` allows 10 at once. `100/min` allows a tenth of them at once, so that no minute sees many more."""
        count, unit = text.split("/")
        return cls(float(count), float(count)) if unit == "s" else cls(float(count) / 60, max(1.0, float(count) / 10))


class Limits(Protocol):
    async def take(self, name: str, rate: Rate, most_s: float) -> None:
        """Wait for a token. Raises Busy at once where that would take longer than `most_s`."""
        ...

    async def hold(self, name: str, seconds: float) -> None:
        """Nobody gets a token before this time is over: the provider said so."""
        ...

    async def left(self, name: str, rate: Rate) -> tuple[float, float]:
        """Tokens that could be taken now, and the seconds of a hold."""
        ...


@dataclass
class _Bucket:
    tokens: float
    at: float
    held_until: float = 0.0


class LocalLimits:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    async def take(self, name: str, rate: Rate, most_s: float) -> None:
        bucket, now = self._filled(name, rate)
        wait = max(0.0, (1 - bucket.tokens) / rate.per_s, bucket.held_until - now)
        if wait > most_s:
            raise busy(name, wait)
        bucket.tokens -= 1
        await asyncio.sleep(wait)

    async def hold(self, name: str, seconds: float) -> None:
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(0.0, now))
        bucket.held_until = max(bucket.held_until, now + seconds)

    async def left(self, name: str, rate: Rate) -> tuple[float, float]:
        bucket, now = self._filled(name, rate)
        return max(0.0, bucket.tokens), max(0.0, bucket.held_until - now)

    def _filled(self, name: str, rate: Rate) -> tuple[_Bucket, float]:
        now = self._clock()
        if len(self._buckets) > 10_000:  # one for each site whose pages are fetched: full ones are as good as none
            self._buckets = {
                key: one for key, one in self._buckets.items() if now - one.at < 120 or one.held_until > now
            }
        bucket = self._buckets.setdefault(name, _Bucket(rate.burst, now))
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.at) * rate.per_s)
        bucket.at = now
        return bucket, now


_TAKE = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local rate, burst, most, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'held')
local tokens = tonumber(kept[1] or burst)
local held = tonumber(kept[3] or 0)
tokens = math.min(burst, tokens + math.max(0, now - tonumber(kept[2] or now)) * rate)
local wait = 0
if tokens < count then wait = (count - tokens) / rate end
if held > now and held - now > wait then wait = held - now end
local granted = 0
if count > 0 and wait <= most then
  granted = 1
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - count), 'at', string.format('%.6f', now))
  local life = math.ceil((burst + math.max(0, count - tokens)) / rate) + 60
  if held > now then life = life + math.ceil(held - now) end
  redis.call('EXPIRE', KEYS[1], life)
end
return {granted, tostring(wait), tostring(tokens)}
"""

_HOLD = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local until_ = now + tonumber(ARGV[1])
local held = tonumber(redis.call('HGET', KEYS[1], 'held') or 0)
if until_ > held then redis.call('HSET', KEYS[1], 'held', string.format('%.6f', until_)) end
redis.call('EXPIRE', KEYS[1], math.ceil(math.max(until_, held) - now) + 3600)
return 1
"""


class SharedLimits:
    """The same in Redis, atomic for all processes. While Redis is away each process keeps its own count."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._take_script = shared.redis.register_script(_TAKE)
        self._hold_script = shared.redis.register_script(_HOLD)
        self._own = LocalLimits()

    async def take(self, name: str, rate: Rate, most_s: float) -> None:
        said = await self._ask(self._take_script, name, [rate.per_s, rate.burst, max(0.0, most_s), 1])
        if said is None:
            return await self._own.take(name, rate, most_s)
        granted, wait = int(said[0]), float(said[1])
        if not granted:
            raise busy(name, wait)
        await asyncio.sleep(wait)

    async def hold(self, name: str, seconds: float) -> None:
        await self._own.hold(name, seconds)
        await self._ask(self._hold_script, name, [seconds])

    async def left(self, name: str, rate: Rate) -> tuple[float, float]:
        said = await self._ask(self._take_script, name, [rate.per_s, rate.burst, 0, 0])
        if said is None:
            return await self._own.left(name, rate)
        return max(0.0, float(said[2])), float(said[1])

    async def _ask(self, script: Any, name: str, arguments: list[float]) -> Any:
        key = f"quarterdeck:limit:{hashlib.sha256(name.encode()).hexdigest()[:24]}"
        return await self._shared.ask(script, keys=[key], args=arguments)


def busy(name: str, wait: float) -> Busy:
    return Busy(f"the limit of {name} is used up.", max(1.0, round(wait)))
