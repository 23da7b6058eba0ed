"""What the API refuses, with its words and causes; only what people really run into."""

from __future__ import annotations

import re
from typing import Any

from quarterdeck.titanium.kinds import Kind
from quarterdeck.titanium.selectors import object_matches
from quarterdeck.titanium.status import bad_request, invalid

Causes = list[tuple[str, str, str]]
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_COLON_NAMES = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})


def check(kind: Kind, object: dict[str, Any], old: dict[str, Any] | None = None) -> None:
    """Raises 422 with every cause found."""
    name = str((object.get("metadata") or {}).get("name") or "")
    causes: Causes = []
    if not name:
        causes.append(("metadata.name", "FieldValueRequired", "Required value: name or generateName is required"))
    elif (len(name) > 253 or not _SUBDOMAIN.fullmatch(name)) and kind.kind not in _COLON_NAMES:
        causes.append(("metadata.name", "FieldValueInvalid", f'Invalid value: "{name}": {_SUBDOMAIN_RULE}'))
    spec = object.get("spec")
    if isinstance(spec, dict):
        if kind.kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet") and kind.group == "apps":
            _workload(spec, old.get("spec") if old else None, causes)
        elif kind.kind == "Pod":
            _containers("spec", spec, causes)
            if old is not None:
                _pod_update(spec, old.get("spec") or {}, causes)
        elif kind.kind == "Job":
            _containers("spec.template.spec", (spec.get("template") or {}).get("spec") or {}, causes)
    if kind.kind in ("ConfigMap", "Secret") and old is not None and old.get("immutable"):
        if object.get("data") != old.get("data"):
            causes.append(("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set"))
    if causes:
        raise invalid(kind.kind, kind.group, name, causes)


def check_types(object: Any) -> dict[str, Any]:
    """A body must be an object with metadata; anything else is a 400."""
    if not isinstance(object, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    metadata = object.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise bad_request("json: cannot unmarshal value into Go struct field .metadata of type v1.ObjectMeta")
    for field in ("labels", "annotations"):
        values = metadata.get(field)
        if values is None:
            metadata.pop(field, None)
            continue
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise bad_request(
                f"json: cannot unmarshal value into Go struct field ObjectMeta.metadata.{field} of type string"
            )
    for field in ("name", "namespace", "generateName"):
        if not isinstance(metadata.get(field, ""), str | None):
            raise bad_request(
                f"json: cannot unmarshal value into Go struct field ObjectMeta.metadata.{field} of type string"
            )
    if not isinstance(object.get("spec", {}), dict | None):
        raise bad_request("json: cannot unmarshal value into Go struct field .spec")
    if object.get("spec", ...) is None:
        del object["spec"]
    return object


def _workload(spec: dict[str, Any], old: dict[str, Any] | None, causes: Causes) -> None:
    replicas = spec.get("replicas")
    if replicas is not None and not isinstance(replicas, int):
        raise bad_request("json: cannot unmarshal value into Go struct field .spec.replicas of type int32")
    if isinstance(replicas, int) and replicas < 0:
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        causes.append(("spec.replicas", "FieldValueInvalid", message))
    selector, template = spec.get("selector"), spec.get("template") or {}
    if not isinstance(selector, dict) or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        causes.append(("spec.selector", "FieldValueRequired", "Required value"))
    else:
        if old is not None and old.get("selector") != selector:
            causes.append(("spec.selector", "FieldValueInvalid", "Invalid value: field is immutable"))
        labels = (template.get("metadata") or {}).get("labels") or {}
        if not object_matches(selector, labels):
            message = f"Invalid value: {labels}: `selector` does not match template `labels`"
            causes.append(("spec.template.metadata.labels", "FieldValueInvalid", message))
    _containers("spec.template.spec", template.get("spec") or {}, causes)


def _containers(path: str, spec: dict[str, Any], causes: Causes) -> None:
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        causes.append((f"{path}.containers", "FieldValueRequired", "Required value"))
        return
    seen: set[str] = set()
    for index, container in enumerate(containers):
        if not isinstance(container, dict):
            raise bad_request("json: cannot unmarshal value into Go struct field .spec.containers of type v1.Container")
        place = f"{path}.containers[{index}]"
        name = container.get("name")
        if not name:
            causes.append((f"{place}.name", "FieldValueRequired", "Required value"))
        elif name in seen:
            causes.append((f"{place}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
        seen.add(str(name))
        if not container.get("image"):
            causes.append((f"{place}.image", "FieldValueRequired", "Required value"))


_POD_MAY_CHANGE = frozenset({"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName"})


def _pod_update(spec: dict[str, Any], old: dict[str, Any], causes: Causes) -> None:
    def fixed(pod: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in pod.items() if key not in _POD_MAY_CHANGE}
        for field in ("containers", "initContainers"):
            rest[field] = [{k: v for k, v in c.items() if k != "image"} for c in pod.get(field) or []]
        return rest

    if fixed(spec) != fixed(old):
        message = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
            "negative)"
        )
        causes.append(("spec", "FieldValueForbidden", message))
