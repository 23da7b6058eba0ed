"""The line to one agent: a2a-sdk's client within our limits, over whichever of its instances answers.

What arrives is handed on as JSON, so that nothing above this file knows the SDK. Only what may be repeated is: asking
for a card, a task or a list. A message is sent once; `NotSent` means that it surely did not arrive.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx

from quarterdeck.bridge import cards, dialect
from quarterdeck.bridge.cards import Card, outside
from quarterdeck.bridge.limits import BadAnswer, LimitedTransport
from quarterdeck.bridge.sdk import loaded
from quarterdeck.bridge.tasks import Memory
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import GuardedTransport, place_of
from quarterdeck.keel.settings import BridgeSettings

T = TypeVar("T")
Json = dict[str, Any]

CARD_S = 60.0
"""A card is asked for anew after this long."""
SILENCE_S = 120.0
"""A stream that carries nothing for so long, not even a sign of life, is asked for anew."""
TRIPS_AT = 5
REST_S = 15.0
MOST_LISTED = 100


class NotSent(Refusal):
    """The message surely did not arrive."""


class Lost(Refusal):
    """The connection broke: it is not known what arrived."""


class Unknown(Refusal):
    """The agent does not know this task."""


@dataclass
class Breaker:
    """After some failures in a row an instance is left alone for a while; then one call tries it."""

    failed: int = 0
    until: float = 0.0

    @property
    def open(self) -> bool:
        return self.failed >= TRIPS_AT and time.monotonic() < self.until

    def note(self, *, well: bool) -> None:
        self.failed = 0 if well else self.failed + 1
        if self.failed >= TRIPS_AT:
            self.until = time.monotonic() + REST_S


@dataclass
class Agent:
    """One agent as the settings name it, or as a registry lists it."""

    name: str
    places: tuple[str, ...]
    credential: str = field(default="", repr=False)
    key_file: str = ""
    also: tuple[str, ...] = ()
    """Further addresses of its own: its card may point there, and its credential goes there too."""
    trusted: bool = True
    """Named by the administrator: its own hosts may be inside."""
    vouched: tuple[str, ...] = ()
    """For one that is not named: origins that an administrator allows although they are inside."""
    card: Json | None = None
    """The card itself, where a registry holds it."""
    closed: tuple[str, ...] = ()
    """For one that is not named: where agents are that only some callers may use, as `address_key` writes it."""

    @property
    def own(self) -> tuple[str, ...]:
        return tuple(one for place in (*self.places, *self.also) for one in dialect.spellings(place))

    @property
    def allowed(self) -> tuple[str, ...]:
        """What may be inside."""
        return self.own if self.trusted else self.vouched


class OwnOrigin(httpx.Auth):
    """The credential goes to the agent's own hosts, and nowhere else that its card may point to."""

    def __init__(self, agent: Agent) -> None:
        self._credential = agent.credential
        self._places = {place_of(place) for place in agent.own}
        self.header = ""

    def auth_flow(self, request: httpx.Request) -> Any:
        if self._credential and place_of(request.url) in self._places:
            if self.header:
                request.headers[self.header] = self._credential
            else:
                request.headers["authorization"] = f"Bearer {self._credential}"
        yield request


