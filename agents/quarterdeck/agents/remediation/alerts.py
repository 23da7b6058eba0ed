"""Alertmanager's webhook (JSON, version 4): a group of alerts becomes one task, however often and large it comes.

An alert is known by its fingerprint and start, and by who sent it. What a task was started with starts nothing again;
an alert that joins a group while its task runs waits for its end: if it still fires then, a new task begins.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quarterdeck.keel import sqlitefile
from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

MOST = 5_000
"""Alerts that one call may bring."""
SHOWN = 20
"""Alerts of a group that its task is told of."""
KEPT = 50_000
"""Alerts, and groups, that are remembered: those that came last, whatever a clock says."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
    number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, started TEXT NOT NULL, UNIQUE (fingerprint, started));
CREATE TABLE IF NOT EXISTS groups (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, task TEXT NOT NULL, argument TEXT NOT NULL);
"""
KNOWN = "SELECT 1 FROM alerts WHERE fingerprint = ? AND started = ?"


class Alert(BaseModel):
    model_config = ConfigDict(extra="ignore")

    status: str = "firing"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    startsAt: str = ""
    fingerprint: str = ""

    def identity(self) -> tuple[str, str]:
        labels = json.dumps(self.labels, sort_keys=True).encode()
        return self.fingerprint[:100] or hashlib.sha256(labels).hexdigest()[:16], self.startsAt[:40]


class Notification(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: str = "4"
    groupKey: str = ""
    status: str = "firing"
    receiver: str = ""
    groupLabels: dict[str, str] = {}
    commonLabels: dict[str, str] = {}
    commonAnnotations: dict[str, str] = {}
    alerts: list[Alert] = Field([], max_length=MOST)


@dataclass(frozen=True)
class Taken:
    """What became of a notification."""

    task: str
    """The id of the task that works on it; empty when nothing is firing."""
    argument: dict[str, Any]
    fresh: int
    """Alerts that were not known before."""


def parse(body: bytes) -> Notification:
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80] or "the body"
        raise Refusal(f"This is no Alertmanager notification (version 4): {where}: {first['msg'][:120]}.") from None


class Alerts:
    def __init__(self, home: Path) -> None:
        self._home = home

    def take(self, notification: Notification, prefix: str, ended: set[str]) -> Taken:
        """Which task works on this. `ended`: tasks that are over, so that a group may get a new one."""
        firing = [alert for alert in notification.alerts if alert.status != "resolved"]
        if notification.status == "resolved" or not firing:
            return Taken("", {}, 0)
        name = _name(notification, prefix)
        with self._writing() as db:
            every = sorted({(f"{prefix}{print}", start) for print, start in (alert.identity() for alert in firing)})
            known = [one for one in every if db.execute(KNOWN, one).fetchone()]
            fresh = sorted(set(every) - set(known))
            group = db.execute("SELECT task, argument FROM groups WHERE name = ?", (name,)).fetchone()
            if group is None or (fresh and group[0] in ended):
                digest = hashlib.sha256(json.dumps([name, fresh, known]).encode()).hexdigest()[:32]
                told = [one for one in firing if (f"{prefix}{one.identity()[0]}", one.identity()[1]) in set(fresh)]
                group = (f"{prefix}{digest}", json.dumps(_argument(notification, told or firing)))
                known = every
            db.execute("INSERT OR REPLACE INTO groups (name, task, argument) VALUES (?, ?, ?)", (name, *group))
            db.executemany("INSERT OR REPLACE INTO alerts (fingerprint, started) VALUES (?, ?)", known)
            for table in ("alerts", "groups"):
                db.execute(f"DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ?", (KEPT,))
            return Taken(group[0], json.loads(group[1]), len(fresh))

    def running(self, notification: Notification, prefix: str) -> str:
        """The task of a notification's group, if it has one."""
        name = _name(notification, prefix)
        with self._writing() as db:
            row = db.execute("SELECT task FROM groups WHERE name = ?", (name,)).fetchone()
            return str(row[0]) if row else ""

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlitefile.connect(self._home / "alerts.db", 10)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                db.executescript(SCHEMA)
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise Refusal(f"Alerts cannot be stored ({error}). Free space or mend permissions; send again.") from None


def _name(notification: Notification, prefix: str) -> str:
    told = "\n".join((prefix, notification.receiver, notification.groupKey))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _argument(notification: Notification, firing: list[Alert]) -> dict[str, Any]:
    labels = dict(firing[0].labels) | notification.commonLabels
    said = [f"{len(firing)} alerts of group {clip(plain(notification.groupKey), 200)}:"]
    for alert in firing[:SHOWN]:
        words = alert.annotations.get("summary") or alert.annotations.get("description") or ""
        said.append(clip(redact(plain(f"{alert.labels.get('alertname', 'alert')}: {words}")), 200))
    small = {clip(plain(key), 60): clip(redact(plain(value)), 200) for key, value in list(labels.items())[:30]}
    return {"alert": {"labels": small, "startsAt": firing[0].startsAt[:40]}, "text": "\n".join(said)}
