"""Being told to stop: SIGTERM, as supervisors send it, is answered like Ctrl-C, so that nothing is left behind."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
TERMINATED = 128 + signal.SIGTERM
_told = False
_main: asyncio.Task[Any] | None = None


def end_like_ctrl_c() -> None:
    signal.signal(signal.SIGTERM, _end)


def exit_code() -> int:
    """What a process says that was interrupted: 143 after SIGTERM, 130 after Ctrl-C."""
    return TERMINATED if _told else 128 + signal.SIGINT


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` that SIGTERM ends as cleanly as Ctrl-C, also in a script's background, where that is ignored."""
    import asyncio

    async def known() -> T:
        global _main
        _main = asyncio.current_task()
        return await main

    try:
        return asyncio.run(known())
    except asyncio.CancelledError:
        if _told:
            raise KeyboardInterrupt from None
        raise


def _end(_: int, frame: FrameType | None) -> None:
    global _told
    _told = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait for the cleaning up
    interrupt = signal.getsignal(signal.SIGINT)  # asyncio puts its own in place while it runs
    if callable(interrupt):
        interrupt(signal.SIGINT, frame)
    elif _main is None or _main.done():
        raise KeyboardInterrupt
    else:  # ignored, so asyncio has put none in place: do what its own would
        _main.cancel()
        _main.get_loop().call_soon_threadsafe(lambda: None)  # wakes it
