"""Server-side apply: who owns which field, kept in `managedFields` as the real API keeps it."""

from __future__ import annotations

import copy
import json
from typing import Any

from quarterdeck.titanium.patches import PRIMITIVE_SETS, merge_key
from quarterdeck.titanium.status import ApiError

Path = tuple[str, ...]
"""Elements are `f:name`, `k:{"name":"x"}` or `v:"x"`, as in fieldsV1."""

IDENTITY = frozenset({"apiVersion", "kind"})
SYSTEM = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}
)


def leaves(object: dict[str, Any]) -> dict[Path, Any]:
    """Every owned leaf of an object, and its value."""
    found: dict[Path, Any] = {}
    for key, value in object.items():
        if key in IDENTITY:
            continue
        if key == "metadata" and isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if name not in SYSTEM}
        _walk((f"f:{key}",), key, value, found)
    return found


def _walk(path: Path, field: str, value: Any, found: dict[Path, Any]) -> None:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            _walk((*path, f"f:{key}"), key, inner, found)
    elif isinstance(value, list) and (key := merge_key(field, value)) and all(isinstance(i, dict) for i in value):
        for item in value:
            place = (*path, "k:" + json.dumps({key: item.get(key)}, separators=(",", ":")))
            found[(*place, ".")] = None
            for name, inner in item.items():
                _walk((*place, f"f:{name}"), name, inner, found)
    elif isinstance(value, list) and field in PRIMITIVE_SETS:
        for item in value:
            found[(*path, "v:" + json.dumps(item))] = item
    else:
        found[path] = value


