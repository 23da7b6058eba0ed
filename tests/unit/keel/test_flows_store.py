"""Flows and their database: what stays over a restart, and what is said when it cannot be used."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from quarterdeck.keel import flowdb, flows
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import FlowsSettings, load

DONE: list[str] = []
GATE: list[asyncio.Event] = []


async def did(what: str) -> str:
    DONE.append(what)
    return what


async def through_the_gate() -> None:
    DONE.append("at the gate")
    await GATE[0].wait()


@flows.flow("store test")
async def gated(argument: dict[str, Any]) -> dict[str, Any]:
    first = await flows.step("first", did, "first")
    at = await flows.now()
    await flows.step("gate", through_the_gate)
    return {"first": first, "at": at}


@flows.flow("store test ask")
async def asks(argument: dict[str, Any]) -> dict[str, Any]:
    return await flows.ask("Well?", timeout_s=30) or {}


@flows.flow("store test big")
async def big(argument: dict[str, Any]) -> dict[str, Any]:
    async def much() -> str:
        DONE.append("big")
        GATE[0].set()
        return "x" * 300_000

    text = await flows.step("much", much)
    return {"length": len(text)}


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()
    GATE[:] = [asyncio.Event()]


async def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(1500):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within 15 s: {what}")


async def test_a_flow_goes_on_after_an_orderly_restart(tmp_path: Path) -> None:
    async with flows.engine("", tmp_path) as engine:
        id = await engine.start("store test", {})
        await until(lambda: DONE == ["first", "at the gate"], "it waits in its second step")
    GATE[:] = [asyncio.Event()]
    GATE[0].set()
    async with flows.engine("", tmp_path) as engine:
        assert (await engine.result(id))["first"] == "first"
    assert DONE == ["first", "at the gate", "at the gate"]


async def test_other_work_of_the_process_has_threads_of_its_own(tmp_path: Path) -> None:
    """Blocking calls in every thread of asyncio.to_thread do not keep a flow from being stored; and they work on
    after the engine is closed."""
    import threading

    release = threading.Event()
    async with flows.engine("", tmp_path) as engine:
        GATE[0].set()
        await engine.result(await engine.start("store test", {}))
        blocked = [asyncio.create_task(asyncio.to_thread(release.wait, 20)) for _ in range(40)]
        await engine.result(await engine.start("store test", {}), timeout_s=10)
        release.set()
        assert all(await asyncio.gather(*blocked))
    assert await asyncio.to_thread(lambda: 7) == 7


async def test_a_full_disk_stops_a_flow_and_room_lets_it_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with flows.engine("", tmp_path, beat_s=0.1, dead_s=60) as engine:
        before = await engine.start("store test", {})
        await until(lambda: "at the gate" in DONE, "it is under way")
        full = await pages(engine, None)
        await pages(engine, full)  # not one page more
        with pytest.raises(Refusal, match=r"Flows cannot be stored in .*flows\.db \(database or disk is full\)"):
            for n in range(50):
                await engine.start("store test big", {"fill": "y" * 20_000}, id=f"too-much-{n}")
        await pages(engine, full + 2000)
        GATE[0].set()
        assert (await engine.result(before))["first"] == "first"
        full = await pages(engine, None)
        GATE[:] = [asyncio.Event()]
        DONE.clear()
        id = await engine.start("store test big", {})
        await pages(engine, full + 1)
        await until(
            lambda: "stops here for now: (sqlite3.OperationalError) database or disk" in caplog.text, "it stops"
        )
        assert DONE == ["big"] and (await engine.status(id)).state == "working"
        await pages(engine, full + 2000)
        assert await engine.result(id, timeout_s=20) == {"length": 300_000}
    check = sqlite3.connect(tmp_path / "flows.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


async def pages(engine: Any, most: int | None) -> int:
    """Give the file a quota; None takes it away. How large it is."""
    await every_connection(engine, f"PRAGMA max_page_count = {most or 1_000_000}")
    return (await every_connection(engine, "PRAGMA page_count"))[0]


async def every_connection(engine: Any, pragma: str) -> list[Any]:
    """Ask each connection that the engine has."""

    def each() -> list[Any]:
        said = []
        with ExitStack() as stack:
            for connection in [stack.enter_context(engine.database.engine.connect()) for _ in range(3)]:
                result = connection.exec_driver_sql(pragma)
                said.append(result.scalar() if result.returns_rows else None)
        return said

    return await asyncio.to_thread(each)


async def test_a_locked_database_is_a_sentence_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flowdb, "BUSY_S", 0.1)
    async with flows.engine("", tmp_path) as engine:
        thief = sqlite3.connect(tmp_path / "flows.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        try:
            with monkeypatch.context() as patience:
                patience.setattr("quarterdeck.keel.flowengine.BUSY_S", 0.1)
                with pytest.raises(Refusal, match="Flows cannot be stored"):
                    await engine.start("store test", {}, id="locked-out")
        finally:
            thief.close()
        GATE[0].set()
        await engine.start("store test", {}, id="locked-out")
        assert (await engine.result("locked-out", timeout_s=20))["first"] == "first"
    assert DONE.count("first") == 1


async def test_a_database_that_may_only_be_read_is_a_sentence(tmp_path: Path) -> None:
    async with flows.engine("", tmp_path, beat_s=60) as engine:
        await every_connection(engine, "PRAGMA query_only = ON")
        with pytest.raises(Refusal, match="attempt to write a readonly database"):
            await engine.start("store test", {})
        await every_connection(engine, "PRAGMA query_only = OFF")


async def test_a_desk_looks_and_answers_without_running_anything(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="No flow was ever run"):
        async with flows.desk("", tmp_path):
            pass
    async with flows.engine("", tmp_path) as engine, flows.desk("", tmp_path) as desk:
        id = await engine.start("store test", {})
        await until(lambda: "at the gate" in DONE, "it is under way")
        assert [flow.id for flow in await desk.list(state="working")] == [id]
        other = await engine.start("store test ask", {})
        async for item in desk.watch(other):
            if item.kind == "question":
                await desk.answer(other, item.question, {"by": "kim"})
        assert (await desk.result(other))["by"] == "kim"
        assert (await desk.cancel(id)).state == "cancelled"
        with pytest.raises(flows.FlowFailed):
            await engine.result(id)


async def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="Flows cannot be stored"):
        async with flows.engine("", tmp_path / "file"):
            pass


async def test_what_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "flows.db").write_text("this is a letter to my aunt, and not a database at all " * 20)
    with pytest.raises(Refusal, match="file is not a database"):
        async with flows.engine("", tmp_path):
            pass


async def test_a_server_that_is_not_there_is_a_sentence_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="Flows cannot be stored in the flows' database") as error:
        async with flows.engine("postgresql://keel:hunter2secret@127.0.0.1:1/flows", tmp_path):
            pass
    assert "hunter2secret" not in str(error.value)
    with pytest.raises(Refusal, match="not a database address"):
        async with flows.engine("what?", tmp_path):
            pass


async def test_a_database_that_is_back_is_seen_at_once_however_long_it_was_away(tmp_path: Path) -> None:
    async with flows.engine("", tmp_path):
        from dbos._sys_db import db_retry

        tries: list[str] = []

        @db_retry(initial_backoff=600.0)
        def look(_: object) -> None:
            tries.append("look")
            if len(tries) == 1:
                raise sa.exc.TimeoutError("no connection")

        looking = threading.Thread(target=look, args=(None,), daemon=True)
        looking.start()
        await asyncio.to_thread(looking.join, 20)
        assert len(tries) == 2


async def test_only_their_owner_reads_the_flows(tmp_path: Path) -> None:
    async with flows.engine("", tmp_path):
        assert (tmp_path / "flows.db").stat().st_mode & 0o077 == 0


async def test_dbos_says_nothing_by_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with flows.engine("", tmp_path) as engine:
        GATE[0].set()
        await engine.result(await engine.start("store test", {}))
    assert capfd.readouterr() == ("", "")
    assert not any(isinstance(handler, logging.StreamHandler) for handler in logging.getLogger("dbos").handlers)


def test_the_settings_name_a_database_and_how_much_runs_at_once() -> None:
    assert load({"QUARTERDECK_CONFIG": os.devnull}).flows == FlowsSettings()
    chosen = load({"QUARTERDECK_CONFIG": os.devnull, "QUARTERDECK_FLOWS_DATABASE": "postgresql://u:hunter2@h/d"})
    assert chosen.flows.database.get_secret_value().endswith("@h/d") and "hunter2" not in repr(chosen)


def test_importing_flows_does_not_bring_the_engine_along() -> None:
    code = "import sys, quarterdeck.keel.flows; print(sorted({'dbos', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
