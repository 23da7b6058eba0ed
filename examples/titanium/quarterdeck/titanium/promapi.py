"""A small honest part of Prometheus' HTTP API over the world's own figures.

PromQL: selectors with matchers, rate() and increase() over a range, sum/avg/min/max/count with by (…), and arithmetic
with numbers and between single values. Anything else is answered as Prometheus answers what it cannot parse.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from quarterdeck.titanium import system
from quarterdeck.titanium.cluster import NAMESPACE
from quarterdeck.titanium.traffic import Second

if TYPE_CHECKING:
    from quarterdeck.titanium.world import World

Labels = tuple[tuple[str, str], ...]
Vector = dict[Labels, float]
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<name>[a-zA-Z_:][\w:]*)|(?P<string>\"(?:[^\"\\]|\\.)*\"|'[^']*')"
    r"|(?P<range>\[\d+(?:ms|s|m|h|d)\])|(?P<op>=~|!~|!=|[-+*/(){},=]))"
)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum, "min": min, "max": max, "count": len, "avg": lambda v: sum(v) / len(v),
}  # fmt: skip


class BadQuery(Exception):
    pass


class PromApi:
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, method: str, target: str) -> tuple[int, Any]:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path in ("/-/healthy", "/-/ready"):
            return 200, "Prometheus Server is Healthy.\n"
        try:
            match url.path:
                case "/api/v1/query":
                    at = float(query.get("time") or time.time())
                    return 200, _success(self._instant(query.get("query", ""), at))
                case "/api/v1/query_range":
                    return 200, _success(self._range(query))
                case "/api/v1/label/__name__/values":
                    return 200, {"status": "success", "data": sorted(self._series(time.time()))}
        except (BadQuery, ValueError, KeyError) as error:
            return 400, {"status": "error", "errorType": "bad_data", "error": str(error)}
        return 404, "404 page not found\n"

    def _instant(self, text: str, at: float) -> dict[str, Any]:
        found = Query(text, self._series, at).evaluate()
        if isinstance(found, float):
            return {"resultType": "scalar", "result": [at, _say(found)]}
        rows = [{"metric": dict(labels), "value": [at, _say(value)]} for labels, value in sorted(found.items())]
        return {"resultType": "vector", "result": rows}

    def _range(self, query: dict[str, str]) -> dict[str, Any]:
        start, end, step = float(query["start"]), float(query["end"]), float(query["step"])
        if step <= 0 or (end - start) / step > 11_000:
            raise BadQuery("exceeded maximum resolution of 11,000 points per timeseries.")
        rows: dict[Labels, list[list[Any]]] = {}
        at = start
        while at <= end:
            found = Query(query["query"], self._series, at).evaluate()
            for labels, value in ({(): found} if isinstance(found, float) else found).items():
                rows.setdefault(labels, []).append([at, _say(value)])
            at += step
        result = [{"metric": dict(labels), "values": values} for labels, values in sorted(rows.items())]
        return {"resultType": "matrix", "result": result}

    def _series(self, at: float) -> dict[str, Vector]:
        """Every metric as it stood at a moment."""
        seconds = self._world.traffic.seconds
        past = [s for s in seconds if s.at <= at]
        if not past:
            return {}
        found: dict[str, Vector] = {"up": {}, "kube_pod_container_status_restarts_total": {}}
        found["http_requests_total"] = self._requests(past)
        total = sum(s.requests for s in past)
        base = (("job", "load-balancer"),)
        took = sum(s.requests * s.response_ms / 1000 for s in past)
        found["http_request_duration_seconds_sum"] = {base: took}
        found["http_request_duration_seconds_count"] = {base: total}
        for part in system.PARTS:
            if part.http:
                found["up"][_labels(job=part.name)] = float(bool(self._world._ready(part.name)))
        memory: Vector = {}
        kubelet = self._world.cluster.kubelet
        for held in kubelet.held.values():
            for run in held.runs:
                labels = _labels(pod=held.pod["metadata"]["name"], container=run.name, namespace=NAMESPACE)
                found["kube_pod_container_status_restarts_total"][labels] = float(run.attempt)
                if run.process is not None:
                    memory[labels] = float(run.process.usage(kubelet.now)[1])
        found["container_memory_working_set_bytes"] = memory
        return found

    def _requests(self, past: list[Second]) -> Vector:
        failed = sum(s.failed for s in past)
        good = sum(s.requests for s in past) - failed
        return {
            _labels(job="load-balancer", code="200"): 4_000_000.0 + good,
            _labels(job="load-balancer", code="502"): 9_000.0 + failed,
        }


def _labels(**labels: str) -> Labels:
    return tuple(sorted(labels.items()))


def _success(data: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": data}


def _say(value: float) -> str:
    return repr(round(value, 6)) if value == value else "NaN"


class Query:
    """A recursive-descent reader that evaluates as it reads."""

    def __init__(self, text: str, series: Callable[[float], dict[str, Vector]], at: float) -> None:
        self._text, self._series, self._at = text, series, at
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        text = text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise BadQuery(
                    f'invalid parameter "query": 1:{place + 1}: parse error: unexpected character: {text[place]!r}'
                )
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind], match.start(kind)))
            place = match.end()
        self._next = 0

    def evaluate(self) -> float | Vector:
        if not self._tokens:
            raise BadQuery('invalid parameter "query": unknown position: parse error: no expression found in input')
        found = self._sum()
        if self._next < len(self._tokens):
            raise self._unexpected()
        return found

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> tuple[str, str]:
        if self._next >= len(self._tokens) or (wanted and self._peek() != wanted):
            raise self._unexpected()
        kind, text, _ = self._tokens[self._next]
        self._next += 1
        return kind, text

    def _unexpected(self) -> BadQuery:
        if self._next >= len(self._tokens):
            place, what = len(self._text), "end of input"
        else:
            place, what = self._tokens[self._next][2], self._tokens[self._next][1]
        return BadQuery(f'invalid parameter "query": 1:{place + 1}: parse error: unexpected {what!r}')

    def _sum(self) -> float | Vector:
        left = self._product()
        while self._peek() in ("+", "-"):
            _, operator = self._take()
            left = _arithmetic(operator, left, self._product())
        return left

    def _product(self) -> float | Vector:
        left = self._term()
        while self._peek() in ("*", "/"):
            _, operator = self._take()
            left = _arithmetic(operator, left, self._term())
        return left

    def _term(self) -> float | Vector:
        kind, text = self._take()
        if kind == "number":
            return float(text)
        if text == "-":
            return _arithmetic("*", -1.0, self._term())
        if text == "(":
            inner = self._sum()
            self._take(")")
            return inner
        if kind != "name":
            self._next -= 1
            raise self._unexpected()
        if text in AGGREGATES:
            return self._aggregate(text)
        if text in ("rate", "increase", "irate"):
            return self._rate(text)
        return self._selector(text, self._at)

    def _by(self) -> list[str] | None:
        if self._peek() != "by":
            return None
        self._take("by")
        self._take("(")
        names = []
        while self._peek() != ")":
            names.append(self._take()[1])
            if self._peek() == ",":
                self._take(",")
        self._take(")")
        return names

    def _aggregate(self, name: str) -> Vector:
        by = self._by()
        self._take("(")
        inner = self._sum()
        self._take(")")
        by = by if by is not None else self._by() or []
        groups: dict[Labels, list[float]] = {}
        if isinstance(inner, float):
            raise BadQuery(
                'invalid parameter "query": parse error: expected type instant vector in aggregation, got scalar'
            )
        for labels, value in inner.items():
            key = tuple((label, text) for label, text in labels if label in by)
            groups.setdefault(key, []).append(value)
        return {labels: float(AGGREGATES[name](values)) for labels, values in groups.items()}

    def _rate(self, name: str) -> Vector:
        self._take("(")
        start = self._next
        metric = self._take()[1]
        self._selector(metric, self._at)
        kind, text = self._take()
        if kind != "range":
            raise BadQuery(
                'invalid parameter "query": parse error: expected type range vector in call to function "rate"'
            )
        number, unit = re.fullmatch(r"\[(\d+)(\w+)\]", text).groups()  # type: ignore[union-attr]
        seconds = int(number) * _UNITS[unit]
        end = self._next
        self._next = start + 1
        now = self._selector(metric, self._at)
        self._next = start + 1
        before = self._selector(metric, self._at - seconds)
        self._next = end
        self._take(")")
        share = seconds if name != "increase" else 1
        return {labels: max(0.0, value - before[labels]) / share for labels, value in now.items() if labels in before}

    def _selector(self, metric: str, at: float) -> Vector:
        tests: list[tuple[str, str, str]] = []
        if self._peek() == "{":
            self._take("{")
            while self._peek() != "}":
                label, operator, value = self._take()[1], self._take()[1], self._take()
                if value[0] != "string" or operator not in ("=", "!=", "=~", "!~"):
                    self._next -= 1
                    raise self._unexpected()
                tests.append((label, operator, value[1][1:-1]))
                if self._peek() == ",":
                    self._take(",")
            self._take("}")
        found = self._series(at).get(metric, {})
        return {labels: value for labels, value in found.items() if all(_fits(dict(labels), *test) for test in tests)}


def _fits(labels: dict[str, str], label: str, operator: str, value: str) -> bool:
    have = labels.get(label, "")
    if operator in ("=", "!="):
        return (have == value) is (operator == "=")
    try:
        return bool(re.fullmatch(value[:200], have)) is (operator == "=~")
    except re.error as error:
        raise BadQuery(f"error parsing regexp: {error}") from None


def _arithmetic(operator: str, left: float | Vector, right: float | Vector) -> float | Vector:
    def calculate(a: float, b: float) -> float:
        match operator:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
        return a / b if b else float("nan")

    if isinstance(left, float) and isinstance(right, float):
        return calculate(left, right)
    if isinstance(left, float):
        assert isinstance(right, dict)
        return {labels: calculate(left, value) for labels, value in right.items()}
    if isinstance(right, float):
        return {labels: calculate(value, right) for labels, value in left.items()}
    return {labels: calculate(value, right[labels]) for labels, value in left.items() if labels in right}
