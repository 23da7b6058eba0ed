"""What an agent may answer over HTTP: JSON or an event stream, of a bounded size, in a bounded time, no redirect."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx

from quarterdeck.bridge import dialect
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact


class BadAnswer(Refusal):
    """The agent was reached, and what it answered cannot be used."""


class LimitedTransport(httpx.AsyncBaseTransport):
    """Holds every answer to the limits. It wraps the transport that opens the connections."""

    def __init__(self, inner: httpx.AsyncBaseTransport, name: str, *, largest: int, body_s: float) -> None:
        self._inner, self._name = inner, name
        self._largest, self._body_s = largest, body_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # Nothing packed: a small answer could unpack to gigabytes before anybody counts.
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        if response.status_code in (307, 308) and (slashed := _slashed(request, response)) is not None:
            await response.aclose()  # it was not taken, and is sent as it was, to the same host
            response = await self._inner.handle_async_request(slashed)
        try:
            if response.status_code == 200 and _kind(response) in ("", "text/plain"):
                await _sniff(response)
            streaming = self._check(response)
        except Refusal:
            await response.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        until = None if streaming else time.monotonic() + self._body_s
        bounded = _Bounded(response.stream, self._name, self._largest, until)
        response.stream = dialect.Mended(bounded, events=streaming) if request.method == "POST" else bounded
        return response

    def _check(self, response: httpx.Response) -> bool:
        """Whether it is an event stream; raises Refusal for what no agent answers."""
        status = response.status_code
        kind = _kind(response)
        if 300 <= status < 400 and status != 304:
            where = clip(redact(one_line(response.headers.get("location", "elsewhere"))), 120)
            raise BadAnswer(
                f"{self._name} redirects to {where}. Redirects are not followed: name the agent's own address."
            )
        if status in (401, 403):
            raise BadAnswer(
                f"{self._name} answered {status}: it wants a credential, or another one. Credentials stand in the "
                "settings file under [bridge.credentials], for agents named under [bridge.agents]; never ask for them "
                "in the chat."
            )
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise BadAnswer(
                f"{self._name} packed its answer ({clip(one_line(encoding), 40)}), which was not asked for."
            )
        if kind == "text/event-stream":
            return True
        if kind == "application/json" or kind.endswith("+json"):
            return False
        if status >= 400 or (status == 204 and not kind):
            return False
        raise BadAnswer(
            f"{self._name} answered with {clip(one_line(kind), 60) or 'no content type'} instead of JSON. "
            "Is its address that of an A2A agent?"
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


def _kind(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _slashed(request: httpx.Request, response: httpx.Response) -> httpx.Request | None:
    """The request with or without the slash at its path's end, where that is all that the redirect is about."""
    try:
        to = request.url.join(response.headers.get("location", ""))
    except (httpx.InvalidURL, ValueError):
        return None
    if to.path.rstrip("/") != request.url.path.rstrip("/") or to.path == request.url.path:
        return None
    # Scheme and host stay those of the request: a server behind a proxy names itself wrongly here.
    return httpx.Request(
        request.method,
        request.url.copy_with(path=to.path),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )


async def _sniff(response: httpx.Response) -> None:
    """Say what an answer is that came as mere text: hand-written servers forget to."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    chunks = aiter(response.stream)
    first = await anext(chunks, b"")
    begins = first.lstrip()[:6]
    if begins.startswith((b"{", b"[")):
        response.headers["content-type"] = "application/json"
    elif begins.startswith((b"data:", b"event:", b"id:", b":")):
        response.headers["content-type"] = "text/event-stream"
    response.stream = _Begun(first, chunks, response.stream)


class _Begun(httpx.AsyncByteStream):
    def __init__(self, first: bytes, rest: AsyncIterator[bytes], whole: httpx.AsyncByteStream) -> None:
        self._first, self._rest, self._whole = first, rest, whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        await self._whole.aclose()


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, name: str, largest: int, until: float | None) -> None:
        self._inner, self._name, self._largest, self._until = inner, name, largest, until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in self._inner:
            taken += len(chunk)
            if taken > self._largest:
                raise BadAnswer(f"{self._name} sent more than {_size(self._largest)}, and was cut off.")
            if self._until is not None and time.monotonic() > self._until:
                raise BadAnswer(f"{self._name} sends its answer too slowly, and was cut off.")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} KB"
