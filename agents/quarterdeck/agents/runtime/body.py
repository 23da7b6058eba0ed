"""What came as a request's body: the whole of it, in time, and JSON that everybody behind may take apart.

Parsing one small message is quick, but two megabytes of tiny parts would hold the process for ten seconds.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.types import Message, Receive

from quarterdeck.keel.errors import Refusal

LARGEST = 2 * 1024 * 1024
READ_S = 30.0
MOST_VALUES, DEEPEST = 10_000, 100


async def read(receive: Receive) -> bytes:
    """The whole body, or a Refusal when it is larger than anybody needs, or slower."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":  # they hung up
                    return bytes(body)
                body += message.get("body") or b""
                if len(body) > LARGEST:
                    raise Refusal(f"The request is larger than {LARGEST >> 20} MB. Send less.")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(f"The request did not arrive within {READ_S:g} s. Send it faster.") from None


def again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever else comes: that the caller hung up, for one."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def check(body: bytes) -> None:
    """Refuse what is no JSON, and JSON that is too much or too deep to take apart."""
    try:
        left = [(json.loads(body.decode(), parse_constant=_no_number), 1)]
    except RecursionError:
        raise Refusal("The request is nested too deeply. Send a flatter one.") from None
    except ValueError:  # no UTF-8, no JSON, or a number of thousands of digits
        raise Refusal("The request is no JSON. Send one JSON object in UTF-8.") from None
    seen = 0
    while left:
        value, depth = left.pop()
        inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        seen += len(inner)
        if depth > DEEPEST or seen > MOST_VALUES:
            raise Refusal(f"The request holds more than {MOST_VALUES} values, or {DEEPEST} levels. Send less.")
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            _no_number("1e999")
        if isinstance(value, str) and not value.isascii():
            _check_text(value)
        left.extend((one, depth + 1) for one in inner)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal("The request holds half a character (a lone surrogate). Send whole ones.") from None


def _no_number(name: str) -> NoReturn:
    raise Refusal(f"The request holds {name[:9]}, which is no JSON number. Leave it out, or send null.")


def refused(problem: str, *, rpc: bool) -> dict[str, Any]:
    """What to answer, in JSON-RPC's way or in the REST face's."""
    if rpc:
        return {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": problem}}
    return {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": problem}}
