"""The objects of a manifest: several YAML documents, bounded, read the way Kubernetes reads them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl.cluster import Object

MOST_OBJECTS = 20
MOST_CHARACTERS = 200_000
DEEPEST = 60
_SERVER_SETS = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")


def read(text: str) -> list[Object]:
    if len(text) > MOST_CHARACTERS:
        raise Refusal(f"The manifest has {len(text)} characters; {MOST_CHARACTERS} are allowed. Apply it in parts.")
    objects: list[Any] = []
    for document in _parse(text):
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        objects += items if isinstance(items, list) else [document]
    if not objects:
        raise Refusal("The manifest is empty. Give YAML with apiVersion, kind and metadata.name.")
    if len(objects) > MOST_OBJECTS:
        raise Refusal(
            f"The manifest has {len(objects)} objects; {MOST_OBJECTS} at once are allowed. Apply it in parts."
        )
    return [_checked(number, object) for number, object in enumerate(objects, 1)]


def _checked(number: int, object: Any) -> Object:
    fit = isinstance(object, dict) and isinstance(object.get("metadata"), dict)
    if not fit or not all(isinstance(object.get(key), str) for key in ("apiVersion", "kind")):
        raise Refusal(f"Object {number} of the manifest lacks apiVersion, kind or metadata.")
    metadata = object["metadata"]
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise Refusal(f"Object {number} of the manifest lacks metadata.name.")
    kept = {key: value for key, value in metadata.items() if key not in _SERVER_SETS}
    return {key: value for key, value in object.items() if key != "status"} | {"metadata": kept}


def _parse(text: str) -> list[Any]:
    try:
        found = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
        # There and back again: keys become text, and what JSON cannot say is refused here.
        again: list[Any] = json.loads(json.dumps(found, allow_nan=False))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        said = clip(plain(str(getattr(error, "problem", "") or error)), 120)
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise Refusal(f"The manifest is not YAML that Kubernetes takes{place}: {said}.") from None
    if _depth(again) > DEEPEST:
        raise Refusal(f"The manifest is nested deeper than {DEEPEST} levels.")
    return again


def _depth(node: Any) -> int:
    level, deep = [node], 0
    while level:
        inner = [n.values() if isinstance(n, dict) else n for n in level if isinstance(n, dict | list)]
        level, deep = [item for items in inner for item in items], deep + 1
    return deep


class _Loader(yaml.SafeLoader):
    """Without aliases, a few lines of which can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not accepted; write the values out")
        return super().compose_node(parent, index)


# Dates stay text and 12:30 is no number in base 60: as the API's own YAML reader has it.
_TEXT_TO_KUBERNETES = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in _TEXT_TO_KUBERNETES]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+|0[0-7]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
