"""What the cluster's own parts wrote down lately."""

from __future__ import annotations

from quarterdeck.keel.answers import fit
from quarterdeck.kubectl import resources
from quarterdeck.kubectl.cluster import Cluster, Object
from quarterdeck.kubectl.models import EventList, EventRow
from quarterdeck.kubectl.words import age, outside

MOST = 10_000


def moment(event: Object) -> str:
    series = event.get("series") or {}
    found = (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
        or event["metadata"].get("creationTimestamp")
    )
    return str(found or "")


def row(event: Object) -> EventRow:
    about = event.get("involvedObject") or {}
    count = int((event.get("series") or {}).get("count") or event.get("count") or 1)
    first, last = age(event.get("firstTimestamp") or event.get("eventTime")), age(moment(event))
    return EventRow(
        last_seen=last,
        type=str(event.get("type", "")),
        reason=outside(event.get("reason", ""), 60),
        about=f"{about.get('kind', '')} {about.get('name', '')}".strip(),
        message=outside(event.get("message", ""), 240),
        count=count,
        first_seen=first if count > 1 and first not in (last, "?") else None,
    )


def read(cluster: Cluster, namespace: str, fields: str | None = None) -> list[Object]:
    """Events, newest first. They come by name, so that all must be read to know the newest."""
    found, _ = cluster.items(resources.EVENT.path(namespace), {"fieldSelector": fields}, MOST)
    return sorted(found, key=moment, reverse=True)


def about(cluster: Cluster, namespace: str, uid: str) -> list[EventRow]:
    return [row(event) for event in read(cluster, namespace, f"involvedObject.uid={uid}")]


def list_events(cluster: Cluster, namespace: str, name: str | None, warnings_only: bool) -> EventList:
    fields = [f"involvedObject.name={name}"] if name else []
    fields += ["type=Warning"] if warnings_only else []
    found = read(cluster, namespace, ",".join(fields) or None)
    if not found and not fields:
        resources.check_namespace(cluster, namespace)
    rows = [row(event) for event in found[:200]]
    place = f"namespace {namespace} of {cluster.name}" + (f" about {name}" if name else "")
    return fit(
        lambda n: EventList(where=place, total=len(found), events=rows[:n], left_out=len(found) - n or None), len(rows)
    )
