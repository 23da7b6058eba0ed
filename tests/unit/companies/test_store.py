"""Results are written once and counted with them, on SQLite and on PostgreSQL; a full disk loses nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import own_postgres
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from research_standin import SCHEMA, Weather, facts

from quarterdeck.agents.companies import pool
from quarterdeck.agents.companies.jobs import Jobs
from quarterdeck.agents.companies.models import Result
from quarterdeck.agents.companies.store import Store
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import FlowsSettings, Settings

from .conftest import KIM, Run, ended

NAMES = [f"Company {n}" for n in range(12)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with own_postgres.server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    address = ""
    if request.param == "postgres":
        name = f"d{abs(hash(request.node.name))}"
        server = request.getfixturevalue("postgres")
        admin = sa.create_engine(server.replace("postgresql", "postgresql+psycopg") + "/postgres")
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        address = f"{server}/{name}"
    opened = Store(Settings(home=tmp_path, flows=FlowsSettings(database=SecretStr(address))))
    await opened.open()
    yield opened
    await opened.close()


async def begun(store: Store, id: str = "j", names: list[str] = NAMES) -> None:
    await store.begin(id, {"schema": SCHEMA}, caller="kim", label="", priority=0, budget=None, parent="")
    await store.add(id, list(enumerate(names)))
    await store.update(id, "state = 'loading'", state="queued", total=len(names))


def result(n: int, **more: Any) -> Result:
    values: dict[str, Any] = {"state": "complete", "data": {"ceo": "R. 러너\0"}, "cost": 0.5, "tokens": 10}
    return Result(n, NAMES[n], **{**values, "iterations": 1, "job": "j", **more})


async def test_a_result_is_written_and_counted_once_however_often_it_comes(store: Store) -> None:
    await begun(store)
    stored = await asyncio.gather(*[store.put(result(n % 6), 0, {"sources": [n]}) for n in range(60)])
    assert sum(stored) == 6
    entry = await store.entry("j")
    assert entry is not None
    assert (entry.job.done, entry.job.good, entry.job.cost, entry.job.tokens) == (6, 6, 3.0, 60)
    assert [one.n for one in await store.results("j", 1, 3, newest=False)] == [2, 3, 4]
    assert (await store.results("j", -1, 1, newest=False))[0].data == {"ceo": "R. 러너"}
    assert [one.n for one in await store.waiting("j", 7, 10)] == [8, 9, 10, 11]
    assert (await store.notes("j", 0)) == {"sources": [0]}
    assert not await store.put(result(11), 1), "a try that is over writes nothing"
    assert await store.state_of("j", 11) == "waiting"
    assert await store.state_of("other", 0) == ""


async def test_a_page_that_writes_of_nul_spoils_no_result(store: Store) -> None:
    await begun(store)
    said = {"ceo": r'the escape \u0000, or "\\u0000"' + "\0", "city": "\0\0"}
    await store.put(result(0, data=said, fields=[{"passage": r"\u0000"}]), 0, {"sources": [r"\u0000"]})
    (found,) = await store.results("j", -1, 9, newest=False)
    assert found.data == {"ceo": r'the escape \u0000, or "\\u0000"', "city": ""}
    assert found.fields == [{"passage": r"\u0000"}]
    assert await store.notes("j", 0) == {"sources": [r"\u0000"]}


@pytest.mark.parametrize("poison", [{"data": {"ceo": "half \ud800"}}, {"tokens": 10**30}])
async def test_what_cannot_be_stored_takes_nobody_with_it(store: Store, poison: dict[str, Any]) -> None:
    await begun(store)
    puts = [store.put(result(n, **(poison if n == 3 else {})), 0) for n in range(6)]
    stored = await asyncio.gather(*puts, return_exceptions=True)
    assert stored[:3] + stored[4:] == [True] * 5
    assert isinstance(stored[3], Refusal)
    assert str(stored[3]).startswith("This cannot be stored")
    assert [one.n for one in await store.results("j", -1, 9, newest=False)] == [0, 1, 2, 4, 5]


async def test_what_failed_waits_again_when_a_job_is_taken_up_once(store: Store) -> None:
    await begun(store)
    for n in range(12):
        await store.put(result(n, state="failed" if n < 2 else "complete", problem="no"), 0)
    assert not await store.again("j"), "it has not ended"
    await store.update("j", state="completed")
    assert sorted(await asyncio.gather(*[store.again("j", budget=2.0) for _ in range(4)])) == [False] * 3 + [True]
    entry = await store.entry("j")
    assert entry is not None
    assert (entry.round, entry.job.state, entry.job.failed, entry.job.done, entry.job.budget) == (
        2,
        "queued",
        0,
        10,
        2.0,
    )
    assert [(one.n, one.tries) for one in await store.waiting("j", -1, 9)] == [(0, 1), (1, 1)]
    assert not await store.put(result(0), 0)
    assert await store.put(result(0), 1)


async def test_names_that_stand_there_twice_are_one_row(store: Store) -> None:
    await store.begin("j", {}, caller="kim", label="", priority=0, budget=None, parent="")
    assert await store.add("j", [(0, "ACME"), (1, "acme"), (2, "Foo")]) == 2
    assert await store.add("j", [(3, "Acme"), (4, "Bar")]) == 1
    assert [one.name for one in await store.waiting("j", -1, 9)] == ["ACME", "Foo", "Bar"]
    assert not await store.begin("j", {}, caller="lee", label="", priority=0, budget=None, parent="")


async def test_a_submission_that_was_interrupted_begins_again(store: Store) -> None:
    await store.begin("j", {}, caller=KIM.id, label="", priority=0, budget=None, parent="")
    await store.add("j", [(0, "half a list")])
    jobs = Jobs(store, engine=object())
    with pytest.raises(Refusal, match="Try again in 30 s: job j is being stored"):
        await jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
    assert (await store.entry("j")).job.state == "queued"  # type: ignore[union-attr]


async def test_results_wait_for_a_full_disk_and_nothing_is_lost_or_done_twice(
    run: Run, weather: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "FIRST_PAUSE_S", 0.001)
    weather.latency_s = {"reflect_quality": 0.2}
    full = False

    def limit(connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0] if full else 1_000_000_000
        connection.execute(f"PRAGMA max_page_count = {pages}")

    async with run() as office:
        sa.event.listen(office.store.database.engine, "checkout", limit)
        names = [f"Company {n}" for n in range(60)]
        await office.jobs.submit(names, SCHEMA, id="j", by=KIM)
        full = True
        filler = {"sources": ["x" * 50] * 50, "noise": [str(n) * 9 for n in range(90_000)]}
        with pytest.raises(Refusal, match=r"Try again: results cannot be stored in .*full"):
            await office.store.put(Result(59, "Company 59", "complete", job="j"), 0, filler)
        while len(weather.calls) < 3 * 60:  # noqa: ASYNC110  all of them are at their end, or past it
            await asyncio.sleep(0.05)
        full = False
        job = await ended(office, "j")
        assert (job.state, job.done, job.good) == ("completed", 60, 60)
        assert {one.company_name: one.data for one in await office.jobs.results("j")} == {
            name: facts(name) for name in names
        }
    assert max(Counter(line for line in weather.calls if line.startswith("research")).values()) == 1


async def test_a_place_for_notes_that_cannot_be_written_stops_the_job_and_the_same_id_stores_what_was_found(
    run: Run, weather: Weather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "FIRST_PAUSE_S", 0.001)
    place = tmp_path / "notes"
    place.write_text("a file is in the way")
    async with run(notes=str(place)) as office:
        await office.jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
        job = await ended(office, "j")
        assert (job.state, job.done) == ("stopped", 0)
        assert "could not be stored" in job.why and "notes cannot be stored" in job.why
        while await office.engine.list(name="companies.one", state="working"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        before = len(weather.calls)
        place.unlink()
        await office.jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
        job = await ended(office, "j")
        assert (job.state, job.good) == ("completed", 12)
    assert len([line for line in weather.calls[before:] if line.startswith("research")]) == 0
    assert len(list(place.glob("j/*.json"))) == 12
