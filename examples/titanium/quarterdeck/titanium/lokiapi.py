"""A small honest part of Loki's HTTP API over the pods' logs: label selectors and line filters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from quarterdeck.titanium.cluster import Cluster

_MATCHER = re.compile(r'\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|`[^`]*`)\s*')
_FILTER = re.compile(r'\s*(\|=|!=|\|~|!~)\s*("(?:[^"\\]|\\.)*"|`[^`]*`)\s*')


class BadQuery(Exception):
    pass


class LokiApi:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def handle(self, method: str, target: str) -> tuple[int, Any]:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path.rstrip("/"):
            case "/ready":
                return 200, "ready\n"
            case "/loki/api/v1/query_range":
                try:
                    return 200, {"status": "success", "data": self._range(query)}
                except (BadQuery, ValueError) as error:
                    return 400, f"parse error : {error}"
            case "/loki/api/v1/labels":
                return 200, {"status": "success", "data": ["app", "container", "namespace", "pod"]}
        if match := re.fullmatch(r"/loki/api/v1/label/(\w+)/values", url.path):
            values = {labels.get(match[1], "") for labels, _ in self._streams()}
            return 200, {"status": "success", "data": sorted(values - {""})}
        return 404, "404 page not found\n"

    def _streams(self) -> list[tuple[dict[str, str], list[tuple[datetime, str]]]]:
        found = []
        for held in self._cluster.kubelet.held.values():
            metadata = held.pod["metadata"]
            for run in held.runs:
                labels = {
                    "app": (metadata.get("labels") or {}).get("app", ""),
                    "pod": metadata["name"],
                    "namespace": metadata["namespace"],
                    "container": run.name,
                }
                found.append((labels, [*(run.previous or ()), *run.log]))
        return found

    def _range(self, query: dict[str, str]) -> dict[str, Any]:
        matches, keeps = _read(query.get("query", ""))
        end = _moment(query.get("end")) or time.time()
        start = _moment(query.get("start")) or end - 3600
        forward = query.get("direction") == "forward"
        limit = min(int(query.get("limit") or 100), 5000)
        lines = [
            (at.timestamp(), labels, line)
            for labels, log in self._streams()
            if all(test(labels) for test in matches)
            for at, line in log
            if start <= at.timestamp() < end and all(keep(line) for keep in keeps)
        ]
        lines.sort(key=lambda entry: entry[0], reverse=not forward)
        streams: dict[str, dict[str, Any]] = {}
        for at, labels, line in lines[:limit]:
            stream = streams.setdefault(str(labels), {"stream": labels, "values": []})
            stream["values"].append([str(int(at * 1e9)), line])
        return {"resultType": "streams", "result": list(streams.values()), "stats": {}}


def _moment(text: str | None) -> float | None:
    if not text:
        return None
    if re.fullmatch(r"\d{16,}", text):
        return int(text) / 1e9
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read(query: str) -> tuple[list[Callable[[dict[str, str]], bool]], list[Callable[[str], bool]]]:
    if not query.startswith("{") or "}" not in query:
        raise BadQuery("syntax error: unexpected IDENTIFIER, expecting {")
    matches: list[Callable[[dict[str, str]], bool]] = []
    place = 1
    while query[place : place + 1] != "}":
        match = _MATCHER.match(query, place)
        if match is None:
            raise BadQuery(f"syntax error at column {place + 1}")
        matches.append(_label_test(match[1], match[2], _unquote(match[3])))
        place = match.end() + (query[match.end() : match.end() + 1] == ",")
    if not matches:
        raise BadQuery(
            "queries require at least one regexp or equality matcher that does not have an empty-compatible value"
        )
    keeps: list[Callable[[str], bool]] = []
    place += 1
    while place < len(query):
        match = _FILTER.match(query, place)
        if match is None:
            raise BadQuery(f"syntax error at column {place + 1}")
        keeps.append(_line_test(match[1], _unquote(match[2])))
        place = match.end()
    return matches, keeps


def _unquote(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), text[1:-1])


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern[:1000])
    except re.error as error:
        raise BadQuery(f"error parsing regexp: {error}") from None


def _label_test(name: str, operator: str, value: str) -> Callable[[dict[str, str]], bool]:
    if operator in ("=", "!="):
        return lambda labels: (labels.get(name, "") == value) is (operator == "=")
    pattern = _compiled(value)
    return lambda labels: bool(pattern.fullmatch(labels.get(name, ""))) is (operator == "=~")


def _line_test(operator: str, value: str) -> Callable[[str], bool]:
    if operator in ("|=", "!="):
        return lambda line: (value in line) is (operator == "|=")
    pattern = _compiled(value)
    return lambda line: bool(pattern.search(line)) is (operator == "|~")
