"""Limits and the cache: the same behaviour in this process and in a real Redis."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.research import shared
from quarterdeck.research.breaker import FAILURES, Breaker
from quarterdeck.research.cache import Cache, FileCache, SharedCache
from quarterdeck.research.limits import Busy, Limits, LocalLimits, Rate, SharedLimits
from quarterdeck.research.shared import connect


class Server:
    """A Redis of our own that can be killed."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("REDIS IS NOT TESTED: there is no redis-server on this machine")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self.command = [program, *where, "--save", "", "--appendonly", "yes"]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.kill()


@pytest.fixture(params=["local", "redis"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "local":
        yield None
        return
    opened = connect(request.getfixturevalue("redis_url"))
    await opened.redis.flushall()
    yield opened
    await opened.close()


@pytest.fixture
def limits(redis: Any) -> Limits:
    return LocalLimits() if redis is None else SharedLimits(redis)


@pytest.fixture
async def cache(redis: Any, tmp_path: Path) -> AsyncIterator[Cache]:
    kept: Cache = FileCache(tmp_path / "cache.db", 200_000) if redis is None else SharedCache(redis)
    yield kept
    await kept.close()


async def taken(limits: Limits, rate: Rate, most_s: float = 0.0) -> int:
    """How many tokens there are without waiting longer."""
    count = 0
    while True:
        try:
            await limits.take("exa", rate, most_s)
        except Busy:
            return count
        count += 1
        assert count < 1000


async def test_no_more_than_the_limit_is_given_and_the_rest_is_told_when(limits: Limits) -> None:
    assert await taken(limits, Rate(0.01, 5)) == 5
    with pytest.raises(Busy, match=r"Try again in (9\d|100) s") as refused:
        await limits.take("exa", Rate(0.01, 5), 10.0)
    assert refused.value.after_s
    await limits.take("brave", Rate(0.01, 5), 0.0)  # another's limit is its own


async def test_many_at_once_share_one_limit(limits: Limits) -> None:
    results = await asyncio.gather(*(limits.take("exa", Rate(0.01, 7), 0.0) for _ in range(40)), return_exceptions=True)
    assert sum(result is None for result in results) == 7


async def test_who_can_wait_gets_the_token_when_it_is_due(limits: Limits) -> None:
    rate = Rate(20.0, 1.0)
    began = time.monotonic()
    await asyncio.gather(*(limits.take("exa", rate, 5.0) for _ in range(5)))
    assert time.monotonic() - began > 0.15


async def test_a_hold_stops_everybody_until_it_is_over(limits: Limits) -> None:
    await limits.hold("exa", 60.0)
    with pytest.raises(Busy):
        await limits.take("exa", Rate(100, 100), 5.0)
    _, held = await limits.left("exa", Rate(100, 100))
    assert 50 < held <= 60


async def test_two_processes_share_what_is_in_redis(redis_url: str) -> None:
    one, two = connect(redis_url), connect(redis_url)
    await one.redis.flushall()
    assert await taken(SharedLimits(one), Rate(0.01, 3)) == 3
    assert await taken(SharedLimits(two), Rate(0.01, 3)) == 0
    await one.close()
    await two.close()


async def test_without_its_redis_each_process_keeps_its_own_limit_and_finds_nothing_kept() -> None:
    gone = connect("redis://127.0.0.1:9/0")
    assert await taken(SharedLimits(gone), Rate(0.01, 4)) == 4
    cache = SharedCache(gone)
    await cache.put("k", 1, 60)
    assert await cache.get("k") is None
    await gone.close()


async def test_a_redis_that_was_killed_is_done_without_and_used_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared, "AWAY_S", 0.1)
    server = Server(tmp_path)
    opened = connect(server.url)
    limits, cache, rate = SharedLimits(opened), SharedCache(opened), Rate(0.01, 3)
    try:
        assert await taken(limits, rate) == 3
        await cache.put("k", "kept", 60)
        server.kill()
        assert sum(await asyncio.gather(*(taken(limits, rate) for _ in range(5)))) == 3, "its own limit meanwhile"
        assert await cache.get("k") is None
        said = [record.message for record in caplog.records if "Redis" in record.message]
        assert len(said) == 1 and "does not answer" in said[0]
        server.start()
        async with asyncio.timeout(10):
            while await cache.get("k") is None:  # noqa: ASYNC110 (another process is waited for)
                await asyncio.sleep(0.02)
        assert await taken(limits, rate) == 0, "what was taken before counts"
        assert caplog.messages[-1] == "Redis answers again"
    finally:
        await opened.close()
        server.kill()


async def test_what_is_kept_comes_back_with_its_age_until_it_is_too_old(cache: Cache) -> None:
    await cache.put("k", {"name": "한빛", "n": [1, 2]}, 60)
    found = await cache.get("k")
    assert found is not None
    assert found[0] == {"name": "한빛", "n": [1, 2]}
    assert 0 <= found[1] < 10
    assert await cache.get("other") is None
    await cache.put("short", 1, 0.01)
    until = time.monotonic() + 5
    while await cache.get("short") is not None:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    await cache.put("never", 1, 0)
    assert await cache.get("never") is None


async def test_the_file_stays_in_its_size_and_keeps_the_newest(tmp_path: Path) -> None:
    import random

    cache = FileCache(tmp_path / "cache.db", 100_000)
    for number in range(200):
        await cache.put(f"k{number}", random.Random(number).randbytes(1000).hex(), 60)
    kept = [number for number in range(200) if await cache.get(f"k{number}")]
    assert 20 < len(kept) < 170
    assert kept[-1] == 199
    assert (tmp_path / "cache.db").stat().st_mode & 0o077 == 0
    await cache.close()


async def test_a_damaged_or_forbidden_cache_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"not a database" * 100)
    (tmp_path / "file").touch()
    for path in (tmp_path / "cache.db", tmp_path / "file" / "cache.db"):
        cache = FileCache(path, 1000)
        await cache.put("k", 1, 60)
        assert await cache.get("k") is None
        await cache.close()


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_try_after_its_rest() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(FAILURES - 1):
        breaker.failed("500")
    breaker.went_well()
    for _ in range(FAILURES):
        assert breaker.ask(5)
        breaker.failed("500")
    assert not breaker.ask(5)
    assert breaker.opens_again_s() == 15
    now[0] += 15.1
    assert breaker.ask(5)
    assert not breaker.ask(5), "one tries, the others wait for what it finds"
    breaker.failed("500")
    assert breaker.opens_again_s() == 30, "it rests longer each time"
    now[0] += 30.1
    assert breaker.ask(5)
    breaker.given_up()
    assert breaker.ask(5)
    breaker.went_well()
    assert breaker.ask(5)
    assert breaker.ask(5)


def test_rates_are_read_as_people_write_them() -> None:
    assert Rate.parse("10/s") == Rate(10, 10)
    assert Rate.parse("120/min") == Rate(2, 12)
    assert Rate.parse("1/min").burst == 1
