"""Jobs of company research as whoever submits them meets them: what is done, counted, kept, stopped and taken up."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from research_standin import SCHEMA, Weather, facts, hides

from quarterdeck.agents.companies import feeding
from quarterdeck.agents.companies.coordinator import asked
from quarterdeck.agents.companies.jobs import looking
from quarterdeck.agents.companies.models import Job
from quarterdeck.agents.companies.report import job_json
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.identity import APPROVE, READ, Caller

from .conftest import KIM, Run, ended

NAMES = [f"Company {n}" for n in range(24)]


async def test_every_company_of_a_list_gets_its_result_with_sources_and_cost(run: Run, weather: Weather) -> None:
    async with run() as office:
        job = await office.jobs.submit(NAMES, SCHEMA, id="q3", label="third quarter", by=KIM)
        assert (job.total, job.label) == (24, "third quarter")
        job = await ended(office, "q3")
        assert (job.state, job.done, job.good, job.failed) == ("completed", 24, 24, 0)
        found = await office.jobs.results("q3")
    assert [one.n for one in found] == list(range(24))
    assert all(one.data == facts(one.company_name) for one in found)
    again = [one for one in found if hides(one.company_name)]
    assert 0 < len(again) < 24
    assert all(one.iterations == 2 and len(one.sources) == 2 for one in again)
    assert all(one.iterations == 1 for one in found if one not in again)
    assert job.iterations == 24 + len(again)
    assert job.tokens == 1100 * job.iterations
    assert job.cost == pytest.approx(0.002 * job.iterations)
    field = next(one for one in again[0].fields if one["path"] == "founded")
    assert field["source"].startswith("http://pages.test/again/")
    assert max(Counter(weather.calls).values()) <= 2, "extraction and reflection once in each of two rounds"
    assert max(Counter(line for line in weather.calls if line.startswith("research")).values()) == 1


async def test_what_an_earlier_iteration_found_is_not_lost_by_a_later_one(run: Run) -> None:
    name = next(name for name in NAMES if hides(name))
    async with run() as office:
        await office.jobs.submit([name], SCHEMA, id="one", by=KIM)
        await ended(office, "one")
        (found,) = await office.jobs.results("one")
    assert found.data == facts(name), "its second round finds the year alone"
    assert {one["path"] for one in found.fields} == {"ceo", "founded", "city"}


async def test_a_company_that_fails_is_an_outcome_with_its_reason_and_is_tried_again_by_the_same_id(
    run: Run, weather: Weather
) -> None:
    async with run() as office:
        await office.jobs.submit(["good", "cursed one", "shy two"], SCHEMA, id="j", by=KIM)
        job = await ended(office, "j")
        assert (job.state, job.good, job.incomplete, job.failed) == ("completed", 1, 1, 1)
        good, cursed, shy = await office.jobs.results("j")
        assert (cursed.state, cursed.problem) == ("failed", "Nothing may be said about cursed one.")
        assert (shy.state, shy.problem, shy.completeness) == ("incomplete", "not found: founded", 0.5)
        before = len(weather.calls)
        taken_up = await office.jobs.submit(["good", "cursed one", "shy two"], SCHEMA, id="j", by=KIM)
        assert taken_up.state != "completed"
        job = await ended(office, "j")
        assert (job.done, job.good, job.incomplete, job.failed) == (3, 1, 1, 1)
        assert len(weather.calls) == before, "what was good is not done again"
        assert (await office.jobs.results("j"))[0] == good


async def test_names_are_trimmed_and_blank_and_repeated_ones_are_counted(run: Run) -> None:
    names = ["  ACME ", "", "acme", " \t\n", "Foo \"Bar\" & 'Söhne'\nGmbH", "삼성전자", "x" * 10_000]
    names += ["\ud83d", "A\u0000B"]
    async with run() as office:
        job = await office.jobs.submit(names, SCHEMA, id="odd", by=KIM)
        assert (job.total, job.blank, job.duplicates, job.clipped) == (6, 2, 1, 1)
        await ended(office, "odd")
        found = await office.jobs.results("odd")
    assert [one.n for one in found] == [0, 4, 5, 6, 7, 8]
    assert [one.company_name for one in found[:3]] == ["ACME", "Foo \"Bar\" & 'Söhne' GmbH", "삼성전자"]
    assert found[3].company_name == "x" * 300
    assert all(one.state == "complete" for one in found)


async def test_another_list_or_schema_under_a_known_id_is_refused(run: Run) -> None:
    async with run() as office:
        await office.jobs.submit(NAMES[:3], SCHEMA, id="j", by=KIM)
        assert (await office.jobs.submit(NAMES[:3], SCHEMA, id="j", by=KIM)).total == 3
        with pytest.raises(Refusal, match="another list, schema"):
            await office.jobs.submit(NAMES[:4], SCHEMA, id="j", by=KIM)
        with pytest.raises(Refusal, match="another list, schema"):
            await office.jobs.submit(NAMES[:3], SCHEMA, id="j", max_iterations=3, by=KIM)
        with pytest.raises(Refusal, match="is taken"):
            await office.jobs.submit(NAMES[:3], SCHEMA, id="j", by=Caller("local:lee"))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({}, "must be a JSON schema of an object"),
        ({"properties": {"a": {"type": "strange"}}}, "no valid JSON schema, at properties/a"),
        ({"properties": {f"p{n}": {"type": "string", "description": "d" * 100} for n in range(1000)}}, "larger than"),
    ],
)
async def test_a_schema_that_cannot_be_is_refused_before_anything_is_stored(
    run: Run, schema: dict[str, object], said: str
) -> None:
    async with run() as office:
        with pytest.raises(Refusal, match=said):
            await office.jobs.submit(["ACME"], schema, by=KIM)
        with pytest.raises(Refusal, match="no company names"):
            await office.jobs.submit(["", " "], SCHEMA, id="empty", by=KIM)
        with pytest.raises(Denied, match=r"lacks the scope 'spend'\. `quarterdeck token NAME --spend` makes one"):
            await office.jobs.submit(["ACME"], SCHEMA, by=Caller("token:reader", frozenset({READ})))
        assert [job.id for job in await office.jobs.list()] == ["empty"]


async def test_a_budget_stops_a_job_and_more_of_it_goes_on(run: Run) -> None:
    async with run() as office:
        await office.jobs.submit(NAMES, SCHEMA, id="b", budget=0.03, by=KIM)
        job = await ended(office, "b")
        assert job.state == "stopped"
        assert job.why.startswith("the budget of 0.03 USD")
        assert 0 < job.done < 24
        assert job.cost is not None
        assert 0.02 < job.cost <= 0.03 + 10 * 0.004, "at most the ten that were in work go beyond"
        done = {one.n: one for one in await office.jobs.results("b")}
        await office.jobs.submit(NAMES, SCHEMA, id="b", budget=1.0, by=KIM)
        job = await ended(office, "b")
        assert (job.state, job.done) == ("completed", 24)
        assert {one.n: one for one in await office.jobs.results("b")}.items() >= done.items()


async def test_a_budget_stops_a_job_whose_prices_are_not_known(run: Run, weather: Weather) -> None:
    weather.price = None
    async with run() as office:
        await office.jobs.submit([f"Company {n}" for n in range(60)], SCHEMA, id="b", budget=0.03, by=KIM)
        job = await ended(office, "b")
    assert job.state == "stopped"
    assert "cannot be kept where no price is known" in job.why
    assert 10 <= job.done <= 20


async def test_companies_without_a_price_use_up_a_budget_like_the_others(run: Run, weather: Weather) -> None:
    weather.unpriced = "odd"
    names = [f"odd Company {n}" if n % 2 else f"Company {n}" for n in range(80)]
    async with run() as office:
        await office.jobs.submit(names, SCHEMA, id="b", budget=0.08, by=KIM)
        job = await ended(office, "b")
    assert job.state == "stopped"
    assert job.done <= 50, "about forty companies cost that, whether or not their prices are told"


async def test_companies_that_fail_for_nothing_do_not_make_the_others_look_cheap(run: Run, weather: Weather) -> None:
    weather.latency_s = {"extract_data": 0.3}
    names = [f"cursed {n}" for n in range(9)] + [f"Company {n}" for n in range(90)]
    async with run() as office:
        await office.jobs.submit(names, SCHEMA, id="b", budget=0.03, by=KIM)
        job = await ended(office, "b")
    assert job.state == "stopped"
    assert job.cost is not None and job.cost <= 0.03 + 10 * 0.004


async def test_what_was_paid_for_a_failure_counts_once_among_the_companies_that_are_done(
    run: Run, weather: Weather
) -> None:
    names = ["cursed one", "Company 1", "Company 2"]
    async with run() as office:
        await office.jobs.submit(names, SCHEMA, id="j", by=KIM)
        assert (await ended(office, "j")).unpriced == 0
        await office.jobs.submit(names, SCHEMA, id="j", by=KIM)
        job = await ended(office, "j")
        assert (job.done, job.failed, job.unpriced) == (3, 1, 0)


async def test_a_cost_that_is_not_known_is_not_made_up(run: Run, weather: Weather) -> None:
    weather.price = None
    async with run() as office:
        await office.jobs.submit(NAMES[:3], SCHEMA, id="c", by=KIM)
        job = await ended(office, "c")
        assert (job.cost, job.unpriced) == (None, 3)
        assert job.tokens > 0


async def test_cancelling_starts_no_more_keeps_what_is_done_and_the_same_id_goes_on(run: Run, weather: Weather) -> None:
    weather.latency_s = {"": 0.05}
    async with run(window=4) as office:
        await office.jobs.submit(NAMES, SCHEMA, id="c", by=KIM)
        async for job in office.jobs.watch("c", every_s=0.05):
            if job.done >= 4:
                break
        assert (await office.jobs.cancel("c", by=KIM)).state == "cancelled"
        await ended(office, "c")
        while await office.engine.list(state="working"):  # noqa: ASYNC110  those in flight end by themselves
            await asyncio.sleep(0.05)
        done = await office.jobs.results("c")
        assert 4 <= len(done) < 24
        await office.jobs.submit(NAMES, SCHEMA, id="c", by=KIM)
        job = await ended(office, "c")
        assert (job.state, job.done, job.good) == ("completed", 24, 24)
    assert max(Counter(line for line in weather.calls if line.startswith("research")).values()) == 1


async def test_a_cancelled_job_goes_on_while_its_last_companies_still_end(
    run: Run, weather: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "LOOK_S", 0.02)
    weather.latency_s = {"": 0.2}
    broken: list[str] = []
    room = feeding.Feeder._room

    def watched(self: feeding.Feeder, job: Job) -> int:
        try:
            return room(self, job)
        except KeyError as error:
            broken.append(str(error))
            raise

    monkeypatch.setattr(feeding.Feeder, "_room", watched)
    async with run(window=4) as office:
        for _ in range(3):
            await office.jobs.submit(NAMES, SCHEMA, id="c", by=KIM)
            await asyncio.sleep(0.1)
            await office.jobs.cancel("c", by=KIM)
        await office.jobs.submit(NAMES, SCHEMA, id="c", by=KIM)
        job = await ended(office, "c")
        assert (job.state, job.good, broken) == ("completed", 24, [])
    assert max(Counter(line for line in weather.calls if line.startswith("research")).values()) == 1


async def test_a_schema_that_nobody_can_read_stops_a_job_before_anything_is_searched(
    run: Run, weather: Weather
) -> None:
    async with run() as office:
        await office.jobs.submit(NAMES, {**SCHEMA, "not": {"required": ["x"]}}, id="s", by=KIM)
        job = await ended(office, "s")
    assert (job.state, job.done, weather.calls) == ("stopped", 0, [])
    assert "uses `not`" in job.why


async def test_a_job_taken_up_anew_does_nothing_again_that_was_still_in_work(
    run: Run, weather: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    weather.latency_s = {"research_company": 1.0}
    async with run(window=20) as office:
        await office.jobs.submit(NAMES, SCHEMA, id="c", by=KIM)
        async with asyncio.timeout(20):
            while weather.most.get("research_company", 0) < 12:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await office.jobs.cancel("c", by=KIM)
        monkeypatch.setattr(feeding, "AT_FIRST", 2)
        monkeypatch.setattr(feeding, "MORE_A_S", 0)
        await office.jobs.submit(NAMES, SCHEMA, id="c", by=KIM)
        job = await ended(office, "c")
        assert (job.state, job.good) == ("completed", 24)
    assert max(Counter(line for line in weather.calls if line.startswith("research")).values()) == 1


async def test_a_job_named_like_another_flow_is_refused_and_keeps_nobody_from_starting_again(run: Run) -> None:
    taken = "0123-4567-89ab"
    async with run() as office:
        await office.engine.start("companies.asked", {"asked": {}, "caller": "lee", "scopes": []}, id=taken)
        with pytest.raises(Refusal, match="another kind"):
            await office.jobs.submit(NAMES, SCHEMA, id=taken, by=KIM)
    async with run() as office:
        await office.jobs.submit(NAMES[:1], SCHEMA, id="j", by=KIM)
        assert (await ended(office, "j")).state == "completed"
        job = await office.jobs.status(taken)
        assert (job.state, "another kind" in job.why) == ("failed", True)


async def test_a_job_stops_when_every_company_fails_and_goes_on_when_that_is_mended(run: Run, weather: Weather) -> None:
    weather.down = "The key of the search provider is not valid. Set another one."
    names = [f"Company {n}" for n in range(70)]
    async with run(window=10) as office:
        await office.jobs.submit(names, SCHEMA, id="d", by=KIM)
        job = await ended(office, "d")
        assert job.state == "stopped"
        assert "50 companies failed one after another" in job.why and "key of the search provider" in job.why
        assert job.done < 70
        weather.down = ""
        await office.jobs.submit(names, SCHEMA, id="d", by=KIM)
        job = await ended(office, "d")
        assert (job.state, job.good, job.failed) == ("completed", 70, 0)


async def test_a_company_whose_work_breaks_off_is_a_failed_one_with_the_reason(run: Run) -> None:
    async with run() as office:
        await office.jobs.submit(["Company 1", "garbled Inc"], SCHEMA, id="j", by=KIM)
        job = await ended(office, "j")
        assert (job.state, job.done, job.failed) == ("completed", 2, 1)
        (failed,) = [one for one in await office.jobs.results("j") if one.state == "failed"]
        assert failed.problem.startswith("The work on it broke off")


async def test_a_job_that_nobody_works_on_is_told_as_stopped(run: Run, weather: Weather) -> None:
    weather.latency_s = {"": 5.0}
    async with run() as office:
        await office.jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
        async with asyncio.timeout(20):
            async for job in office.jobs.watch("j", every_s=0.05):
                if job.state == "running":
                    break
        assert not (await office.jobs.status("j")).idle
        settings = office.settings
    async with looking(settings) as jobs:
        (job,) = await jobs.list()
        assert (job.state, job.idle) == ("running", True)
        told = job_json(job)
        assert told["state"] == "stopped"
        assert "the same command goes on" in told["why"]
    weather.latency_s = {}
    async with run() as office:
        job = await office.jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
        assert not job.idle
        assert (await ended(office, "j")).state == "completed"
        assert not (await office.jobs.status("j")).idle


async def test_cheap_mode_needs_a_model_and_says_so(run: Run) -> None:
    async with run() as office:
        with pytest.raises(Refusal, match="Cheap mode reads with a model: set ANTHROPIC_API_KEY"):
            await office.jobs.submit(NAMES, SCHEMA, by=KIM, cheap=True)
        with pytest.raises(Refusal, match="Rules cost nothing"):
            await office.jobs.submit(NAMES, SCHEMA, by=KIM, cheap=True, mode="rules")
        assert await office.jobs.list() == []
    assert asked("", {"companies": ["ACME"], "fields": ["ceo"], "cheap": True})["options"] == {"cheap": True}
    with pytest.raises(Refusal, match="`cheap` must be true or false"):
        asked("", {"companies": ["ACME"], "fields": ["ceo"], "cheap": "yes"})


async def test_a_job_waits_for_the_flows_database_instead_of_stopping(
    run: Run, weather: Weather, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    async with run(window=6) as office:
        start = office.engine.start

        async def away(name: str, argument: dict[str, Any], id: str = "") -> str:
            """As when the database does not answer for some seconds in the middle of a job."""
            if id.startswith("j/") and argument["n"] >= 9 and len(refused) < 4:
                refused.append(id)
                raise office.engine.database.unusable(TimeoutError())
            return str(await start(name, argument, id=id))

        monkeypatch.setattr(office.engine, "start", away)
        await office.jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
        job = await ended(office, "j")
        assert (job.state, job.why, job.good) == ("completed", "", len(NAMES))
    assert len(refused) == 4
    assert max(Counter(line for line in weather.calls if line.startswith("research")).values()) == 1


async def test_ended_company_flows_are_deleted(run: Run) -> None:
    async with run() as office:
        await office.jobs.submit(NAMES, SCHEMA, id="j", by=KIM)
        await ended(office, "j")
        assert (await office.engine.result("j"))["job"] == "j"
        assert [flow.id for flow in await office.engine.list()] == ["j"]


async def test_a_job_is_seen_by_who_submitted_it_and_by_who_may_approve(run: Run) -> None:
    lee, boss = Caller("token:lee"), Caller("token:boss", frozenset({READ, APPROVE}))
    async with run() as office:
        await office.jobs.submit(NAMES[:2], SCHEMA, id="j", by=KIM)
        await ended(office, "j")
        jobs = office.jobs
        for look in (jobs.status("j", by=lee), jobs.results("j", by=lee), jobs.cancel("j", by=lee)):
            with pytest.raises(Refusal, match="There is no job"):
                await look
        assert await office.jobs.list(by=lee) == []
        assert await office.jobs.history(NAMES[0], by=lee) == []
        assert [job.id for job in await office.jobs.list(by=boss)] == ["j"]
        assert len(await office.jobs.results("j", by=boss)) == 2
        assert [one.job for one in await office.jobs.history(NAMES[0], by=KIM)] == ["j"]


async def test_the_history_of_a_company_goes_over_jobs(run: Run) -> None:
    async with run() as office:
        for id in ("first", "second"):
            await office.jobs.submit(["Acme  Corp"], SCHEMA, id=id, by=KIM)
            await ended(office, id)
        found = await office.jobs.history("ACME corp")
    assert [one.job for one in found] == ["second", "first"]
    assert replace(found[0], job="", finished=0, duration_s=0) == replace(found[1], job="", finished=0, duration_s=0)


async def test_calls_stay_within_the_fleets_limits_whatever_hangs_and_fails(run: Run, weather: Weather) -> None:
    weather.latency_s, weather.passing, weather.hanging = {"": 0.02}, 0.1, 0.02
    names = [f"Company {n}" for n in range(60)]
    async with run(at_once={"research": 6, "extraction": 3}) as office:
        office.pools["research"].floor_s = office.pools["extraction"].floor_s = office.pools["reflection"].floor_s = 0.3
        for pool in office.pools.values():
            pool.timeout_s = 5.0
        await office.jobs.submit(names, SCHEMA, id="w", by=KIM)
        job = await ended(office, "w", 50)
        assert (job.good, job.failed) == (60, 0)
        assert sum(pool.cut for pool in office.pools.values()) > 0
    assert weather.most["research_company"] <= 6 + 2, "a call that was cut off may take a moment to stop"
    assert weather.most["extract_data"] <= 3 + 2
