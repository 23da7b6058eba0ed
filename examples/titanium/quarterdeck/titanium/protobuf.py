"""The request bodies that kubectl sends as protobuf: reviews, options, and what `kubectl create` makes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from quarterdeck.titanium.status import ApiError, bad_request

MAGIC = b"k8s\x00"
Shape = Any
"""How a field is read: None is text, int a number, "map" and "bytes map" entries, a dict a message, [] repeated."""
Fields = dict[int, tuple[str, Shape]]

_META: Fields = {
    1: ("name", None),
    2: ("generateName", None),
    3: ("namespace", None),
    11: ("labels", "map"),
    12: ("annotations", "map"),
}
_CONTAINER: Fields = {
    1: ("name", None),
    2: ("image", None),
    3: ("command", [None]),
    4: ("args", [None]),
    6: ("ports", [{3: ("containerPort", int)}]),
}
_TEMPLATE: Fields = {1: ("metadata", _META), 2: ("spec", {2: ("containers", [_CONTAINER]), 3: ("restartPolicy", None)})}
_ATTRIBUTES: Fields = {
    1: ("namespace", None),
    2: ("verb", None),
    3: ("group", None),
    4: ("version", None),
    5: ("resource", None),
    6: ("subresource", None),
    7: ("name", None),
}
_PATH: Fields = {1: ("path", None), 2: ("verb", None)}
_SHAPES: dict[str, Fields] = {
    "SelfSubjectAccessReview": {
        2: ("spec", {1: ("resourceAttributes", _ATTRIBUTES), 2: ("nonResourceAttributes", _PATH)})
    },
    "SubjectAccessReview": {
        2: ("spec", {1: ("resourceAttributes", _ATTRIBUTES), 2: ("nonResourceAttributes", _PATH), 3: ("user", None)})
    },
    "SelfSubjectRulesReview": {2: ("spec", {1: ("namespace", None)})},
    "SelfSubjectReview": {},
    "DeleteOptions": {1: ("gracePeriodSeconds", int), 4: ("propagationPolicy", None)},
    "Eviction": {1: ("metadata", _META)},
    "Namespace": {1: ("metadata", _META)},
    "ServiceAccount": {1: ("metadata", _META)},
    "ConfigMap": {1: ("metadata", _META), 2: ("data", "map"), 3: ("binaryData", "bytes map")},
    "Secret": {1: ("metadata", _META), 2: ("data", "bytes map"), 3: ("type", None), 4: ("stringData", "map")},
    "Deployment": {
        1: ("metadata", _META),
        2: ("spec", {1: ("replicas", int), 2: ("selector", {1: ("matchLabels", "map")}), 3: ("template", _TEMPLATE)}),
    },
}


def decode(body: bytes) -> dict[str, Any]:
    if not body.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        names = dict(_fields(bytes(envelope[1])))
        kind = bytes(names[2]).decode()
        shape = _SHAPES.get(kind)
        if shape is None:
            message = f"the practice world reads no protobuf for {kind}: use kubectl apply, which sends JSON"
            raise ApiError(415, "UnsupportedMediaType", message)
        return {"apiVersion": bytes(names[1]).decode(), "kind": kind, **_read(bytes(envelope.get(2, b"")), shape)}
    except (KeyError, IndexError, UnicodeDecodeError, TypeError) as error:
        raise bad_request(f"protobuf: {error}") from None


def _read(data: bytes, fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in fields:
            continue
        name, shape = fields[number]
        if isinstance(shape, list):
            found.setdefault(name, []).append(_value(value, shape[0]))
        elif shape in ("map", "bytes map"):
            entry = dict(_fields(bytes(value)))
            key, raw = bytes(entry[1]).decode(), bytes(entry.get(2, b""))
            found.setdefault(name, {})[key] = raw.decode() if shape == "map" else base64.b64encode(raw).decode()
        else:
            found[name] = _value(value, shape)
    return found


def _value(value: Any, shape: Shape) -> Any:
    if shape is int:
        return value
    if isinstance(shape, dict):
        return _read(bytes(value), shape)
    return bytes(value).decode()


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        match wire:
            case 0:
                value, at = _varint(data, at)
                yield number, value
            case 2:
                length, at = _varint(data, at)
                if at + length > len(data):
                    raise IndexError("unexpected end")
                yield number, data[at : at + length]
                at += length
            case 1 | 5:
                at += 8 if wire == 1 else 4
            case _:
                raise IndexError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("varint too long")
