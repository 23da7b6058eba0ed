"""The A2A SDK, imported once, in a thread, by whoever needs it first: that takes a second, and its modules need each
other, so two threads that import parts of it at once can see a module that is only half there."""

from __future__ import annotations

import asyncio
import gc
import threading
from importlib import import_module

PARTS = ("a2a.client.client_factory", "a2a.client.card_resolver", "a2a.utils.signing", "google.protobuf.json_format")

AS_PYTHON_SETS_IT = (700, 10, 10)

_once = threading.Lock()
_there = False


def _load() -> None:
    global _there
    with _once:
        if not _there:
            for part in PARTS:
                import_module(part)
            _settle()
        _there = True


def _settle() -> None:
    """What was imported stays. Looking through all of it again for garbage takes a tenth of a second each time, and
    looking for young garbage after every 700 objects falls into every other call."""
    gc.freeze()
    if gc.get_threshold() == AS_PYTHON_SETS_IT:
        gc.set_threshold(10_000, *AS_PYTHON_SETS_IT[1:])


async def loaded() -> None:
    if not _there:
        await asyncio.to_thread(_load)