def to_fields(paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
    return tree


def to_paths(fields: dict[str, Any], prefix: Path = ()) -> set[Path]:
    found: set[Path] = set()
    for element, inner in fields.items():
        path = (*prefix, element)
        found |= to_paths(inner, path) if inner else {path}
    return found


def apply(
    live: dict[str, Any] | None, wanted: dict[str, Any], manager: str, force: bool, now: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The object after `manager` applied `wanted`, and its managedFields. Raises 409 on conflicts."""
    mine = leaves(wanted)
    entries = copy.deepcopy((live or {}).get("metadata", {}).get("managedFields") or [])
    current = leaves(live or {})
    taken: list[tuple[str, str]] = []
    for entry in entries:
        if _is(entry, manager, "Apply") or entry.get("subresource"):
            continue
        owned = to_paths(entry.get("fieldsV1") or {})
        clash = {p for p in owned & set(mine) if p[-1] != "." and current.get(p) != mine[p]}
        if clash and not force:
            taken += [(f'conflict with "{entry["manager"]}"' + _using(entry), say(path)) for path in sorted(clash)]
        elif clash:
            entry["fieldsV1"] = to_fields(owned - clash)
    if taken:
        raise _conflict(taken)
    before = next((to_paths(e["fieldsV1"]) for e in entries if _is(e, manager, "Apply")), set())
    others = {p for e in entries if not _is(e, manager, "Apply") for p in to_paths(e.get("fieldsV1") or {})}
    result = copy.deepcopy(live) if live else {key: wanted[key] for key in IDENTITY if key in wanted}
    for path in sorted(before - set(mine) - others, key=len, reverse=True):
        _remove(result, path)
    merge(result, {key: value for key, value in wanted.items() if key != "metadata"})
    metadata = {k: v for k, v in (wanted.get("metadata") or {}).items() if live is None or k not in SYSTEM}
    merge(result.setdefault("metadata", {}), metadata)
    entries = [e for e in entries if not _is(e, manager, "Apply") and e.get("fieldsV1")]
    entries.append(_entry(manager, "Apply", result.get("apiVersion", ""), to_fields(set(mine)), now))
    return result, entries


def updated(
    live: dict[str, Any] | None, new: dict[str, Any], manager: str, subresource: str, now: str
) -> list[dict[str, Any]]:
    """managedFields after an ordinary write: the writer owns what it changed."""
    old, fresh = leaves(live or {}), leaves(new)
    changed = {path for path, value in fresh.items() if path not in old or old[path] != value}
    entries = copy.deepcopy((live or {}).get("metadata", {}).get("managedFields") or [])
    kept = []
    for entry in entries:
        paths = to_paths(entry.get("fieldsV1") or {}) & set(fresh)
        if not (entry["manager"] == manager and entry["operation"] == "Update"):
            paths -= {path for path in changed if path in old}
        if paths:
            kept.append({**entry, "fieldsV1": to_fields(paths)})
    if changed:
        own = next((e for e in kept if _is(e, manager, "Update") and e.get("subresource", "") == subresource), None)
        paths = changed | (to_paths(own["fieldsV1"]) if own else set())
        kept = [entry for entry in kept if entry is not own]
        kept.append(_entry(manager, "Update", new.get("apiVersion", ""), to_fields(paths), now, subresource))
    return kept


def _is(entry: dict[str, Any], manager: str, operation: str) -> bool:
    return bool(entry.get("manager") == manager and entry.get("operation") == operation)


def _using(entry: dict[str, Any]) -> str:
    if entry.get("operation") == "Update":
        return f" using {entry.get('apiVersion', '')}"
    return ""


def _entry(
    manager: str, operation: str, version: str, fields: dict[str, Any], now: str, subresource: str = ""
) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **({"subresource": subresource} if subresource else {}),
    }


def merge(target: dict[str, Any], source: dict[str, Any]) -> None:
    """Lay `source` over `target`, lists that are maps by key item by item."""
    for key, value in source.items():
        current = target.get(key)
        if isinstance(value, dict) and isinstance(current, dict):
            merge(current, value)
        elif isinstance(value, list) and isinstance(current, list) and (by := merge_key(key, [*current, *value])):
            for item in value:
                found = next((old for old in current if isinstance(old, dict) and old.get(by) == item.get(by)), None)
                if found is None:
                    current.append(copy.deepcopy(item))
                else:
                    merge(found, item)
        else:
            target[key] = copy.deepcopy(value)


def _remove(object: dict[str, Any], path: Path) -> None:
    node: Any = object
    trail: list[tuple[Any, Any]] = []
    for element in path:
        if element == ".":
            break
        if element.startswith("f:") and isinstance(node, dict) and element[2:] in node:
            trail.append((node, element[2:]))
            node = node[element[2:]]
        elif element.startswith("k:") and isinstance(node, list):
            wanted = json.loads(element[2:])
            item = next((i for i in node if all(i.get(k) == v for k, v in wanted.items())), None)
            if item is None:
                return
            trail.append((node, item))
            node = item
        elif element.startswith("v:") and isinstance(node, list):
            trail.append((node, json.loads(element[2:])))
        else:
            return
    if not trail:
        return
    parent, key = trail[-1]
    if isinstance(parent, list):
        if path[-1] in (".",) or path[-1].startswith("v:"):
            parent[:] = [item for item in parent if item is not key and item != key]
    else:
        parent.pop(key, None)
    for parent, key in reversed(trail[:-1]):
        # A map that only the removed field kept alive goes with it.
        if isinstance(parent, dict) and parent.get(key) == {}:
            parent.pop(key)


def say(path: Path) -> str:
    said = ""
    for element in path:
        if element.startswith("f:"):
            said += f".{element[2:]}"
        elif element.startswith("k:"):
            pairs = json.loads(element[2:])
            said += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in pairs.items()) + "]"
        elif element.startswith("v:"):
            said += f"[={element[2:]}]"
    return said


def _conflict(taken: list[tuple[str, str]]) -> ApiError:
    who: dict[str, list[str]] = {}
    for manager, path in taken:
        who.setdefault(manager, []).append(path)
    if len(taken) == 1:
        said = f"{taken[0][0]}: {taken[0][1]}"
    else:
        said = "\n".join(
            f"{m.replace('conflict', 'conflicts', 1)}:\n" + "\n".join(f"- {p}" for p in ps) for m, ps in who.items()
        )
    count = f"Apply failed with {len(taken)} conflict{'s' if len(taken) > 1 else ''}: {said}"
    causes = [{"reason": "FieldManagerConflict", "message": m, "field": p} for m, p in taken]
    return ApiError(409, "Conflict", count, {"causes": causes})
