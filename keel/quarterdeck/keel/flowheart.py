"""Keeps this process known as alive, sees what others did to its flows, and takes over the flows of the dead."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowowners import LEFT, Other, born, this_host
from quarterdeck.keel.flows import FLOWS

if TYPE_CHECKING:
    from quarterdeck.keel.flowengine import Engine

FORGET_EVERY_S = 3600.0
LOOK_S = 1.0
"""How soon it is seen what another process did to a flow that runs here."""

log = logging.getLogger(__name__)


class Heart:
    def __init__(self, engine: Engine, beat_s: float, dead_s: float, adopt: bool = True) -> None:
        self._adopt = adopt
        self._engine = engine
        self._beat_s, self._dead_s = beat_s, dead_s
        self._beaten = _clock()
        self._heard: dict[str, tuple[int | None, int]] = {}

    async def start(self) -> None:
        await self._send(0)

    async def _send(self, beats: int) -> None:
        sent = _clock()
        owner = self._engine.executor, this_host(), os.getpid(), born(os.getpid())
        await self._engine.in_db(self._engine.owners.beat, *owner, beats)
        self._beaten = sent

    def fresh(self) -> bool:
        """Whether our last heartbeat is so young that nobody can have taken our flows."""
        return _clock() - self._beaten < self._dead_s / 2

    async def beat(self) -> None:
        beats = 0
        while True:
            try:
                beats += 1
                await self._send(beats)
                await self._look_after()
                if beats % max(1, round(FORGET_EVERY_S / self._beat_s)) == 1:
                    await self._forget()
            except SQLAlchemyError as error:
                log.warning("%s", self._engine.database.unusable(error))
            except Refusal as error:
                log.warning("%s", error)
            except Exception:
                log.exception("heartbeat")
            await asyncio.sleep(self._beat_s)

    async def _look_after(self) -> None:
        """Take the flows of the dead. Not time counts but rounds of ours: who is silent for all of them is dead."""
        names = list(FLOWS)
        rounds = max(2, round(self._dead_s / self._beat_s))
        others = await self._engine.in_db(self._engine.owners.others, self._engine.executor, names)
        heard, self._heard = self._heard, {}
        for other in others if self._adopt else ():
            beats, silent = heard.get(other.id, (other.beats, -1))
            silent = silent + 1 if beats == other.beats else 0
            self._heard[other.id] = (other.beats, silent)
            if other.gone or silent >= rounds:
                await self._take_over(other, names)
        # Ours by the book, but not running: its database could not be written when it stopped.
        for id in await self._engine.in_db(self._engine.owners.orphans, self._engine.executor, names):
            await self._engine.take_up(id, ("PENDING",))
        for id in list(self._engine.unrecorded):  # DBOS may have taken the database's error for the flow's
            await self._engine.take_up(id, ("PENDING", "ERROR"))
            self._engine.unrecorded.discard(id)

    async def _forget(self) -> None:
        """What ended long ago is deleted: a database that only grows is full one day."""
        while old := await self._engine.in_db(self._engine.owners.old, self._engine.keep_s):
            if not await self._engine.forget(old):
                break

    async def _take_over(self, other: Other, names: list[str]) -> None:
        room = self._engine.room()
        if room <= 0:
            return
        token = secrets.token_hex(16)
        taken = await self._engine.in_db(self._engine.owners.take, self._engine.executor, token, other, names)
        if taken:
            how = "left" if other.beats == LEFT else "died"
            log.warning("%s %s; %d of its flows go on here", other.id, how, len(taken))
        for id in taken:
            await self._engine.go_on(id, token)

    async def attend(self) -> None:
        """See what other processes did to the flows that run here: answered, cancelled, taken."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                mine = {id: local.run for id, local in self._engine.running.items() if local.run}
                if not mine:
                    continue
                owners = await self._engine.in_db(self._engine.owners.owners, list(mine))
                for id, run in mine.items():
                    if id in owners and owners[id][0] in ("PENDING", "CANCELLED") and owners[id][1] != run.owner:
                        if (local := self._engine.running.get(id)) and local.run is run and not local.stopped:
                            what = "cancelled" if owners[id][0] == "CANCELLED" else "taken over"
                            log.warning("flow %s was %s by another process and stops here", id, what)
                            self._engine.stop_here(id)
                asked = {question: id for id, run in mine.items() for question in run.asking}
                for question in await self._engine.in_db(self._engine.records.answers, list(asked)) if asked else ():
                    self._engine.answered(asked[question], question)
            except SQLAlchemyError as error:
                log.warning("%s", self._engine.database.unusable(error))
                if _clock() - self._beaten > self._dead_s:  # others may have them by now, and nobody can tell us
                    for id in list(self._engine.running):
                        self._engine.stop_here(id)
            except Exception:
                log.exception("looking after running flows")


def _clock() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
