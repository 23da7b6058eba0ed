"""An agent: who it is (the card) and what it does (the flow)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    Message,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from google.protobuf.json_format import MessageToDict

from quarterdeck.keel.errors import Refusal

LONGEST_TEXT = 100_000


@dataclass(frozen=True)
class Skill:
    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agent:
    name: str
    """Also its path: `/NAME`."""
    title: str
    description: str
    version: str
    skills: tuple[Skill, ...]
    flow: str
    """The name of the flow that does the work. It gets `{"message", "context", "caller", "scopes", **read(message)}`
    and returns `{"text"?, "artifacts"?: [{"name", "text" | "data", "media_type"?}], …}`."""
    read: Callable[[Message], dict[str, Any]] = lambda message: {}
    """What the flow is told of a message; raises Refusal when that is not something this agent can do."""
    output_modes: tuple[str, ...] = ("text/markdown", "application/json")
    extended: tuple[Skill, ...] = field(default=())
    """Skills that only authenticated callers are told of."""
    durable: bool = True
    """False: its tasks live only as long as the process, for work that whoever asked for it asks for again."""


def text_of(message: Message) -> str:
    """All the text of a message, bounded."""
    text = "\n".join(part.text for part in message.parts if part.HasField("text"))
    text = text.replace("\0", "").strip()  # some databases cannot store it
    if len(text) > LONGEST_TEXT:
        raise Refusal(f"The message is longer than {LONGEST_TEXT} characters. Send less.")
    return text


def data_of(message: Message) -> dict[str, Any]:
    """The data parts of a message, merged; later ones win."""
    found: dict[str, Any] = {}
    for part in message.parts:
        if part.HasField("data"):
            value = MessageToDict(part.data)
            if isinstance(value, dict):
                found |= value
    return found


def card(agent: Agent, url: str, *, bearer: bool) -> AgentCard:
    """The card as everybody may read it."""
    made = AgentCard(
        name=agent.title,
        description=agent.description,
        version=agent.version,
        supported_interfaces=[
            AgentInterface(url=f"{url}/", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=url, protocol_binding="HTTP+JSON", protocol_version="1.0"),
            AgentInterface(url=f"{url}/", protocol_binding="JSONRPC", protocol_version="0.3"),
            AgentInterface(url=url, protocol_binding="HTTP+JSON", protocol_version="0.3"),
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain", "application/json"],
        default_output_modes=list(agent.output_modes),
        skills=[_skill(skill) for skill in agent.skills],
    )
    if bearer:
        scheme = HTTPAuthSecurityScheme(scheme="Bearer", description="a token of `quarterdeck token`, or a JWT")
        made.security_schemes["bearer"].CopyFrom(SecurityScheme(http_auth_security_scheme=scheme))
        made.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    return made


def extended_card(agent: Agent, public: AgentCard) -> AgentCard:
    made = AgentCard()
    made.CopyFrom(public)
    made.skills.extend(_skill(skill) for skill in agent.extended)
    return made


def _skill(skill: Skill) -> AgentSkill:
    return AgentSkill(
        id=skill.id,
        name=skill.name,
        description=skill.description,
        tags=list(skill.tags),
        examples=list(skill.examples),
    )
