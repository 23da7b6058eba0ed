"""What an agent may answer over HTTP: JSON or an event stream, of a bounded size, in a bounded time, no redirect."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx

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
        try:
            streaming = self._check(response)
        except Refusal:
            await response.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        until = None if streaming else time.monotonic() + self._body_s
        response.stream = _Bounded(response.stream, self._name, self._largest, until)
        return response

    def _check(self, response: httpx.Response) -> bool:
        """Whether it is an event stream; raises Refusal for what no agent answers."""
        status = response.status_code
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if 300 <= status < 400 and status != 304:
            where = clip(redact(one_line(response.headers.get("location", "elsewhere"))), 120)
            raise BadAnswer(
                f"{self._name} redirects to {where}. Redirects are not followed: name the agent's own address."
            )
        if status in (401, 403):
            raise BadAnswer(
                f"{self._name} answered {status}: it wants other credentials. They stand in the settings file under "
                f"[bridge.credentials]; never ask for them in the chat."
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
