"""What the logs server tells, put into the scene: each kind of line once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC

from quarterdeck.agents.remediation.cluster_facts import owner
from quarterdeck.agents.remediation.fields import moment, number, rows, string, strings, whole
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.scene import Line, Scene
from quarterdeck.agents.remediation.signs import harmless


def service_argument(one: Evidence) -> str:
    named = one.arguments.get("service")
    return named if isinstance(named, str) else ""


_RESTARTED = "before its restart"


def errors(scene: Scene, one: Evidence) -> None:
    _mark_read(scene, one)
    asked = service_argument(one)
    for row in rows(one.data, "errors"):
        where = string(row, "where")
        services = [_source(scene, part) for part in where.split(" and ")[0].split(", ") if part.strip()]
        if asked and asked != "all":
            # The logs server goes by the beginning of names: what is known to be of somebody else stays theirs.
            listed = {pod.name: pod.service for pod in scene.pods}
            spoke = [
                listed.get(part.strip().split(" (")[0].split("/")[0], "") for part in where.split(" and ")[0].split(",")
            ]
            meant = scene.resolve(asked) or asked
            services = [one for one in spoke if one] if all(spoke) and meant not in spoke else [meant]
        last = moment(string(row, "last"), scene.taken)
        first = moment(string(row, "first"), scene.taken) or last
        told = list(dict.fromkeys(services))
        for service in told:
            if asked == "all" and len(told) > 1 and service in scene.read:
                continue  # the text is that of one of them; what this one says was asked of it alone
            text = string(row, "text")
            count = max(1, whole(row, "count"))
            scene.lines.append(
                Line(
                    service,
                    text,
                    count,
                    _level(text) or "error",
                    first,
                    last,
                    one.id,
                    read=one.taken.astimezone(UTC),
                    last_words=_RESTARTED in where,
                )
            )


def _source(scene: Scene, where: str) -> str:
    """The service of `pod`, `pod/container`, `pod (before its restart)`, or of a stream that bears its name."""
    part = where.split(" (")[0].strip().split("/")[0]
    if part in scene.workloads:
        return part
    return owner(scene, part)[0]


def digest(scene: Scene, one: Evidence) -> None:
    _mark_read(scene, one)
    service = scene.resolve(service_argument(one)) or service_argument(one)
    for row in rows(one.data, "kinds"):
        text = string(row, "example") or string(row, "template")
        before = number(row, "before")
        scene.lines.append(
            Line(
                service,
                text,
                max(1, whole(row, "count")),
                string(row, "level"),
                moment(string(row, "first"), scene.taken),
                moment(string(row, "last"), scene.taken),
                one.id,
                None if before is None else int(before),
                max(1, whole(row, "count")),
                one.taken.astimezone(UTC),
            )
        )


_CLOCK = re.compile(
    r"(?:\d{4}-\d\d-\d\dT)?(\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z? (?:\S+(?: \(before its restart\))? )??(.*)", re.DOTALL
)


def newest(scene: Scene, one: Evidence) -> None:
    _mark_read(scene, one)
    service = scene.resolve(service_argument(one)) or service_argument(one)
    for row in strings(one.data, "lines"):
        level = _level(row)
        if level in ("info", "debug"):
            continue
        found = _CLOCK.match(row)
        at = moment(found[1], scene.taken) if found else None
        text = found[2] if found else row
        scene.lines.append(
            Line(
                service,
                text,
                1,
                level,
                at,
                at,
                one.id,
                read=one.taken.astimezone(UTC),
                last_words=_RESTARTED in row[:200],
            )
        )


def _mark_read(scene: Scene, one: Evidence) -> None:
    service = service_argument(one)
    notes = " ".join(strings(one.data, "notes"))
    if "time was up" in notes and not rows(one.data, "errors") and not rows(one.data, "kinds"):
        scene.silent.add(service)
    else:
        scene.read.add(scene.resolve(service) or service)


_LEVEL = re.compile(
    r"\b(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|ERR|SEVERE|CRITICAL|FATAL|PANIC)\b"
    r"|\"(?:level|severity|lvl)\": ?\"(\w+)\"|\blevel=\"?(\w+)"
)
_LEVELS = {
    "trace": "debug", "debug": "debug", "info": "info", "notice": "info", "warn": "warning", "warning": "warning",
    "error": "error", "err": "error", "severe": "error", "critical": "critical", "fatal": "critical",
    "panic": "critical", "log": "info",
}  # fmt: skip


def _level(text: str) -> str:
    found = _LEVEL.search(text[:200])
    return _LEVELS.get((found[1] or found[2] or found[3]).lower(), "") if found else ""


def without_doubles(lines: Iterable[Line]) -> list[Line]:
    """The same lines are told by several tools: keep each once, with the most that is known of it."""
    kept: dict[tuple[str, str], Line] = {}
    for line in lines:
        if harmless(line.text):
            continue
        key = (line.service, " ".join(re.sub(r"\d+", "0", line.text).split())[:160])
        old = kept.get(key)
        if old is None:
            kept[key] = line
            continue
        old.count = max(old.count, line.count)
        if old.before is None:
            old.before, old.recent = line.before, line.recent
        old.last_words |= line.last_words
        old.level = old.level or line.level
        old.text = max(old.text, line.text, key=len)
        old.first = min((t for t in (old.first, line.first) if t is not None), default=None)
        old.read = max((t for t in (old.read, line.read) if t is not None), default=None)
        old.last = max((t for t in (old.last, line.last) if t is not None), default=None)
    return list(kept.values())
