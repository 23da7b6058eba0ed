"""Errors as the Kubernetes API words them."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """Becomes a `Status` object with its HTTP code."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}

    def body(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }

    @property
    def headers(self) -> dict[str, str]:
        seconds = self.details.get("retryAfterSeconds")
        return {"Retry-After": str(seconds)} if seconds else {}


def _resource(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> ApiError:
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    return ApiError(404, "NotFound", f'{_resource(plural, group)} "{name}" not found', details)


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    details = {"name": name, "kind": plural, **({"group": group} if group else {})}
    return ApiError(409, "AlreadyExists", f'{_resource(plural, group)} "{name}" already exists', details)


def conflict(plural: str, group: str, name: str) -> ApiError:
    message = (
        f'Operation cannot be fulfilled on {_resource(plural, group)} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, {"name": name, "kind": plural, **({"group": group} if group else {})})


def invalid(kind: str, group: str, name: str, causes: list[tuple[str, str, str]]) -> ApiError:
    """`causes`: (field, reason, message)."""
    said = [f"{field}: {message}" for field, _, message in causes]
    listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    resource = f"{kind}.{group}" if group else kind
    details = {
        "name": name,
        "kind": kind,
        **({"group": group} if group else {}),
        "causes": [{"reason": reason, "message": message, "field": field} for field, reason, message in causes],
    }
    return ApiError(422, "Invalid", f'{resource} "{name}" is invalid: {listed}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(user: str, verb: str, plural: str, group: str, namespace: str, name: str = "") -> ApiError:
    resource = _resource(plural, group)
    what = f'{resource} "{name}"' if name else resource
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    message = f'{what} is forbidden: User "{user}" cannot {verb} resource "{plural}" in API group "{group}"{where}'
    details = {"kind": plural, **({"name": name} if name else {}), **({"group": group} if group else {})}
    return ApiError(403, "Forbidden", message, details)


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_many(seconds: int = 1) -> ApiError:
    return ApiError(
        429, "TooManyRequests", "Too many requests, please try again later.", {"retryAfterSeconds": seconds}
    )
