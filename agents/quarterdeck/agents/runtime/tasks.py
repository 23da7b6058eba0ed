"""A flow as an A2A task: the same thing, seen from outside.

There is no second store. A task's id is the flow's id; its state, messages and artifacts are read off the flow's record
and the items it reported. So a task can never say something else than its flow, whatever is killed in between.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from quarterdeck.keel.flows import Flow, Item

CHANGE = "quarterdeck.change"
"""Metadata key of a data part that shows a change for approval."""
MOST_HISTORY = 200

STATES = {
    "working": TaskState.TASK_STATE_WORKING,
    "waiting": TaskState.TASK_STATE_INPUT_REQUIRED,
    "completed": TaskState.TASK_STATE_COMPLETED,
    "failed": TaskState.TASK_STATE_FAILED,
    "cancelled": TaskState.TASK_STATE_CANCELED,
}
NAMES = {state: name for name, state in STATES.items()}
ENDED = frozenset({"completed", "failed", "cancelled"})

Event = Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent


def mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def beginning(owner: str, context: str = "") -> str:
    """How the ids of a caller's tasks begin, or of those in one context. Nobody else can name such a task, so this is
    also the lock on it."""
    return f"{mark(owner)}-{mark(context)}-" if context else f"{mark(owner)}-"


def task_id(owner: str, agent: str, message: Message) -> str:
    """The same message of the same caller is the same task, however often it is sent."""
    return beginning(owner, context_id(owner, message)) + mark("\n".join((agent, owner, message.message_id)))


def context_id(owner: str, message: Message) -> str:
    made = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(("context", owner, message.message_id)))
    return message.context_id or str(made)


def to_dict(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message)
    return found


def task(flow: Flow, items: Iterable[Item], *, begin: bool = True) -> Task:
    """The whole task as it stands; without the message that began it when nobody wants to see it again."""
    found = Task(id=flow.id, context_id=flow.argument["context"])
    if begin:
        found.history.append(_user(flow.argument["message"], flow))
    latest: Message | None = None
    for item in items:
        if made := artifact(item):
            _keep(found, made)
            continue
        match item.kind:
            case "question":
                latest = said(flow, item)
                found.history.append(latest)
            case "answer":
                found.history.append(_answer(flow, item))
                latest = None
                if flow.question is not None and item.question == flow.question.id:
                    flow = replace(flow, state="working")  # it was answered between two looks at the database
            case "progress":
                latest = said(flow, item)
    for number, made in enumerate(_made(flow)):
        _keep(found, made, f"result-{number + 1}")
    if flow.state in ENDED:
        latest = _ending(flow)
    del found.history[: max(0, len(found.history) - MOST_HISTORY)]
    found.status.CopyFrom(status(flow, latest))
    return found


def events(flow: Flow, item: Item) -> list[Event]:
    """What a stream tells when this item comes in."""
    if made := artifact(item):
        return [TaskArtifactUpdateEvent(task_id=flow.id, context_id=flow.argument["context"], artifact=made)]
    if item.kind in ("progress", "question"):
        state = STATES["waiting" if item.kind == "question" else "working"]
        update = TaskStatus(state=state, message=said(flow, item))
        update.timestamp.FromMilliseconds(int(item.at * 1000))
        return [_status_event(flow, update)]
    if item.kind == "answer":
        update = TaskStatus(state=STATES["working"])
        update.timestamp.FromMilliseconds(int(item.at * 1000))
        return [_status_event(flow, update)]
    return []


def ending(flow: Flow) -> list[Event]:
    """What a stream tells when the flow has ended."""
    made: list[Event] = []
    for number, found in enumerate(_made(flow)):
        found.artifact_id = found.artifact_id or f"result-{number + 1}"
        made.append(TaskArtifactUpdateEvent(task_id=flow.id, context_id=flow.argument["context"], artifact=found))
    return [*made, _status_event(flow, status(flow, _ending(flow)))]


def status(flow: Flow, message: Message | None) -> TaskStatus:
    found = TaskStatus(state=STATES[flow.state])
    if message is not None:
        found.message.CopyFrom(message)
    found.timestamp.FromMilliseconds(int(flow.updated * 1000))
    return found


def said(flow: Flow, item: Item) -> Message:
    """A step's report or a question, as the agent's message."""
    parts = [Part(text=item.text)] if item.text else []
    if item.kind == "question":
        shown = {"question_id": item.question, **item.data}
        part = data_part(shown)
        if "change_id" in item.data:
            part.metadata.update({CHANGE: True})
        parts.append(part)
    elif item.data:
        parts.append(data_part(item.data))
    if item.share is not None:
        return _agent(flow, f"{item.kind}-{item.cursor}", parts, {"progress": item.share})
    return _agent(flow, f"{item.kind}-{item.cursor}", parts)


def artifact(item: Item) -> Artifact | None:
    """The artifact that a flow made with `progress(…, data={"artifact": {…}})`."""
    if item.kind != "progress" or "artifact" not in item.data:
        return None
    made = _artifact(item.data["artifact"])
    made.artifact_id = made.artifact_id or f"artifact-{item.cursor}"
    return made


def data_part(data: Any) -> Part:
    value = Value()
    ParseDict(data, value)
    return Part(data=value, media_type="application/json")


def _artifact(made: dict[str, Any]) -> Artifact:
    """`{"name", "text" | "data", "media_type"?, "description"?, "id"?}` as agents write it."""
    parts = []
    if "text" in made:
        parts.append(Part(text=str(made["text"]), media_type=made.get("media_type", "text/plain")))
    if "data" in made:
        parts.append(data_part(made["data"]))
    return Artifact(
        artifact_id=str(made.get("id", "")),
        name=str(made.get("name", "")),
        description=str(made.get("description", "")),
        parts=parts,
    )


def _made(flow: Flow) -> list[Artifact]:
    return [_artifact(made) for made in flow.result.get("artifacts", [])] if flow.result else []


def _keep(found: Task, made: Artifact, name: str = "") -> None:
    """A later artifact of the same id takes the place of the earlier one."""
    made.artifact_id = made.artifact_id or name
    for number, known in enumerate(found.artifacts):
        if known.artifact_id == made.artifact_id:
            found.artifacts[number].CopyFrom(made)
            return
    found.artifacts.append(made)


def _ending(flow: Flow) -> Message | None:
    if flow.state == "failed":
        return _agent(flow, "end", [Part(text=flow.error or "The agent failed.")])
    text = str(flow.result.get("text", "")) if flow.result else ""
    return _agent(flow, "end", [Part(text=text)]) if text else None


def _agent(flow: Flow, name: str, parts: list[Part], metadata: dict[str, Any] | None = None) -> Message:
    made = Message(
        message_id=f"{flow.id}-{name}",
        role=Role.ROLE_AGENT,
        parts=parts,
        task_id=flow.id,
        context_id=flow.argument["context"],
    )
    if metadata:
        made.metadata.update(metadata)
    return made


def _user(given: dict[str, Any], flow: Flow) -> Message:
    made: Message = ParseDict(given, Message(), ignore_unknown_fields=True)
    made.task_id, made.context_id = flow.id, flow.argument["context"]
    return made


def message_in(item: Item) -> dict[str, Any]:
    """The A2A message that an answer came as, if it did."""
    data = item.data.get("data")
    found = data.get("message") if item.kind == "answer" and isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _answer(flow: Flow, item: Item) -> Message:
    if given := message_in(item):
        return _user(given, flow)
    by = f" ({item.data['by']})" if item.data.get("by") else ""
    text = f"{item.text or 'answered'}{by}"
    return Message(
        message_id=f"{flow.id}-answer-{item.cursor}",
        role=Role.ROLE_USER,
        parts=[Part(text=text)],
        task_id=flow.id,
        context_id=flow.argument["context"],
    )


def _status_event(flow: Flow, update: TaskStatus) -> TaskStatusUpdateEvent:
    return TaskStatusUpdateEvent(task_id=flow.id, context_id=flow.argument["context"], status=update)
