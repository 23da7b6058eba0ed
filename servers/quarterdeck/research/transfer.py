"""One answer over HTTP, read within bounds: its size packed and unpacked, its time, its kind of packing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from quarterdeck.keel.errors import Refusal


class TooLarge(Refusal):
    """More bytes than were agreed to."""


@dataclass(frozen=True)
class Received:
    status: int
    headers: httpx.Headers
    body: bytes


async def receive(
    http: httpx.AsyncClient,
    method: str,
    url: str | httpx.URL,
    largest: int,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    json: Any = None,
) -> Received:
    """Raises httpx.HTTPError, and TooLarge for a body over `largest`: also for one that is small only while packed."""
    asked = {**(headers or {}), "accept-encoding": "gzip"}
    async with http.stream(method, url, headers=asked, params=params, json=json) as response:
        declared = response.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > largest:
            raise TooLarge(f"it is larger than {largest >> 20} MB")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
            raise httpx.DecodingError(f"the encoding {encoding[:40]!r} was not asked for")
        unpack = None if encoding in ("identity", "") else zlib.decompressobj(wbits=47)
        body = bytearray()
        raw = 0
        # Not by httpx, which unpacks a whole chunk at once: a packed one may hold gigabytes.
        async for chunk in response.aiter_raw():
            raw += len(chunk)
            try:
                body += chunk if unpack is None else unpack.decompress(chunk, largest + 1 - len(body))
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from None
            if len(body) > largest or raw > largest:
                raise TooLarge(f"it is larger than {largest >> 20} MB")
        if unpack is not None and not unpack.eof and raw:
            raise httpx.DecodingError("the packed answer ends early")
        return Received(response.status_code, response.headers, bytes(body))


def retry_after(headers: httpx.Headers) -> float | None:
    """The seconds that Retry-After asks for, in either of its two forms."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return min(float(value), 1e9)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def trouble(error: httpx.HTTPError | TimeoutError) -> str:
    """What went wrong on the way, in words."""
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached"
    if isinstance(error, httpx.DecodingError):
        return "sent an answer that cannot be unpacked"
    return f"broke off ({type(error).__name__})"
