"""Logs in plain files: only what the globs name, windows found by their times, rotated files too."""

import asyncio
import gzip
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quarterdeck.keel.errors import Refusal
from quarterdeck.logs.files import Files
from quarterdeck.logs.search import Pattern, Stop
from quarterdeck.logs.sources import Found, Reading, Window

START = datetime(2026, 11, 20, tzinfo=UTC)
WAIT = 30.0
ALWAYS = Window()


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def window(start: float | None = None, end: float | None = None) -> Window:
    base = START.timestamp()
    return Window(None if start is None else base + start, None if end is None else base + end)


def write(path: Path, seconds: list[float], text: str = "INFO line {}") -> Path:
    path.write_text("".join(f"{at(second)} {text.format(i)}\n" for i, second in enumerate(seconds)))
    return path


def read(files: Files, service: str | None, most: int = 1000, within: Window = ALWAYS) -> Reading:
    return asyncio.run(files.read(service, within, most, Stop(WAIT)))


def search(
    files: Files, pattern: str, within: Window = ALWAYS, limit: int = 20, context: int = 0, service: str = "app"
) -> Found:
    return asyncio.run(files.search(service, Pattern(pattern), within, limit, context, Stop(WAIT)))


def texts(reading: Reading) -> list[str]:
    return [record.body for record in reading.records]


def test_lines_of_several_files_come_in_order_of_time(tmp_path: Path) -> None:
    write(tmp_path / "a.log", [1, 3, 5], "a{}")
    write(tmp_path / "b.log", [2, 4, 6], "b{}")
    reading = read(Files({"app": f"{tmp_path}/*.log"}), "app")
    assert texts(reading) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert sorted(reading.parts) == ["a.log", "b.log"]
    assert not reading.more


def test_only_the_newest_are_read_when_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.log", [float(i) for i in range(3000)])
    reading = read(Files({"app": f"{tmp_path}/a.log"}), "app", most=10)
    assert texts(reading) == [f"INFO line {i}" for i in range(2990, 3000)]
    assert reading.more


@pytest.mark.parametrize("seed", range(5))
def test_a_window_holds_exactly_the_lines_of_its_time(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    times = sorted(dice.choices(range(500), k=3000))
    write(tmp_path / "a.log", [float(time) for time in times])
    files = Files({"app": f"{tmp_path}/a.log"})
    start, end = sorted(dice.sample(range(500), 2))
    expected = [f"INFO line {i}" for i, time in enumerate(times) if start <= time < end]
    assert texts(read(files, "app", 5000, window(start, end))) == expected
    assert search(files, "line", window(start, end)).matches == len(expected)


def test_a_window_works_in_a_file_whose_times_do_not_rise(tmp_path: Path) -> None:
    times = [float(i) for i in [*range(1000, 2000), *range(1000)]]
    write(tmp_path / "a.log", times)
    files = Files({"app": f"{tmp_path}/a.log"})
    assert search(files, "line", window(500, 700)).matches == 200
    assert len(read(files, "app", 5000, window(500, 700)).records) == 200


def test_lines_without_a_time_stay_with_those_before_them_in_a_window(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(
        f"{at(1)} ERROR a\nTraceback (most recent call last):\n  x\nKeyError: 1\n{at(9)} b\n"
    )
    (record,) = read(Files({"app": f"{tmp_path}/a.log"}), "app", within=window(0, 5)).records
    assert record.text.endswith("KeyError: 1")


def test_a_file_whose_lines_carry_no_time_is_taken_whole_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    reading = read(Files({"app": f"{tmp_path}/a.log"}), "app", within=window(0))
    assert texts(reading) == ["one", "two"]
    assert reading.notes == ["the lines of a.log carry no time, so all of it was taken"]


def test_a_match_inside_a_traceback_shows_all_of_it_once(tmp_path: Path) -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    f()\nValueError: no f'
    (tmp_path / "a.log").write_text(
        "".join(f"{at(i)} INFO {i}\n" for i in range(400)) + f"{at(400)} ERROR oh\n{trace}\n{at(401)} INFO last\n"
    )
    found = search(Files({"app": f"{tmp_path}/a.log"}), r"\bf\b", context=2)
    (hit,) = found.hits
    assert found.matches == 3
    assert hit.record.text == f"{at(400)} ERROR oh\n{trace}"
    assert [line[-3:] for line in hit.before] == ["398", "399"]
    assert hit.after == [f"{at(401)} INFO last"]


def test_a_search_returns_the_newest_hits_across_files_and_counts_all(tmp_path: Path) -> None:
    write(tmp_path / "a.log", [1, 3, 5, 7], "error a{}")
    write(tmp_path / "b.log", [2, 4, 6, 8], "error b{}")
    found = search(Files({"app": f"{tmp_path}/*.log"}), "error", limit=3)
    assert [hit.record.body for hit in found.hits] == ["error b2", "error a3", "error b3"]
    assert (found.matches, found.complete) == (8, True)


def test_rotated_gzip_files_are_read_too_and_broken_ones_named(tmp_path: Path) -> None:
    write(tmp_path / "app.log", [10])
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(f"{at(1)} ERROR old\n".encode()))
    (tmp_path / "app.log.2.gz").write_bytes(gzip.compress(random.Random(1).randbytes(5000))[:900])
    (tmp_path / "app.log.3.gz").write_bytes(b"no gzip")
    reading = read(Files({"app": f"{tmp_path}/app.log*"}), "app")
    assert texts(reading) == ["ERROR old", "INFO line 0"]
    assert sorted(note[:12] for note in reading.notes) == ["app.log.2.gz", "app.log.3.gz"]
    assert search(Files({"app": f"{tmp_path}/app.log*"}), "old").matches == 1


def test_a_file_last_written_before_the_window_is_not_opened(tmp_path: Path) -> None:
    old = write(tmp_path / "old.log", [1])
    os.utime(old, (START.timestamp() + 1, START.timestamp() + 1))
    write(tmp_path / "new.log", [100])
    assert read(Files({"app": f"{tmp_path}/*.log"}), "app", within=window(50)).parts == ["new.log"]


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    write(tmp_path / "secret.log", [1], "secret {}")
    write(logs / "real.log", [2], "real {}")
    (logs / "current.log").symlink_to(logs / "real.log")
    (logs / "out.log").symlink_to(tmp_path / "secret.log")
    (logs / "up").symlink_to(tmp_path)
    reading = read(Files({"app": f"{logs}/**/*.log"}), "app")
    assert texts(reading) == ["real 0"]
    assert any("out.log is a link that leads out" in note for note in reading.notes)


def test_what_is_no_plain_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "folder.log").mkdir()
    write(tmp_path / "a.log", [1])
    assert texts(read(Files({"app": f"{tmp_path}/*.log"}), "app")) == ["INFO line 0"]


