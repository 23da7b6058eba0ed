"""Whom the bridge talks to: cards that change are flagged, signatures hold, credentials stay where they belong."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastmcp import Client
from fastmcp.exceptions import ToolError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings, load


class Host:
    """A host that shows a card, and remembers what it was sent."""

    def __init__(self) -> None:
        self.card: dict[str, Any] = {}
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.more: dict[str, Any] = {}

    def app(self) -> Starlette:
        async def show(request: Request) -> Response:
            self.headers.append(dict(request.headers))
            return JSONResponse(self.more.get(request.url.path, self.card))

        async def talk(request: Request) -> Response:
            self.headers.append(dict(request.headers))
            task = {"id": "r1", "contextId": "c1", "status": {"state": "TASK_STATE_COMPLETED"}}
            return JSONResponse({"jsonrpc": "2.0", "id": "1", "result": {"task": task}})

        return Starlette(routes=[Route("/", talk, methods=["POST"]), Route("/{rest:path}", show)])


@asynccontextmanager
async def hosting() -> AsyncIterator[Host]:
    from quarterdeck.crew.hostile import card
    from quarterdeck.crew.ports import free_socket, serving

    host, listener = Host(), free_socket()
    host.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    host.card = card(host.url, streaming=False)
    async with serving(host.app(), listener):
        yield host


def client_of(tmp_path: Path, agents: dict[str, str], **bridge: Any) -> Client[Any]:
    return Client(create_server(Settings.model_validate({"home": tmp_path, "bridge": {"agents": agents, **bridge}})))


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.call_tool(tool, arguments)).structured_content or {}
    return found


async def test_a_card_that_changed_is_flagged_with_what_changed(tmp_path: Path) -> None:
    async with hosting() as host:
        async with client_of(tmp_path, {"crew": host.url}) as client:
            assert "note" not in (await call(client, "list_agents"))["agents"][0]
        host.card["skills"] = [{"id": "other", "name": "other", "description": "now it deletes", "tags": []}]
        async with client_of(tmp_path, {"crew": host.url}) as client:
            assert "changed" in (await call(client, "list_agents"))["agents"][0]["note"]
            facts = (await call(client, "describe_agent", agent="crew"))["facts"]
            assert any("CARD CHANGED" in fact and "skills" in fact for fact in facts)


def signed(card: dict[str, Any], key: ec.EllipticCurvePrivateKey, jku: str | None = None) -> dict[str, Any]:
    from a2a.client.card_resolver import parse_agent_card
    from a2a.utils.signing import create_agent_card_signer
    from google.protobuf.json_format import MessageToDict

    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    header: Any = {"kid": "k1", "alg": "ES256", "typ": "JOSE", **({"jku": jku} if jku else {})}
    proto = parse_agent_card(json.loads(json.dumps(card)))
    return MessageToDict(create_agent_card_signer(pem, header)(proto))


def public(key: ec.EllipticCurvePrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


async def test_a_signature_is_verified_with_the_key_of_the_settings(tmp_path: Path) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_text(public(key))
    keys = {"crew": str(tmp_path / "key.pem")}
    async with hosting() as host:
        plain = host.card
        host.card = signed(plain, key)
        async with client_of(tmp_path, {"crew": host.url}, keys=keys) as client:
            facts = (await call(client, "describe_agent", agent="crew"))["facts"]
            assert "signed, verified by the key in the settings" in facts
        for wrong in (signed(plain, other), plain, {**signed(plain, key), "description": "another"}):
            host.card = wrong
            async with client_of(tmp_path, {"crew": host.url}, keys=keys) as client:
                with pytest.raises(ToolError, match="not used"):
                    await client.call_tool("describe_agent", {"agent": "crew"})
                view = await call(client, "delegate", agent="crew", text="x")
                assert view["state"] == "failed"
        assert not [headers for headers in host.headers if "content-type" in headers], "no message was sent"


async def test_a_key_published_elsewhere_proves_nothing(tmp_path: Path) -> None:
    from jwt.algorithms import ECAlgorithm

    key = ec.generate_private_key(ec.SECP256R1())
    jwk = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "k1"}
    async with hosting() as host, hosting() as elsewhere:
        for place in (host, elsewhere):
            place.more["/keys.json"] = {"keys": [jwk]}
        plain = host.card
        host.card = signed(plain, key, jku=f"{host.url}keys.json")
        async with client_of(tmp_path, {"crew": host.url}) as client:
            facts = (await call(client, "describe_agent", agent="crew"))["facts"]
            assert "signed, verified by a key that it publishes itself" in facts
        deep = base64.urlsafe_b64encode(b"[" * 50_000).decode()
        host.card = {**plain, "signatures": [{"protected": deep, "signature": "x"}]}
        async with client_of(tmp_path, {"crew": host.url}) as client:
            (row,) = (await call(client, "list_agents"))["agents"]
            assert "nobody here knows" in str(await call(client, "describe_agent", agent=row["name"]))
        host.card = signed(plain, key, jku=f"{elsewhere.url}keys.json")
        async with client_of(tmp_path, {"crew": host.url}) as client:
            facts = (await call(client, "describe_agent", agent="crew"))["facts"]
            assert "signed, but with a key that nobody here knows" in facts
        assert elsewhere.headers == []


@pytest.mark.parametrize("written", ["planted-credential-4711", "env:CREW_KEY"])
async def test_a_credential_goes_to_the_agents_own_host_and_nowhere_else(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREW_KEY", "planted-credential-4711")
    async with hosting() as host, hosting() as elsewhere:
        agents = {"crew": host.url, "other": elsewhere.url}
        async with client_of(tmp_path, agents, credentials={"crew": written}) as client:
            await call(client, "delegate", agent="crew", text="x")
            await call(client, "delegate", agent="other", text="x")
            assert all(headers["authorization"] == "Bearer planted-credential-4711" for headers in host.headers)
            host.card["supportedInterfaces"][0]["url"] = elsewhere.url
            await call(client, "describe_agent", agent="crew")
            view = await call(client, "delegate", agent="crew", text="x")
            assert "planted-credential" not in str(view)
            for tool in ("list_agents", "list_tasks"):
                assert "planted-credential" not in str(await call(client, tool))
        assert elsewhere.headers
        assert not any("authorization" in headers for headers in elsewhere.headers)


async def test_an_api_key_goes_into_the_header_that_the_card_names(tmp_path: Path) -> None:
    async with hosting() as host:
        host.card["securitySchemes"] = {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Crew-Key"}}}
        async with client_of(tmp_path, {"crew": host.url}, credentials={"crew": "planted-credential-4711"}) as client:
            await call(client, "delegate", agent="crew", text="x")
        assert host.headers[-1]["x-crew-key"] == "planted-credential-4711"
        assert "authorization" not in host.headers[-1]


async def test_a_caller_sees_and_uses_only_the_agents_that_are_for_them(tmp_path: Path) -> None:
    async with hosting() as host:
        agents = {"mine": host.url, "theirs": host.url}
        async with client_of(tmp_path, agents, callers={"theirs": "token:alice token:bob"}) as client:
            assert [row["name"] for row in (await call(client, "list_agents"))["agents"]] == ["mine"]
            for tool, arguments in (
                ("describe_agent", {"agent": "theirs"}),
                ("delegate", {"agent": "theirs", "text": "x"}),
                ("delegate_many", {"agents": ["mine", "theirs"], "texts": ["x"]}),
            ):
                with pytest.raises(ToolError, match="There is no agent 'theirs'"):
                    await client.call_tool(tool, arguments)
        assert not [headers for headers in host.headers if "content-type" in headers]


async def test_agents_are_named_by_address_only_where_the_settings_allow_it_and_never_inside(tmp_path: Path) -> None:
    async with hosting() as host:
        async with client_of(tmp_path, {}) as client:
            with pytest.raises(ToolError, match="named in the settings"):
                await client.call_tool("delegate", {"agent": host.url, "text": "x"})
        async with client_of(tmp_path, {}, any_address=True) as client:
            view = await call(client, "delegate", agent=host.url, text="x")
            assert "inside" in view["said"]
        assert host.headers == []


def test_settings_come_from_the_environment_and_say_what_is_wrong(tmp_path: Path) -> None:
    base = {"QUARTERDECK_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    settings = load({**base, "QUARTERDECK_BRIDGE_AGENTS": "a=http://one:1 http://two:2, b=https://three"})
    assert settings.bridge.agents == {"a": "http://one:1 http://two:2", "b": "https://three"}
    for wrong in ("a=ftp://x", "a b=http://x", "a="):
        with pytest.raises(Exception, match="agent"):
            load({**base, "QUARTERDECK_BRIDGE_AGENTS": wrong})


def test_a_task_is_matched_by_its_rarer_words_also_in_korean() -> None:
    from quarterdeck.bridge.cards import Card, Skill
    from quarterdeck.bridge.ranking import rank

    def card(*skills: tuple[str, str]) -> Any:
        made = tuple(Skill(id, about, f"{id} {about}") for id, about in skills)
        return Card("a", "", "t", "", "1", made, True, False, (), "", "", None)  # type: ignore[arg-type]

    there = [
        ("ops", card(("restart", "Restart crashed pods in Kubernetes"), ("report", "Write a report about pods"))),
        ("shop", card(("orders", "주문 내역을 찾고 환불을 처리한다"), ("parts", "Find car parts by vehicle"))),
    ]
    assert rank("my pods crash, restart them", there)[0][2].id == "restart"
    assert rank("환불 처리해줘", there)[0][2].id == "orders"
    assert rank("which brake parts fit this vehicle?", there)[0][2].id == "parts"
    assert rank("", there) == []
