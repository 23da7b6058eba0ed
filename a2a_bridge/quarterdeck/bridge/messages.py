"""What goes to an agent and what comes back: messages of ours, its words, its questions, the changes it asks for.

A question about a change comes as a data part that is marked `quarterdeck.change`. Only one part of ours says yes to
it: a data part marked `quarterdeck.grant`, which is made here, under a grant, and never from a tool's arguments. What
tools pass on carries no such mark.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

Json = dict[str, Any]

CHANGE_MARK = "quarterdeck.change"
GRANT_MARK = "quarterdeck.grant"
LONGEST_TEXT = 20_000
_ADDRESS = re.compile(r"https?://[\x21-\x7e]+")
LARGEST_FILE = 4 << 20
MOST_FILES = 10
STATES = {
    "TASK_STATE_SUBMITTED": "submitted",
    "TASK_STATE_WORKING": "working",
    "TASK_STATE_COMPLETED": "completed",
    "TASK_STATE_FAILED": "failed",
    "TASK_STATE_CANCELED": "canceled",
    "TASK_STATE_INPUT_REQUIRED": "input_required",
    "TASK_STATE_REJECTED": "rejected",
    "TASK_STATE_AUTH_REQUIRED": "auth_required",
}


@dataclass(frozen=True)
class Asked:
    """A change that an agent wants a person's word on. All of it is the agent's text."""

    change_id: str
    change: str
    before: str
    after: str
    undo: str


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    change: Asked | None = None
    url: str = ""
    """Where a person signs in, as the agent gave it: not redacted, for it goes to the person's browser only."""

    def stored(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, stored: str) -> Question | None:
        if not stored:
            return None
        values = json.loads(stored)
        change = values.pop("change")
        return cls(**values, change=Asked(**change) if change else None)


def new_message(id: str, parts: list[Json], *, task: str = "", context: str = "", skill: str = "") -> Json:
    message: Json = {"messageId": id, "role": "ROLE_USER", "parts": parts}
    if task:
        message["taskId"] = task
    if context:
        message["contextId"] = context
    if skill:
        message["metadata"] = {"skillId": skill}
    return message


def parts_of(text: str, data: Json | None, files: list[str], folders: list[str]) -> list[Json]:
    """The parts of a message from what a tool was given. None of them is marked, whatever they hold."""
    parts: list[Json] = [{"text": text}] if text.strip() else []
    if data:
        if len(json.dumps(data)) > LONGEST_TEXT * 5:
            raise Refusal(f"The data is larger than {LONGEST_TEXT * 5} characters. Send less, or a file.")
        parts.append({"data": data, "mediaType": "application/json"})
    if len(files) > MOST_FILES:
        raise Refusal(f"{len(files)} files are too many; {MOST_FILES} at most.")
    parts += [_file_part(name, folders) for name in files]
    if not parts:
        raise Refusal("There is nothing to send. Say in `text` what the agent is to do.")
    return parts


def _file_part(name: str, folders: list[str]) -> Json:
    allowed = [Path(folder).expanduser().resolve() for folder in folders]
    if not allowed:
        raise Refusal(
            "No file may be handed out: a person names folders for that in the settings file ([bridge] folders)."
        )
    path = (allowed[0] / name).expanduser().resolve()
    if not any(path.is_relative_to(folder) for folder in allowed):
        raise Refusal(f"{name[:80]!r} is in none of the folders whose files may be handed out.")
    try:
        if not path.is_file():
            raise Refusal(f"There is no file {name[:80]!r}.")
        if path.stat().st_size > LARGEST_FILE:
            raise Refusal(f"{name[:80]!r} is larger than {LARGEST_FILE >> 20} MB.")
        content = path.read_bytes()
    except OSError as error:
        raise Refusal(f"{name[:80]!r} cannot be read ({error.strerror}).") from None
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {"raw": base64.b64encode(content).decode(), "filename": path.name, "mediaType": kind}


def grant_part(question: Question, by: str) -> Json:
    assert question.change is not None
    told = {"change_id": question.change.change_id, "approve": "yes", "by": by}
    return {"data": told, "mediaType": "application/json", "metadata": {GRANT_MARK: True}}


def refusal_part(question: Question, by: str) -> Json:
    assert question.change is not None
    told = {"change_id": question.change.change_id, "approve": "no", "by": by}
    return {"data": told, "mediaType": "application/json"}


def text_of(message: Json | None, most: int = 2000) -> str:
    """What a message says, fit to be shown: redacted, without what an eye does not see."""
    pieces = []
    for part in (message or {}).get("parts", []):
        if "text" in part:
            pieces.append(str(part["text"]))
        elif "data" in part and CHANGE_MARK not in part.get("metadata", {}):
            pieces.append(json.dumps(part["data"], ensure_ascii=False))
        elif "url" in part:
            pieces.append(str(part["url"]))
    return clip(redact(plain("\n".join(pieces)[: most * 8])), most)


def with_words(task: Json) -> Json:
    """The task's status; where it says nothing, with the agent's last message of the task's history, or with what it
    made last if it asks something."""
    status: Json = task.get("status", {})
    state, artifacts = STATES.get(str(status.get("state"))), task.get("artifacts", [])
    last = (task.get("history") or [{}])[-1]
    if "message" in status or state not in ("completed", "input_required") or (state == "completed" and artifacts):
        return status
    if last.get("role") == "ROLE_AGENT":
        return {**status, "message": last}
    return {**status, "message": {"parts": artifacts[-1].get("parts", [])}} if artifacts else status


def question_of(status: Json) -> Question:
    """What the agent asks in this status. Its id is the same each time the same question is read."""
    message = status.get("message") or {}
    text = text_of(message, 3000)
    change = None
    for part in message.get("parts", []):
        if part.get("metadata", {}).get(CHANGE_MARK) and isinstance(part.get("data"), dict):
            change = _asked(part["data"])
            break
    id = str(message.get("messageId", ""))
    if not id:
        stamp = json.dumps([status.get("timestamp", ""), message.get("parts", [])], sort_keys=True)
        id = hashlib.sha256(stamp.encode()).hexdigest()[:32]
    return Question(id[:200], text, change, _address_in(message))


def _address_in(message: Json) -> str:
    """The first address that a browser may be sent to: https, or this machine."""
    told = [
        str(part.get("url") or part.get("text") or json.dumps(part.get("data"))) for part in message.get("parts", [])
    ]
    for found in _ADDRESS.finditer(" ".join(told)[:20_000]):
        address: str = found.group().rstrip(".,;:!?)]}'\"")
        try:
            parts = urlsplit(address)
            here = parts.hostname in ("127.0.0.1", "localhost")
        except ValueError:
            continue
        # A browser takes a backslash for a slash: it would go elsewhere than the person is told.
        if (
            parts.hostname
            and not set("@\\") & set(parts.netloc)
            and (parts.scheme == "https" or here)
            and len(address) <= 2000
        ):
            return address
    return ""


def _asked(data: Json) -> Asked:
    def said(name: str, most: int) -> str:
        value = data.get(name, "")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        return text[:most]

    # Kept as it came, unseen characters and all: the ledger shows them to the person spelled out.
    return Asked(
        said("change_id", 200), said("change", 2000), said("before", 20_000), said("after", 20_000), said("undo", 4000)
    )