def test_an_empty_file_and_no_file_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.log").touch()
    assert read(Files({"app": f"{tmp_path}/a.log"}), "app", within=window(0)).records == []
    missing = read(Files({"app": f"{tmp_path}/none*.log"}), "app")
    assert missing.notes == [f"no file matches {tmp_path}/none*.log"]


def test_an_unknown_service_is_answered_with_near_names(tmp_path: Path) -> None:
    files = Files({"blog-service": f"{tmp_path}/x", "auth": f"{tmp_path}/y"})
    with pytest.raises(Refusal, match=r"Did you mean blog-service.*list_log_services"):
        read(files, "blog-servce")
    with pytest.raises(Refusal, match="There are: auth, blog-service"):
        read(files, "zzz")
    assert read(files, "Blog_Service").records == []


def test_no_configured_file_is_said_with_how_to_configure_one() -> None:
    with pytest.raises(Refusal, match="QUARTERDECK_LOGS_FILES"):
        read(Files({}), "app")


def test_lines_that_a_container_runtime_wrote_are_unwrapped(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_text(
        f"{at(1)} stdout F INFO: up\n{at(2)} stderr F ERROR: down\n"
        f"{at(2)} stderr F Traceback (most recent call last):\n"
        f"{at(2)} stderr F   File 'a.py'\n{at(2)} stderr F KeyError: 1\n"
    )
    files = Files({"app": f"{tmp_path}/0.log"})
    reading = read(files, "app")
    assert [record.text.split("\n")[0] for record in reading.records] == ["INFO: up", "ERROR: down"]
    (hit,) = search(files, "KeyError", context=1).hits
    assert hit.record.text.startswith("ERROR: down\nTraceback")
    assert hit.before == ["INFO: up"]


def test_a_cancelled_search_stops_its_thread(tmp_path: Path) -> None:
    write(tmp_path / "a.log", [float(i) for i in range(2000)])
    files = Files({"app": f"{tmp_path}/a.log"})
    stop = Stop(WAIT)

    async def cancel() -> None:
        task = asyncio.create_task(files.search("app", Pattern("x"), window(), 5, 0, stop))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert stop
