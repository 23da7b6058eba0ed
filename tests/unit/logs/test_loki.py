"""Loki, as its HTTP API answers: payloads are of Loki 3, shortened."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import LogsSettings
from quarterdeck.logs.loki import Loki
from quarterdeck.logs.search import Pattern, Stop
from quarterdeck.logs.sources import Found, Reading, Window

URL = "http://loki.test:3100"
BASE = 1_795_233_600  # 2026-11-21T04:00:00Z
SECOND = 1_000_000_000
WINDOW = Window(BASE, BASE + 3600)
POD = {"app": "blog-service", "pod": "blog-1", "container": "app"}

Entry = tuple[int, str]


class FakeLoki:
    """Answers like Loki from entries held by stream; `{…}` with = matchers and one |~ filter are understood."""

    def __init__(self, streams: list[tuple[dict[str, str], list[Entry]]]) -> None:
        self.streams = streams
        self.requests: list[httpx.Request] = []
        self.counts = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix("/loki/api/v1/")
        query = dict(request.url.params)
        if path == "label/app/values":
            return success(sorted({labels["app"] for labels, _ in self.streams}))
        if path == "query":
            if not self.counts:
                return httpx.Response(500, text="too many outstanding requests")
            inner = re.fullmatch(r"sum\(count_over_time\((.*)\[(\d+)s\]\)\)", query["query"])
            assert inner
            found = sum(len(entries) for _, entries in self._find(inner.group(1), 0, 1 << 63))
            return success({"resultType": "vector", "result": [{"metric": {}, "value": [BASE, str(found)]}]})
        assert path == "query_range"
        backward = query["direction"] == "backward"
        found = self._find(query["query"], int(query["start"]), int(query["end"]))
        flat = sorted(
            ((moment, line, labels) for labels, entries in found for moment, line in entries),
            key=lambda one: one[0],
            reverse=backward,
        )[: int(query["limit"])]
        result: dict[str, Any] = {}
        for moment, line, labels in flat:
            key = json.dumps(labels)
            result.setdefault(key, {"stream": labels, "values": []})["values"].append([str(moment), line])
        return success({"resultType": "streams", "result": list(result.values()), "stats": {}})

    def _find(self, query: str, start: int, end: int) -> list[tuple[dict[str, str], list[Entry]]]:
        parts = re.fullmatch(r'\{((?:\w+=~?"(?:[^"\\]|\\.)*",?)*)\}(.*)', query, re.DOTALL)
        assert parts, query
        selector, rest = parts.groups()
        wanted = [
            (name, op, json.loads(value)) for name, op, value in re.findall(r'(\w+)(=~|=)("(?:[^"\\]|\\.)*")', selector)
        ]
        line = re.compile(json.loads(rest.removeprefix(" |~ ").strip())) if rest.strip() else re.compile("")
        return [
            (labels, [(t, text) for t, text in entries if start <= t < end and line.search(text)])
            for labels, entries in self.streams
            if all(
                re.fullmatch(value, labels.get(name, "")) if op == "=~" else labels.get(name) == value
                for name, op, value in wanted
            )
        ]


def success(data: Any) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": data})


@pytest.fixture
def http() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=URL) as router:
        yield router


def serve(http: respx.MockRouter, streams: list[tuple[dict[str, str], list[Entry]]]) -> FakeLoki:
    fake = FakeLoki(streams)
    http.route().mock(side_effect=fake)
    return fake


def loki(**settings: Any) -> Loki:
    return Loki(LogsSettings(**{"loki_url": URL, **settings}))


def read(service: str | None = "blog-service", most: int = 100, source: Loki | None = None) -> Reading:
    return asyncio.run((source or loki()).read(service, WINDOW, most, Stop(30)))


def search(pattern: str, limit: int = 20, context: int = 0) -> Found:
    return asyncio.run(loki().search("blog-service", Pattern(pattern), WINDOW, limit, context, Stop(30)))


def entries(*lines: str, start: int = 0) -> list[Entry]:
    return [((BASE + start + i) * SECOND, line) for i, line in enumerate(lines)]


def test_streams_are_merged_in_order_and_records_stay_whole(http: respx.MockRouter) -> None:
    trace = ["ERROR: no", "Traceback (most recent call last):", "  File 'a.py'", "KeyError: 1"]
    serve(
        http,
        [
            (POD, [(BASE * SECOND + i, line) for i, line in enumerate(trace)]),
            ({**POD, "pod": "blog-2"}, [(BASE * SECOND + 2, "INFO: between")]),
        ],
    )
    reading = read()
    assert [record.text for record in reading.records] == ["\n".join(trace), "INFO: between"]
    assert sorted(reading.parts) == ["blog-1/app", "blog-2/app"]
    assert not reading.more


def test_more_than_a_page_is_fetched_page_by_page_without_loss(
    http: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterdeck.logs.loki.PAGE", 7)
    lines = [(BASE * SECOND + i // 3, f"line {i}") for i in range(100)]  # three at each moment
    serve(http, [(POD, lines)])
    assert sorted(record.text for record in read(most=1000).records) == sorted(text for _, text in lines)
    reading = read(most=20)
    assert reading.more
    assert {record.text for record in reading.records} >= {f"line {i}" for i in range(85, 100)}


def test_a_search_is_done_by_loki_counted_there_and_shown_whole(http: respx.MockRouter) -> None:
    lines = [
        "INFO: a",
        "ERROR: no",
        "Traceback (most recent call last):",
        "  File 'x.py', in boom",
        "KeyError: boom",
        "INFO: b",
    ]
    fake = serve(http, [(POD, entries(*lines))])
    found = search("boom", context=1)
    (hit,) = found.hits
    assert hit.record.text == "\n".join(lines[1:5])
    assert (hit.before, hit.after) == (["INFO: a"], ["INFO: b"])
    assert (found.matches, found.complete, found.parts) == (2, True, ["blog-1/app"])
    assert any("|~" in request.url.params.get("query", "") for request in fake.requests)


def test_the_newest_hits_are_shown_and_a_missing_count_is_no_error(http: respx.MockRouter) -> None:
    fake = serve(http, [(POD, entries(*(f"error {i}" for i in range(50))))])
    found = search("error", limit=2)
    assert [hit.record.text for hit in found.hits] == ["error 48", "error 49"]
    assert (found.matches, found.complete) == (50, True)
    fake.counts = False
    found = search("error", limit=2)
    assert (found.matches, found.complete) == (8, False)


@pytest.mark.parametrize("pattern", ['say "no"', r"a\d+\\b", "`tick`", "오류 🔥", "new\\x0aline"])
def test_a_pattern_cannot_break_out_of_its_query(http: respx.MockRouter, pattern: str) -> None:
    fake = serve(http, [(POD, entries("x"))])
    search(pattern)
    asked = next(request.url.params["query"] for request in fake.requests if "query_range" in request.url.path)
    assert json.loads(asked.partition(" |~ ")[2]) == f"(?m){pattern}"


def test_a_service_name_cannot_break_out_of_its_selector(http: respx.MockRouter) -> None:
    serve(http, [({"app": 'x"} or {a="'}, entries("inside")), (POD, entries("outside"))])
    assert [record.text for record in read('x"} or {a="').records] == ["inside"]
    with pytest.raises(Refusal, match="Did you mean blog-service"):
        read("blog-servic")


def test_every_service_is_read_when_none_is_named(http: respx.MockRouter) -> None:
    serve(http, [(POD, entries("a")), ({"app": "auth"}, entries("b", start=1))])
    assert [record.text for record in read(None).records] == ["a", "b"]


def test_tenant_token_and_password_are_sent_as_loki_wants_them(http: respx.MockRouter) -> None:
    fake = serve(http, [(POD, entries("a"))])
    read(source=loki(loki_tenant="team-a", loki_token="t0ken"))
    assert fake.requests[-1].headers["x-scope-orgid"] == "team-a"
    assert fake.requests[-1].headers["authorization"] == "Bearer t0ken"
    read(source=loki(loki_url="http://ann:pw@loki.test:3100"))
    assert fake.requests[-1].headers["authorization"] == "Basic YW5uOnB3"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "no org id", "QUARTERDECK_LOGS_LOKI_TENANT"),
        (401, "unauthorized", "does not let us in.*QUARTERDECK_LOGS_LOKI_TOKEN"),
        (403, "forbidden password=hunter22222", r"does not let us in.*403"),
        (404, "404 page not found", "LOKI_URL its root"),
        (400, "max entries limit per query exceeded, limit > max_entries_limit (5000 > 1000)", "Ask for less"),
        (400, "parse error at line 1, col 5", "parse error at line 1"),
        (500, "boom", "answered 500"),
    ],
)
def test_what_loki_refuses_is_said_in_a_sentence(http: respx.MockRouter, status: int, body: str, said: str) -> None:
    http.route().mock(return_value=httpx.Response(status, text=body))
    with pytest.raises(Refusal, match=said) as refused:
        read()
    assert "hunter22222" not in str(refused.value)


@pytest.mark.parametrize(
    "body", [b"<html>login</html>", b'{"status":"succ', b'{"status":"success","data":{"resultType":"matrix"}}']
)
def test_an_answer_that_is_not_lokis_is_said_to_be_so(http: respx.MockRouter, body: bytes) -> None:
    http.route(path__regex="values$").mock(return_value=success(["blog-service"]))
    http.route().mock(return_value=httpx.Response(200, content=body))
    with pytest.raises(Refusal, match="Loki answered"):
        read()


def test_a_loki_that_is_down_is_said_with_its_address(http: respx.MockRouter) -> None:
    http.route().mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(Refusal, match=r"Loki at http://loki\.test:3100/\S+ refused the connection"):
        read()


def test_no_address_is_said_with_the_setting_that_gives_one() -> None:
    with pytest.raises(Refusal, match="QUARTERDECK_LOGS_LOKI_URL"):
        Loki(LogsSettings())
