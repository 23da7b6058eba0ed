"""The gRPC channel to an agent, under the rules of HTTP: checked address, limits, credentials to its own hosts only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quarterdeck.bridge.limits import BadAnswer
from quarterdeck.keel.guard import addresses, place_of

if TYPE_CHECKING:
    from quarterdeck.bridge.cards import Card
    from quarterdeck.bridge.client import Agent


async def channel_to(agent: Agent, card: Card, largest: int) -> Any:
    """Encrypted, unless the administrator named the agent by plain http."""
    import grpc

    url = next(one.url for one in card.proto.supported_interfaces if one.protocol_binding == "GRPC")
    plain = all(place.startswith("http://") for place in agent.places)
    bare = url.partition("://")[2] or url
    host, port = place_of(f"{'http' if plain else 'https'}://{bare}")
    allowed = {place_of(place) for place in agent.allowed}
    found = (await addresses(host, port, allowed))[0]  # the connection goes to what was checked
    target = f"ipv6:[{found}]:{port}" if ":" in found else f"ipv4:{found}:{port}"
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", largest),
        ("grpc.default_authority", f"{host}:{port}"),
        ("grpc.enable_http_proxy", 0),
    ]
    keys = _Credential(agent.credential) if agent.credential and (host, port) in allowed else None
    interceptors = [_unary(keys), _stream(keys)] if keys else []
    if plain:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    if not host:
        raise BadAnswer(f"The card of {agent.name} names no host for gRPC.")
    options.append(("grpc.ssl_target_name_override", host))
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options, interceptors=interceptors)


class _Credential:
    def __init__(self, value: str) -> None:
        self._value = value

    def on(self, details: Any) -> Any:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {self._value}")]
        return details._replace(metadata=metadata)


def _unary(keys: _Credential) -> Any:
    import grpc

    class Unary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await continuation(keys.on(client_call_details), request)

    return Unary()


def _stream(keys: _Credential) -> Any:
    import grpc

    class Stream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await continuation(keys.on(client_call_details), request)

    return Stream()
