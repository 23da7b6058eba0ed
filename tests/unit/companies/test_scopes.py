"""Who may cause costs, and who may write a result: locks that are picked at over A2A, REST and MCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from messages_api import Say, serve
from providers import Providers
from research_standin import SCHEMA, Weather, create

from quarterdeck.agents.companies import hop, rest
from quarterdeck.agents.companies.cards import WORKERS
from quarterdeck.agents.companies.coordinator import COORDINATOR
from quarterdeck.agents.companies.fleet import benched
from quarterdeck.agents.companies.store import Store
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller, new_token, verifier
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import HttpSettings, ModelSettings, ResearchSettings, Settings, Token
from quarterdeck.research.server import create_server

from .conftest import KIM, Run, ended

WORK: dict[str, dict[str, Any]] = {
    "research": {"company_name": "ACME", "extraction_schema": SCHEMA},
    "extraction": {"company_name": "ACME", "extraction_schema": SCHEMA, "sources": [{"url": "u", "content": "ceo: X"}]},
    "reflection": {"company_name": "ACME", "extraction_schema": SCHEMA, "extracted_data": {}},
    "storage": {"job": "j", "n": 0, "company_name": "ACME", "state": "complete", "data": {"ceo": "Mallory"}},
}


def people(**scopes: list[Any]) -> tuple[HttpSettings, dict[str, str]]:
    made = {name: new_token() for name in scopes}
    tokens = [Token(name=name, sha256=made[name][1], scopes=scopes[name]) for name in scopes]
    return HttpSettings(tokens=tokens), {name: made[name][0] for name in scopes}


@asynccontextmanager
async def workers(settings: Settings, http: HttpSettings, store: Store) -> AsyncIterator[Any]:
    """The four workers as they serve other machines, with tokens."""
    settings = settings.model_copy(update={"http": http})
    async with AsyncExitStack() as stack:
        tools = await stack.enter_async_context(
            Toolbox({"research": create(Weather())}, Caller("agent:companies"), at_once=9)
        )
        await stack.enter_async_context(benched(settings, tools, store, alone=True))
        app = create_app(list(WORKERS.values()), settings, memory_engine, hop.HERE)
        await stack.enter_async_context(app.router.lifespan_context(app))
        yield app


@pytest.mark.parametrize("worker", list(WORK))
async def test_who_may_not_spend_gives_no_worker_work(settings: Settings, worker: str) -> None:
    http, tokens = people(reader=["read"], changer=["read", "change"], approver=["read", "approve"])
    store = Store(settings)
    await store.open()
    try:
        async with workers(settings, http, store) as app:
            for name, token in tokens.items():
                async with hop.client(app, token, 2) as caller:
                    with pytest.raises(Refusal, match="may give no work here: its token lacks the scope 'spend'"):
                        await hop.send(caller, f"{hop.HERE}/{worker}", f"m-{name}", json.dumps(WORK[worker]))
    finally:
        await store.close()


async def test_a_result_is_only_stored_with_the_jobs_own_key(settings: Settings) -> None:
    http, tokens = people(mallory=["read", "spend", "change", "approve"])
    store = Store(settings)
    await store.open()
    try:
        spec = {"schema": SCHEMA, "seal": "the job's key"}
        await store.begin("j", spec, caller="kim", label="", priority=0, budget=None, parent="")
        await store.add("j", [(0, "ACME")])
        async with workers(settings, http, store) as app, hop.client(app, tokens["mallory"], 2) as caller:
            for number, wrong in enumerate(({}, {"seal": ""}, {"seal": "the job's kez"}, {"seal": "é"})):
                with pytest.raises(Refusal, match="stored by its coordinator"):
                    await hop.send(caller, f"{hop.HERE}/storage", f"m{number}", json.dumps(WORK["storage"] | wrong))
            assert await store.state_of("j", 0) == "waiting"
            right = WORK["storage"] | {"seal": "the job's key"}
            assert (await hop.send(caller, f"{hop.HERE}/storage", "m9", json.dumps(right)))["stored"] is True
            with pytest.raises(Refusal, match="There is no company 0 in a job 'other'"):
                await hop.send(caller, f"{hop.HERE}/storage", "m10", json.dumps(WORK["storage"] | {"job": "other"}))
    finally:
        await store.close()


async def test_a_jobs_key_is_its_own_and_is_told_to_nobody(run: Run) -> None:
    async with run() as office:
        for id in ("one", "two"):
            await office.jobs.submit(["ACME"], SCHEMA, id=id, by=KIM)
            job = await ended(office, id)
            assert job.good + job.incomplete == 1, "the coordinator has it"
        one, two = [(await office.spec(id))["seal"] for id in ("one", "two")]
        assert one and two and one != two
        told = [await office.jobs.list(), await office.jobs.results("one"), await office.jobs.schema("one")]
        assert one not in repr(told)


async def test_over_rest_only_who_may_spend_starts_and_cancels_jobs(run: Run) -> None:
    http, tokens = people(reader=["read"], changer=["read", "change"], spender=["read", "spend"])
    sent = {"companies": ["ACME"], "extraction_schema": SCHEMA, "id": "r"}
    async with run() as office:
        settings = office.settings.model_copy(update={"http": http})
        app = create_app([COORDINATOR], settings, memory_engine, "http://127.0.0.1", routes=rest.routes)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as caller:
            for name, status in (("reader", 403), ("changer", 403), ("spender", 202)):
                headers = {"authorization": f"Bearer {tokens[name]}"}
                answer = await caller.post("/research/batch", json=sent, headers=headers)
                assert answer.status_code == status, answer.text
                single = {"company_name": "ACME", "extraction_schema": SCHEMA, "wait_s": 0}
                if status == 403:
                    assert "lacks the scope 'spend'" in answer.text
                    assert (await caller.post("/research/single", json=single, headers=headers)).status_code == 403
            unknown = {"authorization": f"Bearer {tokens['changer']}"}
            assert (await caller.post("/jobs/r/cancel", headers=unknown)).status_code in (403, 404)
        await ended(office, "r")


@asynccontextmanager
async def served(settings: Settings, token: str) -> AsyncIterator[Client[Any]]:
    """The research server over HTTP, for the holder of a token."""
    server = create_server(settings)
    server.auth = verifier(settings.http)
    app = server.http_app(path="/research")

    def inside(**more: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), **more)

    place = StreamableHttpTransport("http://127.0.0.1/research", auth=token, httpx_client_factory=inside)  # type: ignore[arg-type]
    async with app.router.lifespan_context(app), Client(place) as client:
        yield client


async def test_over_mcp_who_may_not_spend_asks_neither_the_model_nor_paid_providers(tmp_path: Path) -> None:
    http, tokens = people(reader=["read"], spender=["read", "spend"])
    quote = "The CEO of Acme is Ann Lee."
    given = {"company_name": "Acme", "extraction_schema": {"type": "object", "properties": {"ceo": {"type": "string"}}}}
    given["sources"] = [{"url": "https://acme.example", "title": "Acme", "content": quote}]
    with serve(Say({"values": [{"path": "ceo", "value": "Ann Lee", "source": 1, "quote": quote}]})) as api:
        async with Providers() as providers:
            research = ResearchSettings(**providers.research("tavily", "searxng"))
            model = ModelSettings(api_key="k", base_url=api.url)  # type: ignore[arg-type]
            settings = Settings(home=tmp_path, http=http, research=research, model=model)
            async with served(settings, tokens["reader"]) as client:
                for tool, more in (("extract_data", {"mode": "model"}), ("extract_by_batch", {})):
                    refused = await client.call_tool(tool, {**given, **more}, raise_on_error=False)
                    assert refused.is_error
                    assert "lacks the scope 'spend'" in str(refused.content)
                ruled = (await client.call_tool("extract_data", given)).structured_content
                assert ruled is not None and ruled["by"] == "rules"
                found = (await client.call_tool("search_web", {"query": "Acme"})).structured_content
                assert found is not None and found["provider"] == "searxng"
                named = (
                    await client.call_tool("search_web", {"query": "Acme", "provider": "tavily"})
                ).structured_content
                assert named is not None and named["provider"] == "searxng"
                await client.call_tool("research_company", {"company_name": "Acme", "max_queries": 2})
            assert not api.requests
            assert providers.count("tavily") == 0
            only = settings.model_copy(update={"research": ResearchSettings(**providers.research("tavily"))})
            async with served(only, tokens["reader"]) as client:
                for tool, asked in (("search_web", {"query": "Acme"}), ("research_company", {"company_name": "Acme"})):
                    refused = await client.call_tool(tool, asked, raise_on_error=False)
                    assert "Searching here costs money: your token lacks the scope 'spend'" in str(refused.content)
            assert providers.count("tavily") == 0
            async with served(settings, tokens["spender"]) as client:
                done = (await client.call_tool("extract_data", given)).structured_content
                assert done is not None and done["by"] == "model"
                await client.call_tool("search_web", {"query": "Acme"})
            assert providers.count("tavily") == 1
            async with Client(create_server(settings)) as client:  # over stdio it is the person themself
                done = (await client.call_tool("extract_data", given)).structured_content
                assert done is not None and done["by"] == "model"
