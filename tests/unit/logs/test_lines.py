"""What one log line tells: its time, its level, its text."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.logs.lines import LEVELS, read_line, read_time

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "time", "level", "body"),
    [
        ("2026-11-21T04:00:00.123Z INFO ready", "2026-11-21T04:00:00.123", "info", "INFO ready"),
        ("2026-11-21T04:00:00.123456789+09:00 x", "2026-11-20T19:00:00.123456", "", "x"),
        ("2026-11-21 04:00:00,250 - app - ERROR - broke", "2026-11-21T04:00:00.250", "error", "app - ERROR - broke"),
        ("[2026-11-21 04:00:00 +0900] [12] [INFO] Booting", "2026-11-20T19:00:00", "info", "[12] [INFO] Booting"),
        ("WARNING 2026-11-21 04:00:00 slow", "2026-11-21T04:00:00", "warning", "slow"),
        ("2026/11/21 04:00:00 [crit] 12#12: *1 open()", "2026-11-21T04:00:00", "critical", "[crit] 12#12: *1 open()"),
        ("2026/11/21 04:00:00 listening", "2026-11-21T04:00:00", "", "listening"),
        (
            "E1121 04:00:00.5   1 reflector.go:12] failed",
            "2026-11-21T04:00:00.500",
            "error",
            "1 reflector.go:12] failed",
        ),
        ("Nov 21 04:00:00 host sshd[1]: hello", "2026-11-21T04:00:00", "", "host sshd[1]: hello"),
        ("Dec 31 23:59:59 host x: last year", "2025-12-31T23:59:59", "", "host x: last year"),
        ("<11>1 2026-11-21T04:00:00Z host app - - - hm", "2026-11-21T04:00:00", "error", "host app - - - hm"),
        ("1795233600.5 started", "2026-11-21T04:00:00.500", "", "started"),
        ("1795233600250 started", "2026-11-21T04:00:00.250", "", "started"),
        ('time="2026-11-21T04:00:00Z" level=warn msg="x"', "2026-11-21T04:00:00", "warning", 'level=warn msg="x"'),
        ('{"ts":1795233600123,"level":50,"msg":"boom"}', "2026-11-21T04:00:00.123", "error", "boom"),
        (
            '{"@timestamp":"2026-11-21T04:00:00Z","log.level":"FATAL","message":"m"}',
            "2026-11-21T04:00:00",
            "critical",
            "m",
        ),
        (
            '{"time":"2026-11-21T04:00:00Z","severity":"Error","msg":"failed",'
            '"exc_info":"Traceback\\n  x\\nKeyError: 1"}',
            "2026-11-21T04:00:00",
            "error",
            "failed: KeyError: 1",
        ),
    ],
)
def test_a_line_tells_its_time_its_level_and_its_text(text: str, time: str, level: str, body: str) -> None:
    line = read_line(text, now=NOW)
    assert line.time is not None
    assert datetime.fromtimestamp(line.time, UTC).replace(tzinfo=None) - datetime.fromisoformat(time) < timedelta(
        microseconds=2
    )
    assert (line.level, line.body, line.headed, line.text) == (level, body, True, text)


def test_the_common_log_format_keeps_its_text_whole() -> None:
    line = read_line('10.0.0.1 - - [21/Nov/2026:04:00:00 +0900] "GET / HTTP/1.1" 502 12')
    assert line.time == datetime(2026, 11, 20, 19, tzinfo=UTC).timestamp()
    assert line.body == line.text


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "2026-13-40T00:00:00Z x",
        "Nov 31 04:00:00 host x: y",
        "17635 items",
        "{not json}",
        "",
        "The error: x",
    ],
)
def test_a_line_without_a_time_has_none(text: str) -> None:
    line = read_line(text, now=NOW)
    assert (line.time, line.headed) == (None, False)


def test_a_time_without_a_zone_is_taken_in_the_zone_given() -> None:
    seoul = timezone(timedelta(hours=9))
    assert read_time("2026-11-21 04:00:00 x", seoul) == datetime(2026, 11, 20, 19, tzinfo=UTC).timestamp()
    assert read_time("2026-11-21 04:00:00Z x", seoul) == datetime(2026, 11, 21, 4, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 200', "info"),
        ("ERROR: no", "error"),
        ("fail: Microsoft.AspNetCore[13]", "error"),
        ("app[1] <warn> x", "warning"),
        ("information is power", ""),
    ],
)
def test_a_level_is_read_only_where_it_is_one(text: str, level: str) -> None:
    assert read_line(text).level == level


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    line = read_line(text)
    assert line.text == text
    assert line.level in ("", *LEVELS)
    assert read_time(text) == line.time


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_reads_back_as_it_was_written(aware: datetime) -> None:
    assert read_time(f"{aware.isoformat()} x") == pytest.approx(aware.timestamp(), abs=1e-5)
