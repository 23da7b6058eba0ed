"""One way to call other HTTP APIs: time-outs, retries of reads with Retry-After, a cap on size, errors as sentences."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic_core import from_json

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

TRIES = 3
AGAIN = frozenset({429, 502, 503, 504})
FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
LARGEST = 16 * 1024 * 1024


def client(timeout_s: float, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client for addresses from settings. It follows no redirects: a token goes to the host it was given for."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        headers=dict(headers or {}),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
    )


async def get(
    http: httpx.AsyncClient, url: str, what: str, *, params: Any = None, largest: int = LARGEST, total_s: float = 30.0
) -> httpx.Response:
    """GET with retries. Returns any answer below 500 that is not 429; raises Refusal naming `what` otherwise."""
    return await _asked(http, "GET", url, what, {"params": params}, largest, total_s)


async def post(
    http: httpx.AsyncClient, url: str, what: str, body: Any, *, largest: int = LARGEST, total_s: float = 30.0
) -> httpx.Response:
    """The same for a POST that only asks something, such as a search: it is sent again where that may help."""
    return await _asked(http, "POST", url, what, {"json": body}, largest, total_s)


async def _asked(
    http: httpx.AsyncClient, method: str, url: str, what: str, more: dict[str, Any], largest: int, total_s: float
) -> httpx.Response:
    problem = ""
    try:
        place = _place(httpx.URL(url))
    except httpx.InvalidURL as error:
        raise Refusal(f"The address of {what} is not one: {redact(str(error))}. Mend it in the settings.") from None
    try:
        async with asyncio.timeout(total_s):
            for attempt in range(TRIES):
                try:
                    response = await _read(http, method, url, more, largest)
                except httpx.TimeoutException:
                    problem = "did not answer in time"
                except httpx.ConnectError:
                    problem = "refused the connection"
                except httpx.HTTPError as error:
                    problem = f"broke off ({type(error).__name__})"
                else:
                    if response.status_code not in AGAIN and response.status_code < 500:
                        return response
                    problem = f"answered {response.status_code}"
                    if response.status_code not in AGAIN:
                        break
                    wait = _retry_after(response)
                    if wait > LONGEST_WAIT:
                        problem += f" and asks to wait {wait:.0f} s"
                        break
                    if attempt + 1 < TRIES:
                        await asyncio.sleep(wait)
                if attempt + 1 < TRIES:
                    await asyncio.sleep(FIRST_WAIT * 2**attempt * (1 + random.random()))
    except TimeoutError:
        problem = f"did not answer within {total_s:.0f} s"
    raise Refusal(f"{what} at {place} {problem}. Is it running, and is the address right?")


async def _read(http: httpx.AsyncClient, method: str, url: str, more: dict[str, Any], largest: int) -> httpx.Response:
    # Decoded here and not by httpx, which unpacks a whole chunk at once: a packed one may hold gigabytes.
    async with http.stream(method, url, headers={"accept-encoding": "gzip"}, **more) as response:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
            raise Refusal(
                f"{_place(response.url)} answered in the encoding {encoding[:40]!r}, which was not asked for."
            )
        unpack = None if encoding in ("identity", "") else zlib.decompressobj(wbits=47)
        body = bytearray()
        async for chunk in response.aiter_raw():
            try:
                body += chunk if unpack is None else unpack.decompress(chunk, largest + 1 - len(body))
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from None
            if len(body) > largest:
                raise Refusal(f"The answer of {_place(response.url)} is larger than {_size(largest)}. Ask for less.")
        if unpack is not None and not unpack.eof and body:
            raise httpx.DecodingError("the packed answer ends early")
        # The body is decoded by now, so these would be untrue.
        spent = (b"content-encoding", b"content-length", b"transfer-encoding")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in spent]
        return httpx.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count} bytes"


def _place(url: httpx.URL) -> str:
    return redact(str(url.copy_with(query=None, userinfo=b"")))


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def json_of(response: httpx.Response, what: str) -> Any:
    """The JSON body, or a Refusal that shows the beginning of what came instead."""
    try:
        return from_json(response.content)
    except ValueError:
        start = clip(redact(plain(response.text[:200])).replace("\n", " "), 120)
        raise Refusal(f"{what} answered {response.status_code} with something that is not JSON: {start!r}.") from None
