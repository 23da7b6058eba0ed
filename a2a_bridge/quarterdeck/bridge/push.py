"""How an agent says by HTTP that a task went on: the address it is given, and the token that it shows there."""

from __future__ import annotations

import hashlib
from typing import Any

from quarterdeck.bridge.tasks import Record

Json = dict[str, Any]


def push_token(record: Record) -> str:
    """What an agent shows when it says that this task went on; only we and the agent know the message's id."""
    return hashlib.sha256(f"push {record.message}".encode()).hexdigest()


def push_config(push_url: str, record: Record) -> Json | None:
    if not push_url:
        return None
    url = f"{push_url.rstrip('/')}/bridge/push/{record.id}"
    return {"id": record.id, "url": url, "token": push_token(record)}