class Line:
    def __init__(self, agent: Agent, settings: BridgeSettings, memory: Memory) -> None:
        self.agent = agent
        self._settings, self._memory = settings, memory
        self._auth = OwnOrigin(agent)
        largest = settings.largest_mb << 20
        guard = GuardedTransport(allow=agent.allowed, connections=256, keep=32)
        self._http = httpx.AsyncClient(
            transport=LimitedTransport(guard, agent.name, largest=largest, body_s=settings.timeout_s),
            timeout=httpx.Timeout(settings.timeout_s, connect=min(settings.timeout_s, 5.0)),
            auth=self._auth,
            follow_redirects=False,
            trust_env=False,
        )
        self._cards: dict[str, tuple[float, Card]] = {}
        self._clients: dict[str, tuple[Card, Any]] = {}
        self._breakers = {place: Breaker() for place in agent.places}
        self._turn = 0
        self._fetching = {place: asyncio.Lock() for place in agent.places}

    async def close(self) -> None:
        for _, client in self._clients.values():
            with suppress(Exception):
                await client.close()
        await self._http.aclose()

    # Cards

    async def card(self, place: str = "", *, fresh: bool = False) -> Card:
        """The agent's card, from memory where it is young."""
        problem: Refusal | None = None
        for one in [place] if place else await self._quickest(self._in_turn()):
            known = self._cards.get(one)
            if known and not fresh and time.monotonic() < known[0]:
                return known[1]
            try:
                return await self._fetch(one)
            except Refusal as error:
                problem = problem or error
        assert problem is not None
        raise problem

    async def _fetch(self, place: str) -> Card:
        async with self._fetching.setdefault(place, asyncio.Lock()):  # many tasks that begin at once ask once
            known = self._cards.get(place)
            if known and time.monotonic() < known[0] and time.monotonic() - (known[0] - CARD_S) < 1.0:
                return known[1]
            breaker = self._breaker(place)
            try:
                seconds = min(self._settings.timeout_s, 10.0)
                if self.agent.card is not None and place in self.agent.places:
                    body = self.agent.card
                    await cards.reach(self._http, self.agent.name, place, seconds)
                else:
                    body = await cards.fetch(self._http, self.agent.name, place, seconds)
            except BadAnswer:
                breaker.note(well=True)
                raise
            except Refusal:
                breaker.note(well=False)
                raise
            breaker.note(well=True)
            await loaded()
            signature = await cards.verified(self._http, self.agent.name, place, body, self.agent.key_file)
            card = await asyncio.to_thread(cards.read, self.agent.name, place, body, signature)
            self._check_open(card)
            digest, parts = cards.fingerprint(body)
            owner = self.agent.name if len(self.agent.places) == 1 else f"{self.agent.name} {place}"
            changed, what = await self._memory.seen_card(owner, digest, parts)
            card = replace(card, changed=changed, changed_what=what)
            self._auth.header = card.header
            self._cards[place] = (time.monotonic() + CARD_S, card)
            return card

    def _check_open(self, card: Card) -> None:
        """Nobody comes by another name to an agent that the settings keep for some callers."""
        from quarterdeck.registry.entries import address_key

        places = [card.place, *(one.url for one in card.proto.supported_interfaces)]
        keys = [address_key(place if "://" in place else f"https://{place}") for place in places]
        if any(key == one or key.startswith(f"{one}/") for key in keys for one in self.agent.closed):
            raise BadAnswer(f"{self.agent.name} leads to an agent that is for some callers only. Call it by its name.")

    # Instances

    def _breaker(self, place: str) -> Breaker:
        return self._breakers.setdefault(place, Breaker())

    def _in_turn(self) -> list[str]:
        """The instances, the next one first; those that rest come last."""
        places = self.agent.places
        self._turn = (self._turn + 1) % len(places)
        turned = [*places[self._turn :], *places[: self._turn]]
        return sorted(turned, key=lambda place: self._breaker(place).open)

    async def _quickest(self, places: list[str]) -> list[str]:
        """With hedging: first the instance whose card comes first, asking one more whenever that takes long. Only
        cards are asked for twice: another instance need not know a task, and nobody promises to see that a second
        message is the first."""
        known = self._cards.get(places[0])
        if not self._settings.hedge_s or len(places) == 1 or (known and time.monotonic() < known[0]):
            return places
        asked: dict[asyncio.Task[Card], str] = {}
        try:
            for one in places:
                asked[asyncio.create_task(self.card(one))] = one
                last = len(asked) == len(places)
                while pending := [task for task in asked if not task.done()]:
                    await asyncio.wait(
                        pending, timeout=None if last else self._settings.hedge_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task, its in asked.items():
                        if task.done() and task.exception() is None:
                            return [its, *(other for other in places if other != its)]
                    if not last:
                        break
            return places
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether a message could be sent without asking for a card first."""
        return any(time.monotonic() < until for until, _ in self._cards.values())

    def resting(self) -> list[str]:
        return [place for place, breaker in self._breakers.items() if breaker.open]

    async def _client(self, place: str) -> Any:
        if self._breaker(place).open:
            raise NotSent(f"{self.agent.name} failed {TRIPS_AT} times in a row and is left alone for {REST_S:.0f} s.")
        try:
            card = await self.card(place)
        except BadAnswer:
            raise
        except Refusal as error:
            raise NotSent(str(error)) from None
        known = self._clients.get(place)
        if known is not None and known[0] is card:
            return known[1]
        made = await self._make_client(card)
        self._clients[place] = (card, made)
        return made

    async def _make_client(self, card: Card) -> Any:
        await loaded()
        from a2a.client.client import ClientConfig
        from a2a.client.client_factory import ClientFactory

        bindings = ["JSONRPC", "HTTP+JSON"]
        offered = {one.protocol_binding for one in card.proto.supported_interfaces}
        channel = None
        if not offered & set(bindings) and "GRPC" in offered and speaks_grpc():
            from quarterdeck.bridge.rpc import channel_to

            bindings = ["GRPC"]
            channel = await channel_to(self.agent, card, self._settings.largest_mb << 20)
        config = ClientConfig(
            streaming=True,
            httpx_client=self._http,
            supported_protocol_bindings=bindings,
            use_client_preference=True,
            grpc_channel_factory=(lambda _: channel) if channel is not None else None,
        )
        try:
            return ClientFactory(config).create(card.proto)
        except ValueError:
            spoken = ", ".join(card.speaks) or "nothing"
            raise BadAnswer(
                f"{self.agent.name} speaks {spoken}; here JSONRPC and HTTP+JSON are spoken, and GRPC where the package "
                "grpcio is installed."
            ) from None

    # Calls

    async def send(self, message: Json, place: str = "", push: Json | None = None) -> AsyncGenerator[tuple[str, Json]]:
        """Send one message once; what comes back, each with the instance that said it. Another instance is tried
        only where the first one surely did not get it."""
        problem: Refusal = NotSent(f"{self.agent.name} does not answer.")
        for one in [place] if place else await self._quickest(self._in_turn()):
            begun = False
            try:
                async for event in self._send_to(one, message, push):
                    begun = True
                    yield one, event
                return
            except NotSent as error:
                if begun:
                    raise Lost(str(error)) from None
                problem = error
        raise problem

    async def _send_to(self, place: str, message: Json, push: Json | None) -> AsyncIterator[Json]:
        await loaded()
        from a2a.types.a2a_pb2 import SendMessageRequest
        from google.protobuf.json_format import ParseDict, ParseError

        try:
            client = await self._client(place)
        except BadAnswer as error:  # about its card: there was nobody to send to
            raise NotSent(str(error)) from None
        card = self._cards[place][1]
        body: Json = {"message": message}
        if not card.streaming:
            body["configuration"] = {"returnImmediately": True}
        if card.old:  # before 0.3 it had to be said, and some still want it
            modes = [*card.proto.default_output_modes[:20]] or ["text/plain"]
            body.setdefault("configuration", {})["acceptedOutputModes"] = modes
        if push is not None and card.pushes:
            body.setdefault("configuration", {})["taskPushNotificationConfig"] = push
        try:
            request = ParseDict(body, SendMessageRequest())
        except ParseError as error:
            raise NotSent(f"That cannot be sent: {outside(error, 160)}.") from None
        async for event in self._events(place, client.send_message(request, context=self._context(SILENCE_S))):
            yield event

    async def subscribe(self, place: str, remote: str) -> AsyncGenerator[tuple[str, Json]]:
        """What happens in a task from here on. An agent that cannot stream raises Lost at once: ask it instead."""
        await loaded()
        from a2a.types.a2a_pb2 import SubscribeToTaskRequest

        client = await self._client(place)
        if not self._cards[place][1].streaming:
            raise Lost(f"{self.agent.name} does not stream.")
        request = SubscribeToTaskRequest(id=remote)
        async for event in self._events(place, client.subscribe(request, context=self._context(SILENCE_S))):
            yield place, event

    async def get(self, place: str, remote: str) -> Json:
        await loaded()
        from a2a.types.a2a_pb2 import GetTaskRequest

        request = GetTaskRequest(id=remote, history_length=50)
        return await self._ask(place, lambda client: client.get_task(request, context=self._context()))

    async def cancel(self, place: str, remote: str) -> Json:
        await loaded()
        from a2a.types.a2a_pb2 import CancelTaskRequest

        request = CancelTaskRequest(id=remote)
        return await self._ask(place, lambda client: client.cancel_task(request, context=self._context()))

    async def search(self, place: str, message: str) -> Json | None:
        """The task that our message began, if the agent can list its tasks and this is among the latest."""
        await loaded()
        from a2a.types.a2a_pb2 import ListTasksRequest

        request = ListTasksRequest(page_size=MOST_LISTED, history_length=50)
        try:
            listed = await self._ask(place, lambda client: client.list_tasks(request, context=self._context()))
        except NotImplementedError:
            return None
        for task in listed.get("tasks", []):
            if any(entry.get("messageId") == message for entry in task.get("history", [])):
                return dict(task)
        return None

    async def _ask(self, place: str, call: Callable[[Any], Awaitable[Any]]) -> Json:
        """A call that may be repeated: three tries, within the time for short answers."""
        from google.protobuf.json_format import MessageToDict

        problem: Refusal = Lost(f"{self.agent.name} does not answer.")
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                for attempt in range(3):
                    if attempt:
                        await asyncio.sleep(0.1 * 2**attempt)
                    try:
                        async with self._watched(place):
                            return dict(dialect.whole(MessageToDict(await call(await self._client(place)))))
                    except (NotSent, Lost) as error:
                        problem = error
        except TimeoutError:
            problem = Lost(f"{self.agent.name} did not answer within {self._settings.timeout_s:g} s.")
        raise problem

    async def _events(self, place: str, stream: AsyncIterator[Any]) -> AsyncIterator[Json]:
        from google.protobuf.json_format import MessageToDict

        async with self._watched(place):
            async for event in stream:
                yield dialect.whole(MessageToDict(event))

    @asynccontextmanager
    async def _watched(self, place: str) -> AsyncIterator[None]:
        """Errors as sentences, and as what they mean for the message; the breaker counts."""
        from a2a.client.errors import A2AClientError
        from a2a.utils.errors import A2AError, TaskNotFoundError
        from google.protobuf.json_format import ParseError

        breaker, name = self._breaker(place), self.agent.name
        try:
            yield
        except (NotSent, Lost, BadAnswer):
            raise
        except Refusal as error:  # the guard: no connection was made
            raise NotSent(str(error)) from None
        except TaskNotFoundError:
            breaker.note(well=True)
            raise Unknown(f"{name} does not know this task any more.") from None
        except (A2AClientError, httpx.HTTPError) as error:
            cause = error if isinstance(error, httpx.HTTPError) else error.__cause__
            if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
                breaker.note(well=False)
                raise NotSent(f"{name} at {_shown(place)} cannot be reached. Is it running?") from None
            if isinstance(cause, httpx.HTTPStatusError):
                status = cause.response.status_code
                breaker.note(well=status < 500)
                if status in (502, 503, 504):
                    raise Lost(f"{name} answered {status}.") from None
                told = outside(dialect.why(cause.response), 200)
                raise BadAnswer(f"{name} answered {status}{f': {told}' if told else ''}.") from None
            if isinstance(cause, httpx.TransportError):
                breaker.note(well=False)
                raise Lost(f"{name} broke off ({type(cause).__name__}).") from None
            if cause is not None and hasattr(cause, "details") and hasattr(cause, "code"):
                self._watch_rpc(cause, breaker)
            breaker.note(well=True)
            raise BadAnswer(f"{name} answered with an error: {outside(error, 200)}") from None
        except A2AError as error:
            breaker.note(well=True)
            raise BadAnswer(f"{name} refused: {outside(error, 200)}") from None
        except (ParseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # The SDK reads answers trustfully: what does not fit fails in any of these ways.
            raise BadAnswer(f"{name} answered with something that is no A2A ({type(error).__name__}).") from None
        else:
            breaker.note(well=True)

    def _watch_rpc(self, error: Any, breaker: Breaker) -> None:
        """What a gRPC error means for the message; returns where the agent itself answered."""
        code, details = error.code().name, str(error.details())
        if code == "UNAVAILABLE" and "connect" in details.lower():
            breaker.note(well=False)
            raise NotSent(f"{self.agent.name} cannot be reached over gRPC. Is it running?")
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN"):
            breaker.note(well=False)
            raise Lost(f"{self.agent.name} broke off ({code}).")

    def _context(self, seconds: float = 0.0) -> Any:
        from a2a.client.client import ClientCallContext

        return ClientCallContext(timeout=seconds or self._settings.timeout_s)


def _shown(place: str) -> str:
    return outside(place, 80)


def speaks_grpc() -> bool:
    return importlib.util.find_spec("grpc") is not None
