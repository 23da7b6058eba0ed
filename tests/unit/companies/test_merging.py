"""What several iterations found becomes one answer, in the order that was asked for."""

from __future__ import annotations

import json

from quarterdeck.agents.companies.merging import Found, merge, ordered

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "seat": {"type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}}},
        "people": {"type": "array", "items": {"properties": {"role": {}, "who": {}}}},
        "founded": {"type": "integer"},
    },
}


def test_answers_stand_in_the_order_of_the_schema_at_every_depth() -> None:
    mixed = {
        "founded": 1999, "people": [{"who": "Ann", "role": "CEO"}], "seat": {"country": "KR", "city": "Busan"}, "z": 1,
        "name": "ACME", "a": 2,
    }  # fmt: skip
    assert json.dumps(ordered(mixed, SCHEMA)) == json.dumps(
        {
            "name": "ACME", "seat": {"city": "Busan", "country": "KR"}, "people": [{"role": "CEO", "who": "Ann"}],
            "founded": 1999, "a": 2, "z": 1,
        }
    )  # fmt: skip


def test_a_schema_that_says_nothing_of_a_value_leaves_it_as_it_is() -> None:
    assert ordered({"seat": "Busan", "name": None}, {"properties": {"seat": True, "name": {}}}) == {
        "seat": "Busan", "name": None,
    }  # fmt: skip


def test_a_later_look_adds_and_loses_nothing() -> None:
    first = Found({"name": "ACME", "founded": 1999}, [{"path": "founded", "confidence": 0.9}], 0.9)
    later = Found({"founded": None, "ceo": "Ann"}, [{"path": "ceo", "confidence": 0.8}], 0.8)
    assert merge(first, later).data == {"founded": 1999, "ceo": "Ann", "name": "ACME"}
