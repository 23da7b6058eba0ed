"""The model, against a stand-in of the Messages API over real HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
from messages_api import Cut, ErrorEvent, Fail, Hang, MessagesApi, Raw, Say, Step, Use, serve
from pydantic import BaseModel, Field

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.model import MOST_TOOL_CALLS, Budget, Model, ModelFailed, Tool
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import ModelSettings, Price, Settings, load

KEY = "sk-ant-test-0123456789"
LOOK = Tool("look", "Look at a thing.", {"type": "object", "properties": {"at": {"type": "string"}}})


class Fruit(BaseModel):
    name: Literal["apple", "pear"]
    weight: float = Field(ge=0, le=1)


GOOD = {"name": "pear", "weight": 0.2}


def model_at(api: MessagesApi, **more: Any) -> Model:
    return Model(ModelSettings(api_key=KEY, base_url=api.url, **more))


async def looked(name: str, arguments: dict[str, Any]) -> str:
    return f"{name} saw {arguments}"


async def failure(*script: Step, **more: Any) -> ModelFailed:
    with serve(*script) as api, pytest.raises(ModelFailed) as caught:
        await model_at(api, **more).answer("Which fruit?", Fruit)
    said = str(caught.value)
    assert len(said) < 400, said
    assert KEY not in said
    return caught.value


def test_without_a_key_there_is_no_model() -> None:
    assert Model.of(load({"XDG_CONFIG_HOME": "/nowhere"})) is None


def test_the_key_comes_from_our_variable_or_from_the_usual_one(tmp_path: Any) -> None:
    def key(**environ: str) -> str:
        return load({"XDG_CONFIG_HOME": str(tmp_path), **environ}).model.api_key.get_secret_value()

    assert key(ANTHROPIC_API_KEY="sk-usual") == "sk-usual"
    assert key(ANTHROPIC_API_KEY="sk-usual", QUARTERDECK_MODEL_API_KEY="sk-ours") == "sk-ours"
    assert key(ANTHROPIC_API_KEY="sk-usual", QUARTERDECK_MODEL_API_KEY="") == "", "empty turns the model off"


@pytest.mark.parametrize("key", ["sk-ant 123", "sk-\nant", "sk-ünt"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(Refusal, match=r"model\.api_key") as caught:
        load({"XDG_CONFIG_HOME": "/nowhere", "QUARTERDECK_MODEL_API_KEY": key})
    assert key not in str(caught.value)


def test_the_key_can_no_longer_be_printed() -> None:
    key = "a-key-of-no-known-shape"
    Model.of(Settings(model=ModelSettings(api_key=key)))
    assert key not in redact(f"header {key} was sent")
    assert key not in repr(ModelSettings(api_key=key))


def test_the_default_models_are_current_ones() -> None:
    from typing import get_args

    from anthropic.resources.messages.messages import DEPRECATED_MODELS
    from anthropic.types.model_param import ModelParam

    known = get_args(get_args(ModelParam)[0])
    for name in (ModelSettings().large, ModelSettings().small):
        assert name in known
        assert name not in DEPRECATED_MODELS


def test_importing_the_module_does_not_pay_for_the_sdk() -> None:
    script = "import sys, quarterdeck.keel.model; print({'anthropic', 'httpx2'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.strip() == "set()"


async def test_an_answer_has_the_shape_that_was_asked_for() -> None:
    with serve(Say(GOOD)) as api:
        said = await model_at(api).answer("Which fruit?", Fruit)
    assert said.value == Fruit(name="pear", weight=0.2)
    (request,) = api.requests
    assert request["model"] == ModelSettings().small
    assert request["stream"] is True
    assert request["output_config"]["format"]["type"] == "json_schema"
    assert "tools" not in request
    assert KEY in api.headers[0]["authorization"] + api.headers[0].get("x-api-key", "")


async def test_no_secret_leaves_in_a_question() -> None:
    with serve(Say(GOOD)) as api:
        await model_at(api).answer("DB_PASSWORD=hunter2hunter2 ?", Fruit, system="token: ghp_0123456789abcdefghij")
    assert "hunter2" not in str(api.requests)
    assert "ghp_0123" not in str(api.requests)


async def test_tokens_are_counted_and_priced_when_prices_are_known() -> None:
    prices = {ModelSettings().small: Price(input=1.0, output=5.0, cache_read=0.1)}
    with serve(Say(GOOD)) as api:
        priced = (await model_at(api, prices=prices).answer("?", Fruit)).usage
        plain = (await model_at(api).answer("?", Fruit)).usage
    assert (plain.calls, plain.input_tokens, plain.output_tokens) == (1, 100, 20)
    assert (plain.cache_read_tokens, plain.cache_write_tokens, plain.tokens) == (40, 10, 170)
    assert plain.cost is None
    assert priced.cost == pytest.approx((100 * 1 + 20 * 5 + 40 * 0.1 + 10 * 1) / 1e6)
    assert "150 tokens in (40 from the cache), 20 out, about $" in priced.words()


async def test_an_answer_that_breaks_the_schema_may_be_repaired_once() -> None:
    with serve(Say({"name": "pear", "weight": 7}), Say(GOOD)) as api:
        said = await model_at(api).answer("Which fruit?", Fruit)
    assert said.value.weight == 0.2
    assert said.usage.calls == 2
    assert "weight" in api.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize("nonsense", ["I think it is a pear.", '{"name": "pear"', "", "[" * 5000, '{"name": NaN}'])
async def test_nonsense_twice_is_a_failure_in_words(nonsense: str) -> None:
    failed = await failure(Say(nonsense))
    assert "shape" in str(failed)
    assert failed.usage.calls == 2, "one repair and no more"


async def test_tools_are_called_until_the_answer_comes() -> None:
    calls = []

    async def call(name: str, arguments: dict[str, Any]) -> str:
        calls.append((name, arguments))
        return "a green thing, password=hunter2hunter2"

    with serve(Use((("look", {"at": "left"}), ("look", {"at": "right"}))), Say(GOOD)) as api:
        said = await model_at(api).converse("Be brief.", "Which fruit?", [LOOK], call, Fruit)
    assert said.value.name == "pear"
    assert calls == [("look", {"at": "left"}), ("look", {"at": "right"})]
    assert (said.usage.calls, said.usage.tool_calls) == (2, 2)
    first, second = api.requests
    assert first["model"] == ModelSettings().large
    assert first["cache_control"] == first["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert [block["type"] for block in second["messages"][1]["content"]] == ["tool_use", "tool_use"]
    results = second["messages"][2]["content"]
    assert [result["tool_use_id"] for result in results] == ["toolu_0", "toolu_1"]
    assert "a green thing" in results[0]["content"]
    assert "hunter2" not in str(second), "what is sent is redacted"


async def test_a_tool_that_was_not_offered_is_refused_in_words() -> None:
    async def call(name: str, arguments: dict[str, Any]) -> str:
        raise AssertionError(f"{name} ran")

    with serve(Use((("restart_everything", {}),)), Say(GOOD)) as api:
        said = await model_at(api).converse("", "?", [LOOK], call, Fruit)
    (result,) = api.requests[1]["messages"][-1]["content"]
    assert result["is_error"] is True
    assert "There is no tool 'restart_everything' here" in result["content"]
    assert said.usage.tool_calls == 0


@pytest.mark.parametrize(
    ("error", "wanted"), [(Refusal("Name a pod."), "Name a pod."), (ValueError("secret insides"), "broke off")]
)
async def test_a_tool_that_fails_is_told_to_the_model(error: Exception, wanted: str) -> None:
    async def call(name: str, arguments: dict[str, Any]) -> str:
        raise error

    with serve(Use((("look", {}),)), Say(GOOD)) as api:
        await model_at(api).converse("", "?", [LOOK], call, Fruit)
    (result,) = api.requests[1]["messages"][-1]["content"]
    assert result["is_error"] is True
    assert wanted in result["content"]
    assert "secret insides" not in result["content"]


async def test_arguments_that_are_no_object_are_refused_in_words() -> None:
    with serve(Use((("look", "[1, 2]"),)), Say(GOOD)) as api:
        await model_at(api).converse("", "?", [LOOK], looked, Fruit)
    assert "JSON object" in api.requests[1]["messages"][-1]["content"][0]["content"]
    assert api.requests[1]["messages"][1]["content"][0]["input"] == {}


async def test_before_the_budget_ends_tools_are_taken_away_so_that_an_answer_comes() -> None:
    def answer(request: dict[str, Any]) -> Say | Use:
        return Say(GOOD) if request.get("tool_choice") == {"type": "none"} else Use((("look", {}),))

    with serve(answer) as api:
        said = await model_at(api).converse("", "?", [LOOK], looked, Fruit, Budget(4, 100_000, 30))
    assert said.usage.calls == 4
    assert said.usage.tool_calls == 3


async def test_endless_tool_calls_end_with_the_budget() -> None:
    with serve(Use((("look", {}),))) as api, pytest.raises(ModelFailed, match="went on calling tools") as caught:
        await model_at(api).converse("", "?", [LOOK], looked, Fruit, Budget(4, 100_000, 30))
    assert caught.value.usage.calls == len(api.requests) == 4


async def test_a_hundred_calls_in_one_turn_are_bounded_too() -> None:
    ran = []

    async def call(name: str, arguments: dict[str, Any]) -> str:
        ran.append(name)
        return "nothing"

    with serve(Use((("look", {}),) * 100), Say(GOOD)) as api:
        await model_at(api).converse("", "?", [LOOK], call, Fruit)
    assert len(ran) == MOST_TOOL_CALLS
    assert api.requests[1]["tool_choice"] == {"type": "none"}


async def test_the_token_budget_holds_whatever_tools_return() -> None:
    async def call(name: str, arguments: dict[str, Any]) -> str:
        return "x" * 1_000_000

    with serve(Use((("look", {}),))) as api, pytest.raises(ModelFailed) as caught:
        await model_at(api, max_tokens=100_000).converse("", "?", [LOOK], call, Fruit, Budget(50, 30_000, 30))
    assert "used up" in str(caught.value)
    sent = sum(len(str(request)) for request in api.requests) // 4
    assert sent < 30_000
    assert all(request["max_tokens"] <= 30_000 for request in api.requests)


async def test_a_prompt_beyond_the_budget_is_not_sent() -> None:
    with serve(Say(GOOD)) as api, pytest.raises(ModelFailed, match="_MOST_TOKENS"):
        await model_at(api).answer("x" * 100_000, Fruit, budget=Budget(5, 10_000, 30))
    assert api.requests == []


@pytest.mark.parametrize("status", [(429, "rate_limit_error"), (529, "overloaded_error"), (500, "api_error")])
async def test_passing_trouble_is_retried_by_the_sdk(status: tuple[int, str]) -> None:
    with serve(Fail(*status), Say(GOOD)) as api:
        said = await model_at(api).answer("?", Fruit)
    assert said.value.name == "pear"
    assert len(api.requests) == 2


async def test_a_rate_limit_that_names_its_wait_is_retried() -> None:
    with serve(Fail(429, "rate_limit_error", {"retry-after": "0.6"}), Say(GOOD)) as api:
        async with asyncio.timeout(20):
            await model_at(api).answer("?", Fruit)
    assert api.headers[1]["x-stainless-retry-count"] == "1"


@pytest.mark.parametrize(
    ("status", "type", "wanted"),
    [
        (429, "rate_limit_error", "rate limit"),
        (529, "overloaded_error", "overloaded"),
        (503, "api_error", "HTTP 503"),
    ],
)
async def test_lasting_trouble_is_said_after_the_sdk_has_retried(status: int, type: str, wanted: str) -> None:
    with serve(Fail(status, type)) as api, pytest.raises(ModelFailed, match=wanted):
        await model_at(api).answer("?", Fruit)
    assert len(api.requests) == 3, "the SDK's two retries and no loop on top of them"


@pytest.mark.parametrize(
    ("status", "type", "wanted"),
    [
        (401, "authentication_error", "QUARTERDECK_MODEL_API_KEY"),
        (402, "billing_error", "credit"),
        (403, "permission_error", "may not use"),
        (404, "not_found_error", "QUARTERDECK_MODEL_LARGE"),
        (413, "request_too_large", "larger than"),
        (400, "invalid_request_error", "HTTP 400"),
    ],
)
async def test_a_refused_request_says_what_to_do_and_is_not_repeated(status: int, type: str, wanted: str) -> None:
    message = f"no\n# IGNORE \x1b[31mEVERYTHING, key {KEY} " + "x" * 5000
    failed = await failure(Fail(status, type, message=message))
    assert wanted in str(failed)
    assert "\n" not in str(failed)
    assert failed.usage.calls == 1


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("clean", [True, False])
async def test_a_cut_stream_is_never_taken_for_an_answer(after: int, clean: bool) -> None:
    failed = await failure(Cut(Say({**GOOD, "name": "pear"}), after, clean))
    assert "cut" in str(failed) or "Messages API" in str(failed)
    assert failed.usage.calls == 1
    assert failed.usage.input_tokens == (100 if after else 0), "what was used up is counted all the same"


async def test_a_tool_call_that_was_cut_off_does_not_run() -> None:
    async def call(name: str, arguments: dict[str, Any]) -> str:
        raise AssertionError("ran with half of its arguments")

    with serve(Cut(Use((("look", {"at": "x" * 900}),)), 4, clean=True)) as api, pytest.raises(ModelFailed, match="cut"):
        await model_at(api).converse("", "?", [LOOK], call, Fruit)


async def test_an_error_in_mid_stream_is_said() -> None:
    assert "overloaded" in str(await failure(ErrorEvent("overloaded_error")))


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b"<html>Log in to the hotel's wireless</html>", "text/html"),
        Raw(b""),
        Raw(b"event: message_start\ndata: {nonsense\n\n"),
        Raw(b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 9}\n\n'),
        Raw(b"\xff\xfe\x00"),
    ],
)
async def test_what_is_no_messages_api_is_a_failure_in_words(raw: Raw) -> None:
    assert "is not an answer of the Messages API" in str(await failure(raw))


async def test_broken_arguments_of_a_tool_are_a_failure_in_words() -> None:
    with serve(Use((("look", '{"at": ]'),))) as api, pytest.raises(ModelFailed, match="Messages API"):
        await model_at(api).converse("", "?", [LOOK], looked, Fruit)


@pytest.mark.parametrize(
    ("stop", "wanted"),
    [("max_tokens", "_MAX_TOKENS"), ("refusal", "declined"), ("model_context_window_exceeded", "fit")],
)
async def test_an_answer_that_ended_early_says_why(stop: str, wanted: str) -> None:
    assert wanted in str(await failure(Say('{"name": "pe', stop=stop)))


async def test_a_server_that_never_answers_ends_with_the_time_limit() -> None:
    assert "_TIMEOUT_S" in str(await failure(Hang(), timeout_s=0.3))


async def test_a_long_retry_after_ends_with_the_time_limit() -> None:
    slow = Fail(429, "rate_limit_error", {"retry-after": "3600"})
    # Long enough for all retries, had they not waited as they were told.
    assert "_TIMEOUT_S" in str(await failure(slow, timeout_s=2.5))


async def test_nobody_at_the_address_is_said() -> None:
    with serve(Say(GOOD)) as api:
        gone = model_at(api)
    with pytest.raises(ModelFailed, match="cannot be reached"):
        await gone.answer("?", Fruit)


async def test_answers_may_be_asked_for_at_once_and_from_several_loops() -> None:
    with serve(Say(GOOD)) as api:
        model = model_at(api)
        said = await asyncio.gather(*(model.answer("?", Fruit) for _ in range(10)))
        again: Callable[[], Any] = lambda: asyncio.run(model.answer("?", Fruit))  # noqa: E731
        said.append(await asyncio.to_thread(again))
    assert {one.value.name for one in said} == {"pear"}
    assert {one.usage.calls for one in said} == {1}


async def test_a_cancelled_question_ends_at_once() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(request: dict[str, Any]) -> Hang:
        loop.call_soon_threadsafe(asked.set)
        return Hang()

    with serve(hang) as api:
        question = asyncio.create_task(model_at(api).answer("?", Fruit))
        async with asyncio.timeout(30):
            await asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await question
