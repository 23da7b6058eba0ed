"""Which groups, versions and kinds there are, as `kubectl api-resources` asks for it."""

from __future__ import annotations

from typing import Any

from quarterdeck.titanium.kinds import Kind, Kinds

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+titanium",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "practice/world",
}


def document(kinds: Kinds, path: str, address: str) -> dict[str, Any] | None:
    parts = [part for part in path.split("/") if part]
    match parts:
        case ["version"]:
            return VERSION
        case ["api"]:
            host = address.split("//")[-1].rstrip("/")
            client = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": client}
        case ["apis"]:
            groups = [_group(name, versions) for name, versions in kinds.groups().items() if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in kinds.groups():
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, kinds.groups()[group])}
        case ["api", version]:
            return _resources(kinds, "", version)
        case ["apis", group, version]:
            return _resources(kinds, group, version)
    return None


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(kinds: Kinds, group: str, version: str) -> dict[str, Any] | None:
    found = kinds.of(group, version)
    if not found:
        return None
    resources = [entry for kind in found for entry in _entries(kind)]
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _entries(kind: Kind) -> list[dict[str, Any]]:
    own: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short)} if kind.short else {}),
        **({"categories": list(kind.categories)} if kind.categories else {}),
    }
    rest = []
    for sub in kind.subresources:
        entry = {"name": f"{kind.plural}/{sub}", "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind}
        match sub:
            case "scale":
                entry |= {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]}
            case "eviction":
                entry |= {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
            case "log":
                entry |= {"verbs": ["get"]}
            case _:
                entry |= {"verbs": ["get", "patch", "update"]}
        rest.append(entry)
    return [own, *rest]
