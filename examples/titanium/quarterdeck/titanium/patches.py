"""JSON patch, merge patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from quarterdeck.titanium.status import ApiError, bad_request

# Lists of objects that are maps by a key; all other lists are replaced whole.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "conditions": "type",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "addresses": "type",
    "taints": "key",
    "secrets": "name",
    "ownerReferences": "uid",
}
PRIMITIVE_SETS = frozenset({"finalizers"})


def merge_key(field: str, items: list[Any]) -> str | None:
    """The key by which the items of this list are told apart, None when the list is replaced whole."""
    if field == "ports":
        container = any(isinstance(item, dict) and "containerPort" in item for item in items)
        return "containerPort" if container else "port"
    return MERGE_KEYS.get(field)


def json_patch(document: Any, operations: Any) -> Any:
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document = copy.deepcopy(document)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            message = f"the server rejected our request due to an error in our request: {error}"
            raise ApiError(422, "Invalid", message) from None
    return document


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    kind, path = operation["op"], operation["path"]
    if kind in ("move", "copy"):
        value = copy.deepcopy(_resolve(document, _tokens(operation["from"])))
        if kind == "move":
            document = _operate(document, {"op": "remove", "path": operation["from"]})
        return _operate(document, {"op": "add", "path": path, "value": value})
    tokens = _tokens(path)
    if kind == "test":
        if _resolve(document, tokens) != operation["value"]:
            raise ValueError(f"testing value {path} failed")
        return document
    if not tokens:
        return None if kind == "remove" else copy.deepcopy(operation["value"])
    parent, last = _resolve(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, list):
        index = len(parent) if last == "-" and kind == "add" else _index(last)
        if kind == "add":
            if index > len(parent):
                raise IndexError(f"index {last} is out of bounds")
            parent.insert(index, copy.deepcopy(operation["value"]))
        elif kind == "remove":
            del parent[index]
        elif kind == "replace":
            parent[index] = copy.deepcopy(operation["value"])
        else:
            raise ValueError(f"unexpected kind {kind!r}")
        return document
    if kind == "remove":
        del parent[last]
    elif kind in ("add", "replace"):
        if kind == "replace" and last not in parent:
            raise KeyError(f"replace operation does not apply: doc is missing key: {path}")
        parent[last] = copy.deepcopy(operation["value"])
    else:
        raise ValueError(f"unexpected kind {kind!r}")
    return document


def _tokens(pointer: str) -> list[str]:
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _index(token: str) -> int:
    if not token.isdigit() or (len(token) > 1 and token[0] == "0"):
        raise ValueError(f"{token!r} is no index")
    return int(token)


def _resolve(document: Any, tokens: list[str]) -> Any:
    for token in tokens:
        document = document[_index(token)] if isinstance(document, list) else document[token]
    return document


def merge_patch(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge(document: Any, patch: Any) -> Any:
    """`patch` over `document` with the directives that kubectl sends."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if key.startswith("$setElementOrder/") or key in ("$patch", "$retainKeys"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, list):
            order = patch.get(f"$setElementOrder/{key}")
            merged[key] = _merge_list(key, merged.get(key), value, order)
        else:
            merged[key] = strategic_merge(merged.get(key), value)
    if isinstance(kept := patch.get("$retainKeys"), list):
        merged = {key: value for key, value in merged.items() if key in kept}
    for key, order in patch.items():
        # An order alone may come without a change of the list itself.
        field = key.partition("/")[2]
        if key.startswith("$setElementOrder/") and field not in patch and isinstance(merged.get(field), list):
            merged[field] = _order(field, merged[field], order)
    return merged


def _merge_list(field: str, current: Any, patch: list[Any], order: Any) -> list[Any]:
    existing = list(current) if isinstance(current, list) else []
    if field in PRIMITIVE_SETS:
        return existing + [item for item in patch if item not in existing]
    key = merge_key(field, [*existing, *patch])
    if key is None or not all(isinstance(item, dict) for item in [*existing, *patch]):
        return copy.deepcopy(patch)
    if any(item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if item.get("$patch") != "replace"]
    merged = existing
    for item in patch:
        at = next((i for i, old in enumerate(merged) if key in item and old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(key) != item.get(key)]
        elif at is None:
            merged.append(strategic_merge({}, item))
        else:
            merged[at] = strategic_merge(merged[at], item)
    return _order(field, merged, order)


def _order(field: str, items: list[Any], order: Any) -> list[Any]:
    key = merge_key(field, items)
    if not isinstance(order, list) or key is None:
        return items
    places = {item.get(key): place for place, item in enumerate(order) if isinstance(item, dict)}
    return sorted(items, key=lambda item: places.get(item.get(key), len(places)) if isinstance(item, dict) else 0)
