"""The few request bodies that kubectl sends as protobuf whatever the server says: access reviews, options, evictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quarterdeck.titanium.status import ApiError, bad_request

MAGIC = b"k8s\x00"
Fields = dict[int, tuple[str, Any]]
"""Field number → (name, nested fields or None for text)."""

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
    "Eviction": {1: ("metadata", {1: ("name", None), 3: ("namespace", None)})},
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
            message = "the body of the request was in an unknown format: application/vnd.kubernetes.protobuf"
            raise ApiError(415, "UnsupportedMediaType", message)
        return {"apiVersion": bytes(names[1]).decode(), "kind": kind, **_read(bytes(envelope.get(2, b"")), shape)}
    except (KeyError, IndexError, UnicodeDecodeError, TypeError) as error:
        raise bad_request(f"protobuf: {error}") from None


def _read(data: bytes, shape: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in shape:
            continue
        name, inner = shape[number]
        if inner is int:
            found[name] = value
        elif isinstance(inner, dict):
            found[name] = _read(bytes(value), inner)
        else:
            found[name] = bytes(value).decode()
    return found


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
