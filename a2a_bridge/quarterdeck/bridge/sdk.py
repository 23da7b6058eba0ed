"""The A2A SDK, imported once, in a thread, by whoever needs it first: that takes a second, and its modules need each
other, so two threads that import parts of it at once can see a module that is only half there."""

from __future__ import annotations

import asyncio
import threading
from importlib import import_module

PARTS = ("a2a.client.client_factory", "a2a.client.card_resolver", "a2a.utils.signing", "google.protobuf.json_format")

_once = threading.Lock()
_there = False


def _load() -> None:
    global _there
    with _once:
        if not _there:
            for part in PARTS:
                import_module(part)
        _there = True


async def loaded() -> None:
    if not _there:
        await asyncio.to_thread(_load)
