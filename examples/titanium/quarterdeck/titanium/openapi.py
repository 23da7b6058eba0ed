"""OpenAPI documents for the kinds served, made from the model classes of the official Python client."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Any

from quarterdeck.titanium.kinds import Kind, Kinds
from quarterdeck.titanium.patches import MERGE_KEYS

Schema = dict[str, Any]
_SCALARS: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"type": "object"},
    "bytearray": {"type": "string", "format": "byte"},
}
_PREFIX = "io.k8s.api."


def index(kinds: Kinds) -> Schema:
    paths = {}
    for group, versions in kinds.groups().items():
        for version in versions:
            place = f"apis/{group}/{version}" if group else f"api/{version}"
            names = ",".join(kind.kind for kind in kinds.of(group, version))
            mark = hashlib.sha256(names.encode()).hexdigest()[:32].upper()
            paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={mark}"}
    return {"paths": paths}


def document(kinds: Kinds, group: str, version: str) -> Schema:
    """The v3 document of one group and version."""
    schemas: dict[str, Schema] = {}
    paths: dict[str, Schema] = {}
    for kind in kinds.of(group, version):
        name = _schema_of(kind, schemas)
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        place = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
        paths[place] = {"get": _operation(kind, "list", name), "post": _operation(kind, "post", name)}
        paths[f"{place}/{{name}}"] = {verb: _operation(kind, verb, name) for verb in ("get", "put", "patch", "delete")}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def v2(kinds: Kinds) -> Schema:
    """The older document of everything at once."""
    definitions: dict[str, Schema] = {}
    paths: dict[str, Schema] = {}
    for kind in kinds:
        part = document(kinds, kind.group, kind.version)
        definitions.update(part["components"]["schemas"])
        paths.update(part["paths"])
    text = _relocate({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.32.0"}, "paths": paths})
    return {**text, "definitions": _relocate(definitions)}


def _relocate(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: value.replace("#/components/schemas/", "#/definitions/") if key == "$ref" else _relocate(value)
            for key, value in node.items()
        }
    return [_relocate(item) for item in node] if isinstance(node, list) else node


def _operation(kind: Kind, verb: str, schema: str) -> Schema:
    writing = verb in ("post", "put", "patch", "delete")
    names = ["dryRun", "fieldManager", "fieldValidation", "force"] if writing else ["labelSelector", "fieldSelector"]
    return {
        "operationId": f"{verb}{kind.group}{kind.version}{kind.kind}",
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
            }
        },
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }


def _schema_of(kind: Kind, schemas: dict[str, Schema]) -> str:
    model = _model(kind)
    gvk = [{"group": kind.group, "version": kind.version, "kind": kind.kind}]
    if model is None:
        name = ".".join([*reversed((kind.group or "core").split(".")), kind.version, kind.kind])
        free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        text = {"type": "string"}
        properties = {"apiVersion": text, "kind": text, "metadata": free, "spec": free, "status": free}
        schemas[name] = {"type": "object", "properties": properties, "x-kubernetes-group-version-kind": gvk}
        return name
    name = _add(model, schemas)
    schemas[name] = {**schemas[name], "x-kubernetes-group-version-kind": gvk}
    return name


def _model(kind: Kind) -> Any:
    return _models().get(f"{kind.version[0].upper()}{kind.version[1:]}{kind.kind}")


@cache
def _models() -> dict[str, Any]:
    # The client's models take most of a second to import: only who asks for a schema pays for them.
    from kubernetes.client import models

    return {name: value for name, value in vars(models).items() if hasattr(value, "openapi_types")}


def _add(model: Any, schemas: dict[str, Schema]) -> str:
    name: str = _PREFIX + model.__name__
    if name in schemas:
        return name
    schemas[name] = {}
    properties = {
        model.attribute_map[attribute]: _property(model.attribute_map[attribute], type, schemas)
        for attribute, type in model.openapi_types.items()
    }
    schemas[name] = {"type": "object", "description": f"{model.__name__}.", "properties": properties}
    return name


def _property(field: str, type: str, schemas: dict[str, Schema]) -> Schema:
    if type in _SCALARS:
        return dict(_SCALARS[type])
    if match := re.fullmatch(r"list\[(.+)\]", type):
        found: Schema = {"type": "array", "items": _property("", match[1], schemas)}
        key = MERGE_KEYS.get(field) or ("containerPort" if field == "ports" and "ContainerPort" in type else None)
        if field == "ports" and "ServicePort" in type:
            key = "port"
        if key:
            found |= {"x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": "merge"}
        return found
    if match := re.fullmatch(r"dict\(str, (.+)\)", type) or re.fullmatch(r"dict\[str, (.+)\]", type):
        return {"type": "object", "additionalProperties": _property("", match[1], schemas)}
    model = _models().get(type)
    if model is None:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"allOf": [{"$ref": f"#/components/schemas/{_add(model, schemas)}"}]}
