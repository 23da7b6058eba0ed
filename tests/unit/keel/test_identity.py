"""Who is calling: from the transport or the token, never from what a caller says of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.server.auth.providers.jwt import JWTVerifier, RSAKeyPair
from mcp_types import Implementation

from quarterdeck.keel import identity
from quarterdeck.keel.answers import Answer
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller, caller_of, find_token, new_token
from quarterdeck.keel.settings import HttpSettings, Settings, Token
from quarterdeck.keel.tools import look, new_server


class Who(Answer):
    id: str
    client: str
    scopes: list[str]

    def text(self) -> str:
        return self.id


def server_that_asks(settings: Settings) -> FastMCP[Any]:
    server = new_server("who", "Says who is calling.", settings)

    @look(server)
    async def who(ctx: Context) -> Who:
        """Say who is calling."""
        caller = caller_of(ctx)
        return Who(id=caller.id, client=caller.client, scopes=sorted(caller.scopes))

    return server


@asynccontextmanager
async def reached_by(server: FastMCP[Any]) -> AsyncIterator[httpx.AsyncClient]:
    app = server.http_app(path="/who", stateless_http=True, json_response=True)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        yield http


async def ask(http: httpx.AsyncClient, token: str = "") -> dict[str, Any]:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "who",
            "arguments": {},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "7"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "who",
    }
    answer = await http.post(
        "/who", json=body, headers=headers | ({"authorization": f"Bearer {token}"} if token else {})
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["result"]["structuredContent"]
    return found


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_the_client_programs_name_is_known_in_both_eras(settings: Settings, era: str) -> None:
    me = Implementation(name="probe\x1b[31m\nof mine", version="9.9")
    async with Client(server_that_asks(settings), mode=era, client_info=me) as client:
        answer = (await client.call_tool("who", {})).structured_content
    assert answer is not None
    assert answer["client"] == "probe of mine 9.9"
    assert answer["id"].startswith("local:")


async def test_over_http_without_tokens_everybody_on_the_machine_is_one_caller(settings: Settings) -> None:
    async with reached_by(server_that_asks(settings)) as http:
        answer = await ask(http)
    assert answer["id"] == "http:anyone-on-this-machine"
    assert answer["client"] == "raw 7"


async def test_a_bearer_token_names_the_caller_and_its_scopes(settings: Settings) -> None:
    token, sha256 = new_token()
    http_settings = settings.http.model_copy(update={"tokens": [Token(name="ci", sha256=sha256, scopes=["read"])]})
    server = server_that_asks(settings)
    server.auth = identity.verifier(http_settings)
    async with reached_by(server) as http:
        assert await ask(http, token) == {"id": "token:ci", "client": "raw 7", "scopes": ["read"]}
        refused = await http.post("/who", json={}, headers={"authorization": "Bearer qd_wrong"})
        assert refused.status_code == 401
        assert (await http.post("/who", json={})).status_code == 401


async def test_people_who_share_one_program_are_different_callers(settings: Settings) -> None:
    keys = RSAKeyPair.generate()
    server = server_that_asks(settings)
    server.auth = JWTVerifier(public_key=keys.public_key, issuer="https://issuer", audience="deck")
    async with reached_by(server) as http:
        ids = {
            (await ask(http, keys.create_token(
                subject=person, issuer="https://issuer", audience="deck", scopes=["read"],
                additional_claims={"azp": "chat-program"},
            )))["id"]
            for person in ("alice", "bob")
        }  # fmt: skip
    assert ids == {"token:chat-program/alice", "token:chat-program/bob"}


def test_only_the_hash_of_a_token_is_kept_and_found_again() -> None:
    token, sha256 = new_token()
    tokens = [Token(name="a", sha256="0" * 64), Token(name="b", sha256=sha256)]
    found = find_token(tokens, token)
    assert found is not None
    assert found.name == "b"
    assert token not in repr(tokens)
    for wrong in ("", token[:-1], token + " ", sha256, "é\x00"):
        assert find_token(tokens, wrong) is None


def test_tokens_are_long_and_never_the_same() -> None:
    made = {new_token()[0] for _ in range(50)}
    assert len(made) == 50
    assert all(token.startswith("qd_") and len(token) > 40 for token in made)


def test_no_token_configured_means_no_verifier(settings: Settings) -> None:
    assert identity.verifier(settings.http) is None


def test_a_caller_may_read_spend_and_change_unless_its_token_says_otherwise() -> None:
    assert Caller("local:me").scopes == {"read", "spend", "change"}


@pytest.mark.parametrize("given", [{}, {"issuer": "https://id.example"}, {"audience": "quarterdeck"}])
def test_signed_tokens_are_accepted_only_with_an_issuer_and_an_audience(given: dict[str, str]) -> None:
    with pytest.raises(Refusal, match=r"http\.issuer and http\.audience"):
        identity.verifier(HttpSettings(jwks_url="https://id.example/jwks.json", **given))
