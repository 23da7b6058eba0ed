"""Objects of any kind: all of them as a table, one of them as YAML."""

from __future__ import annotations

from quarterdeck.keel.answers import clip, fit
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import diffs, pods, resources
from quarterdeck.kubectl.cluster import TABLE, Cluster
from quarterdeck.kubectl.models import Listing, ResourceSaid
from quarterdeck.kubectl.words import age, outside

PAGE = 200


def list_resources(cluster: Cluster, namespace: str, kind: str, selector: str | None, page: str | None) -> Listing:
    resource = resources.find(cluster, kind)
    answer, read = _page(cluster, resource, namespace, selector, page, PAGE)
    if len(answer.rows) < read:
        # The next page has to begin where this answer ends, and only the API server can say how.
        answer, _ = _page(cluster, resource, namespace, selector, page, max(1, len(answer.rows) * 9 // 10))
    if not answer.total and resource.namespaced and not selector:
        resources.check_namespace(cluster, namespace)
    return answer


def _page(
    cluster: Cluster, resource: resources.Resource, namespace: str, selector: str | None, page: str | None, most: int
) -> tuple[Listing, int]:
    query = {"labelSelector": selector, "limit": most, "continue": page, "includeObject": "None"}
    table = cluster.get(resource.path(namespace), query, TABLE)
    if table.get("kind") == "Table":
        shown = [(i, c["name"]) for i, c in enumerate(table["columnDefinitions"]) if not c.get("priority")]
        columns = [name for _, name in shown]
        rows = [[_cell(row["cells"][i]) for i, _ in shown] for row in table.get("rows") or []]
    else:
        columns = ["Name", "Age"]
        rows = [[i["metadata"]["name"], age(i["metadata"].get("creationTimestamp"))] for i in table.get("items") or []]
    metadata = table.get("metadata") or {}
    beyond = metadata.get("remainingItemCount") or 0

    def make(count: int) -> Listing:
        return Listing(
            kind=resource.plural,
            where=pods.where(cluster, namespace) if resource.namespaced else f"context {cluster.name}",
            total=len(rows) + beyond,
            columns=columns,
            rows=rows[:count],
            left_out=len(rows) + beyond - count or None,
            next_page=metadata.get("continue") or None,
        )

    return fit(make, len(rows)), len(rows)


def _cell(value: object) -> str:
    return "" if value is None else outside(value, 120)


def get_resource(cluster: Cluster, namespace: str, kind: str, name: str) -> ResourceSaid:
    resource = resources.find(cluster, kind)
    object = resources.read(cluster, resource, namespace, name)
    lines = [clip(line, 600) for line in diffs.to_yaml(object).splitlines()]
    if not lines:
        raise Refusal(f"{resource.kind} {name} is empty.")
    where = pods.where(cluster, namespace) if resource.namespaced else f"context {cluster.name}"
    return fit(
        lambda n: ResourceSaid(
            kind=resource.kind,
            name=name,
            where=where,
            manifest="\n".join(lines[:n]),
            left_out=f"({len(lines) - n} further lines do not fit)" if n < len(lines) else None,
        ),
        len(lines),
    )
