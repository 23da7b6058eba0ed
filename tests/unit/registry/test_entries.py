"""One entry of a catalogue: nobody speaks for another's domain, and nothing that is not whole is used."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.registry.entries import LARGEST_DATA, BadEntry, address_key, aligned, kind_of, read

VOUCHED = {("10.0.0.5", 7400)}
ID = "urn:air:acme.example:ops:assistant"
URL = "https://agents.acme.example/assistant.json"


LIST = "supportedInterfaces"


def entry(**more: Any) -> dict[str, Any]:
    whole = {
        "identifier": ID,
        "displayName": "Assistant",
        "type": "application/a2a-agent-card+json",
        "url": URL,
        **more,
    }
    return {key: value for key, value in whole.items() if value is not None}


def card(*urls: Any) -> dict[str, Any]:
    return {"name": "x", "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC"} for url in urls]}


def test_an_entry_is_read_with_its_words() -> None:
    found = read(
        entry(description="Restarts\npods", capabilities=["Restart"], tags=["ops"], representativeQueries=["mend it"]),
        VOUCHED,
    )
    assert (found.name, found.title, found.about) == ("acme.example:ops:assistant", "Assistant", "Restarts pods")
    assert {"Restart", "ops", "mend", "assistant"} <= set(found.words.split())
    assert found.address == URL


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"identifier": "urn:air:acme.example"}, "identifier"),
        ({"identifier": "urn:other:acme.example:x"}, "identifier"),
        ({"identifier": "urn:air:acme.example:x\nname"}, "identifier"),
        ({"identifier": f"urn:air:acme.example:{'x' * 100}:{'y' * 90}"}, "identifier"),
        ({"identifier": 7}, "identifier"),
        ({"data": card(URL)}, "exactly one"),
        ({"url": None}, "exactly one"),
        ({"url": None, "data": [1]}, "no object"),
        ({"url": None, "data": {**card(URL), "description": "x" * LARGEST_DATA}}, "too large"),
        ({"url": None, "data": {"name": "x"}}, "no address"),
        ({"url": 7}, "domain"),
        ({"url": None, "data": {"url": URL, "supported_interfaces": card("https://evil.example")[LIST]}}, "domain"),
        ({"url": None, "data": {"url": URL, LIST: card("https://evil.example")[LIST][0]}}, "domain"),
        ({"url": "https://evil.example/card.json"}, "domain"),
        ({"url": "https://acme.example.evil.example/card.json"}, "domain"),
        ({"url": "https://notacme.example/card.json"}, "domain"),
        ({"url": "http://agents.acme.example/card.json"}, "domain"),  # anybody on the way could have said it
        ({"url": "https://acme.example@evil.example/card.json"}, "domain"),
        ({"url": "file:///etc/passwd"}, "domain"),
        ({"url": "http://169.254.169.254/latest/"}, "domain"),
        ({"url": "http://10.0.0.5:7401/"}, "domain"),
        ({"url": None, "data": card("https://acme.example/a", "https://evil.example/a")}, "domain"),
        ({"url": None, "data": {"url": "https://acme.example/", "additionalInterfaces": [{"url": "x.com"}]}}, "domain"),
        ({"url": None, "data": card("https://acme.example/a", None, 7)}, "domain"),
        ({"trustManifest": {"identity": "spiffe://evil.example/x"}}, "domain"),
        ({"trustManifest": {"identity": "did:web:evil.example"}}, "domain"),
        ({"trustManifest": {"identity": "did:key:z6Mk"}}, "domain"),
        ({"trustManifest": {"identity": ["acme.example"]}}, "domain"),
        ({"trustManifest": {}}, "domain"),
        ({"trustManifest": "acme.example"}, "domain"),
    ],
)  # fmt: skip
def test_an_entry_that_is_not_whole_or_speaks_for_another_is_left_out(more: dict[str, Any], why: str) -> None:
    with pytest.raises(BadEntry, match=why):
        read(entry(**more), VOUCHED)


@pytest.mark.parametrize(
    "more",
    [
        {"url": "https://acme.example/card.json"},
        {"url": "https://ACME.example:8443/card.json"},
        {"url": "http://10.0.0.5:7400/"},  # vouched for by an administrator
        {"url": None, "data": card("https://acme.example/a", "grpc.acme.example:50051")},
        {"trustManifest": {"identity": "spiffe://trust.acme.example/x", "identityType": "spiffe"}},
        {"trustManifest": {"identity": "did:web:acme.example%3A8443:agents:x"}},
        {"trustManifest": {"identity": "https://acme.example/agents/x"}},
        {"trustManifest": {"identity": "acme.example"}},
        {"score": "very", "capabilities": 7, "tags": [1, {}], "description": ["x"], "displayName": None},
    ],
)
def test_an_entry_of_the_publishers_own_place_is_used(more: dict[str, Any]) -> None:
    assert read(entry(**more), VOUCHED).identifier == ID


def test_outside_text_is_made_fit_to_be_shown() -> None:
    found = read(
        entry(displayName="a\x1b[2J\u202eb\nc", description="token=ghp_" + "a1B2" * 10 + " " + "x" * 9000), VOUCHED
    )
    assert "\x1b" not in found.title
    assert "\n" not in found.title
    assert "ghp_a1B2" not in found.about + found.words
    assert len(found.about) <= 420
    assert len(found.words) <= 2000


def test_the_same_agent_is_known_however_its_address_is_written() -> None:
    ways = [
        "http://Agents.example/one",
        "http://agents.example:80/one/",
        "http://agents.example/one/.well-known/agent-card.json",
        "http://agents.example./one/.well-known/agent.json",
    ]
    assert len({address_key(way) for way in ways}) == 1
    assert address_key("http://agents.example/two") != address_key(ways[0])


@pytest.mark.parametrize(
    ("kind", "bare"),
    [
        ("application/A2A-agent-card+json; charset=utf-8", "application/a2a-agent-card"),
        ("application/agent-card+json", "application/a2a-agent-card"),
        ("application/ai-registry", "application/ai-registry"),
        (7, ""),
        (None, ""),
    ],
)
def test_a_type_is_compared_without_ending_and_parameters(kind: Any, bare: str) -> None:
    assert kind_of({"type": kind}) == bare
    assert kind_of([kind]) == ""


def test_a_top_level_domain_vouches_for_nobody() -> None:
    assert not aligned("acme.com", "com")
    assert aligned("a.acme.com", "acme.com")


def test_the_spellings_of_loopback_are_one_address() -> None:
    keys = {address_key(f"http://{host}:7400/crew/") for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST.")}
    assert len(keys) == 1
    assert address_key("http://localhost:7401/crew") not in keys
