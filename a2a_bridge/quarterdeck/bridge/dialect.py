"""What agents by others say a little differently, put into the protocol's words before the SDK reads it.

Only what has one meaning is put right: another spelling of a binding, an old version, a number where text belongs. What
could mean two things stays, and ends in a sentence about it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin

import httpx

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import place_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

Json = dict[str, Any]

_BINDINGS = {
    "": "JSONRPC",  # the protocol's default
    "jsonrpc": "JSONRPC",
    "http": "HTTP+JSON",
    "httpjson": "HTTP+JSON",
    "rest": "HTTP+JSON",
    "grpc": "GRPC",
}
_UNSPECIFIED = ("0.0.0.0", "::")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def spellings(address: str) -> tuple[str, ...]:
    """An address of this machine in each way that cards write it; any other as it is."""
    host, port = place_of(address)
    if host not in _LOOPBACK:
        return (address,)
    scheme = httpx.URL(address).scheme
    others = [f"{scheme}://{'[::1]' if name == '::1' else name}:{port}" for name in _LOOPBACK if name != host]
    return (address, *others)


# Cards


def card(body: Json, place: str) -> Json:
    """The card with the shapes that the SDK can read, and its addresses as they are meant."""
    from a2a.types.a2a_pb2 import AgentCard

    body = copy.deepcopy(body)
    skills = body.get("skills")
    body["skills"] = [
        {"id": one, "name": one} if isinstance(one, str) else one
        for one in (skills if isinstance(skills, list) else [])
        if isinstance(one, str | dict)
    ]
    if isinstance(flags := body.get("capabilities"), list):
        body["capabilities"] = {str(one): True for one in flags if isinstance(one, str)}
    schemes = body.get("securitySchemes")
    body["securitySchemes"] = (
        {key: one for key, one in schemes.items() if isinstance(one, dict)} if isinstance(schemes, dict) else {}
    )
    for key in ("security", "additionalInterfaces"):
        if key in body and not isinstance(body[key], list):
            del body[key]
    body = _fitted(body, cast("Descriptor", AgentCard.DESCRIPTOR))
    new_style = body.get("supportedInterfaces") or body.get("supported_interfaces")
    old_style = body.get("url")
    if new_style:
        for one in new_style:
            if "transport" in one:
                one.setdefault("protocolBinding", one.pop("transport"))
            _interface(one, place, "1.0")
        body["supportedInterfaces"] = [one for one in new_style if one["url"]]
        body.pop("supported_interfaces", None)
    else:
        body.pop("supportedInterfaces", None)
        version = body.pop("protocolVersion", None) or body.pop("protocol_version", None) or "0.3.0"
        more = [one for one in body.pop("additionalInterfaces", []) if isinstance(one, dict)]
        first = {"url": old_style, "transport": body.pop("preferredTransport", body.pop("preferred_transport", None))}
        body["supportedInterfaces"] = [
            _interface({"url": one.get("url"), "protocolBinding": one.get("transport")}, place, str(version))
            for one in ([first] if old_style else []) + more
            if isinstance(one.get("url"), str)
        ]
    return body


def _interface(one: Json, place: str, version: str) -> Json:
    def named(*keys: str) -> str:
        return next((str(one.pop(key)) for key in keys if one.get(key)), "")

    binding = named("protocolBinding", "protocol_binding")
    said = named("protocolVersion", "protocol_version") or version
    number = said.strip().lower().removeprefix("v")
    one["protocolBinding"] = _BINDINGS.get(re.sub("[^a-z]", "", binding.lower()), binding)
    # What was on the wire in 0.2 is what 0.3 has, and the SDK knows no 0.2.
    one["protocolVersion"] = "0.3.0" if number.startswith("0.2") else number
    one["url"] = _address(str(one.get("url") or ""), place, one["protocolBinding"])
    return one


def _address(url: str, place: str, binding: str) -> str:
    """Where an interface is: relative addresses are the card's own host's, and so is one that says `everywhere`."""
    if not url:
        return ""
    grpc = binding == "GRPC" and "://" not in url
    whole = f"http://{url}" if grpc else urljoin(place, url)
    try:
        there, here = httpx.URL(whole), httpx.URL(place)
        if there.host in _UNSPECIFIED:
            there = there.copy_with(host=here.host)
        if (there.scheme, here.scheme) == ("http", "https") and place_of(there.copy_with(scheme="https")) == place_of(
            here
        ):
            there = there.copy_with(scheme="https")  # behind a proxy it does not know that it is
    except (httpx.InvalidURL, Refusal, ValueError):
        return url
    return there.netloc.decode("ascii", "replace") if grpc else str(there)


def _fitted(body: Json, message: Descriptor) -> Json:
    """The fields that the protocol knows, of the type it wants; others stay as they are, for the SDK skips them."""
    known = {name: field for field in message.fields for name in (field.name, field.json_name)}
    fitted = {}
    for key, value in body.items():
        field = known.get(key)
        value = value if field is None else _value(value, field)
        if value is not None:
            fitted[key] = value
    return fitted


def _value(value: Any, field: FieldDescriptor) -> Any:
    """The value as the field wants it, or None."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return value if isinstance(value, dict) else None
    if not field.is_repeated:
        return _one(value, field)
    values = value if isinstance(value, list) else [value]
    return [fit for one in values if (fit := _one(one, field)) is not None]


