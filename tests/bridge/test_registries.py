"""Agents that a registry lists: found, used within the bridge's rules, and never in the place of a named one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from quarterdeck.bridge import agents as directory
from quarterdeck.bridge import registries
from quarterdeck.bridge.server import create_server
from quarterdeck.deck import checks
from quarterdeck.keel.settings import Settings, load
from quarterdeck.registry import client as catalogue_client


class Yard:
    """A registry, an agent that does what it is told, and the settings of a bridge that knows only the registry."""

    def __init__(self, home: Path) -> None:
        from quarterdeck.crew.catalogue import Registry
        from quarterdeck.crew.obliging import Crew

        self.home, self.registry, self.crew = home, Registry(), Crew()
        self.agent = self.url = ""

    def settings(self, **bridge: Any) -> Settings:
        whole = {"registries": {"work": f"{self.url}/api"}, "registry_allow": [self.agent], "timeout_s": 5, **bridge}
        return Settings.model_validate({"home": self.home, "bridge": whole})

    def client(self, **bridge: Any) -> Client[Any]:
        return Client(create_server(self.settings(**bridge)))


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    from quarterdeck.crew.catalogue import entry, mcp_server
    from quarterdeck.crew.obliging import app, card
    from quarterdeck.crew.ports import free_socket, serving

    made, agent, listener = Yard(tmp_path / "home"), free_socket(), free_socket()
    made.agent = f"http://127.0.0.1:{agent.getsockname()[1]}/"
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    made.registry.entries = [entry("acme.example:ops:crew", url=made.agent), mcp_server("acme.example:weather")]
    async with serving(app(made.crew, card(made.agent)), agent), serving(made.registry.app(), listener):
        yield made


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.call_tool(tool, arguments)).structured_content or {}
    return found


CREW = "work/acme.example:ops:crew"


async def test_an_agent_of_a_registry_is_found_described_and_given_work(yard: Yard) -> None:
    async with yard.client() as client:
        listed = await call(client, "list_agents")
        assert [row["name"] for row in listed["agents"]] == [CREW]
        assert listed["agents"][0]["answers"] is True
        assert listed["summary"] == "1 of 1 agents answer"
        (said,) = listed["registries"]
        assert said.startswith("registry work: 1 agents, read ")
        assert CREW in (await call(client, "describe_agent", agent=CREW))["summary"]
        found = await call(client, "find_agent_for", task="echo what I say")
        assert found["matches"][0]["agent"] == CREW
        view = await call(client, "delegate", agent=CREW, text="echo hello")
        assert (view["state"], view["output"]) == ("completed", "echo: echo hello")
        assert (await call(client, "check_task", task=view["task"]))["state"] == "completed"
    assert len(yard.crew.received) == 1
    assert yard.registry.asked.count("GET /api/agents") == 1, "the list is kept for a while"


async def test_a_card_that_the_registry_holds_is_used_as_it_is(yard: Yard) -> None:
    from google.protobuf.json_format import MessageToDict

    from quarterdeck.crew.catalogue import entry
    from quarterdeck.crew.obliging import card

    gone = "http://127.0.0.1:9/"
    yard.registry.entries = [
        entry("acme.example:held", data=MessageToDict(card(yard.agent))),
        entry("acme.example:gone", data=MessageToDict(card(gone))),
    ]
    async with yard.client(registry_allow=[yard.agent, gone]) as client:
        rows = {row["name"]: row for row in (await call(client, "list_agents"))["agents"]}
        assert rows["work/acme.example:held"]["answers"] is True
        assert rows["work/acme.example:gone"]["answers"] is False
        view = await call(client, "delegate", agent="work/acme.example:held", text="echo hello")
        assert view["state"] == "completed"


async def test_a_domains_own_manifest_is_enough(yard: Yard) -> None:
    yard.registry.manifest = yard.registry.entries
    yard.registry.lists = False
    async with yard.client(registries={"acme": yard.url}) as client:
        view = await call(client, "delegate", agent="acme/acme.example:ops:crew", text="echo hello")
        assert view["state"] == "completed"


async def test_nobody_speaks_for_another_and_nothing_leads_inside(yard: Yard) -> None:
    from quarterdeck.crew.catalogue import entry

    yard.registry.entries = [
        entry("acme.example:one", url="https://evil.example/card.json"),
        entry("169.254.169.254:x", url="http://169.254.169.254/latest/meta-data/"),
        entry("acme.example:two", url=f"{yard.agent}", trustManifest={"identity": "spiffe://evil.example/x"}),
        entry("127.0.0.1:inside", url="https://127.0.0.1:9/card.json"),
    ]
    async with yard.client() as client:
        listed = await call(client, "list_agents")
        (row,) = listed["agents"]
        assert row["name"] == "work/127.0.0.1:inside"
        assert "inside" in row["about"]
        assert "left out, speaking for a domain that is not their own: 3" in listed["registries"][0]
        for name in ("work/acme.example:one", "work/acme.example:two", "work/169.254.169.254:x"):
            with pytest.raises(ToolError, match="lists no agent"):
                await client.call_tool("delegate", {"agent": name, "text": "x"})
    assert yard.crew.received == []


async def test_an_entry_takes_no_named_agents_place_name_skill_or_credential(yard: Yard) -> None:
    from quarterdeck.crew.catalogue import entry
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    imposter, listener = Crew(), free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    yard.registry.entries += [entry("acme.example:crew", url=url, displayName="crew")]
    more = {
        "agents": {"crew": yard.agent},
        "registry_allow": [yard.agent, url],
        "credentials": {"crew": "planted-credential-4711", "work/acme.example:crew": "planted-credential-4712"},
    }
    async with serving(app(imposter, card(url)), listener), yard.client(**more) as client:
        names = [row["name"] for row in (await call(client, "list_agents"))["agents"]]
        assert names == ["crew", "work/acme.example:crew"], "the named one once, though the registry lists it too"
        assert (await call(client, "delegate", agent="crew", text="echo 1"))["state"] == "completed"
        assert (await call(client, "delegate", skill="echo", text="echo 2"))["agent"] == "crew"
        assert imposter.received == []
        await call(client, "delegate", agent="work/acme.example:crew", text="echo 3")
    assert len(imposter.received) == 1
    assert not any("planted" in str(headers) for headers in yard.registry.headers)


async def test_a_skill_alone_never_leads_to_an_agent_that_only_a_registry_lists(yard: Yard) -> None:
    async with yard.client(agents={"crew": "http://127.0.0.1:9/"}) as client:  # down, so nobody named has the skill
        with pytest.raises(ToolError, match="No agent that answers has the skill"):
            await client.call_tool("delegate", {"skill": "echo", "text": "x"})
    assert yard.crew.received == []


async def test_who_names_no_agent_is_told_where_those_of_registries_are_shown(yard: Yard) -> None:
    async with yard.client(agents={"crew": yard.agent}) as client:
        with pytest.raises(ToolError, match=r"There are: crew. list_agents shows those of work\."):
            await client.call_tool("delegate", {"agent": "nobody", "text": "x"})
    async with yard.client() as client:
        with pytest.raises(ToolError, match=r"'nobody'\. list_agents shows those of work\."):
            await client.call_tool("delegate", {"agent": "nobody", "text": "x"})


async def test_the_callers_of_a_registry_are_those_of_its_agents(yard: Yard) -> None:
    async with yard.client(callers={"work": "token:alice"}) as client:
        assert (await call(client, "list_agents"))["agents"] == []
        with pytest.raises(ToolError, match="There is no agent"):
            await client.call_tool("delegate", {"agent": CREW, "text": "x"})
    assert yard.registry.asked == []
    async with yard.client(agents={"crew": yard.agent}, callers={"crew": "token:alice"}) as client:
        assert (await call(client, "list_agents"))["agents"] == [], "a registry opens no way around"
        with pytest.raises(ToolError, match="for you"):
            await client.call_tool("delegate", {"agent": CREW, "text": "x"})
    assert yard.crew.received == []


@pytest.mark.parametrize("how", ["embedded", "by its card", "spelled otherwise"])
async def test_no_second_address_leads_around_the_callers_of_an_agent(how: str, yard: Yard) -> None:
    from google.protobuf.json_format import MessageToDict

    from quarterdeck.crew.catalogue import entry
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    other = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    lure = card(yard.agent)
    lure.supported_interfaces.insert(0, lure.supported_interfaces[0])
    lure.supported_interfaces[0].url, lure.supported_interfaces[0].protocol_binding = other, "carrier pigeon"
    named = yard.agent
    if how == "embedded":
        yard.registry.entries = [entry("acme.example:lure", data=MessageToDict(lure))]
    elif how == "by its card":
        yard.registry.entries = [entry("acme.example:lure", url=other)]
    else:
        yard.registry.entries = [entry("acme.example:lure", url=yard.agent)]
        named = yard.agent.replace("127.0.0.1", "localhost")
    more = {"agents": {"crew": named}, "callers": {"crew": "token:alice"}, "registry_allow": [yard.agent, other]}
    async with serving(app(Crew(), lure), listener), yard.client(**more) as client:
        given = {"agent": "work/acme.example:lure", "text": "echo x"}
        await client.call_tool("delegate", given, raise_on_error=False)
    assert yard.crew.received == []


async def test_a_list_that_another_version_kept_is_read_anew(yard: Yard) -> None:
    import sqlite3

    async with yard.client() as client:
        assert len((await call(client, "list_agents"))["agents"]) == 1
    with sqlite3.connect(yard.home / "bridge.db") as db:
        assert db.execute("UPDATE catalogues SET body = replace(body, 'identifier', 'ident')").rowcount == 1
    async with yard.client() as client:
        assert len((await call(client, "list_agents"))["agents"]) == 1


async def test_a_registrys_credential_goes_to_it_and_to_no_agent(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.registry.token = "planted-credential-4711"
    async with yard.client() as client:
        said = (await call(client, "list_agents"))["registries"][0]
        assert "401" in said
        assert "[bridge.credentials]" in said
    monkeypatch.setenv("WORK_KEY", "planted-credential-4711")
    async with yard.client(credentials={"work": "env:WORK_KEY"}) as client:
        listed = await call(client, "list_agents", refresh=True)
        assert [row["name"] for row in listed["agents"]] == [CREW]
        await call(client, "delegate", agent=CREW, text="echo hello")
        assert "planted" not in str(listed)
    assert "planted" not in str(yard.crew.received)
    async with yard.client(credentials={"work": "env:NO_SUCH_VARIABLE_HERE"}) as client:
        assert "NO_SUCH_VARIABLE_HERE" in (await call(client, "list_agents"))["registries"][0]


async def test_a_registry_that_is_down_costs_nobody_their_agents(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    from quarterdeck.keel import web

    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)
    async with yard.client() as client:
        task = (await call(client, "delegate", agent=CREW, text="ask"))["task"]
        yard.registry.down = True
        listed = await call(client, "list_agents", refresh=True)
        assert [row["name"] for row in listed["agents"]] == [CREW]
        assert "answered 503" in listed["registries"][0]
    monkeypatch.setattr(registries, "FRESH_S", 0.0)
    async with yard.client(agents={"other": yard.agent + "other"}) as client:  # begun anew, with the registry down
        listed = await call(client, "list_agents")
        assert [row["name"] for row in listed["agents"]] == ["other", CREW]
        assert "read " in listed["registries"][0]
        assert "answered 503" in listed["registries"][0]
        assert (await call(client, "check_task", task=task))["state"] == "input_required"
        assert (await call(client, "answer_task", task=task, text="blue"))["state"] == "completed"


async def test_a_list_made_under_other_rules_is_not_used(yard: Yard) -> None:
    async with yard.client() as client:
        assert len((await call(client, "list_agents"))["agents"]) == 1
    yard.registry.down = True
    async with yard.client(registry_allow=[]) as client:
        assert (await call(client, "list_agents"))["agents"] == []


async def test_a_card_that_changes_behind_an_entry_is_flagged(yard: Yard) -> None:
    from google.protobuf.json_format import MessageToDict

    from quarterdeck.crew.catalogue import entry
    from quarterdeck.crew.obliging import card

    held = MessageToDict(card(yard.agent))
    yard.registry.entries = [entry("acme.example:held", data=held)]
    async with yard.client() as client:
        assert "note" not in (await call(client, "list_agents"))["agents"][0]
        yard.registry.entries[0]["data"] = {**held, "description": "now it deletes"}
        assert "changed" in (await call(client, "list_agents", refresh=True))["agents"][0]["note"]


async def test_the_same_agent_in_two_registries_is_one(yard: Yard) -> None:
    both = {"first": f"{yard.url}/api", "second": f"{yard.url}/other"}
    async with yard.client(registries=both) as client:
        assert [row["name"] for row in (await call(client, "list_agents"))["agents"]] == ["first/acme.example:ops:crew"]


async def test_a_search_finds_what_is_not_listed_and_its_score_is_only_relevance(yard: Yard) -> None:
    from quarterdeck.crew.catalogue import entry
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    yard.registry.lists = False
    yard.registry.entries[0]["score"] = 3
    yard.registry.hidden = [entry("acme.example:loud", url=url, description="mends zeppelins", score=10**9)]
    async with (
        serving(app(Crew(), card(url)), listener),
        yard.client(registry_allow=[yard.agent, url]) as client,
    ):
        assert "find_agent_for searches it" in (await call(client, "list_agents"))["registries"][0]
        matches = (await call(client, "find_agent_for", task="zeppelins"))["matches"]
        assert [(row["agent"], row["fit"]) for row in matches] == [("work/acme.example:loud", 0.0)]
        assert "100 of 100" in matches[0]["why"]
        assert (await call(client, "delegate", agent="work/acme.example:loud", text="echo 1"))["state"] == "completed"
    async with serving(app(Crew(), card(url)), free_socket()), yard.client() as client:  # begun anew: it is looked up
        assert (await call(client, "delegate", agent=CREW, text="echo 1"))["state"] == "completed"


async def test_many_agents_are_searched_and_the_answer_stays_within_its_budget(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quarterdeck.crew.catalogue import entry

    monkeypatch.setattr(directory, "MOST_FOUND", 5)
    yard.registry.entries = [
        *(entry(f"127.0.0.1:n{n}", url=f"{yard.url}/nobody/{n}", description="x" * 400) for n in range(150)),
        entry("acme.example:rare", url=yard.agent, description="the only one for zeppelins"),
    ]
    async with yard.client() as client:
        listed = await client.call_tool("list_agents", {})
        structure = listed.structured_content or {}
        assert len(structure["agents"]) + structure["left_out"] == 151
        assert len(str(structure)) < 9000
        matches = (await call(client, "find_agent_for", task="zeppelins"))["matches"]
        assert matches[0]["agent"] == "work/acme.example:rare"


@pytest.mark.parametrize("how", ["huge", "HTML", "a list", "wrong types", "redirect", "drips", "new pages for ever"])
async def test_a_hostile_registry_spoils_no_list_and_takes_no_time_of_others(
    how: str, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_client, "TOTAL_S", 1.5)
    monkeypatch.setattr(directory, "FOUND_S", 1.5)
    yard.registry.how = how
    async with yard.client(agents={"crew": yard.agent}, timeout_s=1) as client:
        began = time.monotonic()
        result = await client.call_tool("list_agents", {})
        assert time.monotonic() - began < 12, "the limit"
        listed = result.structured_content or {}
        assert listed["agents"][0] == {**listed["agents"][0], "name": "crew", "answers": True}
        text = result.content[0].text  # type: ignore[union-attr]
        assert "sk-ant-api03-planted" not in text
        assert "\x1b" not in text
        assert text.index("registry work") < text.index("[end untrusted"), "what it says is fenced"
        assert len(text) < 9000
        assert (await call(client, "delegate", agent="crew", text="echo 1"))["state"] == "completed"


async def test_doctor_says_how_each_registry_is(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from quarterdeck.keel import web

    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)
    registries_of = {"work": f"{yard.url}/api", "gone": "http://127.0.0.1:9"}
    well, gone = await asyncio.to_thread(checks.agents, yard.settings(registries=registries_of))
    assert (well.status, well.what) == (checks.OK, "registry work")
    assert "1 agents, read" in well.detail
    assert (gone.status, gone.what) == (checks.WARN, "registry gone")
    assert "[bridge.registries]" in gone.mend


async def test_doctor_says_how_to_vouch_where_a_registry_lists_only_strangers(yard: Yard) -> None:
    import asyncio

    (found,) = await asyncio.to_thread(checks.agents, yard.settings(registry_allow=[]))
    assert (found.status, found.what) == (checks.WARN, "registry work")
    assert "registry_allow" in found.mend


def test_registries_are_set_in_the_environment_and_slips_are_named(tmp_path: Path) -> None:
    base = {
        "QUARTERDECK_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "QUARTERDECK_BRIDGE_AGENTS": "a=http://x",
    }
    settings = load(
        {**base, "QUARTERDECK_BRIDGE_REGISTRIES": "work=https://registry.example/api/v1, acme=https://acme.example"}
    )
    assert settings.bridge.registries == {"work": "https://registry.example/api/v1", "acme": "https://acme.example"}
    for wrong in ("a=http://x", "b=ftp://x", "b/c=http://x", "b=http://x http://y", "b="):
        with pytest.raises(Exception, match="registr"):
            load({**base, "QUARTERDECK_BRIDGE_REGISTRIES": wrong})
