"""Reading the load balancer's /stats, whatever it says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import StatsSettings
from quarterdeck.stats.balancer import Balancer, parse
from quarterdeck.stats.sources import find

STATS: dict[str, Any] = {
    "load-balancer": {
        "total_requests": 128431,
        "success_rate": 99.41,
        "avg_response_time_ms": 14.2,
        "avg_response_time_ms_lifetime": 13.1,
        "requests_per_second": 80.4,
        "status": "healthy",
        "has_real_traffic": True,
    },
    "api-gateway": {"service_status": "online", "goroutines": 31},
    "auth": {"service_status": "online", "active_tokens": 12},
    "user_service": {"service_status": "online", "database": {"users": 3}, "cache": {"status": "ok"}},
    "blog_service": {"service_status": "offline"},
    "database": {"users": 3},
    "cache": {"status": "ok"},
}
SETTINGS = StatsSettings(url="http://balancer.test:7100", timeout_s=2)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


def test_the_real_answer_is_read_as_it_is_meant() -> None:
    reading = parse(STATS)
    assert {s.name: s.status for s in reading.services} == {
        "load-balancer": "online",
        "api-gateway": "online",
        "auth": "online",
        "user_service": "online",
        "blog_service": "offline",
    }
    assert reading.figures.requests_per_second == 80.4
    assert reading.figures.success_rate_percent == 99.41
    assert reading.fields["database"] == {"users": 3}


def test_what_a_service_says_of_itself_is_redacted() -> None:
    broken = {**STATS, "auth": {"service_status": "online", "error": "login failed: password=hunter2hunter2"}}
    detail = next(s.detail for s in parse(broken).services if s.name == "auth")
    assert detail is not None
    assert "hunter2" not in detail


@given(anything)
def test_any_json_is_read_or_refused_in_a_sentence(body: Any) -> None:
    try:
        reading = parse(body)
    except Refusal as error:
        assert "stats.url" in str(error)
    else:
        assert all(s.status in ("online", "offline", "unknown") for s in reading.services)


@given(st.dictionaries(st.sampled_from(list(STATS)), anything))
def test_any_value_under_the_known_keys_is_survived(body: dict[str, Any]) -> None:
    figures = parse(body).figures
    assert figures.requests_per_second is None or isinstance(figures.requests_per_second, float)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(200, text="<html>hello</html>"), "not JSON"),
        (httpx.Response(404), "answered 404"),
        (httpx.Response(302, headers={"location": "http://elsewhere.test/"}), "answered 302"),
        (httpx.Response(200, text='{"load-balancer": {"total'), "not JSON"),
        (httpx.Response(200, json=[1, 2]), "not an object"),
        (httpx.Response(500), "answered 500"),
    ],
)
async def test_a_strange_answer_is_named(answer: httpx.Response, words: str) -> None:
    with respx.mock:
        respx.get("http://balancer.test:7100/stats").mock(return_value=answer)
        with pytest.raises(Refusal, match=words):
            await Balancer(SETTINGS).read()


async def test_a_dead_balancer_is_named_with_its_setting() -> None:
    with respx.mock:
        respx.get("http://balancer.test:7100/stats").mock(side_effect=httpx.ConnectError("refused"))
        with pytest.raises(Refusal, match=r"stats\.url.*refused the connection"):
            await Balancer(SETTINGS).read()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("blog", "blog_service"),
        ("blog-service", "blog_service"),
        ("BLOG_SERVICE", "blog_service"),
        ("lb", "load-balancer"),
        ("gateway", "api-gateway"),
        ("auth-service", "auth"),
        ("users", "user_service"),
    ],
)
def test_services_are_found_by_the_names_people_use(said: str, meant: str) -> None:
    assert find(said, [s.name for s in parse(STATS).services]) == meant


def test_an_unknown_service_gets_near_matches() -> None:
    with pytest.raises(Refusal, match="Did you mean blog_service"):
        find("blogg", list(STATS))
    with pytest.raises(Refusal, match="Known: load-balancer"):
        find("zzz", list(STATS))
