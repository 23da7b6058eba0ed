"""Many small questions to Claude: one pooled client a process, one schema for all answers, tokens counted.

    form = Form(system, schema)                     # the same for a thousand questions: cached by the service
    told = await ask(model, form, prompt, problems) # told.value fits the schema and problems() found nothing

`Model.answer` and `converse` open a client for each conversation; here that would cost more than the answer. Nothing is
retried: whoever sends a thousand questions has a scheduler that also knows other ways, and two loops multiply.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal
from weakref import WeakKeyDictionary

from quarterdeck.keel.answers import clip
from quarterdeck.keel.model import Model, ModelFailed, Usage, failed, tls
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import ModelSettings

MOST_PROBLEMS = 8
LONGEST_ANSWER = 20_000
"""Tokens; the SDK wants a stream beyond."""
CONNECTIONS = 200

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Any]] = WeakKeyDictionary()
"""Connections belong to one event loop."""


@dataclass(frozen=True)
class Form:
    """What all questions of a kind share."""

    system: str
    schema: dict[str, Any]
    """JSON schema of the answer, of the kinds that structured output takes."""


@dataclass(frozen=True)
class Told:
    value: dict[str, Any]
    usage: Usage
    left: list[str]
    """Problems that stayed after the one repair."""


@dataclass(frozen=True)
class Brought:
    """An answer that came another way, such as in a batch."""

    text: str
    cut: bool = False
    """Whether it was longer than it might be."""


Problems = Callable[[dict[str, Any]], list[str]]


async def client(settings: ModelSettings) -> Any:
    """The pooled client of this event loop."""
    anthropic = await asyncio.to_thread(import_module, "anthropic")  # two seconds, not on the loop
    key = (settings.api_key.get_secret_value(), settings.base_url)
    mine = _clients.setdefault(asyncio.get_running_loop(), {})
    if key not in mine:
        import httpx2

        limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        mine[key] = anthropic.AsyncAnthropic(
            api_key=key[0],
            base_url=settings.base_url or None,
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(verify=tls(), limits=limits),
        )
    return mine[key]


async def close() -> None:
    """Close this event loop's clients; the next question opens new ones."""
    for one in _clients.pop(asyncio.get_running_loop(), {}).values():
        await one.close()


def request(
    settings: ModelSettings, form: Form, prompt: str, size: Literal["large", "small"] = "small"
) -> dict[str, Any]:
    """One question as the Messages API takes it; also what a batch is made of."""
    from anthropic import transform_schema  # loaded by the client

    return {
        "model": settings.large if size == "large" else settings.small,
        "max_tokens": min(settings.max_tokens, LONGEST_ANSWER),
        "system": [{"type": "text", "text": _system(form.system), "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": redact(prompt)}],
        "output_config": {"format": {"type": "json_schema", "schema": transform_schema(form.schema)}},
    }


@lru_cache(maxsize=64)
def _system(text: str) -> str:
    """Redacted once: the same text goes out a thousand times, and looking through it takes milliseconds."""
    return redact(text)


async def ask(
    model: Model,
    form: Form,
    prompt: str,
    problems: Problems,
    *,
    size: Literal["large", "small"] = "small",
    seconds: float = 120.0,
    repair: bool = True,
    gate: asyncio.Semaphore | None = None,
    brought: Brought | None = None,
) -> Told:
    """One answer; asked once more when it does not fit, unless one call is all there is. What was `brought` counts as
    the first answer: the model is only asked when that does not fit.

    Raises ModelFailed, which knows whether to come back. `gate` bounds how many are with the model at once; the time
    counts from when it opens."""
    settings = model.settings
    usage = Usage(model=settings.large if size == "large" else settings.small)
    limit = asyncio.timeout(None)
    value, wrong, said = _read(brought.text, brought.cut, problems) if brought is not None else (None, [""], "")
    if value is not None and not wrong:
        return Told(value, usage.model_copy(update={"cost": model.cost(usage)}), [])
    try:
        api = await client(settings)
        asked = request(settings, form, prompt, size)
        async with gate or nullcontext(), limit:
            limit.reschedule(asyncio.get_running_loop().time() + min(seconds, settings.timeout_s))
            if brought is None:
                value, wrong, said = await _once(api, asked, problems, usage, settings)
            if value is not None and (not wrong or not repair):
                return Told(value, usage, wrong)
            if not repair:
                raise ModelFailed(f"The model's answer cannot be used: {wrong[0]}.", usage)
            asked["messages"] += [
                {"role": "assistant", "content": said.strip() or "(nothing)"},
                {
                    "role": "user",
                    "content": redact(
                        f"That does not fit: {'; '.join(wrong[:MOST_PROBLEMS])}. Answer again, with the whole JSON "
                        "object; leave out what cannot be mended."
                    ),
                },
            ]
            again, still, _ = await _once(api, asked, problems, usage, settings)
            best = again if again is not None else value
            if best is None:
                raise ModelFailed(f"The model's answer does not have the shape that was asked for: {still[0]}.", usage)
            return Told(best, usage, still)
    except TimeoutError:
        if not limit.expired():
            raise
        raise ModelFailed(f"The model did not answer within {seconds:g} s.", usage, passing=True) from None
    finally:
        usage.cost = model.cost(usage)


async def _once(
    api: Any, asked: dict[str, Any], problems: Problems, usage: Usage, settings: ModelSettings
) -> tuple[dict[str, Any] | None, list[str], str]:
    usage.calls += 1
    try:
        message = await api.messages.create(**asked)
    except Exception as error:  # whatever the SDK trips over
        raise failed(error, usage, settings, 0) from error
    if not hasattr(message, "stop_reason"):  # the SDK hands on whatever is no JSON
        raise ModelFailed(
            f"What came from {settings.base_url or 'the model'} is not an answer. Check that address.", usage
        )
    usage.count(message)
    if message.stop_reason == "refusal":
        raise ModelFailed("The model declined to answer this.", usage)
    if message.stop_reason == "model_context_window_exceeded":
        raise ModelFailed(f"The sources do not fit into what {usage.model} can read at once.", usage)
    said = "".join(block.text for block in message.content or [] if block.type == "text")
    return _read(said, message.stop_reason == "max_tokens", problems)


def _read(said: str, cut: bool, problems: Problems) -> tuple[dict[str, Any] | None, list[str], str]:
    value, wrong = parsed(said, cut)
    return value, wrong if value is None else problems(value), clip(said, 20_000)


def parsed(said: str, cut: bool = False) -> tuple[dict[str, Any] | None, list[str]]:
    """The JSON object in an answer; else why there is none."""
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return None, ["the answer was cut off: be briefer" if cut else "the answer is not a JSON object"]
    return (value, []) if isinstance(value, dict) else (None, ["the answer is not a JSON object"])
