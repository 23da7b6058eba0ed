"""What agents made, as MCP resources and as pages of text."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from quarterdeck.bridge.models import ArtifactPage, ArtifactRow
from quarterdeck.keel.answers import clip, fit, one_line, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

if TYPE_CHECKING:
    from fastmcp.resources import ResourceContent

Json = dict[str, Any]

PAGE = 5_500
SHOWN = 20
LARGEST_RESOURCE = 4 << 20


def uri(task: str, number: int) -> str:
    return f"bridge://{task}/{number}"


def name_of(artifact: Json, number: int) -> str:
    named = artifact.get("name") or next((p["filename"] for p in artifact.get("parts", []) if p.get("filename")), "")
    return clip(redact(one_line(str(named))), 60) or f"artifact {number}"


def kind_of(artifact: Json) -> str:
    kinds = dict.fromkeys(_kind(part) for part in artifact.get("parts", [])[:20])
    return clip(", ".join(kinds), 80) or "empty"


def _kind(part: Json) -> str:
    if media := part.get("mediaType"):
        return clip(one_line(str(media)), 60)
    return "text" if "text" in part else "data" if "data" in part else "link" if "url" in part else "file"


def size_of(artifact: Json) -> int:
    size = 0
    for part in artifact.get("parts", []):
        size += len(part.get("raw", "")) * 3 // 4 + len(part.get("text", "").encode(errors="replace"))
        size += len(json.dumps(part["data"])) if "data" in part else 0
    return size


def rows(task: str, artifacts: list[Json]) -> list[ArtifactRow]:
    return [
        ArtifactRow(name=name_of(one, number), uri=uri(task, number), kind=kind_of(one), bytes=size_of(one))
        for number, one in enumerate(artifacts[:SHOWN])
    ]


def text_of(artifact: Json) -> str:
    """Everything of it that can be read: texts, data as JSON, addresses of links, names of files."""
    pieces = []
    for part in artifact.get("parts", []):
        if "text" in part:
            pieces.append(str(part["text"]))
        elif "data" in part:
            pieces.append(json.dumps(part["data"], ensure_ascii=False, indent=1))
        elif "url" in part:
            pieces.append(f"link: {part['url']}")
        elif "raw" in part:
            pieces.append(f"[file {part.get('filename', '')} {_kind(part)}, {len(part['raw']) * 3 // 4} bytes]")
    return redact(plain("\n".join(pieces)))


def add(artifacts: list[Json], update: Json) -> bool:
    """Take up what an update brings; whether it is a new artifact. Text that comes in chunks grows together again."""
    artifact = update.get("artifact") or {}
    known = next((one for one in artifacts if one.get("artifactId") == artifact.get("artifactId")), None)
    if known is None:
        artifacts.append(artifact)
    elif not update.get("append"):
        artifacts[artifacts.index(known)] = artifact
    else:
        parts = known.setdefault("parts", [])
        for part in artifact.get("parts", []):
            last = parts[-1] if parts else {}
            if "text" in part and "text" in last and {**part, "text": ""} == {**last, "text": ""}:
                last["text"] += part["text"]
            else:
                parts.append(part)
    return known is None


def reply(message: Json) -> Json:
    """A message that is the result: what it says can be read like any artifact."""
    return {"artifactId": "reply", "name": "reply", "parts": message.get("parts", [])}


def grown(known: list[Json], told: list[Json]) -> list[Json]:
    """What the agent lists, but as it grew here where that is the same: it may list each chunk as a part."""

    def flat(artifact: Json) -> tuple[Any, str]:
        return artifact.get("artifactId"), "".join(str(part.get("text", "\0")) for part in artifact.get("parts", []))

    here = {flat(one): one for one in known}
    return [here.get(flat(one), one) for one in told]


def output(artifacts: list[Json]) -> str:
    """The texts of all of them, for the answer about a task."""
    return "\n".join(text for one in artifacts[:SHOWN] if (text := text_of(one).strip()))


def find(artifacts: list[Json], wanted: str) -> int:
    """By number, name or uri."""
    wanted = wanted.strip().rsplit("/", 1)[-1] if wanted.startswith("bridge://") else wanted.strip()
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(artifacts):
        return int(wanted)
    for number, one in enumerate(artifacts):
        if wanted in (name_of(one, number), one.get("name"), one.get("artifactId")):
            return number
    if not wanted and len(artifacts) == 1:
        return 0
    there = ", ".join(f"{n}: {name_of(one, n)}" for n, one in enumerate(artifacts[:SHOWN])) or "none yet"
    raise Refusal(f"There is no such artifact. There are: {there}. Name one by its number.")


def page(task: str, artifacts: list[Json], wanted: str, offset: int) -> ArtifactPage:
    number = find(artifacts, wanted)
    artifact = artifacts[number]
    text = text_of(artifact)
    if offset and offset >= len(text):
        raise Refusal(f"It has {len(text)} characters; offset {offset} is behind its end.")

    def make(most: int) -> ArtifactPage:
        end = offset + most
        more = f"read_artifact with offset={end} reads on." if end < len(text) else "That is all of it."
        return ArtifactPage(
            name=name_of(artifact, number),
            kind=kind_of(artifact),
            uri=uri(task, number),
            text_of_it=text[offset:end] or None,
            offset=offset,
            total=len(text),
            next=more,
        )

    return fit(make, min(PAGE, max(1, len(text) - offset)))


def contents(artifact: Json) -> list[ResourceContent]:
    """The artifact as an MCP resource: texts as text, files as they are, links as lists of addresses."""
    from fastmcp.resources import ResourceContent

    if size_of(artifact) > LARGEST_RESOURCE:
        raise Refusal(f"It is larger than {LARGEST_RESOURCE >> 20} MB; read_artifact reads its text in pages.")
    found = []
    for part in artifact.get("parts", []):
        media = str(part.get("mediaType") or "")
        if "text" in part:
            found.append(ResourceContent(redact(plain(str(part["text"]))), media or "text/plain"))
        elif "data" in part:
            body = redact(json.dumps(part["data"], ensure_ascii=False))
            found.append(ResourceContent(body, media or "application/json"))
        elif "url" in part:
            found.append(ResourceContent(redact(str(part["url"])), "text/uri-list"))
        elif "raw" in part:
            found.append(ResourceContent(base64.b64decode(part["raw"]), media or "application/octet-stream"))
    return found or [ResourceContent("", "text/plain")]
