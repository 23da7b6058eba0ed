"""Records stay whole: tracebacks of five languages, what container runtimes wrap, and private keys."""

from itertools import pairwise
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.logs.records import MOST_LINES, Record, join, kubelet_stamp, wrapping


def records(text: str) -> list[Record]:
    return list(join(dedent(text).strip("\n").split("\n"), "app"))


PYTHON = """
    2026-11-21 04:00:00,001 INFO request
    2026-11-21 04:00:00,002 ERROR Exception in ASGI application
    Traceback (most recent call last):
      File "/app/db.py", line 12, in read
        cursor.execute(sql)
    sqlite3.OperationalError: database is locked

    The above exception was the direct cause of the following exception:

    Traceback (most recent call last):
      File "/app/main.py", line 3, in posts
        raise Unavailable from error
    sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked
    [SQL: SELECT * FROM posts WHERE id = ?]
    (Background on this error at: https://sqlalche.me/e/20/e3q8)
    2026-11-21 04:00:00,003 INFO next
"""
JAVA = """
    2026-11-21 04:00:00.002 ERROR 1 --- [main] o.s.boot.SpringApplication : Application run failed
    java.lang.IllegalStateException: cannot start
    \tat com.example.Main.run(Main.java:10) ~[app.jar:1]
    \tat com.example.Main.main(Main.java:3)
    Caused by: java.net.ConnectException: Connection refused
    \tat java.base/sun.nio.ch.Net.connect(Net.java:1)
    \t... 12 more
    2026-11-21 04:00:00.003 INFO 1 --- [main] next
"""
GO = """
    2026/11/21 04:00:00 listening
    panic: runtime error: invalid memory address or nil pointer dereference
    [signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48]

    goroutine 1 [running]:
    main.handler(0xc000012, 0x1)
    \t/app/main.go:12 +0x1d
    created by main.serve
    \t/app/main.go:30 +0x9a
    exit status 2
    2026/11/21 04:00:02 listening
"""
NODE = """
    starting
    /app/index.js:10
        throw new TypeError("boom");
        ^

    TypeError: boom
        at Object.<anonymous> (/app/index.js:10:9)
        at node:internal/main:1:1

    Node.js v20.20.0
    2026-11-21T04:00:02Z starting
"""
DOTNET = """
    info: Microsoft.Hosting.Lifetime[14]
          Now listening on: http://[::]:8080
    Unhandled exception. System.InvalidOperationException: no
     ---> System.IO.IOException: disk
       at App.Write() in /src/App.cs:line 3
       --- End of inner exception stack trace ---
       at App.Main()
    info: Microsoft.Hosting.Lifetime[0]
"""


@pytest.mark.parametrize(
    ("text", "count", "which", "begins", "ends"),
    [
        (PYTHON, 3, 1, "2026-11-21 04:00:00,002 ERROR", "e3q8)"),
        (JAVA, 2, 0, "2026-11-21 04:00:00.002 ERROR", "12 more"),
        (GO, 3, 1, "panic:", "exit status 2"),
        (NODE, 3, 1, "/app/index.js:10", "Node.js v20.20.0"),
        (DOTNET, 3, 1, "Unhandled exception.", "at App.Main()"),
    ],
    ids=["python", "java", "go", "node", "dotnet"],
)
def test_a_stack_trace_is_one_record(text: str, count: int, which: int, begins: str, ends: str) -> None:
    found = records(text)
    assert len(found) == count
    trace = found[which]
    assert trace.text.startswith(begins)
    assert trace.text.endswith(ends)
    assert trace.failed
    assert trace.level in ("error", "critical")
    assert [record.failed for record in found].count(True) == 1


def test_two_tracebacks_in_a_row_are_two_records() -> None:
    one = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: x\n'
    assert [record.text for record in records(one + one)] == [one.rstrip()] * 2


def test_a_traceback_does_not_join_a_line_that_tells_of_no_trouble() -> None:
    found = records("served 12 requests\nTraceback (most recent call last):\n  File 'a.py'\nValueError: x\nserved 3")
    assert [record.text.split("\n")[0][:9] for record in found] == ["served 12", "Traceback", "served 3"]


def test_a_traceback_that_the_kubelet_stamped_line_by_line_is_one_record() -> None:
    lines = [
        "ERROR: Exception in ASGI application",
        "Traceback (most recent call last):",
        "  File 'a.py'",
        "KeyError: 1",
    ]
    stamped = [f"2026-11-21T04:00:00.00000000{i}Z {line}" for i, line in enumerate(lines)]
    found = list(join([*stamped, "2026-11-21T04:00:01Z INFO: next"], unwrap=kubelet_stamp))
    assert [record.text for record in found] == ["\n".join(lines), "INFO: next"]
    assert found[1].time is not None and found[0].time is not None
    assert round(found[1].time - found[0].time, 3) == 1.0


def test_lines_that_a_container_runtime_wrapped_are_read_as_they_were_written() -> None:
    cri = ["2026-11-21T04:00:00.1Z stderr F panic: no", "2026-11-21T04:00:00.2Z stderr F \tgoroutine 1 [running]:"]
    found = list(join(cri, unwrap=wrapping(cri[0])))
    assert [record.text for record in found] == ["panic: no\n\tgoroutine 1 [running]:"]
    docker = '{"log":"ERROR: no\\n","stream":"stderr","time":"2026-11-21T04:00:00Z"}'
    (record,) = join([docker], unwrap=wrapping(docker))
    assert (record.text, record.level) == ("ERROR: no", "error")
    assert wrapping("plain") is None


def test_a_private_key_is_one_record_and_no_error() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabcDEF==\n-----END RSA PRIVATE KEY-----"
    found = records(f"loading\n{key}\ndone")
    assert [record.text for record in found] == ["loading", key, "done"]
    assert not any(record.failed for record in found)


def test_a_request_answered_5xx_is_an_error_whatever_its_level() -> None:
    bad, good = records('INFO: 10.0.0.1:5 - "GET / HTTP/1.1" 503 x\nINFO: 10.0.0.1:5 - "GET /500 HTTP/1.1" 200 x')
    assert (bad.failed, good.failed) == (True, False)


def test_of_an_endless_record_the_middle_is_left_out() -> None:
    (record,) = join(["ERROR: big", *(f"  line {i}" for i in range(5000))])
    assert len(record.text.split("\n")) == MOST_LINES + 1
    assert "lines left out" in record.text
    assert record.text.endswith("line 4999")


PIECES = st.sampled_from(
    [*PYTHON.split("\n"), *GO.split("\n"), *NODE.split("\n"), "", "x", "}", "-----BEGIN PRIVATE KEY-----"]
)


@given(st.lists(PIECES, max_size=60))
def test_joining_loses_no_line_and_keeps_their_order(lines: list[str]) -> None:
    found = list(join(lines))
    assert [line for record in found for line in record.text.split("\n") if line.strip()] == [
        line for line in lines if line.strip()
    ]
    assert all(a.end <= b.first for a, b in pairwise(found))
    assert all(lines[record.first] == record.text.split("\n")[0] for record in found)
