"""What a flow can do, through the face of quarterdeck.keel.flows, on one engine and one SQLite file."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from quarterdeck.keel import flows
from quarterdeck.keel.errors import Denied, Refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")
Engine = Any
SEEN: dict[str, list[Any]] = {}
ENGINE: list[Engine] = []


def seen(id: str = "") -> list[Any]:
    """What the steps of a flow noted; inside a flow, of that flow."""
    return SEEN.setdefault(id or flows.flow_id(), [])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with flows.engine("", tmp_path_factory.mktemp("flows"), executor="test") as running:
        yield running


async def note(text: str) -> str:
    seen().append((text, flows.step_key()))
    return text.upper()


async def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within 10 s: {what}")


async def question_of(engine: Engine, id: str) -> flows.Question:
    async for item in engine.watch(id):
        if item.kind == "question":
            found = (await engine.status(id)).question
            assert found is not None
            return found
    raise AssertionError("it ended without a question")


@flows.flow("test echo")
async def echo(argument: dict[str, Any]) -> dict[str, Any]:
    return argument


@flows.flow("test two steps")
async def two_steps(argument: dict[str, Any]) -> dict[str, Any]:
    await flows.progress("half", 0.5, {"n": 1})
    first = await flows.step("first", note, "a")
    second = await flows.step("second", note, "b")
    return {"said": [first, second]}


@flows.flow("test asks")
async def asks(argument: dict[str, Any]) -> dict[str, Any]:
    before = await flows.step("before", note, "before")
    answer = await flows.ask("Restart it?", {"change": "ch-1"}, timeout_s=argument.get("timeout_s", 30))
    return {"before": before, "answer": answer}


@flows.flow("test fails")
async def fails(argument: dict[str, Any]) -> dict[str, Any]:
    async def fail() -> None:
        tries = seen()
        tries.append(flows.step_key())
        if len(tries) < argument["succeeds_at"]:
            match argument.get("how"):
                case "refusal":
                    raise Refusal("Not like this.")
                case "denied":
                    raise Denied("Never.")
                case "slow":
                    await asyncio.sleep(30)
            raise OSError("the wire is cut, password=hunter2secret")

    try:
        await flows.step(
            "try",
            fail,
            tries=argument.get("tries", 3),
            pause_s=0.01,
            timeout_s=argument.get("timeout_s", 5),
            retry_refusals=argument.get("retry_refusals", False),
        )
    except Refusal as error:
        if argument.get("caught"):
            return {"error": type(error).__name__, "why": str(error)}
        raise
    return {"tries": len(seen())}


@flows.flow("test sleeps in a step")
async def sleeps(argument: dict[str, Any]) -> dict[str, Any]:
    async def sleep() -> None:
        seen().append("began")
        try:
            await asyncio.sleep(60)
        finally:
            seen().append("stopped")

    await flows.step("sleep", sleep, timeout_s=90)
    return {}


@flows.flow("test breaks")
async def breaks(argument: dict[str, Any]) -> dict[str, Any]:
    raise KeyError(argument["what"])


@flows.flow("test returns nonsense")
async def nonsense(argument: dict[str, Any]) -> Any:
    return {"value": {1, 2}} if argument.get("set") else [1]


@flows.flow("test side by side")
async def side_by_side(argument: dict[str, Any]) -> dict[str, Any]:
    async def at_once() -> int:
        running = SEEN.setdefault("at once", [0, 0])
        running[0] += 1
        running[1] = max(running)
        await asyncio.sleep(0.02)
        running[0] -= 1
        return int(flows.step_key().rpartition("/")[2])

    return {"numbers": await asyncio.gather(*[flows.step("together", at_once) for _ in range(argument["n"])])}


@flows.flow("test starts another")
async def starts_another(argument: dict[str, Any]) -> dict[str, Any]:
    await flows.step("start", ENGINE[0].start, "test echo", {"from": "a flow"}, id=argument["other"])
    return {}


async def test_a_flow_gives_its_result_and_can_be_looked_at(engine: Engine) -> None:
    id = await engine.start("test two steps", {"service": "blog"})
    assert await engine.result(id) == {"said": ["A", "B"]}
    flow = await engine.status(id)
    assert (flow.name, flow.state, flow.ended) == ("test two steps", "completed", True)
    assert flow.argument == {"service": "blog"} and flow.result == {"said": ["A", "B"]}
    assert flow.executor.startswith("test-") and 0 < flow.created <= flow.updated
    assert seen(id) == [("a", f"{id}/1"), ("b", f"{id}/2")]


async def test_the_same_id_starts_once(engine: Engine) -> None:
    ids = await asyncio.gather(*[engine.start("test two steps", {"n": n}, id="alert-7") for n in range(8)])
    assert set(ids) == {"alert-7"}
    await engine.result("alert-7")
    assert await engine.start("test two steps", {}, id="alert-7") == "alert-7"
    assert len(seen("alert-7")) == 2
    with pytest.raises(Refusal, match="of another kind"):
        await engine.start("test echo", {}, id="alert-7")


async def test_what_cannot_be_started_is_refused_with_a_sentence(engine: Engine) -> None:
    with pytest.raises(Refusal, match="no flow named 'nobody'"):
        await engine.start("nobody", {})
    with pytest.raises(Refusal, match="must be JSON"):
        await engine.start("test echo", {"at": object()})
    with pytest.raises(Refusal, match="must be JSON"):
        await engine.start("test echo", {"half": "\ud800"})
    with pytest.raises(Refusal, match="cannot be a flow's id"):
        await engine.start("test echo", {}, id="no spaces")
    with pytest.raises(Refusal, match="larger than"):
        await engine.start("test echo", {"much": "x" * 5_000_000})
    with pytest.raises(Refusal, match="no flow 'missing'"):
        await engine.status("missing")
    with pytest.raises(Refusal, match="one engine a process"):
        async with flows.engine("", Path(engine.database.engine.url.database).parent / "second"):
            pass


async def test_watching_shows_everything_in_order_and_goes_on_from_a_cursor(engine: Engine) -> None:
    id = await engine.start("test asks", {})
    question = await question_of(engine, id)
    await engine.answer(id, question.id, {"by": "kim", "text": "yes", "data": {"n": 1}})
    items = [item async for item in engine.watch(id)]
    assert [item.kind for item in items] == ["question", "answer", "end"]
    assert items[0].question == question.id and items[0].data == {"change": "ch-1"}
    assert items[2].data["result"]["answer"] == {"by": "kim", "text": "yes", "data": {"n": 1}}
    later = [item async for item in engine.watch(id, after=items[0].cursor)]
    assert [item.kind for item in later] == ["answer", "end"]


async def test_progress_has_text_share_and_data(engine: Engine) -> None:
    id = await engine.start("test two steps", {})
    [first, _] = [item async for item in engine.watch(id)]
    assert (first.kind, first.text, first.share, first.data) == ("progress", "half", 0.5, {"n": 1})


async def test_a_flow_that_asks_is_waiting_and_lists_as_such(engine: Engine) -> None:
    id = await engine.start("test asks", {})
    question = await question_of(engine, id)
    flow = await engine.status(id)
    assert flow.state == "waiting" and question.text == "Restart it?" and question.until - question.asked == 30
    assert id in [flow.id for flow in await engine.list(state="waiting")]
    assert id not in [flow.id for flow in await engine.list(state="working")]
    await engine.answer(id, question.id, {"text": "no"})
    await engine.result(id)
    assert id in [flow.id for flow in await engine.list(name="test asks", state="completed")]
    assert id not in [flow.id for flow in await engine.list(state="waiting")]


async def test_the_first_answer_counts_and_others_are_told_so(engine: Engine) -> None:
    id = await engine.start("test asks", {})
    question = await question_of(engine, id)
    given = await asyncio.gather(
        *[engine.answer(id, question.id, {"by": f"p{n}", "text": str(n)}) for n in range(5)], return_exceptions=True
    )
    refused = [str(error) for error in given if isinstance(error, Refusal)]
    assert len(refused) == 4 and all("first answer counts" in sentence for sentence in refused)
    with pytest.raises(Refusal, match="has no question"):
        await engine.answer(id, "made-up", {"text": "yes"})
    assert (await engine.result(id))["answer"]["by"] == f"p{given.index(None)}"


async def test_nobody_answers_in_time_and_late_answers_are_refused(engine: Engine) -> None:
    id = await engine.start("test asks", {"timeout_s": 0.05})
    assert (await engine.result(id))["answer"] is None
    with pytest.raises(Refusal, match="too late"):
        await engine.answer(id, f"{id}/2", {"text": "yes"})


async def test_a_failing_step_is_tried_again_with_the_same_key(engine: Engine) -> None:
    id = await engine.start("test fails", {"succeeds_at": 3})
    assert await engine.result(id) == {"tries": 3}
    assert set(seen(id)) == {f"{id}/1"}


async def test_a_step_that_keeps_failing_fails_the_flow_without_telling_secrets(engine: Engine) -> None:
    id = await engine.start("test fails", {"succeeds_at": 9})
    with pytest.raises(flows.FlowFailed, match="Step 'try' failed after 3 tries: OSError: the wire is cut") as error:
        await engine.result(id)
    assert "hunter2secret" not in str(error.value)
    assert (await engine.status(id)).state == "failed"


async def test_a_flow_may_catch_what_a_step_says(engine: Engine) -> None:
    said = {}
    for how in ("refusal", "denied", "slow"):
        argument = {"succeeds_at": 9, "tries": 2, "how": how, "caught": True, "timeout_s": 0.05}
        id = await engine.start("test fails", argument)
        said[how] = (await engine.result(id), len(seen(id)))
    assert said["refusal"] == ({"error": "Refusal", "why": "Not like this."}, 1)
    assert said["denied"] == ({"error": "Denied", "why": "Never."}, 1)
    late = "Step 'try' failed after 2 tries: it took longer than 0.05 s"
    assert said["slow"] == ({"error": "StepFailed", "why": late}, 2)


async def test_refusals_are_tried_again_when_told(engine: Engine) -> None:
    id = await engine.start("test fails", {"succeeds_at": 2, "how": "refusal", "retry_refusals": True})
    assert await engine.result(id) == {"tries": 2}


async def test_a_body_that_breaks_fails_the_flow_with_a_sentence(engine: Engine) -> None:
    for name, argument, says in (
        ("test breaks", {"what": "x"}, "KeyError"),
        ("test returns nonsense", {}, "list instead of a dict"),
        ("test returns nonsense", {"set": True}, "must be JSON"),
    ):
        with pytest.raises(flows.FlowFailed, match=says):
            await engine.result(await engine.start(name, argument))


async def test_cancelling_stops_the_step_in_flight(engine: Engine) -> None:
    id = await engine.start("test sleeps in a step", {})

    await until(lambda: seen(id) == ["began"], "the step began")
    assert (await engine.cancel(id)).state == "cancelled"
    await until(lambda: seen(id) == ["began", "stopped"], "the step stopped")
    with pytest.raises(flows.FlowFailed, match="cancelled"):
        await engine.result(id)


async def test_cancelling_wakes_a_flow_that_asks_and_withdraws_the_question(engine: Engine) -> None:
    id = await engine.start("test asks", {})
    question = await question_of(engine, id)
    assert (await engine.cancel(id)).question is None
    with pytest.raises(Refusal, match="withdrawn"):
        await engine.answer(id, question.id, {"text": "yes"})
    assert [item.kind async for item in engine.watch(id)] == ["question", "end"]


async def test_a_cancelled_flow_resumes_after_its_finished_steps(engine: Engine) -> None:
    id = await engine.start("test asks", {})
    question = await question_of(engine, id)
    await engine.cancel(id)
    await engine.resume(id)
    async with asyncio.timeout(10):
        while (await engine.status(id)).state != "waiting":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await engine.answer(id, question.id, {"by": "kim"})
    assert (await engine.result(id))["answer"]["by"] == "kim"
    assert len(seen(id)) == 1
    with pytest.raises(Refusal, match="nothing to resume"):
        await engine.resume(id)


async def test_a_failed_flow_resumes_with_its_failed_step(engine: Engine) -> None:
    id = await engine.start("test fails", {"succeeds_at": 4})
    with pytest.raises(flows.FlowFailed):
        await engine.result(id)
    await engine.resume(id)
    assert await engine.result(id) == {"tries": 4}


async def test_cancelling_what_has_ended_changes_nothing(engine: Engine) -> None:
    id = await engine.start("test echo", {"a": 1})
    await engine.result(id)
    assert (await engine.cancel(id)).state == "completed"


async def test_steps_side_by_side_are_numbered_in_order_and_bounded(engine: Engine) -> None:
    id = await engine.start("test side by side", {"n": 40})
    assert (await engine.result(id))["numbers"] == list(range(1, 41))
    assert SEEN["at once"][1] == 16


async def test_a_flow_may_start_another(engine: Engine) -> None:
    ENGINE[:] = [engine]
    await engine.result(await engine.start("test starts another", {"other": "started-by-a-flow"}))
    assert await engine.result("started-by-a-flow") == {"from": "a flow"}


async def test_listing_is_bounded_and_newest_first(engine: Engine) -> None:
    for n in range(5):
        await engine.result(await engine.start("test echo", {"n": n}))
    listed = await engine.list(name="test echo", limit=3)
    assert len(listed) == 3 and [flow.created for flow in listed] == sorted(
        (flow.created for flow in listed), reverse=True
    )
    assert {flow.id for flow in await engine.list(limit=2, offset=2)}.isdisjoint(
        flow.id for flow in await engine.list(limit=2)
    )


async def test_waiting_for_a_result_has_an_end(engine: Engine) -> None:
    id = await engine.start("test asks", {})
    with pytest.raises(Refusal, match="has not ended in"):
        await engine.result(id, timeout_s=0.05)
    await engine.cancel(id)


async def test_outside_of_a_flow_its_words_say_so(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="inside a flow"):
        await flows.progress("nowhere")
    with pytest.raises(ValueError, match="two flows named"):

        @flows.flow("test echo")
        async def other(argument: dict[str, Any]) -> dict[str, Any]:
            return {}


@flows.flow("test waits for others")
async def waits_for_others(argument: dict[str, Any]) -> dict[str, Any]:
    async def together() -> None:
        seen("together").append(flows.flow_id())
        await until(lambda: len(seen("together")) >= argument["all"], "all of them wait at once")

    await flows.step("together", together, timeout_s=20, waits=True)
    return {}


async def test_steps_that_only_wait_for_others_are_not_bound_by_the_engines_concurrency(engine: Engine) -> None:
    number = engine.slots._value + 4
    ids = [await engine.start("test waits for others", {"all": number}) for _ in range(number)]
    for id in ids:
        assert await engine.result(id) == {}


async def test_flows_that_ended_can_be_forgotten_and_others_cannot(engine: Engine) -> None:
    ended = [await engine.start("test two steps", {}, id=f"forget-{n}") for n in range(3)]
    for id in ended:
        await engine.result(id)
    waiting = await engine.start("test asks", {}, id="forget-waits")
    question = await question_of(engine, waiting)

    def left() -> dict[str, int]:
        tables = "workflow_input", "workflow_output", "operation_outputs", "workflow_status"
        with engine.database.reading() as db:
            found = {}
            for table in tables:
                like = f"SELECT count(*) FROM {{d}}{table} WHERE workflow_uuid LIKE 'forget-%'"
                found[table] = int(engine.database.do(db, like).scalar_one())
            items = engine.database.do(db, "SELECT count(*) FROM {q}items WHERE flow LIKE 'forget-%'")
            return {**found, "items": int(items.scalar_one())}

    assert left()["operation_outputs"] == 7
    assert await engine.forget([*ended, waiting, "forget-nothing"]) == 3
    with pytest.raises(Refusal, match="There is no flow"):
        await engine.status(ended[0])
    assert left() == {
        "workflow_input": 1, "workflow_output": 0, "operation_outputs": 1, "workflow_status": 1, "items": 1,
    }  # fmt: skip
    await engine.answer(waiting, question.id, {"by": "kim", "text": "yes"})
    assert (await engine.result(waiting))["answer"]["text"] == "yes"
    assert await engine.start("test two steps", {}, id="forget-0") == "forget-0"
    assert (await engine.result("forget-0"))["said"] == ["A", "B"], "a forgotten id may be used again"
