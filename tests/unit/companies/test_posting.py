"""Questions in batches, against a stand-in of the Message Batches API: sent once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import own_postgres
import pytest
import sqlalchemy as sa
from messages_api import Batch, Fail, MessagesApi, Say, now, serve
from pydantic import SecretStr

from quarterdeck.agents.companies import posting
from quarterdeck.agents.companies.posting import PostOffice, Unpostable, cancel
from quarterdeck.agents.companies.questions import Questions
from quarterdeck.agents.companies.store import Store
from quarterdeck.keel.flowbells import Bells
from quarterdeck.keel.model import Model
from quarterdeck.keel.settings import FlowsSettings, ModelSettings, Price, Settings

ANSWER = Say({"values": []})


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"QUIET_S": 0.0, "LOOK_S": 0.02, "FIRST_S": 0.02, "LONGEST_S": 0.05}.items():
        monkeypatch.setattr(posting, name, value)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with own_postgres.server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    address = ""
    if request.param == "postgres":
        server, name = request.getfixturevalue("postgres"), f"d{abs(hash(request.node.name))}"
        admin = sa.create_engine(server.replace("postgresql", "postgresql+psycopg") + "/postgres")
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        address = f"{server}/{name}"
    opened = Store(Settings(home=tmp_path, flows=FlowsSettings(database=SecretStr(address))))
    await opened.open()
    await opened.begin("j", {"schema": {}, "cheap": True}, caller="kim", label="", priority=0, budget=None, parent="")
    await opened.update("j", state="running")
    yield opened
    await opened.close()


def model(api: MessagesApi, key: str = "k") -> Model:
    price = {ModelSettings().small: Price(input=1.0, output=5.0)}
    return Model(ModelSettings(api_key=SecretStr(key), base_url=api.url, prices=price))


async def ask(questions: Questions, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        message = {"role": "user", "content": f"question {n}"}
        await questions.ask("j", str(n), {"model": "m", "max_tokens": 9, "messages": [message]})


async def states(questions: Questions, count: int) -> list[str]:
    return [(await questions.told("j", str(n))).state for n in range(count)]


@asynccontextmanager
async def at_work(api: MessagesApi, questions: Questions) -> AsyncIterator[asyncio.Task[None]]:
    office = asyncio.create_task(PostOffice(model(api), questions, Bells(), "j").run())
    try:
        yield office
    finally:
        office.cancel()
        await asyncio.gather(office, return_exceptions=True)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):  # the first one also waits for the SDK to be imported
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def answered(questions: Questions, count: int) -> None:
    async def all_done() -> bool:
        return set(await states(questions, count)) <= {"done", "failed"}

    await until(all_done)


async def test_each_question_gets_its_own_answer_at_half_the_price(store: Store) -> None:
    questions = Questions(store)
    with serve(lambda body: Say(f"to {body['messages'][0]['content']}")) as api:
        await ask(questions, 5)
        async with at_work(api, questions):
            await answered(questions, 5)

            async def over() -> bool:
                return await questions.batches("j") == []

            await until(over)
    told = [(await questions.told("j", str(n))).answer for n in range(5)]
    assert [one["text"] for one in told] == [f"to question {n}" for n in range(5)]
    assert told[0]["usage"]["cost"] == pytest.approx((150 * 1 + 20 * 5) / 1e6 / 2)


async def test_a_question_is_kept_once(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        await ask(questions, 2)
        async with at_work(api, questions):
            await answered(questions, 2)
            await ask(questions, 3)
            await answered(questions, 3)
        assert [len(batch.requests) for batch in api.batches.values()] == [2, 1]


async def test_many_questions_become_several_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "MOST_REQUESTS", 2)
    questions = Questions(store)
    with serve(ANSWER) as api:
        await ask(questions, 5)
        async with at_work(api, questions):
            await answered(questions, 5)
        assert [len(batch.requests) for batch in api.batches.values()] == [2, 2, 1]


async def test_large_questions_become_several_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "MOST_BYTES", 400)
    questions = Questions(store)
    with serve(ANSWER) as api:
        await ask(questions, 4)
        async with at_work(api, questions):
            await answered(questions, 4)
        assert [len(batch.requests) for batch in api.batches.values()] == [2, 2]


async def test_a_batch_whose_sender_never_heard_of_it_is_found_and_not_sent_again(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.lose_next_answer = True
        foreign = {"custom_id": "somebody-else", "params": {"model": "m", "max_tokens": 9, "messages": []}}
        api.batches["msgbatch_theirs"] = Batch("msgbatch_theirs", [foreign] * 3, now())
        await ask(questions, 3)
        async with at_work(api, questions):
            await answered(questions, 3)
        assert len(api.batches) == 2, "one was theirs, one is ours"
        assert await states(questions, 3) == ["done"] * 3


async def test_while_a_batch_might_be_ours_it_is_waited_for(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.pending.set()
        api.lose_next_answer = True
        await ask(questions, 3)
        async with at_work(api, questions):

            async def looked_often() -> bool:
                return api.listed > 5

            await until(looked_often)
            assert len(api.batches) == 1
            job = (await store.entries(1))[0].job
            assert job.in_batches == 3
            assert 0 < job.batches_since <= time.time()
            api.pending.clear()
            await answered(questions, 3)
        assert len(api.batches) == 1


async def test_a_batch_that_never_arrived_is_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "LOST_S", 0.2)
    questions = Questions(store)
    with serve(ANSWER) as api:
        await ask(questions, 3)
        assert await questions.begin("j", 10, 10**6) is not None  # and then its process was killed
        assert await states(questions, 3) == ["asked"] * 3
        async with at_work(api, questions):
            await answered(questions, 3)
        assert [len(batch.requests) for batch in api.batches.values()] == [3]


async def test_what_a_batch_failed_to_answer_is_sent_a_few_times_and_then_told(store: Store) -> None:
    questions = Questions(store)
    with serve(Fail(500, "api_error", message="it hurts")) as api:
        await ask(questions, 2)
        async with at_work(api, questions):
            await answered(questions, 2)
        assert len(api.batches) == posting.SENT
    told = await questions.told("j", "0")
    assert (told.state, told.problem) == ("failed", "the model's service refused it: it hurts")


async def test_what_somebody_cancelled_at_the_service_is_told_and_not_sent_again(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.pending.set()
        await ask(questions, 2)
        async with at_work(api, questions):

            async def sent() -> bool:
                return [one.id for one in await questions.batches("j")] == ["msgbatch_1"]

            await until(sent)
            api.batches["msgbatch_1"].cancelled = now()
            await answered(questions, 2)
        assert len(api.batches) == 1
    assert (await questions.told("j", "0")).problem == "somebody cancelled its batch at the model's service"


async def test_cancelling_is_for_good_only_what_had_no_answer(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.pending.set()
        api.before_cancelled = 2
        await ask(questions, 3)
        async with at_work(api, questions):

            async def sent() -> bool:
                return any(one.id for one in await questions.batches("j"))

            await until(sent)
        assert await cancel(model(api), questions, "j") == 1
        assert await cancel(model(api), questions, "j") == 0
        api.pending.clear()
        async with at_work(api, questions):
            await answered(questions, 3)
        assert [len(batch.requests) for batch in api.batches.values()] == [3, 1]


async def test_a_batch_on_its_way_when_its_job_is_cancelled_is_cancelled_too(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.hold.set()
        api.pending.set()
        await ask(questions, 2)
        posts = PostOffice(model(api), questions, Bells(), "j")
        office = asyncio.create_task(posts.run())

        async def taken() -> bool:
            return bool(api.batches)

        await until(taken)
        office.cancel()
        await asyncio.gather(office, return_exceptions=True)
        api.hold.clear()
        await posts.handed_over()
        assert await cancel(model(api), questions, "j") == 1
        assert api.batches["msgbatch_1"].cancelled


async def test_a_key_that_is_refused_ends_it_and_nothing_counts_as_sent(store: Store) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.bad_keys.add("k")
        await ask(questions, 2)
        async with at_work(api, questions) as office:
            with pytest.raises(Unpostable, match="key is not accepted"):
                await office
        assert await states(questions, 2) == ["new"] * 2
        api.bad_keys.clear()
        async with at_work(api, questions):
            await answered(questions, 2)
        assert len(api.batches) == 1


async def test_a_service_that_is_away_for_a_while_only_delays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "LOST_S", 0.0)
    questions = Questions(store)
    with serve(ANSWER) as api:
        elsewhere: Any = model(api)
        await ask(questions, 2)
    office = asyncio.create_task(PostOffice(elsewhere, questions, Bells(), "j").run())
    try:

        async def tried() -> bool:
            return bool(await questions.batches("j"))

        await until(tried)
        assert not office.done()
    finally:
        office.cancel()
        await asyncio.gather(office, return_exceptions=True)
    with serve(ANSWER) as api:
        async with at_work(api, questions):
            await answered(questions, 2)
        assert len(api.batches) == 1


ODD: dict[str, Any] = {
    "a place in other digits": {"custom_id": "MARK-²"},
    "a place beyond all numbers": {"custom_id": f"MARK-{'9' * 30}"},
    "no result": {"result": None},
    "no message": {"result": {"type": "succeeded", "message": None}},
    "no blocks": {"result": {"type": "succeeded", "message": {"content": [None], "usage": {"input_tokens": "many"}}}},
    "text that is none": {"result": {"type": "succeeded", "message": {"content": [{"type": "text", "text": None}]}}},
}


@pytest.mark.parametrize("how", ODD)
async def test_an_odd_result_spoils_no_other_and_ends_no_job(store: Store, how: str) -> None:
    questions = Questions(store)
    with serve(ANSWER) as api:
        api.pending.set()
        await ask(questions, 2)
        async with at_work(api, questions) as office:

            async def sent() -> bool:
                return "msgbatch_1" in api.batches

            await until(sent)
            batch = api.batches["msgbatch_1"]
            api.pending.clear()
            api.end(batch)
            assert batch.results is not None
            odd = {**batch.results[0], **ODD[how]}
            odd["custom_id"] = odd["custom_id"].replace("MARK", batch.results[0]["custom_id"].partition("-")[0])
            batch.results[0] = odd

            async def settled() -> bool:
                return office.done() or set(await states(questions, 2)) <= {"done", "failed"}

            await until(settled)
            assert not office.done()
            assert "done" in await states(questions, 2)
