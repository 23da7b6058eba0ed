"""Ends and questions that come without words: the words may follow, or stand in the task itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from quarterdeck.bridge.followed import Followed
from quarterdeck.bridge.messages import STATES
from quarterdeck.keel.errors import Refusal

Json = dict[str, Any]
Stream = AsyncGenerator[tuple[str, Json]]

AFTER_END_S = 1.0
ASKED_S = 5.0


async def complete(followed: Followed, events: Stream) -> Stream:
    """The events, but an end or a question that comes without words is held back a moment: some agents tell the
    words after it, others only in the task itself."""
    held: tuple[str, Json] | None = None
    ended = False
    try:
        while not ended:
            try:
                async with asyncio.timeout(None if held is None else AFTER_END_S):
                    heard = await anext(events)
            except (StopAsyncIteration, TimeoutError):
                ended = True
                continue
            except Refusal:
                if held is None:
                    raise
                ended = True
                continue
            if held is None and _is_bare(heard[1], followed.artifacts):
                held = heard
                continue
            held = None if "task" in heard[1] else held
            yield heard
    finally:
        await events.aclose()
    if held is not None:
        body = held[1].get("statusUpdate", {})
        if body.get("taskId"):
            with suppress(Refusal, TimeoutError):
                async with asyncio.timeout(ASKED_S):
                    held = held[0], {"task": await followed.line.get(held[0], body["taskId"])}
        yield held


def _is_bare(event: Json, artifacts: list[Json]) -> bool:
    status = event.get("statusUpdate", {}).get("status", {})
    state = STATES.get(status.get("state", ""))
    return "message" not in status and (state == "input_required" or (state == "completed" and not artifacts))
