"""Label and field selectors, as the API reads them in a query string and in objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from quarterdeck.titanium.status import bad_request

Labels = dict[str, str]
_SET = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<no>!?)\s*(?P<key>[^\s!=,()]+)\s*$")


def labels_match(selector: str) -> Callable[[Labels], bool]:
    """`app=blog,tier in (a, b),!canary` → a test on labels."""
    tests = [_requirement(part) for part in _split(selector)]
    return lambda labels: all(test(labels) for test in tests)


def _split(selector: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _requirement(part: str) -> Callable[[Labels], bool]:
    if match := _SET.match(part):
        key, values = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.match(part):
        key, value = match["key"], match["value"]
        if match["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(part):
        key = match["key"]
        return (lambda labels: key not in labels) if match["no"] else (lambda labels: key in labels)
    raise bad_request(f"unable to parse requirement: {part.strip()!r}")


def object_matches(selector: dict[str, Any] | None, labels: Labels) -> bool:
    """A `matchLabels`/`matchExpressions` selector; None matches nothing, {} matches everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], expression.get("values") or []
        found = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(expression["operator"], False)
        if not found:
            return False
    return True


_COMMON = ("metadata.name", "metadata.namespace")
_FIELDS = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
             "status.podIP", "status.nominatedNodeName"),
    "events": ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
               "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
               "reportingComponent", "source", "type"),
    "secrets": ("type",),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "replicasets": ("status.replicas",),
    "jobs": ("status.successful",),
}  # fmt: skip


def fields_match(selector: str, plural: str) -> Callable[[dict[str, Any]], bool]:
    tests: list[tuple[tuple[str, ...], bool, str]] = []
    for part in selector.split(","):
        if not part.strip():
            continue
        match = re.match(r"^\s*([\w.]+)\s*(==|=|!=)\s*(.*?)\s*$", part)
        if match is None:
            raise bad_request(f"invalid field selector: {part!r}")
        field, operator, value = match.groups()
        if field not in _COMMON and field not in _FIELDS.get(plural, ()):
            raise bad_request(f'Unable to find "{plural}" that match label selector "", field selector "{selector}": field label not supported: {field}')  # fmt: skip  # noqa: E501
        tests.append((tuple(field.split(".")), operator != "!=", value))

    def matches(object: dict[str, Any]) -> bool:
        for path, wanted, value in tests:
            found: Any = object
            for part in path:
                found = found.get(part) if isinstance(found, dict) else None
            said = "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
            if path == ("spec", "unschedulable") and found is None:
                said = "false"
            if (said == value) is not wanted:
                return False
        return True

    return matches
