"""Worker processes beside a coordinator on one machine: they use the cores that one Python process cannot.

They listen on sockets in a folder that only this user may enter, and end with the process that started them, however
it ends. One that dies is started anew.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from multiprocessing import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarterdeck.keel.errors import Refusal

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    from quarterdeck.keel.settings import Settings

START_S = 60.0
END_S = 5.0
GONE_S = 0.3
"""How long who was killed may still seem to live."""
LOOK_S = 0.5
NOT_STARTED = "A worker process beside this one did not start. Set companies.processes to 0 to do without."
IMPORTED, MODEL = "quarterdeck.deck.copied", "anthropic"


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(settings: Settings) -> ForkServerContext:
    """Begin to import what the workers will need, in a process of its own; more than once is as good."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([IMPORTED, MODEL] if settings.model.api_key.get_secret_value() else [IMPORTED])
    forkserver.ensure_running()
    return context


class Hands:
    """The worker processes: their sockets, and when they are ready."""

    def __init__(self, hands: list[_Hand]) -> None:
        self._hands = hands
        self.sockets = [str(hand.path) for hand in hands]
        # In a thread, since it waits for what is imported there, and there is enough to do here meanwhile.
        self._started = asyncio.create_task(asyncio.to_thread(_start, hands))
        self._watch = asyncio.create_task(self._keep())

    async def ready(self) -> None:
        try:
            await asyncio.shield(self._started)
        except (OSError, EOFError):
            raise Refusal(NOT_STARTED) from None
        await asyncio.gather(*(hand.ready() for hand in self._hands))

    async def end(self) -> None:
        self._watch.cancel()
        await asyncio.gather(self._started, self._watch, return_exceptions=True)
        for hand in self._hands:
            hand.let_go()
        await asyncio.gather(*(asyncio.to_thread(hand.end) for hand in self._hands))

    async def _keep(self) -> None:
        await asyncio.shield(self._started)
        while True:
            await asyncio.sleep(LOOK_S)
            for hand in self._hands:
                if hand.process is None or not hand.process.is_alive():
                    hand.let_go()
                    hand.path.unlink(missing_ok=True)
                    hand.start()
                    with suppress(Refusal):
                        await hand.ready()


@asynccontextmanager
async def alongside(settings: Settings, number: int) -> AsyncIterator[Hands]:
    """So many worker processes, which begin to start; what else takes its time can be done before they are `ready`."""
    from quarterdeck.agents.companies.fleet import shared

    folder = Path(tempfile.mkdtemp(prefix="qd-"))  # a socket's path must be short
    hands = Hands([_Hand(shared(settings, number, n), folder / f"{n}") for n in range(number)])
    try:
        yield hands
    finally:
        await hands.end()
        shutil.rmtree(folder, ignore_errors=True)


def _start(hands: list[_Hand]) -> None:
    for hand in hands:
        hand.start()


class _Hand:
    def __init__(self, settings: Settings, path: Path) -> None:
        self.settings, self.path = settings, path
        self.rope: Connection[Any, Any] | None = None
        self.process: ForkServerProcess | None = None

    def start(self) -> None:
        # One process imports, and the workers are copies of it: seconds less than each importing for itself.
        context = prepare(self.settings)
        self.rope, theirs = context.Pipe()
        folders = [str(self.path.parent), util.get_temp_dir()]
        process = context.Process(target=_serve, args=(self.settings, str(self.path), folders, theirs))
        process.start()
        self.process = process
        theirs.close()

    async def ready(self) -> None:
        if not await asyncio.to_thread(self._is_ready):
            raise Refusal(NOT_STARTED)

    def _is_ready(self) -> bool:
        with suppress(EOFError, OSError):
            return bool(self.rope is not None and self.rope.poll(START_S) and self.rope.recv())
        return False

    def let_go(self) -> None:
        if self.rope is not None:
            self.rope.close()  # it ends when nobody holds the other end any more

    def end(self) -> None:
        if self.process is None:
            return
        self.process.join(END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(settings: Settings, path: str, folders: list[str], rope: Connection[Any, Any]) -> None:
    """A worker process, from its beginning to its end."""
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; who started us decides
    threading.Thread(target=_end_with, args=(rope, folders), daemon=True).start()
    asyncio.run(_work(settings, path, rope))


def _end_with(rope: Connection[Any, Any], folders: list[str]) -> None:
    """Wait for the end of who started us, who may have been killed: then what lies about is ours to take away."""
    with suppress(EOFError, OSError):
        rope.recv()
    starter = multiprocessing.parent_process()
    if starter is not None:
        starter.join(GONE_S)
    if starter is None or not starter.is_alive():  # else it ends in order, and takes them away itself
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # nothing of ours is worth keeping: the coordinator remembers


async def _work(settings: Settings, path: str, rope: Connection[Any, Any]) -> None:
    import uvicorn

    from quarterdeck.agents.companies import hop
    from quarterdeck.agents.companies.cards import WORKERS
    from quarterdeck.agents.companies.fleet import BESIDE
    from quarterdeck.agents.runtime.app import create_app
    from quarterdeck.deck import crew
    from quarterdeck.keel.settings import HttpSettings

    # Only this user reaches the socket, so nobody is asked who they are.
    apart = settings.model_copy(update={"http": HttpSettings()})
    app = create_app([WORKERS[name] for name in BESIDE], apart, lambda: crew.hands(settings), hop.BESIDE)
    server = uvicorn.Server(uvicorn.Config(app, uds=path, log_config=None, access_log=False, ws="none"))
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110 (uvicorn tells nobody)
        await asyncio.sleep(0.01)
    if not serving.done():
        rope.send(True)
    await serving
