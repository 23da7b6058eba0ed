"""A caller's schema: read, refused in words, never a hang."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.keel.errors import Refusal
from quarterdeck.research.schema import check, spell


def one(**field: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": field}}


def test_leaves_have_paths_words_and_whether_they_are_required() -> None:
    shape = check(
        {
            "type": "object",
            "required": ["founders"],
            "properties": {
                "founders": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                    },
                },
                "hq": {"title": "Head office", "type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    )
    assert [(leaf.name, leaf.required) for leaf in shape.leaves] == [
        ("founders[].name", True), ("founders[].age", False), ("hq.city", False),
    ]  # fmt: skip
    assert shape.leaves[2].words == ("Head office", "city")
    assert spell(("founders", 0, "name")) == "founders[0].name"


def test_the_ways_to_say_or_null_come_to_one_form() -> None:
    for field in (
        {"type": ["integer", "null"]},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        {"enum": [1, 2, None]},
    ):
        assert check(one(**field)).leaves[0].type == "integer"
    assert check(one(const="a")).leaves[0].schema["enum"] == ["a"]
    assert (
        check({"properties": {"x": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {"type": "boolean"}}}).leaves[0].type
        == "boolean"
    )


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("text", "must be a JSON object"),
        ({}, "without properties"),
        ({"type": "array", "items": {}}, "root"),
        (one(type="str"), "Use one of"),
        (one(type=["string", "integer"]), "Use one of"),
        (one(anyOf=[{"type": "string"}, {"type": "integer"}]), "several shapes"),
        (one(type="integer", minimum=5, maximum=4), "fits the bounds"),
        (one(type="integer", minimum=1.2, maximum=1.8), "fits the bounds"),
        (one(type="integer", exclusiveMinimum=1, exclusiveMaximum=2), "fits the bounds"),
        (one(type="number", minimum="1"), "must be a number"),
        (one(type="number", minimum=True), "must be a number"),
        (one(type="string", minLength=3, maxLength=2), "Nothing fits"),
        (one(type="array", minItems=3, maxItems=2), "Nothing fits"),
        (one(enum=[]), "Name the values"),
        (one(type="integer", enum=["a"]), "Name the values"),
        (one(type="integer", enum=[1, 2], minimum=9), "Name the values"),
        (one(type="string", pattern="(?=a)b"), "RE2"),
        (one(type="string", pattern="(a)\\1"), "RE2"),
        (one(**{"$ref": "https://elsewhere.example/schema"}), "inside"),
        (one(**{"$ref": "#/$defs/none"}), "not there"),
        ({"properties": {"x": {"$ref": "#"}}}, "contains itself"),
        ({"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "contains itself"),
        ({"properties": {"x": {"type": "string"}}, "required": ["y"]}, "'y'"),
        ({"properties": {"x": {"type": "string"}}, "required": "x"}, "list of field names"),
        ({"properties": {"": {"type": "string"}}}, "name that cannot be used"),
        ({"properties": {"a\nb": {"type": "string"}}}, "name that cannot be used"),
        (one(type="string", **{"not": {}}), "`not`"),
        (one(type="object", properties={}), "without properties"),
        ({"properties": {f"f{n}": {"type": "string"} for n in range(201)}}, "200 values"),
        (one(type="string", description="x" * 70_000), "bytes"),
        (one(type="number", minimum=float("nan")), "not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_refused_with_its_place_and_what_to_do(schema: Any, said: str) -> None:
    with pytest.raises(Refusal, match=said) as caught:
        check(schema)
    assert len(str(caught.value)) < 300


def test_deep_schemas_are_refused_and_not_walked() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(6):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(Refusal, match="6 levels"):
        check(deep)
    for _ in range(50_000):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(Refusal, match="deeply nested"):
        check(deep)
    while deep.get("properties"):  # taken apart by hand: freeing it would recurse
        deep = deep["properties"].pop("a")


def test_a_pattern_that_would_hang_other_engines_does_not_hang_this_one() -> None:
    shape = check(one(type="string", pattern="^(a+)+$"))
    begun = time.monotonic()
    assert shape.problems({"x": "a" * 50_000 + "!"})
    assert not shape.problems({"x": "a" * 50_000})
    assert time.monotonic() - begun < 5


def test_data_that_does_not_fit_is_said_by_place() -> None:
    shape = check(
        {
            "properties": {
                "year": {"type": "integer", "maximum": 2030},
                "site": {"type": "string", "format": "uri"},
                "day": {"type": "string", "format": "date"},
            }
        }
    )
    problems = shape.problems({"year": 3000, "site": "no site", "day": "2020-13-01", "other": 1})
    assert [problem.split(":")[0] for problem in problems] == ["year", "site", "day", "the object"]
    assert shape.problems({"year": None, "site": "https://a.example", "day": "2020-12-01"}) == [], "null: not found"


words = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "required",
        "enum",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "$ref",
        "anyOf",
        "allOf",
        "const",
        "title",
        "$defs",
        "x",
    ]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["object", "string", "integer", "array", "#", "#/properties/x", "(", "a*"]
)  # fmt: skip
garbage = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5), max_leaves=25
)


@given(st.dictionaries(words, garbage, max_size=6), garbage)
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused_or_read_and_never_breaks(schema: dict[str, Any], data: Any) -> None:
    try:
        shape = check(schema)
    except Refusal as refusal:
        assert str(refusal)
        return
    assert shape.leaves
    assert check(shape.schema).schema == shape.schema, "the one form stays as it is"
    shape.problems(data)
