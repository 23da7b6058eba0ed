"""A person's typed yes in a dialog is consent; nothing else that a client may send is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult

from quarterdeck.deck.serve import http_app
from quarterdeck.keel import audit
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.consent import DIALOG_CHARACTERS, FORM
from quarterdeck.keel.identity import CHANGE, READ, Caller, acting_as
from quarterdeck.keel.settings import ChangesSettings, Rule, Settings
from quarterdeck.keel.tools import call_digest

if TYPE_CHECKING:
    from quarterdeck.lever.server import Lever

ERAS = ("auto", "legacy")


def answering(action: str, content: Any = None) -> tuple[Callable[..., Awaitable[Any]], list[str]]:
    """A dialog that always answers the same, and what it was asked."""
    asked: list[str] = []

    async def handler(message: str, response_type: Any, params: Any, context: Any) -> Any:
        asked.append(message)
        return ElicitResult(action=action, content=content)  # type: ignore[arg-type]

    return handler, asked


async def pull(
    settings: Settings, era: str, handler: Any = None, position: str = "up", times: int = 1
) -> dict[str, Any]:
    from quarterdeck.lever.server import create_server

    async with Client(create_server(settings), mode=era, elicitation_handler=handler) as client:
        for _ in range(times):
            result = await client.call_tool("pull_lever", {"position": position})
        (tool,) = [tool for tool in await client.list_tools() if tool.name == "pull_lever"]
    assert result.structured_content is not None
    jsonschema.validate(result.structured_content, tool.output_schema or {})
    return result.structured_content


def events(changes: Changes) -> list[str]:
    assert changes.verify_trail().problem == ""
    return [entry["event"] for entry in audit.entries(changes.trail)]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("typed", ["yes", "YES ", " Yes"])
async def test_a_typed_yes_runs_what_was_shown(
    typed: str, era: str, settings: Settings, changes: Changes, lever: Lever
) -> None:
    handler, asked = answering("accept", {"approve": typed})
    answer = await pull(settings, era, handler)
    assert answer["status"] == "done"
    assert answer["result"] == "Pulled the lever to up. It is up."
    assert lever.pulls == ["up"]
    (message,) = asked
    assert "before   down" in message
    assert "after    up" in message
    assert answer["change_id"] in message
    assert events(changes) == ["requested", "granted", "started", "applied", "verified"]
    granted = list(audit.entries(changes.trail))[1]
    assert granted["by"].startswith("local:")
    assert "in a dialog of" in granted["by"]


NO_CONSENT: dict[str, tuple[str, Any]] = {
    "declined": ("decline", None),
    "declined with a yes": ("decline", {"approve": "yes"}),
    "cancelled": ("cancel", None),
    "cancelled with a yes": ("cancel", {"approve": "yes"}),
    "accepted empty": ("accept", {}),
    "accepted with the default": ("accept", {"approve": ""}),
    "accepted with true": ("accept", {"approve": True}),
    "accepted with 'true'": ("accept", {"approve": "true"}),
    "accepted with 'y'": ("accept", {"approve": "y"}),
    "accepted with a list": ("accept", {"approve": ["yes"]}),
    "accepted with a sentence": ("accept", {"approve": "yes, but tomorrow"}),
    "accepted under another name": ("accept", {"value": "yes"}),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", NO_CONSENT)
async def test_nothing_less_than_a_typed_yes_is_consent(
    name: str, era: str, settings: Settings, changes: Changes, lever: Lever
) -> None:
    handler, asked = answering(*NO_CONSENT[name])
    answer = await pull(settings, era, handler)
    assert answer["status"] in ("approval_required", "declined")
    assert f"quarterdeck approve {answer['change_id']}" in answer["next"]
    assert len(asked) == 1
    assert lever.pulls == []
    assert "granted" not in events(changes)
    assert changes.get(answer["change_id"]).waiting, "a terminal may still approve"


@pytest.mark.parametrize("era", ERAS)
async def test_a_dialog_that_breaks_is_no_consent(era: str, settings: Settings, changes: Changes, lever: Lever) -> None:
    async def broken(*arguments: Any) -> Any:
        raise RuntimeError("no window")

    try:
        await pull(settings, era, broken)
    except Exception as error:  # in the later era the client itself gives up
        assert "no window" in str(error) or "licit" in str(error)
    assert lever.pulls == []
    assert events(changes) == ["requested"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_without_dialogs_is_sent_to_the_terminal(
    era: str, settings: Settings, changes: Changes, lever: Lever
) -> None:
    answer = await pull(settings, era)
    assert answer["status"] == "approval_required"
    changes.grant(answer["change_id"], "terminal of me")
    again = await pull(settings, era)
    assert (again["status"], again["change_id"]) == ("done", answer["change_id"])
    once_more = await pull(settings, era, position="up")
    assert once_more["status"] == "approval_required"
    assert lever.pulls == ["up"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("answer", [("decline", None), ("accept", {})])
async def test_who_declined_is_not_asked_again_in_a_dialog(
    answer: tuple[str, Any], era: str, settings: Settings, lever: Lever
) -> None:
    handler, asked = answering(*answer)
    last = await pull(settings, era, handler, times=4)
    assert len(asked) == 1
    assert last["status"] == "declined"
    assert lever.pulls == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_change_too_long_to_be_read_is_not_asked_in_a_dialog(
    era: str, settings: Settings, lever: Lever
) -> None:
    handler, asked = answering("accept", {"approve": "yes"})
    answer = await pull(settings, era, handler, position="up" * (DIALOG_CHARACTERS // 2))
    assert answer["status"] == "approval_required"
    assert asked == []
    assert lever.pulls == []


@pytest.mark.parametrize("era", ERAS)
async def test_an_object_that_moves_while_the_dialog_is_open_is_left_alone(
    era: str, settings: Settings, lever: Lever
) -> None:
    asked: list[str] = []

    async def slow_person(message: str, *rest: Any) -> Any:
        asked.append(message)
        lever.push(f"moved by hand {len(asked)}")
        return ElicitResult(action="accept", content={"approve": "yes"})

    try:
        answer = await pull(settings, era, slow_person)
    except Exception as error:  # the later era asks anew each time, until the client has enough
        assert "input" in str(error).lower() or "round" in str(error).lower()
    else:
        assert answer["status"] in ("failed", "approval_required")
    assert lever.pulls == []
    assert lever.position.startswith("moved by hand")


@pytest.mark.parametrize("era", ERAS)
async def test_policy_may_allow_without_asking_and_deny_without_a_way_round(
    era: str, settings: Settings, changes: Changes, lever: Lever
) -> None:
    handler, asked = answering("accept", {"approve": "yes"})

    def under(decision: str) -> Settings:
        rules = [Rule(decision=decision, tool="pull_*")]  # type: ignore[arg-type]
        return settings.model_copy(update={"changes": ChangesSettings(rules=rules)})

    denied = await pull(under("deny"), era, handler)
    assert denied["status"] == "denied"
    assert "policy rule 1" in denied["next"]
    allowed = await pull(under("allow"), era, handler)
    assert allowed["status"] == "done"
    assert asked == []
    assert lever.pulls == ["up"]
    assert events(changes) == ["denied", "granted", "started", "applied", "verified"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_dialog_shows_no_secret_and_hides_nothing(era: str, settings: Settings) -> None:
    handler, asked = answering("cancel")
    answer = await pull(settings, era, handler, position="up password=planted4711 \x1b[8m\u202erm -rf /\x1b[0m")
    (message,) = asked
    for said in (message, json.dumps(answer, ensure_ascii=False)):
        assert "planted4711" not in said
        assert "rm -rf /" in said
        assert "\x1b" not in said
        assert "\u202e" not in said


def test_the_form_is_one_that_no_client_fills_in_by_itself() -> None:
    assert "title" not in FORM
    assert FORM["properties"]["approve"]["default"] == ""
    assert FORM["properties"]["approve"]["type"] == "string"
    jsonschema.Draft202012Validator.check_schema(FORM)


# A client of the later era that writes its own messages


class Raw:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, method: str, params: dict[str, Any], name: str = "", capabilities: Any = None) -> Any:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}} if capabilities is None else capabilities,
        }
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        answer = await self.http.post("/lever", json=body, headers=headers | ({"mcp-name": name} if name else {}))
        text = answer.text
        if "data:" in text:
            text = [line for line in text.splitlines() if line.startswith("data:")][-1][5:]
        return json.loads(text) if text else {}

    async def pull(self, position: str, said: Any = None, state: str | None = None, capabilities: Any = None) -> Any:
        params: dict[str, Any] = {"name": "pull_lever", "arguments": {"position": position}}
        if said is not None:
            params["inputResponses"] = {"consent": said}
        if state is not None:
            params["requestState"] = state
        answer = await self.post("tools/call", params, "pull_lever", capabilities)
        return answer.get("result", answer)


YES = {"action": "accept", "content": {"approve": "yes"}}


@pytest.fixture
async def raw(settings: Settings, changes: Changes) -> AsyncIterator[Raw]:
    found: asyncio.Future[httpx.AsyncClient] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def hold() -> None:  # enters and leaves in one task, as the server's task groups demand
        async with reached(settings) as http:
            found.set_result(http)
            await over.wait()

    holding = asyncio.create_task(hold())
    holding.add_done_callback(
        lambda ended: None if found.done() else found.set_exception(ended.exception() or OSError())
    )
    yield Raw(await found)
    over.set()
    await holding


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = http_app(["lever"], settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        yield http


async def test_an_answer_to_a_question_never_asked_is_no_consent(raw: Raw, lever: Lever) -> None:
    for state in (None, "", "forged", "ch-22222222"):
        await raw.pull("up", YES, state)
    assert lever.pulls == []


async def test_knowing_the_id_of_a_request_is_not_having_been_asked(raw: Raw, lever: Lever, changes: Changes) -> None:
    asked = await raw.pull("up", capabilities={})
    answer = await raw.pull("up", YES, asked["structuredContent"]["change_id"])
    assert "error" in answer
    assert lever.pulls == []


async def test_an_answer_is_used_once(raw: Raw, lever: Lever) -> None:
    state = (await raw.pull("up"))["requestState"]
    first = await raw.pull("up", YES, state)
    assert first["structuredContent"]["status"] == "done"
    lever.push("down")  # the same change could be asked for again
    for _ in range(2):
        replayed = await raw.pull("up", YES, state)
        assert replayed.get("resultType") == "input_required", "asked anew"
    assert lever.pulls == ["up"]


async def test_an_answer_about_one_change_does_not_serve_another(raw: Raw, lever: Lever) -> None:
    harmless = (await raw.pull("a little"))["requestState"]
    answer = await raw.pull("all the way", YES, harmless)
    assert answer.get("resultType") == "input_required" or "error" in answer
    assert lever.pulls == []


async def test_an_object_changed_between_the_question_and_the_answer_is_asked_about_anew(
    raw: Raw, lever: Lever
) -> None:
    state = (await raw.pull("up"))["requestState"]
    lever.push("sideways")
    answer = await raw.pull("up", YES, state)
    assert answer["resultType"] == "input_required"
    assert "before   sideways" in answer["inputRequests"]["consent"]["params"]["message"]
    assert lever.pulls == []


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {"url": {}}}, {"roots": {}}])
async def test_a_client_that_declared_no_form_is_not_asked_in_one(
    capabilities: dict[str, Any], raw: Raw, lever: Lever
) -> None:
    answer = await raw.pull("up", capabilities=capabilities)
    assert answer["structuredContent"]["status"] == "approval_required"
    assert lever.pulls == []


@pytest.mark.parametrize("capabilities", [{"elicitation": {}}, {"elicitation": {"form": {}, "url": {}}}])
async def test_a_client_that_declared_a_form_is_asked_in_one(capabilities: dict[str, Any], raw: Raw) -> None:
    answer = await raw.pull("up", capabilities=capabilities)
    assert answer["resultType"] == "input_required"


@pytest.mark.parametrize(
    "said", [{}, {"action": "accept"}, {"action": "ACCEPT", "content": {"approve": "yes"}}, "yes", True, [YES], None, 7]
)
async def test_a_malformed_answer_is_no_consent(said: Any, raw: Raw, lever: Lever) -> None:
    state = (await raw.pull("up"))["requestState"]
    await raw.pull("up", said, state)
    assert lever.pulls == []


METHODS = """changes/approve changes/grant approve quarterdeck/approve elicitation/create elicitation/complete
notifications/elicitation/complete tools/approve tasks/update sampling/createMessage completion/complete resources/read
prompts/get logging/setLevel ping server/discover"""


async def test_no_method_of_the_protocol_grants(raw: Raw, lever: Lever, changes: Changes) -> None:
    pending = (await raw.pull("up", capabilities={}))["structuredContent"]["change_id"]
    for method in METHODS.split():
        await raw.post(method, {"id": pending, "change_id": pending, "uri": pending, "name": pending, **YES}, pending)
    listed = await raw.post("tools/list", {})
    names = [tool["name"] for tool in listed["result"]["tools"]]
    assert not [name for name in names if "approve" in name or "grant" in name or "consent" in name]
    assert changes.get(pending).state == "pending"
    assert lever.pulls == []


ME = Caller("agent:tester", frozenset({READ, CHANGE}))


UP = f"run/2 {call_digest('pull_lever', {'position': 'up'})}"
"""How the ledger keeps the key run/2 of that very call."""


async def keyed(settings: Settings, key: str, position: str = "up", handler: Any = None) -> dict[str, Any]:
    from quarterdeck.lever.server import create_server

    async with Client(create_server(settings), elicitation_handler=handler) as client:
        with acting_as(ME):
            result = await client.call_tool("pull_lever", {"position": position}, meta={"quarterdeck.key": key})
    assert result.structured_content is not None
    return result.structured_content


async def granted(settings: Settings, changes: Changes) -> str:
    asked = await keyed(settings, "run/1")
    assert asked["status"] == "approval_required"
    changes.grant(asked["change_id"], by="kim")
    return str(asked["change_id"])


async def test_a_keyed_change_whose_process_died_before_it_was_written_is_carried_out_once(
    settings: Settings, changes: Changes, lever: Lever
) -> None:
    id = await granted(settings, changes)
    assert changes.take(lever.change("up"), ME, UP) is not None  # and here its process was killed
    first, again = await keyed(settings, "run/2"), await keyed(settings, "run/2")
    assert (first["status"], again["status"]) == ("done", "done")
    assert first["change_id"] == again["change_id"] == id
    assert lever.pulls == ["up"]
    assert events(changes) == ["requested", "granted", "started", "applied", "verified"]


async def test_a_keyed_change_that_may_have_been_written_is_not_written_again(
    settings: Settings, changes: Changes, lever: Lever
) -> None:
    await granted(settings, changes)
    assert changes.take(lever.change("up"), ME, UP) is not None
    lever.push("up")  # it was written, but its process was killed before that was recorded
    answer = await keyed(settings, "run/2")
    assert answer["status"] == "failed"
    assert "not known" in answer["next"]
    assert lever.pulls == []


async def test_a_keyed_change_that_a_dialog_allowed_is_carried_out_once(
    settings: Settings, changes: Changes, lever: Lever
) -> None:
    handler, asked = answering("accept", {"approve": "yes"})
    first = await keyed(settings, "run/2", handler=handler)
    again = await keyed(settings, "run/2", handler=handler)
    assert (first["status"], again["status"]) == ("done", "done")
    assert again["change_id"] == first["change_id"]
    assert len(asked) == 1
    assert lever.pulls == ["up"]


async def test_the_same_keyed_call_while_the_first_goes_on_waits_for_it(
    settings: Settings, changes: Changes, lever: Lever
) -> None:
    await granted(settings, changes)
    (lever.home / "hold").touch()
    first = asyncio.create_task(keyed(settings, "run/2"))
    while not (lever.home / "started").exists():  # noqa: ASYNC110 (the server makes it)
        await asyncio.sleep(0.01)
    second = asyncio.create_task(keyed(settings, "run/2"))
    assert not (await asyncio.wait([second], timeout=0.3))[0]
    (lever.home / "hold").unlink()
    assert {(await first)["status"], (await second)["status"]} <= {"done", "done_not_healthy"}
    assert lever.pulls == ["up"]


async def test_a_key_used_for_another_call_is_another_key(settings: Settings, changes: Changes, lever: Lever) -> None:
    await granted(settings, changes)
    assert (await keyed(settings, "run/2"))["status"] == "done"
    other = await keyed(settings, "run/2", position="down")
    assert other["status"] == "approval_required"
    assert lever.pulls == ["up"]


async def test_a_change_that_was_begun_is_not_done_after_its_grant_is_over(
    settings: Settings, changes: Changes, lever: Lever
) -> None:
    id = await granted(settings, changes)
    assert changes.take(lever.change("up"), ME, UP) is not None  # and here its process was killed
    with sqlite3.connect(changes.home / "changes.db") as db:
        db.execute("UPDATE changes SET granted_at = granted_at - ? WHERE id = ?", (changes.settings.grant_s + 1, id))
    answer = await keyed(settings, "run/2")
    assert answer["status"] == "failed"
    assert "not known" in answer["next"]
    assert lever.pulls == []
