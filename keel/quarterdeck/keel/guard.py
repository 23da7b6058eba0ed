"""A guard for addresses that somebody else chose: agents' cards, callbacks, links. They must not lead inside.

    async with guarded_client(10.0, allow=["https://agents.corp.example:8443"]) as http:
        await http.post(url, json=body)          # raises Refusal when `url` leads to a private address
    await check_url(url)                         # the same question, without a connection

The name is resolved once, every address it has is checked, and the connection goes to a checked address: a name that
resolves differently a moment later (DNS rebinding) gains nothing. Each connection is checked, so a redirect that
somebody follows is checked too. `allow` holds origins from the settings: what the administrator named may be private,
for exactly that host and port. Link-local, metadata and multicast addresses are never reached.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any

import httpcore
import httpx

from quarterdeck.keel import wire
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Place = tuple[str, int]
"""A host, as `host_of` writes it, and a port."""
Resolve = Callable[[str, int], Awaitable[list[str]]]

RESOLVE_S = 5.0
MOST_ADDRESSES = 16

# Clouds hand out credentials at these, though some of them look like ordinary addresses.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
# IPv6 addresses that carry an IPv4 address: where in their 128 bits it stands.
_CARRIERS = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),  # mapped
        ("::ffff:0:0:0/96", 0),  # translated
        ("::/96", 0),  # compatible
        ("64:ff9b::/96", 0),  # NAT64
        ("64:ff9b:1::/48", 0),
        ("2002::/16", 80),  # 6to4
    )
)
_TEREDO = ipaddress.IPv6Network("2001::/32")
# Inside, though some versions of `ipaddress` call parts of them global.
_INSIDE = tuple(ipaddress.ip_network(text) for text in ("192.0.0.0/24", "100.64.0.0/10", "fec0::/10", "fc00::/7"))
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


async def resolve(host: str, port: int) -> list[str]:
    """Every address of the host, as the operating system finds them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def host_of(url: httpx.URL) -> str:
    """The host in the one way we compare it: lower case, ASCII, without a trailing dot."""
    return url.raw_host.decode("ascii", "replace").lower().strip("[]").rstrip(".")


def place_of(address: str | httpx.URL) -> Place:
    """Host and port of an http(s) address, or a Refusal that says what is wrong with it."""
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError, ValueError):
        raise Refusal(f"{_shown(address)} is no address. Write one like https://agents.example.com.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise Refusal(f"{_shown(address)} is no http or https address. Write one like https://agents.example.com.")
    if url.userinfo:
        raise Refusal("The address holds a user or a password. Leave them out; credentials stand in the settings.")
    return host_of(url), url.port or (443 if url.scheme == "https" else 80)


def _shown(address: str | httpx.URL) -> str:
    return repr(clip(redact(one_line(str(address))), 100))


async def check_url(url: str, *, allow: Iterable[str] = (), resolver: Resolve = resolve) -> None:
    """Refuse an address that may not be called. To call it, use `guarded_client`: the answer may change meanwhile."""
    host, port = place_of(url)
    await addresses(host, port, {place_of(origin) for origin in allow}, resolver)


async def addresses(host: str, port: int, allowed: Iterable[Place], resolver: Resolve = resolve) -> list[str]:
    """The host's addresses, all of them allowed; a Refusal if one is not."""
    host = host.lower().strip("[]").rstrip(".")
    shown = clip(redact(one_line(host)), 80)
    if not host or "%" in host:  # a zone names one of our own interfaces
        raise Refusal(f"{shown!r} is no host that may be called.")
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await resolver(host, port)
    except (OSError, UnicodeError, TimeoutError):
        raise Refusal(f"The host {shown} was not found. Is its name right?") from None
    if not found:
        raise Refusal(f"The host {shown} has no address.")
    if len(found) > MOST_ADDRESSES:
        raise Refusal(f"The host {shown} has more than {MOST_ADDRESSES} addresses, which is not believed.")
    named = (host, port) in set(allowed)
    for text in found:
        if why := _refused(text, named=named):
            hint = "" if named else " If it is meant to be, an administrator names its origin in the settings."
            raise Refusal(f"{shown} port {port} leads to {why} and is not called.{hint}")
    return found


def _refused(text: str, *, named: bool) -> str:
    """Why this address is not called; empty when it may be."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return "something that is no address"
    for form in (address, *_carried(address)):
        if form in _METADATA:
            return "a metadata service"
        if form.is_link_local or form.is_multicast or form.is_unspecified or form == _BROADCAST:
            return "a link-local, multicast or unspecified address"
        inside = not form.is_global or form.is_reserved or any(form in network for network in _INSIDE)
        if inside and not named and not (form is address and _carried(address)):
            return "an address inside (private, loopback or reserved)"
    return ""


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address) or int(address) in (0, 1):  # :: and ::1 carry nothing
        return []
    if address in _TEREDO and address.teredo is not None:
        return list(address.teredo)
    return [ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF) for net, shift in _CARRIERS if address in net]


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to checked addresses only. TLS still verifies the name, which httpcore keeps to itself."""

    def __init__(self, allowed: frozenset[Place], resolver: Resolve) -> None:
        self._allowed, self._resolver = allowed, resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        problem: Exception = httpcore.ConnectError("no address")
        for address in await addresses(host, port, self._allowed, self._resolver):
            try:
                return await wire.connect(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise Refusal("Sockets in the file system are not called.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@cache
def _tls() -> ssl.SSLContext:
    """One for all: reading the certificates of the world takes a tenth of a second."""
    return httpx.create_ssl_context(trust_env=False)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, with the guard where connections are opened."""

    def __init__(
        self, *, allow: Iterable[str] = (), resolver: Resolve = resolve, connections: int = 100, keep: int = 20
    ) -> None:
        super().__init__(trust_env=False)
        # httpx offers no way to hand in the backend; a test holds that the guard really sits there.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=connections,
            max_keepalive_connections=keep,
            keepalive_expiry=30.0,
            network_backend=_GuardedBackend(frozenset(place_of(origin) for origin in allow), resolver),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        place_of(request.url)
        return await super().handle_async_request(request)


def guarded_client(
    timeout_s: float,
    *,
    allow: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    resolver: Resolve = resolve,
) -> httpx.AsyncClient:
    """A client for addresses that others chose. It follows no redirect, and no proxy resolves names in its place."""
    return httpx.AsyncClient(
        transport=GuardedTransport(allow=allow, resolver=resolver),
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        headers=dict(headers or {}),
        follow_redirects=False,
        trust_env=False,
    )