def _one(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        if not isinstance(value, dict):
            return None
        outside = field.message_type.full_name.startswith("google.")
        return value if outside else _fitted(value, field.message_type)
    if field.type == field.TYPE_STRING:
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if field.type == field.TYPE_BOOL:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return value if isinstance(value, bool) else None
    return value


# Answers

_NO_ZONE = re.compile(rb'"timestamp"\s*:\s*"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?"')
_TASK_KIND = re.compile(rb'"kind"\s*:\s*"(task|status-update|artifact-update)"')
_UPDATE_KIND = re.compile(rb'"kind"\s*:\s*"(status|artifact)-update"')
_NEW_STATE = re.compile(rb'"state"\s*:\s*"TASK_STATE_')
_MESSAGE_KIND = re.compile(rb'"kind"\s*:\s*"message"')
_LINES = re.compile(rb"([\r\n]+)")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
_THEIR_OWN = ("data", "metadata")
"""What stands below these is the agent's matter, not the protocol's."""


class Mended(httpx.AsyncByteStream):
    """An answer or event stream as the SDK can read it; what conforms passes as it is."""

    def __init__(self, inner: httpx.AsyncByteStream, *, events: bool) -> None:
        self._inner, self._events = inner, events
        self._task = self._new = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = bytearray()
        async for chunk in self._inner:
            held += chunk
            if self._events and (ends := max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))) >= 0:
                end = len(held) - len(chunk) + ends + 1
                yield b"".join(self._line(line) for line in _LINES.split(bytes(held[:end])))
                del held[:end]
        if held:
            yield self._line(bytes(held)) if self._events else mended(bytes(held))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _line(self, line: bytes) -> bytes:
        field, _, value = line.partition(b":")
        if field != b"data":
            return line
        self._new = self._new or _NEW_STATE.search(value) is not None
        if self._new and _UPDATE_KIND.search(value):
            return b"data: " + _as_new(value)
        if _TASK_KIND.search(value):
            self._task = True
        elif self._task and _MESSAGE_KIND.search(value):
            return b"data: " + _as_status(value)
        return b"data: " + mended(value.strip()) if _NO_ZONE.search(value) else line


def _as_new(event: bytes) -> bytes:
    """An update in 1.0's words but in 0.3's place, as LangGraph sends it."""
    try:
        body = json.loads(event)
        kind = {"status-update": "statusUpdate", "artifact-update": "artifactUpdate"}.get(body["result"].get("kind"))
        return mended(json.dumps({**body, "result": {kind: body["result"]}} if kind else body).encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return event


def _as_status(event: bytes) -> bytes:
    """A message in the middle of a task, where 0.3 allows none and the SDK would stop to read: words on the way."""
    try:
        body = json.loads(event)
        said = body["result"]
        status = {"state": "working", "message": said}
        told = {"kind": "status-update", "taskId": said["taskId"], "contextId": said["contextId"], "final": False}
        return json.dumps({**body, "result": {**told, "status": status}}).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return event


def mended(body: bytes) -> bytes:
    if not _NO_ZONE.search(body):
        return body
    try:
        found = json.loads(body)
        _add_zones(found)
        return json.dumps(found).encode()
    except (ValueError, RecursionError):
        return body  # whoever reads it says what is wrong


def _add_zones(value: Any) -> None:
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key == "timestamp" and isinstance(one, str) and _MOMENT.fullmatch(one):
            value[key] = one + "Z"
        elif key not in _THEIR_OWN:
            _add_zones(one)


def whole(value: Any) -> Any:
    """JSON from the SDK, in which every number is a float: 3.0 was 3 when the agent wrote it."""
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def why(response: httpx.Response) -> str:
    """What an answer that is an error says about it, where it says something in words."""
    try:
        text = response.text[:4000]
    except httpx.StreamError:
        return ""
    if "html" in response.headers.get("content-type", ""):
        return ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for _ in range(3):
        if isinstance(found, dict):
            found = next((found[key] for key in ("error", "detail", "message", "title") if found.get(key)), text)
    return found if isinstance(found, str) else json.dumps(found)
