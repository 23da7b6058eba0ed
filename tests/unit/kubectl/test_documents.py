"""Manifests are read as Kubernetes reads them, and whatever is no manifest is refused in a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import documents

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def one(text: str) -> dict[str, Any]:
    (object,) = documents.read(HEAD + text)
    return object


def test_several_documents_and_lists_become_single_objects() -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents.read(HEAD)})
    found = documents.read(f"---\n{HEAD}---\n# nothing\n---\n{listed}\n")
    assert [(object["kind"], object["metadata"]["name"]) for object in found] == [("ConfigMap", "a")] * 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T03:00:00Z", "2026-11-21T03:00:00Z"),
        ("12:30", "12:30"),
        ("22:22:22", "22:22:22"),
        ("1_000", "1_000"),
        ("080", "080"),
        ("1000", 1000),
        ("-7", -7),
        ("0", 0),
        ("0x1f", 31),
        ("0644", 420),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("yes", True),
        ("null", None),
        ("'1'", "1"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_mean_what_they_mean_to_kubernetes(written: str, meant: object) -> None:
    found = one(f"data: {{key: {written}}}")["data"]["key"]
    assert (found, type(found)) == (meant, type(meant))


def test_keys_become_text() -> None:
    assert one("data: {1: a, null: b, x: c}")["data"] == {"1": "a", "null": "b", "x": "c"}


def test_what_only_the_server_may_set_is_left_out() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: x, resourceVersion: '1', labels: {b: c}}\nstatus: {d: e}"
    )
    assert documents.read(text) == [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"b": "c"}}}
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("---\n---\n", "is empty"),
        ("just words", "Object 1 of the manifest lacks apiVersion"),
        ("[1, 2]", "lacks apiVersion"),
        ("kind: Pod\nmetadata: {name: a}", "lacks apiVersion"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}", "lacks metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: ''}", "lacks metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 5}", "lacks metadata.name"),
        ("a: [", "in line 1"),
        ("a: b: c", "in line 1"),
        (HEAD + "data: &x {a: b}\nbinaryData: *x", "aliases"),
        (HEAD + "data: !!python/object/apply:os.system ['true']", "not YAML that Kubernetes takes"),
        (HEAD + "data: {a: !!binary aGk=}", "not YAML that Kubernetes takes"),
        (HEAD + "data: {a: .nan}", "text or not YAML"),
        (HEAD + "data: " + "[" * 80 + "]" * 80, "nested deeper"),
        (HEAD + "data: " + "[" * 5000, "not YAML"),
        ("---\n".join([HEAD] * 21), "has 21 objects; 20 at once"),
        ("a" * 200_001, "200000 are allowed"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, words: str) -> None:
    if words.startswith("text or"):
        assert one(text.removeprefix(HEAD))["data"] == {"a": ".nan"}
        return
    with pytest.raises(Refusal, match=words) as caught:
        documents.read(text)
    assert len(str(caught.value)) < 400


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="-:{}[]&*!|>'\"\n #%@`ab1.,?", max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        found = documents.read(HEAD + text)
    except Refusal:
        return
    json.dumps(found, sort_keys=True, allow_nan=False)
