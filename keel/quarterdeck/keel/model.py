"""Claude through `anthropic`: typed answers and tool use, within a budget, every token counted.

    model = Model.of(settings)              # None without a key: whoever asks has a way without a model
    said = await model.answer("Which service? …", Service)          # said.value is a Service
    said = await model.converse(system, prompt, tools, call_tool, Diagnosis)

Whatever goes wrong is a `ModelFailed`: a sentence for a person, and what was used up until then. The SDK's retries
are the only ones. What is sent is redacted; fencing outside text is the caller's part, who knows what came from where.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact, remember
from quarterdeck.keel.settings import ModelSettings, Settings

RETRIES = 2
"""The SDK's own, on 408, 409, 429, 5xx and lost connections; it honours Retry-After."""
MOST_TOOL_CALLS = 24
"""In one conversation, over all its turns."""
RESULT = 12_000
"""Characters of one tool result that the model gets to see."""
ROOM = 1_500
"""Tokens that an answer needs at least."""

log = logging.getLogger(__name__)
T = TypeVar("T", bound=BaseModel)
CallTool = Callable[[str, dict[str, Any]], Awaitable[str]]
"""Runs one offered tool and returns its text; a Refusal is told to the model as the tool's error."""


@dataclass(frozen=True)
class Tool:
    """A tool as the model sees it. `name`: letters, digits, `_` and `-`."""

    name: str
    description: str
    input_schema: dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """What one answer may use up, over all its calls."""

    calls: int
    tokens: int
    seconds: float


class Usage(BaseModel):
    """What was used up."""

    model: str = ""
    calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: float | None = None
    """US dollars by the price table of the settings; None when the model is not in it."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    def count(self, message: Any) -> None:
        """Add what one message of the API used."""
        used = getattr(message, "usage", None)
        self.input_tokens += getattr(used, "input_tokens", 0) or 0
        self.output_tokens += getattr(used, "output_tokens", 0) or 0
        self.cache_read_tokens += getattr(used, "cache_read_input_tokens", 0) or 0
        self.cache_write_tokens += getattr(used, "cache_creation_input_tokens", 0) or 0

    def words(self) -> str:
        sent = self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
        cost = "" if self.cost is None else f", about ${self.cost:.4f}"
        return (
            f"{self.model}: {self.calls} calls, {self.tool_calls} tool calls, {sent} tokens in "
            f"({self.cache_read_tokens} from the cache), {self.output_tokens} out{cost}"
        )


class ModelFailed(Refusal):
    """The model gave no usable answer: why, and what was used up all the same."""

    def __init__(self, why: str, usage: Usage, *, passing: bool = False, after_s: float | None = None) -> None:
        super().__init__(redact(why))
        self.usage = usage
        self.passing = passing
        """Whether the same question may well be answered later: a limit, an overload, a lost connection."""
        self.after_s = after_s
        """When the service said to come back."""


@dataclass(frozen=True)
class Said(Generic[T]):
    value: T
    usage: Usage


class Model:
    """One key, one address, two sizes."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        remember([settings.api_key.get_secret_value()])

    @classmethod
    def of(cls, settings: Settings) -> Model | None:
        return cls(settings.model) if settings.model.api_key.get_secret_value() else None

    @property
    def budget(self) -> Budget:
        """The budget of the settings."""
        return Budget(self.settings.most_calls, self.settings.most_tokens, self.settings.timeout_s)

    async def answer(
        self,
        prompt: str,
        schema: type[T],
        *,
        system: str = "",
        size: Literal["large", "small"] = "small",
        budget: Budget | None = None,
    ) -> Said[T]:
        """One question, one answer of the given shape; one further try when it does not fit."""
        return await self._run(system, prompt, (), _no_tool, schema, budget, size)

    async def converse(
        self,
        system: str,
        prompt: str,
        tools: Sequence[Tool],
        call_tool: CallTool,
        schema: type[T],
        budget: Budget | None = None,
        *,
        size: Literal["large", "small"] = "large",
    ) -> Said[T]:
        """The model may call the given tools, and no other, before it answers. Shortly before the budget ends, tools
        are taken away so that it answers with what it has."""
        return await self._run(system, prompt, tools, call_tool, schema, budget, size)

    async def _run(
        self,
        system: str,
        prompt: str,
        tools: Sequence[Tool],
        call_tool: CallTool,
        schema: type[T],
        budget: Budget | None,
        size: Literal["large", "small"],
    ) -> Said[T]:
        budget = budget or self.budget
        usage = Usage(model=self.settings.large if size == "large" else self.settings.small)
        limit = asyncio.timeout(budget.seconds)
        try:
            async with limit:
                # Two seconds of import: not at start-up, and not on the loop that serves others.
                anthropic = await asyncio.to_thread(import_module, "anthropic")
                async with self._client(anthropic) as client:
                    talk = _Talk(self.settings, client, system, prompt, tools, call_tool, schema, budget, usage)
                    return Said(await talk.run(), usage)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ModelFailed(
                f"The model did not answer within {budget.seconds:g} s. QUARTERDECK_MODEL_TIMEOUT_S allows more.", usage
            ) from None
        finally:
            usage.cost = self.cost(usage)

    def _client(self, anthropic: Any) -> Any:
        """One client a conversation, since its connections belong to one event loop; the costly part is shared."""
        return anthropic.AsyncAnthropic(
            api_key=self.settings.api_key.get_secret_value(),
            base_url=self.settings.base_url or None,
            max_retries=RETRIES,
            http_client=anthropic.DefaultAsyncHttpxClient(verify=tls()),
        )

    def cost(self, usage: Usage) -> float | None:
        """US dollars by the price table; None when the model is not in it."""
        price = self.settings.prices.get(usage.model)
        if price is None:
            return None
        read = price.input if price.cache_read is None else price.cache_read
        write = price.input if price.cache_write is None else price.cache_write
        millions = (
            usage.input_tokens * price.input
            + usage.output_tokens * price.output
            + usage.cache_read_tokens * read
            + usage.cache_write_tokens * write
        )
        return round(millions / 1_000_000, 6)


