"""Following tasks: one listener a task reads the agent's stream, remembers what happened and wakes whoever waits.

The listener belongs to the bridge and not to a tool call, so a call that is cut off or gives up loses nothing. Where a
stream breaks, or another process began the task, the agent is asked how it stands, and its stream is taken up again.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quarterdeck.bridge import artifacts as made
from quarterdeck.bridge.endings import complete
from quarterdeck.bridge.followed import Followed
from quarterdeck.bridge.messages import STATES, question_of, text_of, with_words
from quarterdeck.bridge.push import push_config, push_token
from quarterdeck.bridge.tasks import Memory, Record, is_gone
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import BridgeSettings

if TYPE_CHECKING:
    from quarterdeck.bridge.client import Line

Json = dict[str, Any]
Report = Callable[[str], Awaitable[None]]

log = logging.getLogger(__name__)

AT_ONCE = 128
"""Streams that are read at once; further tasks wait for their turn."""
MOST_EVENTS = 10_000
MOST_ARTIFACTS = 100
SAVE_EVERY_S = 0.5
FIRST_POLL_S, LAST_POLL_S = 0.05, 5.0
FIRST_SIGN_IN_S = 0.5
SETTLE_S = 10.0
"""An answer may take so long to show at the agent, and a message to show in its list."""
GIVE_WAY_S = 0.005
"""Whoever waits is answered first; only then what is left of the stream is read."""
FAILED = "TASK_STATE_FAILED"
SILENT = "Its stream ended before the task did. It is asked how the task stands, and says no more."


class Follower:
    def __init__(self, settings: BridgeSettings, memory: Memory) -> None:
        self._settings, self._memory = settings, memory
        self._followed: dict[str, Followed] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    @property
    def full(self) -> bool:
        """Whether a message would have to wait for its turn."""
        return self._gate.locked()

    async def close(self) -> None:
        for one in self._followed.values():
            if one.later is not None:
                one.later.cancel()
        running = [task for one in self._followed.values() for task in (one.listener, one.flush) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._followed.clear()

    # Sending

    def begin(self, record: Record, line: Line, message: Json) -> None:
        """Send the message that begins a task, and listen."""
        self._listen(self._take(record, line), message)

    async def reply(self, record: Record, line: Line, message: Json, question: str, kind: str) -> None:
        """Send an answer into a task, once, and listen. Returns when the agent has it."""
        followed = self._take(record, line)
        await self._memory.begin_message(message["messageId"], record.id, question, kind, SETTLE_S)
        if followed.listener is not None:
            followed.listener.cancel()
            await asyncio.gather(followed.listener, return_exceptions=True)
        before = (followed.record.state, followed.record.question)
        followed.record.state, followed.record.question, followed.record.said = "working", "", ""
        followed.answered[question], followed.replied = time.time(), message["messageId"]
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listen(followed, message, arrived)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await asyncio.shield(arrived)
        except TimeoutError:
            raise Refusal(
                f"{record.agent} did not confirm the answer within {self._settings.timeout_s:g} s. It is not sent "
                f"again; wait_for_task {record.id} says how it goes on."
            ) from None
        except Refusal:
            followed.answered.pop(question, None)
            if not followed.record.over:
                followed.record.state, followed.record.question = before
            raise

    def _take(self, record: Record, line: Line) -> Followed:
        followed = self._followed.get(record.id)
        if followed is None:
            self._forget_some()
            followed = self._followed[record.id] = Followed(record, line)
        return followed

    def _forget_some(self) -> None:
        """Tasks that rest and that nobody waits for need no place here: memory has them."""
        if len(self._followed) > 1000:
            for id, one in list(self._followed.items()):
                if not one.listening and not one.waiters:
                    del self._followed[id]

    def _listen(self, followed: Followed, message: Json | None, arrived: asyncio.Future[None] | None = None) -> None:
        followed.listener = asyncio.create_task(self._run(followed, message, arrived))

    # Listening

    async def _run(self, followed: Followed, message: Json | None, arrived: asyncio.Future[None] | None) -> None:
        record = followed.record
        try:
            async with asyncio.timeout(self._settings.longest_s):
                if message is not None:
                    async with self._gate:
                        if record.state == "queued":
                            with suppress(Refusal):  # what is wrong with the agent, sending says
                                await followed.line.card()
                            record.state = "sending"
                            await self._memory.save(record)
                        await self._send(followed, message, arrived)
                await self._keep_up(followed)
        except TimeoutError:
            pass  # the task goes on at the agent; the next question about it listens again
        except Refusal as error:
            await self._end(followed, "failed", str(error))
        except Exception as error:
            log.exception("listening to %s broke off", record.id)
            await self._end(followed, "failed", f"Listening broke off ({type(error).__name__}).")
        finally:
            if arrived is not None and not arrived.done():
                arrived.set_result(None)
            if followed.listener is asyncio.current_task():
                followed.listener = None  # it holds on to the call that began it, with all of its session
            followed.wake()

    async def _send(self, followed: Followed, message: Json, arrived: asyncio.Future[None] | None) -> None:
        from quarterdeck.bridge.client import Lost, NotSent, Unknown
        from quarterdeck.bridge.limits import BadAnswer

        record, id = followed.record, message["messageId"]
        first = not record.remote
        try:
            push = push_config(self._settings.push_url, record)
            async for place, event in complete(
                followed, followed.line.send(message, "" if first else record.place, push)
            ):
                record.place = place
                await self._apply(followed, event)
                if arrived is not None and not arrived.done():
                    await self._memory.end_message(id, sent=True)
                    arrived.set_result(None)
                if record.resting and followed.waiters:
                    await asyncio.sleep(GIVE_WAY_S)
        except (NotSent, BadAnswer, Unknown) as error:
            if first and not record.remote:
                sent = "" if isinstance(error, NotSent) else " Whether it began something is for the agent to say."
                await self._end(followed, "failed", f"{error} Nothing was sent." if not sent else f"{error}{sent}")
            elif arrived is not None and not arrived.done():
                if isinstance(error, NotSent):
                    await self._memory.end_message(id, sent=False)
                record.state, followed.quiet = "input_required", True
                arrived.set_exception(Refusal(str(error)))
            else:
                raise Refusal(str(error)) from None
        except Lost as error:
            log.info("%s: %s", record.id, error)

    async def _keep_up(self, followed: Followed) -> None:
        """Until the task rests: take its stream up again, or ask how it stands, ever less often."""
        from quarterdeck.bridge.client import Lost, NotSent, Unknown

        record, pause, streams = followed.record, FIRST_POLL_S, True
        while not record.resting:
            if not record.remote and not await self._search(followed):
                return
            heard = record.heard
            try:
                if not followed.quiet:
                    await self._apply(followed, {"task": await followed.line.get(record.place, record.remote)})
                if record.resting:
                    return
                if not streams and not record.said:
                    record.said = SILENT
                if streams:
                    streams = await self._take_up(followed)
            except Unknown:
                await self._end(
                    followed, "failed", f"{record.agent} does not know this task any more; it may have been restarted."
                )
                return
            except (Lost, NotSent):
                pass
            followed.quiet = False
            if record.resting:
                return
            followed.poked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await followed.poked.wait()
            pause = FIRST_POLL_S if record.heard != heard and pause < 1 else min(pause * 2, LAST_POLL_S)

    async def _take_up(self, followed: Followed) -> bool:
        """Read the stream of a task that runs already; False where it has none, or is over just now."""
        from quarterdeck.bridge.limits import BadAnswer

        record = followed.record
        try:
            async for _, event in complete(followed, followed.line.subscribe(record.place, record.remote)):
                await self._apply(followed, event)
        except BadAnswer:
            return False
        return True

    async def _search(self, followed: Followed) -> bool:
        """A message was sent and no word came back: look whether the agent has a task of it. Never send it again."""
        record, pause = followed.record, 0.2
        until = record.created + SETTLE_S  # another process may be sending it at this moment
        while True:
            if await self._find(followed):
                return True
            if time.time() > until:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, 3.0)
        await self._end(
            followed,
            "unknown",
            f"It is not known whether {record.agent} got this, and it was not sent again. Ask the person before you "
            "delegate it anew: it might then be done twice.",
        )
        return False

    async def _find(self, followed: Followed) -> bool:
        """Whether an instance of the agent lists a task that our message began."""
        record, all_places = followed.record, list(followed.line.agent.places)
        for place in [record.place] if record.place in all_places else all_places:
            with suppress(Refusal):
                found = await followed.line.search(place, record.message)
                if found is not None:
                    record.place = place
                    await self._apply(followed, {"task": found})
                    return True
        return False

    async def refresh(self, record: Record, line: Line) -> Record:
        """How a task stands, as far as can be found out now; starts to listen where nobody does."""
        followed = self._take(record, line)
        if followed.listening:
            return followed.record
        followed.record, followed.artifacts = record, []  # another process may have gone on with it
        if record.over and record.state != "unknown":
            return record
        followed.artifacts = await self._memory.artifacts(record.id)
        followed.answered = await self._memory.answered(record.id)
        if record.resting and record.remote:
            with suppress(Refusal):
                await self._apply(followed, {"task": await line.get(record.place, record.remote)})
        if record.state == "unknown" and not record.remote:
            with suppress(Refusal):  # perhaps it shows by now
                await self._find(followed)
        if record.state == "queued":
            if is_gone(record):
                await self._end(followed, "failed", "It was never sent: the bridge was stopped before its turn came.")
        elif not followed.record.resting:
            self._listen(followed, None)
        return followed.record

    async def signed_in(self, record: Record, line: Line, seconds: float) -> Record:
        """Wait until a person has signed in and the task goes on; an agent that waits for that sends nothing."""
        pause = FIRST_SIGN_IN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while record.state == "auth_required":
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, LAST_POLL_S)
                    record = await self.refresh(record, line)
        return record

    def poke(self, id: str, token: str) -> bool:
        """An agent says that a task went on. It is not believed, only asked how it stands."""
        followed = self._followed.get(id)
        if followed is None or not hmac.compare_digest(push_token(followed.record), token):
            return False
        followed.poked.set()
        if not followed.listening and followed.record.state == "auth_required":
            followed.record.state, followed.quiet = "working", False
            self._listen(followed, None)
        return True

    def _known(self, record: Record) -> Followed | None:
        """The task as it is followed here; None where another process brought it to its end."""
        followed = self._followed.get(record.id)
        if followed is not None and record.over and not followed.record.over and not followed.listening:
            return None
        return followed

    async def artifacts(self, record: Record) -> list[Json]:
        """What the task made so far."""
        followed = self._known(record)
        if followed is not None and followed.artifacts:
            return followed.artifacts
        return await self._memory.artifacts(record.id)

    async def cancel(self, record: Record, line: Line) -> None:
        """Ask the agent to stop it, and remember what it says to that."""
        followed = self._take(record, line)
        answer = await line.cancel(record.place, record.remote)
        await self._apply(followed, {"task": answer})

    async def wait(
        self, record: Record, seconds: float, report: Report | None = None, *, from_start: bool = False
    ) -> Record:
        """Until the task rests or the time is up. Each of the agent's words is reported as it comes."""
        followed = self._known(record)
        if followed is None:
            return record
        woken = asyncio.Event()
        followed.waiters.add(woken)
        until = time.monotonic() + seconds
        told = 0 if from_start else followed.told
        try:
            while True:
                woken.clear()
                # When it rests, the answer itself says all of it.
                rests = followed.record.resting and not followed.saving
                news = [] if followed.record.resting else [one for one in followed.news if one[0] > told]
                for number, words in news:
                    told = number
                    if report is not None:
                        with suppress(Exception):  # progress that nobody hears is no reason to stop
                            await report(words)
                if rests or not followed.listening or time.monotonic() >= until:
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        await woken.wait()
        finally:
            followed.waiters.discard(woken)
        return followed.record

    # What is heard

    async def _apply(self, followed: Followed, event: Json) -> None:
        record = followed.record
        kind, body = next(((key, value) for key, value in event.items() if isinstance(value, dict)), ("", {}))
        followed.told += 1
        if followed.told > MOST_EVENTS:
            raise Refusal(f"{record.agent} sent more than {MOST_EVENTS} events and is not listened to any longer.")
        if kind == "message":
            record.context = str(body.get("contextId", record.context))[:200]
            record.state, record.said = "completed", text_of(body)
            self._replace_artifacts(followed, [made.reply(body)])
            await self._save(followed, now=True)
            return
        remote = str(body.get("id" if kind == "task" else "taskId", ""))
        record.context = str(body.get("contextId", ""))[:200] if not record.context else record.context
        new = not record.remote
        if not await self._is_ours(followed, remote, body if kind == "task" else {}):
            status = body.get("status", {})
            if record.remote and body.get("contextId") == record.context and status.get("state") == FAILED:
                # The JavaScript SDK of 0.3 tells of an executor that broke under an id that it makes up.
                await self._end(followed, "failed", text_of(status.get("message")) or f"{record.agent} broke down.")
                return
            raise Refusal(f"{record.agent} answered about another task than ours, and is not listened to.")
        if new:
            followed.saved_at, followed.saved_state = time.monotonic(), (remote, "submitted")
        record.heard, followed.quiet = time.time(), True
        if kind == "artifactUpdate":
            self._add_artifact(followed, body)
        elif kind == "task":
            self._replace_artifacts(followed, body.get("artifacts", []))
        if "status" in body:
            self._new_status(followed, with_words({**body, "artifacts": followed.artifacts}))
        await self._save(followed, now=False)
        if record.resting or (followed.news and followed.news[-1][0] == followed.told):  # there is something to tell
            followed.wake()

    async def _is_ours(self, followed: Followed, remote: str, task: Json) -> bool:
        record = followed.record
        if not remote or len(remote) > 200:
            return False
        if record.remote == remote:
            return True
        if record.remote:  # some begin a new task with each answer of ours: it shows the message that we sent
            shown = {entry.get("messageId") for entry in task.get("history", [])}
            if followed.replied not in shown or task.get("contextId") != record.context:
                return False
        if not await self._memory.claim(record, remote):
            return False
        record.remote = remote
        return True

    def _new_status(self, followed: Followed, status: Json) -> None:
        record = followed.record
        if record.over and record.state != "unknown":
            return
        record.state = STATES.get(str(status.get("state")), record.state if record.state != "sending" else "submitted")
        record.said = "" if record.said == SILENT else record.said
        words = text_of(status.get("message"))
        if words and words != record.said:
            record.said = words
            followed.news.append((followed.told, words))
        record.question = ""
        if record.state == "completed" and words and not followed.artifacts:
            self._replace_artifacts(followed, [made.reply(status["message"])])
        if record.state in ("input_required", "auth_required"):
            question = question_of(status)
            if time.time() - followed.answered.get(question.id, 0.0) < SETTLE_S:
                record.state = "working"
            else:
                record.question = question.stored()

    def _add_artifact(self, followed: Followed, update: Json) -> None:
        artifact = update.get("artifact") or {}
        self._count(followed, artifact)
        followed.changed = True
        if made.add(followed.artifacts, update):
            followed.news.append((followed.told, f"made {str(artifact.get('name') or 'an artifact')[:80]}"))

    def _replace_artifacts(self, followed: Followed, artifacts: list[Json]) -> None:
        if artifacts:  # else what came in streams stays
            followed.size = 0
            for artifact in artifacts:
                self._count(followed, artifact)
            followed.artifacts, followed.changed = made.grown(followed.artifacts, artifacts[:MOST_ARTIFACTS]), True

    def _count(self, followed: Followed, artifact: Json) -> None:
        followed.size += made.size_of(artifact)
        if followed.size > self._settings.largest_mb << 20 or len(followed.artifacts) >= MOST_ARTIFACTS:
            raise Refusal(
                f"{followed.record.agent} made more than {self._settings.largest_mb} MB or {MOST_ARTIFACTS} artifacts, "
                "and is not listened to any longer."
            )

    async def _save(self, followed: Followed, *, now: bool) -> None:
        """A new state at once, mere words a little later: some agents say much."""
        record = followed.record
        standing = (record.remote, record.state)
        due = standing != followed.saved_state or time.monotonic() - followed.saved_at > SAVE_EVERY_S
        if now or due or record.resting:
            followed.saved_at, followed.saved_state = time.monotonic(), standing
            artifacts, followed.changed = followed.artifacts if followed.changed else None, False
            followed.saving += 1
            try:
                await self._memory.save(record, artifacts)
            finally:
                followed.saving -= 1
        elif followed.later is None:
            followed.later = asyncio.get_running_loop().call_later(SAVE_EVERY_S, self._save_later, followed)

    def _save_later(self, followed: Followed) -> None:
        followed.later = None
        if not followed.record.resting:
            followed.flush = asyncio.create_task(self._save_quietly(followed))

    async def _save_quietly(self, followed: Followed) -> None:
        with suppress(Refusal):
            await self._save(followed, now=True)
        followed.flush = None

    async def _end(self, followed: Followed, state: str, words: str) -> None:
        record = followed.record
        if record.over and record.state != "unknown":
            return
        record.state, record.said, record.question, record.heard = state, words, "", time.time()
        with suppress(Refusal):
            await self._save(followed, now=True)
        followed.wake()
