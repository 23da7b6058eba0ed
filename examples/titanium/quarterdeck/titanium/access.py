"""Who is asking (bearer tokens), and what they may do (RBAC objects, really evaluated)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quarterdeck.titanium.kinds import Kinds
from quarterdeck.titanium.status import ApiError
from quarterdeck.titanium.store import Store

MASTERS = "system:masters"


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What somebody wants to do."""

    verb: str
    group: str
    resource: str
    """Plural, with a subresource behind a slash."""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """For requests that are about no resource, such as /version."""


def authenticate(header: str, tokens: dict[str, User]) -> User:
    scheme, _, token = header.partition(" ")
    user = tokens.get(token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise ApiError(401, "Unauthorized", "Unauthorized")
    return user


def allowed(store: Store, kinds: Kinds, user: User, wish: Wish) -> bool:
    if MASTERS in user.groups:
        return True
    if wish.path:
        return wish.verb == "get" and wish.path.startswith(
            ("/version", "/healthz", "/livez", "/readyz", "/api", "/openapi")
        )
    if wish.group in ("authorization.k8s.io", "authentication.k8s.io") and wish.resource.startswith("selfsubject"):
        return True
    return any(_permits(rule, wish) for rule in rules_of(store, kinds, user, wish.namespace))


def rules_of(store: Store, kinds: Kinds, user: User, namespace: str) -> list[dict[str, Any]]:
    """All rules that bindings give to this user, in the namespace and cluster-wide."""
    rules: list[dict[str, Any]] = []
    bindings = [(binding, "") for binding in _all(store, kinds, "ClusterRoleBinding")]
    if namespace:
        bindings += [(binding, namespace) for binding in _all(store, kinds, "RoleBinding", namespace)]
    for binding, where in bindings:
        if not any(_is(subject, user) for subject in binding.get("subjects") or []):
            continue
        reference = binding["roleRef"]
        kind = kinds.named(reference["kind"])
        role = store.find(kind, where if reference["kind"] == "Role" else "", reference["name"]) if kind else None
        rules += (role or {}).get("rules") or []
    return rules


def _all(store: Store, kinds: Kinds, name: str, namespace: str = "") -> list[dict[str, Any]]:
    kind = kinds.named(name)
    return store.all(kind, namespace) if kind else []


def _is(subject: dict[str, Any], user: User) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            return user.name == f"system:serviceaccount:{subject.get('namespace')}:{subject['name']}"
    return False


def _permits(rule: dict[str, Any], wish: Wish) -> bool:
    verbs, groups, resources = rule.get("verbs") or [], rule.get("apiGroups") or [], rule.get("resources") or []
    if not ({wish.verb, "*"} & set(verbs)) or not ({wish.group, "*"} & set(groups)):
        return False
    sub = wish.resource.partition("/")[2]
    if not ({wish.resource, "*", f"*/{sub}" if sub else "*"} & set(resources)):
        return False
    names = rule.get("resourceNames") or []
    return not names or wish.name in names


def say_user(user: User) -> dict[str, Any]:
    return {"username": user.name, "groups": [*user.groups, "system:authenticated"]}