class _Talk(Generic[T]):
    """One conversation: its messages, what is left of its budget."""

    def __init__(
        self,
        settings: ModelSettings,
        client: Any,
        system: str,
        prompt: str,
        tools: Sequence[Tool],
        call_tool: CallTool,
        schema: type[T],
        budget: Budget,
        usage: Usage,
    ) -> None:
        from anthropic import transform_schema  # loaded by now

        self.settings, self.client, self.call_tool, self.schema = settings, client, call_tool, schema
        self.budget, self.usage = budget, usage
        self.offered = {tool.name for tool in tools}
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": redact(prompt)}]
        self.fixed: dict[str, Any] = {
            "model": usage.model,
            "output_config": {"format": {"type": "json_schema", "schema": transform_schema(schema)}},
        }
        if system:
            self.fixed["system"] = [{"type": "text", "text": redact(system)}]
        if tools:
            self.fixed["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
                for tool in tools
            ]
            # Tools and system are the same in every conversation; within one, each turn sends all that went before.
            mark = {"type": "ephemeral"}
            for block in self.fixed.get("system", []):
                block["cache_control"] = mark
            self.fixed["cache_control"] = mark

    async def run(self) -> T:
        repaired = False
        while True:
            last = self._last_turn() or repaired
            message = await self._ask(last)
            calls = [block for block in message.content if block.type == "tool_use"]
            if calls and not last:
                await self._use(message, calls)
                continue
            if calls:
                raise self._failed(
                    f"The model went on calling tools until its budget ({self.budget.calls} calls, "
                    f"{self.budget.tokens} tokens) was used up, and gave no answer."
                )
            said = "".join(block.text for block in message.content if block.type == "text")
            self._check_end(message.stop_reason)
            try:
                return self.schema.model_validate_json(said)
            except ValidationError as error:
                problems = _problems(error)
            if repaired:
                raise self._failed(f"The model's answer does not have the shape that was asked for: {problems}.")
            repaired = True
            self.messages += [
                {"role": "assistant", "content": said.strip() or "(nothing)"},
                {
                    "role": "user",
                    "content": f"That does not fit the schema: {problems}. Answer again, with the JSON object only.",
                },
            ]

    def _last_turn(self) -> bool:
        """Whether the budget holds this turn but no further one."""
        needed = self._weight() + ROOM
        left = self.budget.tokens - self.usage.tokens
        return (
            self.usage.calls >= self.budget.calls - 1
            or self.usage.tool_calls >= MOST_TOOL_CALLS
            or left < needed + needed + RESULT // 3
        )

    def _weight(self) -> int:
        """Tokens that the next request takes, guessed high: three characters of JSON a token."""
        return len(json.dumps([self.fixed, self.messages])) // 3

    async def _ask(self, last: bool) -> Any:
        room = self.budget.tokens - self.usage.tokens - self._weight()
        if self.usage.calls >= self.budget.calls or room < ROOM:
            raise self._failed(
                f"The budget of {self.budget.calls} calls and {self.budget.tokens} tokens is used up before the model "
                "has answered. QUARTERDECK_MODEL_MOST_CALLS and _MOST_TOKENS allow more."
            )
        request = {**self.fixed, "messages": self.messages, "max_tokens": min(self.settings.max_tokens, room)}
        if last and self.offered:
            request["tool_choice"] = {"type": "none"}
        self.usage.calls += 1
        stream = None
        try:
            # A stream, since the SDK refuses long answers in one piece, and a cut is noticed at once.
            async with self.client.messages.stream(**request) as stream:
                message = await stream.get_final_message()
        except Exception as error:  # whatever a broken stream makes the SDK trip over
            if stream is not None:
                with suppress(AssertionError):  # the SDK's word for: nothing came
                    self.usage.count(stream.current_message_snapshot)
            raise failed(error, self.usage, self.settings, RETRIES) from error
        self.usage.count(message)
        if message.stop_reason is None:
            raise self._failed(CUT)
        return message

    async def _use(self, message: Any, calls: list[Any]) -> None:
        """Run the tools that were called, one after another, and put their results into the conversation."""
        results = []
        for call in calls:
            failed = True
            if call.name not in self.offered:
                text = (
                    f"There is no tool {one_line(call.name)[:80]!r} here. You have: {', '.join(sorted(self.offered))}."
                )
            elif not isinstance(call.input, dict):
                text = "Arguments must be a JSON object."
            elif self.usage.tool_calls >= MOST_TOOL_CALLS:
                text = f"The budget of {MOST_TOOL_CALLS} tool calls is used up. Answer with what you have."
            else:
                self.usage.tool_calls += 1
                try:
                    text, failed = await self.call_tool(call.name, call.input), False
                except Refusal as error:
                    text = str(error)
                except Exception as error:
                    log.exception("tool %s broke off", call.name)
                    text = f"The tool broke off ({type(error).__name__}). Go on without it."
            results.append(
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": redact(clip(text, RESULT)) or "(nothing)",
                    "is_error": failed,
                }
            )
        said = [block.to_dict(mode="json", warnings=False) for block in message.content]
        for block in said:
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                block["input"] = {}  # the API takes nothing else back
        self.messages += [{"role": "assistant", "content": said}, {"role": "user", "content": results}]

    def _check_end(self, reason: str) -> None:
        match reason:
            case "max_tokens":
                raise self._failed(
                    f"The model's answer was cut off at {self.settings.max_tokens} tokens. "
                    "QUARTERDECK_MODEL_MAX_TOKENS allows more."
                )
            case "refusal":
                raise self._failed("The model declined to answer this.")
            case "model_context_window_exceeded":
                raise self._failed(f"The evidence does not fit into what {self.usage.model} can read at once.")

    def _failed(self, why: str) -> ModelFailed:
        return ModelFailed(why, self.usage)


