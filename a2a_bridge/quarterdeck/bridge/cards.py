"""An agent's card: fetched within limits, read, its signature verified, a change of it noticed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from quarterdeck.bridge import dialect
from quarterdeck.bridge.limits import BadAnswer
from quarterdeck.keel import web
from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import place_of
from quarterdeck.keel.redact import redact

if TYPE_CHECKING:
    from a2a.types.a2a_pb2 import AgentCard

Json = dict[str, Any]

LARGEST = 512 * 1024
WELL_KNOWN = ("/.well-known/agent-card.json", "/.well-known/agent.json")
MOST_SKILLS = 200
ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]


@dataclass(frozen=True)
class Skill:
    id: str
    about: str
    words: str
    """Everything the skill says about itself, for searching."""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    agent: str
    place: str
    title: str
    about: str
    version: str
    skills: tuple[Skill, ...]
    streaming: bool
    pushes: bool
    speaks: tuple[str, ...]
    """Protocol bindings and versions, as the card lists them."""
    signature: str
    header: str
    """The header that the card wants an API key in; empty: a bearer token."""
    proto: AgentCard
    old: bool = False
    """It speaks 0.3 only."""
    changed: float = 0.0
    changed_what: str = ""


def outside(text: Any, most: int = 300) -> str:
    """A card's text, made fit to be shown on one line."""
    return clip(redact(one_line(str(text))), most)


async def fetch(http: httpx.AsyncClient, agent: str, place: str, seconds: float) -> Json:
    """The card as JSON. An address that ends in .json is the card's own; else it stands at a well-known path."""
    base = httpx.URL(place)
    path = base.path.rstrip("/")
    addresses = [base] if path.endswith(".json") else [base.copy_with(path=path + known) for known in WELL_KNOWN]
    if path and len(addresses) > 1:
        # Perhaps it is named by where it talks; at the root may be the card of another agent, though.
        addresses += [base.copy_with(path=known) for known in WELL_KNOWN]
    first = 0
    for number, address in enumerate(addresses):
        response = await web.get(http, str(address), f"agent {agent}", largest=LARGEST, total_s=seconds)
        first = first or response.status_code
        if response.status_code == 200:
            body = web.json_of(response, f"agent {agent}")
            if not isinstance(body, dict):
                raise BadAnswer(f"The card of {agent} is no JSON object. Is its address that of an A2A agent?")
            if number < len(WELL_KNOWN) or _talks_at(body, place):
                return body
    raise BadAnswer(f"{agent} shows no card: {addresses[0]} answered {first}. Is its address that of an A2A agent?")


def _talks_at(body: Json, place: str) -> bool:
    talking = [body, *(body.get("supportedInterfaces") or []), *(body.get("additionalInterfaces") or [])]
    return any(isinstance(one, dict) and str(one.get("url")).rstrip("/") == place.rstrip("/") for one in talking)


async def reach(http: httpx.AsyncClient, agent: str, place: str, seconds: float) -> None:
    """Whether anything answers there, for a card that came from elsewhere. What it answers is of no account."""
    try:
        await web.get(http, place, f"agent {agent}", largest=LARGEST, total_s=seconds)
    except BadAnswer:
        return


