"""Logs of pods, through the Kubernetes API: every container of a service, and the instance before a crash."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import KubectlSettings
from quarterdeck.logs.kube import Kube, NotThere
from quarterdeck.logs.records import Record, join, kubelet_stamp
from quarterdeck.logs.search import Pattern, Stop
from quarterdeck.logs.sources import (
    Found,
    Hit,
    Reading,
    Window,
    in_order,
    in_thread,
    newest,
    outside,
    pick,
    search_records,
)

T = TypeVar("T")

AT_ONCE = 6
MOST_PODS = 40
MOST_KEPT = 8 << 20
"""Bytes of one container's log that are kept, the newest …"""
MOST_BYTES = 48 << 20
"""… and that are read for them at most."""
MOST_LINES = 50_000
MOST_LINES_IN_ALL = 200_000
WORKLOADS = (
    ("apis/apps/v1", "deployments"),
    ("apis/apps/v1", "statefulsets"),
    ("apis/apps/v1", "daemonsets"),
    ("apis/batch/v1", "jobs"),
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
LABELS = ("app", "app.kubernetes.io/name", "k8s-app")


@dataclass(frozen=True)
class Part:
    """One container's log: of the instance that runs, or of the one before it."""

    namespace: str
    pod: str
    container: str
    previous: bool
    name: str


class Pods:
    def __init__(self, settings: KubectlSettings, timeout_s: float) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self._kube: Kube | None = None
        self._connecting = threading.Lock()

    async def services(self) -> list[str]:
        return await in_thread(Stop(self.timeout_s), lambda: _names(self._connect(), self._connect().namespace))

    async def read(self, service: str | None, window: Window, most: int, stop: Stop) -> Reading:
        def work() -> Reading:
            reading = Reading()
            groups: list[list[Record]] = []

            def newest_of(records: list[Record]) -> list[Record]:
                return records[-most - 1 :]

            lines = min(most * 4 if most < 1000 else most, MOST_LINES)
            for part, records, cut in self._each(
                service, window, lines, MOST_LINES_IN_ALL, reading.notes, stop, newest_of
            ):
                reading.parts.append(part.name)
                reading.more |= cut or len(records) > most
                groups.append(records[-most:])
            reading.records = in_order(groups)
            return reading

        return await in_thread(stop, work)

    async def search(
        self, service: str | None, pattern: Pattern, window: Window, limit: int, context: int, stop: Stop
    ) -> Found:
        def work() -> Found:
            found = Found()
            hits: list[Hit] = []

            def hits_of(records: list[Record]) -> tuple[list[Hit], int]:
                return search_records(in_order([records]), pattern, limit, context)

            for part, (new, matches), cut in self._each(service, window, MOST_LINES, None, found.notes, stop, hits_of):
                found.parts.append(part.name)
                found.complete &= not cut
                hits += new
                found.matches += matches
            found.hits = newest(hits, limit)
            return found

        return await in_thread(stop, work)

    def _connect(self) -> Kube:
        with self._connecting:
            if self._kube is None:
                self._kube = Kube(self.settings, self.timeout_s)
            return self._kube

    def _each(
        self,
        service: str | None,
        window: Window,
        lines: int,
        in_all: int | None,
        notes: list[str],
        stop: Stop,
        take: Callable[[list[Record]], T],
    ) -> Iterator[tuple[Part, T, bool]]:
        """What `take` makes of each container's records in the window, and whether older ones were left.

        At most `lines` of each are read, or its share of `in_all`. Failures become notes.
        """
        kube = self._connect()
        namespace, name = _place(kube, service)
        pods = _pods(kube, namespace, name)
        if not pods:
            notes.append(f"there is no pod now of {name or 'the namespace ' + namespace}")
        if len(pods) > MOST_PODS:
            notes.append(f"{len(pods)} pods match; the {MOST_PODS} newest and least healthy were read")
        parts = [part for pod in sorted(pods, key=_urgency)[:MOST_PODS] for part in _parts(namespace, pod)]
        if in_all is not None and parts:
            lines = min(lines, max(100, in_all // len(parts)))

        def fetch(part: Part) -> tuple[Part, T, bool] | str:
            if stop:
                return f"{part.name}: time was up before it was read"
            try:
                text, cut = _log(kube, part, window, lines, stop)
            except (Refusal, NotThere) as error:
                return f"{part.name}: {outside(str(error), 240)}"
            cut |= text.count("\n") >= lines
            records = list(join(text.split("\n"), part.name, unwrap=kubelet_stamp))
            return part, take([record for record in records if window.holds(record.time)]), cut

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pod-logs") as pool:
            for result in pool.map(fetch, parts):
                if isinstance(result, str):
                    notes.append(result)
                else:
                    yield result


def _place(kube: Kube, service: str | None) -> tuple[str, str | None]:
    if service is None or "/" not in service:
        return kube.namespace, service
    namespace, name = service.split("/", 1)
    if not _NAME.fullmatch(namespace):
        raise Refusal(f"There is no service {service[:60]!r}. Write its name, or namespace/name.")
    kube.allow(namespace)
    return namespace, name


def _names(kube: Kube, namespace: str) -> list[str]:
    names: dict[str, None] = {}
    for group, kind in (*WORKLOADS[:3], ("api/v1", "services")):
        try:
            listed = kube.get(f"{group}/namespaces/{namespace}/{kind}", {"limit": "500"})
        except NotThere:
            continue
        names.update(dict.fromkeys(item["metadata"]["name"] for item in listed.get("items", [])))
    return sorted(names)


def _pods(kube: Kube, namespace: str, name: str | None) -> list[dict[str, Any]]:
    """The pods of a service: by its workload's or Service's selector, by an app label, or one pod by its name."""
    if name is None:
        return _list(kube, namespace, {})
    pods = _named(kube, namespace, name) if _NAME.fullmatch(name) else None
    if pods is None:
        known = _names(kube, namespace)
        meant = pick(name, known)  # refuses with the near ones
        pods = _named(kube, namespace, meant) if meant != name else []
    return pods or []


def _named(kube: Kube, namespace: str, name: str) -> list[dict[str, Any]] | None:
    """The pods of exactly that name; None where nothing is called so."""
    for kind in (*WORKLOADS, ("api/v1", "services")):
        if selector := _selector(kube, namespace, kind, name):
            return _list(kube, namespace, {"labelSelector": selector})
    for label in LABELS:
        if pods := _list(kube, namespace, {"labelSelector": f"{label}={name}"}):
            return pods
    try:
        return [kube.get(f"api/v1/namespaces/{namespace}/pods/{name}")]
    except NotThere:
        return None


def _selector(kube: Kube, namespace: str, kind: tuple[str, str], name: str) -> str:
    try:
        found = kube.get(f"{kind[0]}/namespaces/{namespace}/{kind[1]}/{name}")
    except NotThere:
        return ""
    selector = found.get("spec", {}).get("selector") or {}
    if kind[1] == "services":
        selector = {"matchLabels": selector}
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or []:
        values = f"({','.join(term.get('values') or [])})"
        words = {"In": f"{term['key']} in {values}", "NotIn": f"{term['key']} notin {values}"}
        terms.append(words.get(term["operator"], term["key"] if term["operator"] == "Exists" else f"!{term['key']}"))
    return ",".join(terms)


def _list(kube: Kube, namespace: str, query: dict[str, str]) -> list[dict[str, Any]]:
    listed = kube.get(f"api/v1/namespaces/{namespace}/pods", {**query, "limit": "1000"})
    return list(listed.get("items", []))


def _statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _urgency(pod: dict[str, Any]) -> tuple[bool, str]:
    """Sorts pods that are unwell first, then the newest."""
    well = all(status.get("ready") or (status.get("state") or {}).get("terminated") for status in _statuses(pod))
    created = pod["metadata"].get("creationTimestamp") or ""
    return well, "".join(chr(126 - ord(letter) % 96) for letter in created)


def _parts(namespace: str, pod: dict[str, Any]) -> list[Part]:
    spec, name = pod.get("spec", {}), pod["metadata"]["name"]
    known = {status["name"]: status for status in _statuses(pod)}
    containers = [container["name"] for container in spec.get("containers") or []]
    for container in spec.get("initContainers") or []:
        ended = (known.get(container["name"], {}).get("state") or {}).get("terminated") or {}
        if ended.get("exitCode") != 0:  # one that has done its work tells nothing about now
            containers.insert(0, container["name"])
    parts = []
    for container in containers:
        label = name if len(containers) == 1 else f"{name}/{container}"
        status = known.get(container, {})
        crashed = (status.get("lastState") or {}).get("terminated")
        if crashed:
            parts.append(Part(namespace, name, container, True, f"{label} (before its restart)"))
        # While it waits to be restarted, its current log is the one of the instance that crashed.
        if not (crashed and (status.get("state") or {}).get("waiting")):
            parts.append(Part(namespace, name, container, False, label))
    return parts


def _log(kube: Kube, part: Part, window: Window, lines: int, stop: Stop) -> tuple[str, bool]:
    """The newest lines of one container's log, and whether some were left out."""
    query = {"container": part.container, "timestamps": "true", "tailLines": str(lines)}
    if part.previous:
        query["previous"] = "true"
    if window.start is not None:
        query["sinceTime"] = datetime.fromtimestamp(int(window.start), UTC).isoformat().replace("+00:00", "Z")
    kept = bytearray()
    total = 0
    cut = False
    for chunk in kube.stream(f"api/v1/namespaces/{part.namespace}/pods/{part.pod}/log", query):
        kept += chunk
        total += len(chunk)
        if len(kept) > 2 * MOST_KEPT:
            del kept[:-MOST_KEPT]
            cut = True
        if total > MOST_BYTES or stop:
            cut = True
            break
    if cut:
        del kept[: kept.find(b"\n") + 1]
    return kept.decode(errors="replace"), cut
