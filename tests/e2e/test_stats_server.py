"""The stats server over MCP, in both eras, looking at the practice world."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from mcp import MCPError

from quarterdeck.keel.settings import Settings, load
from quarterdeck.stats.server import create_server
from quarterdeck.titanium.story import PracticeWorld, practice_world


@pytest.fixture(scope="module")
def shared() -> Iterator[PracticeWorld]:
    with practice_world(speed=20) as world:
        yield world


@pytest.fixture
def world(shared: PracticeWorld) -> Iterator[PracticeWorld]:
    yield shared
    shared.clear()
    shared.wait_until(lambda w: w.all_ready(), "the system is well again", 30)


def settings(world: PracticeWorld, tmp_path: Path, **more: str) -> Settings:
    home = {"QUARTERDECK_HOME": str(tmp_path / "home"), "QUARTERDECK_CONFIG": ""}
    return load({**world.environment(), **home, "QUARTERDECK_STATS_SAMPLE_EVERY_S": "0.1", **more})


@pytest.fixture(params=["auto", "legacy"])
async def stats(world: PracticeWorld, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Client[Any]]:
    async with Client(create_server(settings(world, tmp_path)), mode=request.param) as client:
        yield client


async def ask(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    assert len(result.content[0].text.encode()) <= 8192  # type: ignore[union-attr]
    return result.structured_content


async def refused(client: Client[Any], tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


async def test_a_well_system_is_said_to_be_well(stats: Client[Any]) -> None:
    found = await ask(stats, "get_system_stats")
    assert found["verdict"] == "all 5 services are online"
    assert found["traffic"]["requests_per_second"] > 50


async def until(
    stats: Client[Any], fits: Callable[[dict[str, Any]], bool], tool: str, **arguments: Any
) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not fits(found := await ask(stats, tool, **arguments)):  # noqa: ASYNC110  nobody tells when
            await asyncio.sleep(0.02)
    return found


async def test_an_offline_service_comes_first_with_what_to_look_at_next(
    stats: Client[Any], world: PracticeWorld
) -> None:
    world.inject("blog-locked")
    # A crash loop runs for a moment now and then.
    found = await until(stats, lambda said: said["services"][0]["status"] == "offline", "get_system_stats")
    assert found["services"][0] == {"name": "blog_service", "status": "offline"}
    assert "find_problems" in found["next"]
    await until(stats, lambda said: said["status"] == "offline", "get_service_status", service_name="blog")
    health = await until(stats, lambda said: not said["healthy"], "check_health", service_name="blog-service")
    assert "refused" in health["detail"]


async def test_health_of_each_service_is_asked_directly(stats: Client[Any]) -> None:
    for name in (await ask(stats, "list_services"))["health_checks"]:
        assert (await ask(stats, "check_health", service_name=name))["healthy"] is True


async def test_history_grows_while_the_server_runs(stats: Client[Any]) -> None:
    found: dict[str, Any] = {"points": []}
    for _ in range(200):
        found = await ask(stats, "get_traffic_history", since="1m")
        if len(found["points"]) >= 5:
            break
        await asyncio.sleep(0.05)
    assert len(found["points"]) >= 5
    assert all(point["requests_per_second"] > 0 for point in found["points"])


async def test_promql_is_answered_and_its_errors_are_sentences(stats: Client[Any]) -> None:
    found = await ask(stats, "query_metrics", query="sum by (code) (rate(http_requests_total[5m]))")
    assert {series["labels"] for series in found["series"]} == {'{code="200"}', '{code="502"}'}
    ranged = await ask(stats, "query_metrics_range", query="sum(rate(http_requests_total[1m]))", since="5m")
    assert "lowest" in ranged["series"][0]["summary"]
    assert 3 < len(ranged["series"][0]["points"]) <= 30
    assert "parse error" in await refused(stats, "query_metrics", query="sum(rate(")
    assert "is not a duration" in await refused(stats, "query_metrics_range", query="up", since="soon")


async def test_prometheus_alone_can_be_the_source(world: PracticeWorld, tmp_path: Path) -> None:
    chosen = settings(world, tmp_path, QUARTERDECK_STATS_SOURCE="prometheus")
    async with Client(create_server(chosen)) as client:
        found = await ask(client, "get_system_stats")
        assert len(found["services"]) == 5
        assert 60 < found["traffic"]["requests_per_second"] < 110


async def test_without_prometheus_the_tool_says_what_to_set(world: PracticeWorld, tmp_path: Path) -> None:
    chosen = settings(world, tmp_path, QUARTERDECK_STATS_PROMETHEUS_URL="")
    async with Client(create_server(chosen)) as client:
        assert "QUARTERDECK_STATS_PROMETHEUS_URL" in await refused(client, "query_metrics", query="up")


async def test_unknown_services_get_near_matches(stats: Client[Any]) -> None:
    assert "Did you mean blog_service" in await refused(stats, "get_service_status", service_name="blogg")


async def test_services_are_a_resource_too(stats: Client[Any]) -> None:
    content = (await stats.read_resource("stats://services"))[0]
    assert {s["status"] for s in json.loads(content.text)["services"]} == {"online"}  # type: ignore[union-attr]


async def test_a_source_that_dies_is_named_and_the_server_lives_on(world: PracticeWorld, tmp_path: Path) -> None:
    chosen = settings(world, tmp_path, QUARTERDECK_STATS_URL="http://127.0.0.1:9")
    async with Client(create_server(chosen)) as client:
        assert "stats.url" in await refused(client, "get_system_stats")
        with pytest.raises(MCPError, match=r"stats\.url"):
            await client.read_resource("stats://services")
        found = await ask(client, "get_traffic_history")
        assert found["points"] == []