def read(agent: str, place: str, body: Json, signature: str) -> Card:
    from a2a.client.card_resolver import parse_agent_card
    from google.protobuf.json_format import ParseError

    try:
        proto = parse_agent_card(dialect.card(body, place))
    except (ParseError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise BadAnswer(f"The card of {agent} cannot be read: {outside(error, 160)}.") from None
    if not proto.supported_interfaces:
        raise BadAnswer(f"The card of {agent} names no address to talk to.")
    skills = tuple(
        Skill(
            outside(skill.id or skill.name, 80),
            outside(f"{skill.name}: {skill.description}" if skill.description else skill.name, 400),
            plain(" ".join((skill.id, skill.name, skill.description, *skill.tags, *skill.examples)))[:4000],
            tuple(outside(example, 160) for example in skill.examples[:3]),
        )
        for skill in proto.skills[:MOST_SKILLS]
    )
    header = ""
    for scheme in proto.security_schemes.values():
        api_key = scheme.api_key_security_scheme
        if api_key.location == "header" and api_key.name:
            header = api_key.name[:60]
    return Card(
        agent=agent,
        place=place,
        title=outside(proto.name, 80),
        about=outside(proto.description, 600),
        version=outside(proto.version, 40),
        skills=skills,
        streaming=proto.capabilities.streaming,
        pushes=proto.capabilities.push_notifications,
        speaks=tuple(
            outside(f"{one.protocol_binding} {one.protocol_version or '?'}", 40)
            for one in proto.supported_interfaces[:8]
        ),
        signature=signature,
        header=header if header.replace("-", "").replace("_", "").isalnum() else "",
        proto=proto,
        old=all(one.protocol_version.startswith("0.") for one in proto.supported_interfaces),
    )


def fingerprint(body: Json) -> tuple[str, dict[str, str]]:
    """The digest of the card without its signatures, and of each part of it: what changed is named."""
    unsigned = {key: value for key, value in body.items() if key != "signatures"}
    parts = {str(key)[:60]: _digest(value)[:16] for key, value in list(unsigned.items())[:60]}
    return _digest(unsigned), parts


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# Signatures


async def verified(http: httpx.AsyncClient, agent: str, place: str, body: Json, key_file: str) -> str:
    """What its signature is worth, in words. Raises Refusal for a signature that is wrong, or missing where the
    settings hold a key for it."""
    if not body.get("signatures"):
        if key_file:
            raise BadAnswer(f"The card of {agent} is not signed, but the settings name a key for it: it is not used.")
        return "not signed"
    if key_file:
        keys, whose = await asyncio.to_thread(_keys_of_file, agent, key_file), "by the key in the settings"
    else:
        keys, whose = await _published_keys(http, agent, place, body), "by a key that it publishes itself"
        if not keys:
            return "signed, but with a key that nobody here knows"
    if not await asyncio.to_thread(_holds, body, keys):
        raise BadAnswer(f"The signature on the card of {agent} is wrong: it is not used. Ask who runs it.")
    return f"signed, verified {whose}"


def _holds(body: Json, keys: dict[str | None, Any]) -> bool:
    from a2a.client.card_resolver import parse_agent_card
    from a2a.utils.signing import SignatureVerificationError, create_signature_verifier
    from google.protobuf.json_format import ParseError
    from jwt.exceptions import PyJWTError

    def key_of(kid: str | None, jku: str | None) -> Any:
        found = keys.get(kid) or keys.get(None)
        if found is None:
            raise PyJWTError("unknown key")
        return found

    try:
        create_signature_verifier(key_of, ALGORITHMS)(parse_agent_card(json.loads(json.dumps(body))))
    except (SignatureVerificationError, ParseError, ValueError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _keys_of_file(agent: str, key_file: str) -> dict[str | None, Any]:
    try:
        text = Path(key_file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"The key of {agent} in {key_file} cannot be read ({type(error).__name__}). Mend it.") from None
    if "-----BEGIN" in text:
        return {None: text}
    try:
        return _keys_of_set(json.loads(text))
    except ValueError:
        raise Refusal(f"{key_file} is neither a PEM key nor a JSON key set. Mend it.") from None


def _keys_of_set(found: Any) -> dict[str | None, Any]:
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    keys: dict[str | None, Any] = {}
    listed = found.get("keys", [found]) if isinstance(found, dict) else []
    for one in listed[:20] if isinstance(listed, list) else []:
        if isinstance(one, dict) and one.get("kty") != "oct":  # a shared secret proves nothing
            try:
                keys[one.get("kid")] = PyJWK(one)
            except PyJWTError:
                continue
    return keys


async def _published_keys(http: httpx.AsyncClient, agent: str, place: str, body: Json) -> dict[str | None, Any]:
    """Keys at an address the signature names, if that is the agent's own host: another's would prove nothing."""
    import base64

    keys: dict[str | None, Any] = {}
    for signature in body["signatures"][:4] if isinstance(body["signatures"], list) else []:
        try:
            protected = str(signature["protected"])
            jku = json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4))).get("jku")
            if isinstance(jku, str) and place_of(jku) == place_of(place):
                response = await web.get(http, jku, f"the keys of agent {agent}", largest=LARGEST, total_s=10.0)
                keys |= _keys_of_set(web.json_of(response, f"the keys of agent {agent}"))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, Refusal):
            continue
    return keys