CUT = "The connection to the model was cut in the middle of its answer. Try again."


def failed(error: Exception, usage: Usage, settings: ModelSettings, retries: int) -> ModelFailed:
    """What the SDK raised, as what a caller can act on: a sentence, and whether to come back and when."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status_code", None)
    lost = bool(kinds & {"APIConnectionError", "TimeoutException", "HTTPError", "StreamError"})
    passing = lost or status in (408, 409, 429) or (isinstance(status, int) and status >= 500)
    why = _said_of(error, usage.model, settings, f" after {retries} retries" if retries else "")
    return ModelFailed(why, usage, passing=passing, after_s=_after(error) if passing else None)


def _after(error: Exception) -> float | None:
    """Seconds until the service wants to be asked again, as its headers say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with suppress(ValueError):
            seconds = float(headers.get(name, "")) / unit
            if 0 <= seconds < 86_400:
                return seconds
    return None


def _said_of(error: Exception, model: str, settings: ModelSettings, tried: str) -> str:
    """What the SDK raised, as a sentence that says what to do. By status and name, so that nothing is imported here."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status_code", None)
    detail = clip(one_line(str(getattr(error, "api_message", None) or "")), 200)
    said = f": {detail}" if detail else ""
    where = settings.base_url or "Anthropic's address"
    if getattr(error, "type", None) == "overloaded_error":
        status = 529
    match status:
        case 401:
            return "The model's key is not accepted. Put a valid one into QUARTERDECK_MODEL_API_KEY."
        case 402:
            return f"The account behind the model's key is out of credit{said}. Fill it up, or set another key."
        case 403:
            return f"The model's key may not use {model}{said}. Choose another model or key."
        case 404:
            return f"There is no model {model} at {where}. Name another in QUARTERDECK_MODEL_LARGE or _SMALL."
        case 413:
            return "The evidence is larger than the model takes in one request."
        case 429:
            return f"The model's rate limit was still reached{tried}. Wait a minute, then try again."
        case 529:
            return f"The model is overloaded{tried and ', also'}{tried}. Try again in some minutes."
        case int() if status >= 500:
            return f"The model's service failed (HTTP {status}){tried and ', also'}{tried}. Try again later."
        case int() if status >= 400:
            return f"The model's service refused the request (HTTP {status}){said}."
    if "APITimeoutError" in kinds or "TimeoutException" in kinds:
        return f"The model at {where} did not answer in time. Try again."
    if "APIConnectionError" in kinds:
        return f"The model cannot be reached at {where}{tried and ', also'}{tried}. Check the network."
    if "HTTPError" in kinds or "StreamError" in kinds:
        return CUT
    log.debug("the model's stream could not be read", exc_info=error)
    return f"What came from {where} is not an answer of the Messages API ({type(error).__name__}). Check that address."


def _problems(error: ValidationError) -> str:
    """What does not fit, without the model's own words at length."""
    found = [
        f"{clip('.'.join(str(part) for part in one['loc']), 80) or 'the answer'}: {clip(one_line(one['msg']), 150)}"
        for one in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    ]
    return "; ".join(found).rstrip(".")


async def _no_tool(name: str, arguments: dict[str, Any]) -> str:
    raise Refusal("There are no tools here.")


@cache
def tls() -> Any:
    """Certificates are read once: 25 ms a client otherwise."""
    import httpx2  # comes with the SDK

    return httpx2.create_ssl_context()
