"""One way to make an MCP tool: flat schemas, short errors, nothing seen that may not be used."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from fastmcp import Client, Context, FastMCP
from pydantic import BaseModel, Field

from quarterdeck.keel.answers import Answer
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings
from quarterdeck.keel.tools import change, look, new_server

ERAS = ("auto", "legacy")


class Said(Answer):
    said: str
    nested: dict[str, int] | None = None

    def text(self) -> str:
        return self.said


class Odd(BaseModel):
    x: int


def make(settings: Settings) -> FastMCP[Any]:
    server = new_server("tried", "A server whose tools are tried.", settings)

    @look(server)
    async def say_hello(
        name: Annotated[str, Field(description="whom to greet", min_length=1, max_length=20)],
        times: Annotated[int, Field(ge=1, le=5)] = 1,
        tone: Literal["warm", "cold"] | None = None,
        tags: list[str] | None = None,
    ) -> Said:
        """Greet somebody."""
        return Said(said=" ".join([f"hello {name} {tone} {tags}"] * times))

    @look(server)
    async def refuse_kindly(secret: str = "x") -> Said:
        """Refuse."""
        raise Refusal(f"Not with token={secret} Try say_hello.")

    @look(server)
    async def break_down(ctx: Context) -> Said:
        """Break."""
        raise RuntimeError("password=planted4711 in /etc/secret/place")

    @look(server, timeout=0.2)
    async def take_long() -> Said:
        """Wait for ever."""
        await asyncio.sleep(60)
        return Said(said="late")

    @look(server)
    async def check_value(value: str) -> Said:
        """Check."""
        try:
            raise ValueError(f"inner {value}")
        except ValueError as error:
            raise Refusal("That value is none. Write one like 10m.") from error

    @change(server, destructive=True, idempotent=False)
    async def change_it(ctx: Context) -> Any:
        """Change."""
        raise AssertionError("a change tool ran")

    return server


async def call(
    settings: Settings, tool: str, arguments: dict[str, Any] | None = None, era: str = "auto"
) -> tuple[bool, str]:
    async with Client(make(settings), mode=era) as client:
        result = await client.call_tool(tool, arguments or {}, raise_on_error=False)
    assert len(result.content) == 1
    return bool(result.is_error), result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("era", ERAS)
async def test_input_schemas_are_flat_and_say_their_limits(era: str, settings: Settings) -> None:
    async with Client(make(settings), mode=era) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
    schema = tools["say_hello"].input_schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["required"] == ["name"]
    assert schema["properties"]["tone"] == {"enum": ["warm", "cold"], "type": "string"}
    assert schema["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    assert schema["properties"]["times"]["maximum"] == 5
    assert "ctx" not in str(tools["break_down"].input_schema)
    assert tools["say_hello"].annotations is not None
    assert tools["say_hello"].annotations.read_only_hint is True
    assert tools["change_it"].annotations is not None
    assert tools["change_it"].annotations.destructive_hint is True


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_has_both_faces(era: str, settings: Settings) -> None:
    async with Client(make(settings), mode=era) as client:
        result = await client.call_tool("say_hello", {"name": "Kim"})
    assert result.content[0].text == "hello Kim None None"  # type: ignore[union-attr]
    assert result.structured_content == {"said": "hello Kim None None"}


@pytest.mark.parametrize("era", ERAS)
async def test_null_for_an_optional_argument_is_as_if_it_were_not_there(era: str, settings: Settings) -> None:
    wrong, said = await call(settings, "say_hello", {"name": "Kim", "tone": None, "tags": None}, era)
    assert (wrong, said) == (False, "hello Kim None None")


LONG = "x" * 50_000


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({}, "needs the argument 'name'"),
        ({"name": "Kim", "nmae": 1}, "has no argument 'nmae'. Its arguments: name, times, tone, tags."),
        ({"name": "Kim", LONG: 1}, "has no argument"),
        ({"name": LONG}, "at most 20 characters"),
        ({"name": ""}, "at least 1 character"),
        ({"name": "Kim", "times": 0}, "'times' of say_hello: input should be greater than or equal to 1. You sent 0."),
        ({"name": "Kim", "times": 10**30}, "less than or equal to 5"),
        ({"name": "Kim", "times": "many"}, "You sent 'many'."),
        ({"name": "Kim", "tone": "hot"}, "'warm' or 'cold'"),
        ({"name": "Kim", "tags": "a"}, "valid list"),
        ({"name": "Kim", "tags": [1]}, "'tags.0'"),
        ({"name": {"a": LONG}}, "You sent dict"),
        ({"name": "password=planted4711 and much more"}, "at most"),
        ({"name": None}, "valid string"),
    ],
)
async def test_a_wrong_argument_is_named_in_one_short_sentence(
    arguments: dict[str, Any], hint: str, era: str, settings: Settings
) -> None:
    wrong, said = await call(settings, "say_hello", arguments, era)
    assert wrong
    assert hint in said
    assert len(said) < 350
    assert "pydantic" not in said
    assert "planted4711" not in said
    assert "\n" not in said


async def test_a_refusal_is_told_as_it_is_without_secrets(settings: Settings) -> None:
    assert await call(settings, "refuse_kindly") == (True, "Not with token=[redacted] Try say_hello.")
    _, said = await call(settings, "refuse_kindly", {"secret": "planted4711"})
    assert "planted4711" not in said
    assert await call(settings, "check_value", {"value": "v"}) == (True, "That value is none. Write one like 10m.")


@pytest.mark.parametrize("era", ERAS)
async def test_what_breaks_inside_is_not_told_outside(era: str, settings: Settings) -> None:
    wrong, said = await call(settings, "break_down", era=era)
    assert wrong
    assert said == "break_down failed inside the server; its log on stderr says why."


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_that_takes_too_long_is_stopped_and_says_so(era: str, settings: Settings) -> None:
    started = time.monotonic()
    wrong, said = await call(settings, "take_long", era=era)
    assert time.monotonic() - started < 30
    assert (wrong, said) == (True, "take_long took too long and was stopped. Ask for less, or try again.")


@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_tool_is_answered_with_the_nearest(era: str, settings: Settings) -> None:
    wrong, said = await call(settings, "say_helo", era=era)
    assert (wrong, said) == (True, "There is no tool 'say_helo' here. Did you mean say_hello?")
    wrong, said = await call(settings, "qqqqqqqq" * 1000, era=era)
    assert "There are: say_hello" in said
    assert len(said) < 300


@pytest.mark.parametrize("era", ERAS)
async def test_a_read_only_server_knows_no_change_tool(era: str, settings: Settings) -> None:
    read_only = settings.model_copy(update={"read_only": True})
    async with Client(make(read_only), mode=era) as client:
        assert "change_it" not in {tool.name for tool in await client.list_tools()}
    wrong, said = await call(read_only, "change_it", era=era)
    assert wrong
    assert "There is no tool 'change_it' here" in said
    assert "Did you mean change_it" not in said


async def test_a_server_tells_its_version_and_purpose(settings: Settings) -> None:
    async with Client(make(settings), mode="legacy") as client:
        told = client.initialize_result
    assert told is not None
    assert told.instructions == "A server whose tools are tried."
    assert told.server_info.name == "tried"
    assert told.server_info.version[0].isdigit()


async def test_arguments_of_a_wrong_kind_never_reach_a_change(settings: Settings) -> None:
    wrong, said = await call(settings, "change_it", {"approve": "yes", "grant": "ch-22222222"})
    assert wrong
    assert "has no argument" in said
