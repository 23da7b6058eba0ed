"""Reading a catalogue over HTTP, from one that keeps to ARD and from some that do not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

sys.path.append(str(Path(__file__).parents[2] / "data" / "crew"))

from quarterdeck.crew.catalogue import Registry, entry, mcp_server, skill
from quarterdeck.crew.ports import free_socket, serving
from quarterdeck.keel.errors import Refusal
from quarterdeck.registry import client
from quarterdeck.registry.client import Catalogue


@asynccontextmanager
async def standing(registry: Registry, path: str = "/api/v1", **more: Any) -> AsyncIterator[Catalogue]:
    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    catalogue = Catalogue("work", url + path, **more)
    async with serving(registry.app(), listener):
        for items in (registry.entries, registry.hidden, registry.manifest or []):
            for item in items:
                if isinstance(item, dict) and str(item.get("url", "")).startswith("/"):
                    item["url"] = url + item["url"]
        try:
            yield catalogue
        finally:
            await catalogue.close()


def agents(count: int) -> list[dict[str, Any]]:
    return [entry(f"127.0.0.1:a{n}", url=f"/a{n}") for n in range(count)]


async def test_every_page_is_read_and_only_agents_are_kept() -> None:
    registry = Registry([*agents(7), mcp_server("acme.example:weather"), skill("acme.example:slides")])
    registry.page = 3
    async with standing(registry) as catalogue:
        listing = await catalogue.agents()
    assert [found.name for found in listing.agents] == [f"127.0.0.1:a{n}" for n in range(7)]
    assert listing.whole
    assert not listing.left_out


async def test_the_address_of_the_search_is_understood_too() -> None:
    async with standing(Registry(agents(1)), "/api/v1/search") as catalogue:
        assert len((await catalogue.agents()).agents) == 1
        assert len(await catalogue.search("does")) == 1


async def test_a_registry_without_filters_is_read_as_well() -> None:
    registry = Registry([mcp_server("acme.example:weather"), *agents(2)])
    registry.filters = False
    async with standing(registry) as catalogue:
        assert len((await catalogue.agents()).agents) == 2
        assert [found.name for found in await catalogue.search("does")] == ["127.0.0.1:a0", "127.0.0.1:a1"]


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_domains_manifest_is_read_and_leads_to_its_registry(legacy: bool) -> None:
    registry = Registry(agents(3))
    bundle = {"type": "application/ai-catalog+json", "data": {"entries": [entry("127.0.0.1:inner", url="/inner")]}}
    registry.manifest = [
        entry("127.0.0.1:own", url="/own"),
        {**entry("127.0.0.1:bundle"), **bundle},
        entry("127.0.0.1:registry", url="/api/v1/search", type="application/ai-registry+json"),
    ]
    registry.legacy = legacy
    async with standing(registry, "") as catalogue:
        bundle["data"]["entries"][0]["url"] = registry.manifest[0]["url"].replace("/own", "/inner")  # type: ignore[index]
        found = [one.name.removeprefix("127.0.0.1:") for one in (await catalogue.agents()).agents]
        assert found == ["own", "inner", "a0", "a1", "a2"]
    assert "GET /api/v1/agents" in registry.asked


async def test_a_manifest_by_its_own_address_needs_no_registry() -> None:
    registry = Registry()
    registry.manifest = agents(2)
    async with standing(registry, "/.well-known/ard.json") as catalogue:
        listing = await catalogue.agents()
        assert (len(listing.agents), listing.whole) == (2, True)
        assert await catalogue.search("does") == []
    assert registry.asked == ["GET /.well-known/ard.json"]


async def test_a_manifest_that_leads_to_another_domain_is_not_followed() -> None:
    registry, other = Registry(), Registry(agents(1))
    listener = free_socket()
    elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    registry.manifest = [*agents(1), entry("x.example:r", url=elsewhere, type="application/ai-registry+json")]
    registry.lists = False
    async with serving(other.app(), listener), standing(registry, "", credential="planted-4711") as catalogue:
        assert len((await catalogue.agents()).agents) == 1
    assert other.asked == []
    assert all(headers["authorization"] == "Bearer planted-4711" for headers in registry.headers)


async def test_the_credential_is_shown_to_the_registry_alone() -> None:
    registry, other = Registry(), Registry(agents(1))
    listener = free_socket()
    elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    registry.manifest = [entry("x.example:r", url=f"{elsewhere}/api", type="application/ai-registry+json")]
    allowed = {"credential": "planted-4711", "allow": [elsewhere]}
    async with serving(other.app(), listener), standing(registry, "", **allowed) as catalogue:
        await catalogue.agents()
    assert other.asked == ["GET /api/agents"]
    assert not any("authorization" in headers for headers in other.headers)
    assert registry.headers[0]["authorization"] == "Bearer planted-4711"


async def test_search_asks_for_agents_only_and_completes_sparse_results() -> None:
    registry = Registry(agents(1))
    registry.hidden = [
        entry("127.0.0.1:rare", url="/rare", description="mends turbines", score=97),
        {**mcp_server("acme.example:weather"), "description": "mends turbines"},
        entry("acme.example:liar", url="https://evil.example/", description="mends turbines"),
    ]
    registry.sparse = True
    async with standing(registry) as catalogue:
        (found,) = await catalogue.search("who mends turbines")
        assert (found.name, found.score) == ("127.0.0.1:rare", 97)
        again = await catalogue.agent("urn:air:127.0.0.1:rare")
        assert again is not None
        assert again.address == found.address
        assert await catalogue.agent("urn:air:acme.example:liar") is None
        assert await catalogue.agent("urn:air:127.0.0.1:nobody") is None
    assert registry.bodies[0]["query"] == {
        "text": "who mends turbines",
        "filter": {"type": ["application/a2a-agent-card+json"]},
    }


async def test_a_registry_that_only_searches_says_that_its_list_is_not_whole() -> None:
    registry = Registry(agents(1))
    registry.lists = False
    async with standing(registry) as catalogue:
        listing = await catalogue.agents()
    assert (listing.agents, listing.whole) == ([], False)


HOSTILE = {
    "huge": "larger than",
    "HTML": "not JSON",
    "a list": "without a list of items",
    "wrong types": "without a list of items",
    "nested too deep": "not JSON",
    "redirect": "Redirects are not followed",
    "drips": "did not",
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_a_registry_that_breaks_the_protocol_ends_in_a_sentence(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TOTAL_S", 1.5)
    registry = Registry()
    registry.how = how
    async with standing(registry) as catalogue:
        with pytest.raises(Refusal, match=HOSTILE[how]) as caught:
            await catalogue.agents()
    assert "sk-ant-api03-planted" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_paging_ends_though_the_registry_never_does() -> None:
    registry = Registry(agents(2))
    registry.how = "the same page for ever"
    async with standing(registry) as catalogue:
        listing = await catalogue.agents()
        assert (len(listing.agents), listing.whole) == (2, False)
        assert listing.left_out["pages that repeat"] == 1
        assert len(registry.asked) == 2
        registry.how = "new pages for ever"
        registry.asked.clear()
        listing = await Catalogue("w", catalogue._address, allow=["http://127.0.0.1:9"]).agents()
        assert (len(listing.agents), listing.whole) == (client.MOST_AGENTS, False)
        assert len(registry.asked) <= client.MOST_PAGES


async def test_a_name_that_is_used_twice_belongs_to_the_first() -> None:
    registry = Registry([entry("127.0.0.1:a", url="/first"), entry("127.0.0.1:a", url="/second")])
    async with standing(registry) as catalogue:
        listing = await catalogue.agents()
    assert [found.url.rpartition("/")[2] for found in listing.agents] == ["first"]
    assert listing.left_out["named twice"] == 1


async def test_entries_of_every_wrong_kind_spoil_nothing() -> None:
    wrong: list[Any] = [None, 7, "x", [], {}, {"type": 7}, {"type": "application/a2a-agent-card+json"}]
    registry = Registry()
    registry.manifest = [*wrong, *agents(1), {**entry("127.0.0.1:loop"), "type": "application/ai-catalog+json"}]
    async with standing(registry, "/.well-known/ard.json") as catalogue:
        listing = await catalogue.agents()
    assert len(listing.agents) == 1
    assert listing.left_out["without a proper identifier"] == 1


async def test_an_address_where_nothing_is_shown_is_said_to_be_none_of_a_registry() -> None:
    async with standing(Registry(), "/ard.json") as catalogue:
        with pytest.raises(Refusal, match=r"answered 404 at .*Is its address that of a registry"):
            await catalogue.agents()


async def test_a_search_whose_every_part_is_slow_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Registry):
        async def _answer(self, request: Request) -> Response:
            if "/agents/" in request.url.path:
                await asyncio.sleep(0.3)
            return await super()._answer(request)

    monkeypatch.setattr(client, "TOTAL_S", 0.5)
    registry = Slow(agents(8))
    registry.sparse = True
    async with standing(registry) as catalogue:
        with pytest.raises(Refusal, match="within"):
            await catalogue.search("does")
