"""What a search provider is, whichever it is, and those that the settings make ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import variable
from quarterdeck.research.errors import Passing
from quarterdeck.research.transfer import Received, retry_after

MOST_CONTENT = 20_000
"""Characters of one result that are kept."""


@dataclass
class Hit:
    url: str
    title: str
    content: str
    provider: str
    published: str | None = None


@dataclass
class Found:
    """The results of one provider, best first."""

    hits: list[Hit]
    cost: float | None = None
    """US dollars, where the provider or the settings say."""
    note: str = ""


@dataclass(frozen=True)
class Question:
    text: str
    most: int
    subject: str = ""
    """The company it is about, where the asker knows: a source of our own then answers about no other."""


class Provider(Protocol):
    name: str
    kind: str
    cached: bool
    """Whether its results are worth keeping."""
    free: bool
    """Whether asking it costs nobody anything."""

    def why_not(self) -> str:
        """Why it cannot be asked; empty when it can."""
        ...

    async def search(self, question: Question, until: float) -> Found:
        """Raises Passing for what may go better soon, Refusal for what will not. `until` is of the monotonic clock."""
        ...


class Unusable(Refusal):
    """The provider will refuse the next question as well: a wrong key, no credit left."""


@dataclass(frozen=True)
class Request:
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] | None = None
    json: Any = None


Said = tuple[str, float | None]
"""What an error's body says, and the seconds to wait that it names."""


@dataclass(frozen=True)
class Api:
    """A provider's HTTP API: plain functions, and what its statuses mean."""

    name: str
    why_not: str
    ask: Callable[[Question], Request]
    read: Callable[[Any], Found]
    """From the JSON of a 200. May raise Passing."""
    said: Callable[[httpx.Headers, Any], Said]
    """From the JSON of any other answer, if it was any."""
    unusable: dict[int, str]
    """Statuses that the next question would get as well, and why."""
    spent: Callable[[httpx.Headers], float] = lambda _: 0.0
    """Seconds that a good answer asks everybody to stay away for: the allowance is used up."""


def need(name: str, key: str) -> str:
    return "" if key else f"no key; set {variable(f'research.{name}_key')}"


def explained(api: Api, received: Received, answer: Any) -> Refusal:
    """What an answer other than 200 means: Passing, Unusable, or a plain Refusal for this one question."""
    status = received.status
    said, after = api.said(received.headers, answer)
    told = f"{api.name} answered {status}" + (f" ({said})" if said else "")
    if why := api.unusable.get(status):
        return Unusable(f"{told}: {why}.")
    if status == 429 or status >= 500 or status in (202, 204, 408, 409, 425):
        wait = retry_after(received.headers)
        return Passing(f"{told}.", after if wait is None else wait)
    if 300 <= status < 400:
        return Unusable(f"{told}: its address points elsewhere. Mend {variable(f'research.{api.name}_url')}.")
    return Refusal(f"{told}.")


def outside(text: object, most: int = 160) -> str:
    """A short text from outside for an error or a note: one line, harmless, without secrets."""
    return clip(redact(one_line(str(text))), most) if text else ""


def text_of(value: object, most: int = MOST_CONTENT) -> str:
    """A field that should hold text, whatever it holds."""
    return value[:most] if isinstance(value, str) else ""


def rows_of(answer: Any, *path: str) -> list[dict[str, Any]]:
    """The list of objects at a path of an answer, or Passing where the answer has another form."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    if answer is None:
        return []
    if not isinstance(answer, list):
        raise Passing("the provider's answer has no list of results.")
    return [row for row in answer[:100] if isinstance(row, dict) and isinstance(row.get("url"), str)]
