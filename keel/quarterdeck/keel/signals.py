"""Being told to stop: SIGTERM, as supervisors send it, is answered like Ctrl-C, so that nothing is left behind."""

from __future__ import annotations

import signal
import sys
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
_told = False


def end_like_ctrl_c() -> None:
    signal.signal(signal.SIGTERM, _end)


def exit_code() -> int:
    """What a process says that was interrupted: 143 after SIGTERM, 130 after Ctrl-C."""
    return TERMINATED if _told else 128 + signal.SIGINT


def _end(_: int, frame: FrameType | None) -> None:
    global _told
    _told = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait for the cleaning up
    interrupt = signal.getsignal(signal.SIGINT)  # asyncio puts its own in place while it runs
    if callable(interrupt):
        interrupt(signal.SIGINT, frame)
        return
    # A process in a script's background ignores Ctrl-C, so asyncio has no handler: between tasks it ends as cleanly.
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio is not None else None
    if loop is None:
        raise KeyboardInterrupt
    loop.call_soon_threadsafe(_interrupt)


def _interrupt() -> None:
    raise KeyboardInterrupt
