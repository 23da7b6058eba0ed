"""Cheap mode, against a stand-in of the Message Batches API, also when the process is killed at a bad moment."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from batch_process import SHAPE, items
from messages_api import Fail, MessagesApi, Say, serve

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.model import Model, ModelFailed
from quarterdeck.keel.settings import ModelSettings, Price
from quarterdeck.research import batches
from quarterdeck.research.batches import Outcome, extract_many

PROCESS = Path(__file__).parents[2] / "data" / "batch_process.py"


def right(asked: dict[str, Any]) -> Say:
    prompt = asked["messages"][0]["content"]
    found = re.search(r"Company (\d+) has (\d+) employees", prompt)
    assert found is not None
    quote = found.group()
    return Say({"values": [{"path": "employees", "value": int(found[2]), "source": 1, "quote": quote}]})


async def outcomes(api: MessagesApi, store: Path, count: int = 5, **more: Any) -> list[Outcome]:
    model = Model(ModelSettings(api_key="k", base_url=api.url, **more))
    return [one async for one in extract_many(model, SHAPE, items(count), store, poll_s=0.01, patience_s=20)]


async def test_each_question_gets_its_own_answer_though_results_come_in_any_order(tmp_path: Path) -> None:
    price = {ModelSettings().small: Price(input=1.0, output=5.0)}
    with serve(right) as api:
        found = await outcomes(api, tmp_path / "b.db", prices=price)
    assert [one.id for one in found] == ["c0", "c1", "c2", "c3", "c4"]
    assert [one.extraction.data for one in found if one.extraction] == [{"employees": 100 + n} for n in range(5)]
    assert len(api.batches) == 1
    assert found[0].usage.cost == pytest.approx((150 * 1 + 20 * 5) / 1e6 / 2), "a batch costs half"


async def test_the_same_store_again_asks_nothing_again(tmp_path: Path) -> None:
    with serve(right) as api:
        first = await outcomes(api, tmp_path / "b.db")
        again = await outcomes(api, tmp_path / "b.db", 6)
    assert [len(batch.requests) for batch in api.batches.values()] == [5, 1], "only what was new"
    assert again[:5] == first


async def test_what_expires_is_sent_again_and_what_is_wrong_is_not(tmp_path: Path) -> None:
    def answer(asked: dict[str, Any]) -> Say | Fail:
        prompt = asked["messages"][0]["content"]
        if "Company 1 has" in prompt and len(api.batches) == 1:
            return Fail(0, "expired")
        if "Company 2 has" in prompt:
            return Fail(400, "invalid_request_error", message="bad")
        return right(asked)

    with serve(answer) as api:
        found = await outcomes(api, tmp_path / "b.db")
    assert [len(batch.requests) for batch in api.batches.values()] == [5, 1]
    assert [one.id for one in found if one.extraction is None] == ["c2"]
    assert "bad" in found[2].problem


async def test_what_fails_for_ever_ends(tmp_path: Path) -> None:
    with serve(Fail(500, "api_error")) as api:
        found = await outcomes(api, tmp_path / "b.db", 2)
    assert len(api.batches) == batches.ROUNDS
    assert all(one.extraction is None and one.problem for one in found)


async def test_many_questions_are_split_into_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST_REQUESTS", 2)
    with serve(right) as api:
        found = await outcomes(api, tmp_path / "b.db")
    assert [len(batch.requests) for batch in api.batches.values()] == [2, 2, 1]
    assert all(one.extraction for one in found)


async def test_a_batch_whose_sending_was_never_answered_is_found_again(tmp_path: Path) -> None:
    with serve(right) as api:
        api.lose_next_answer = True
        with pytest.raises(ModelFailed) as caught:
            await outcomes(api, tmp_path / "b.db")
        assert caught.value.passing
        found = await outcomes(api, tmp_path / "b.db")
    assert len(api.batches) == 1, "it was paid once"
    assert all(one.extraction for one in found)


async def test_a_batch_that_does_not_end_is_left_for_later(tmp_path: Path) -> None:
    model_settings = ModelSettings(api_key="k")
    with serve(right) as api:
        api.pending.set()
        model = Model(model_settings.model_copy(update={"base_url": api.url}))
        with pytest.raises(Refusal, match="same file"):
            async for _ in extract_many(model, SHAPE, items(2), tmp_path / "b.db", poll_s=0.01, patience_s=0.1):
                pass
        api.pending.clear()
        assert all(one.extraction for one in await outcomes(api, tmp_path / "b.db", 2))
    assert len(api.batches) == 1


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    with serve(right) as api:
        api.pending.set()
        command = [sys.executable, str(PROCESS), api.url, str(tmp_path / "b.db"), "20"]
        first = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            until = time.monotonic() + 30
            while not api.batches and time.monotonic() < until:
                time.sleep(0.02)
        finally:
            first.kill()
            first.communicate()
        assert len(api.batches) == 1
        api.pending.clear()
        ran = subprocess.run(command, capture_output=True, text=True, timeout=40, check=True)
    assert len(api.batches) == 1, "nothing was sent twice"
    assert ran.stdout.splitlines() == [f"c{n} {{'employees': {100 + n}}}" for n in range(20)]
