"""A diff shows no secret, and yet hides no difference."""

from __future__ import annotations

import base64
from typing import Any

from quarterdeck.kubectl import diffs


def deployment(**env: str) -> dict[str, Any]:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    return {
        "kind": "Deployment",
        "spec": {
            "containers": [{"name": "web", "image": "web:1", "args": ["--token=abc-planted-1"], "env": variables}]
        },
    }


def secret(**values: str) -> dict[str, Any]:
    return {"kind": "Secret", "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


def test_what_changes_is_shown_line_by_line() -> None:
    after = deployment(A="1")
    after["spec"]["containers"][0]["image"] = "web:2"
    assert diffs.diff(deployment(A="1"), after).splitlines()[1:] == [
        "   containers:",
        "   - name: web",
        "-    image: web:1",
        "+    image: web:2",
        "     args:",
        "     - --token=[redacted]",
    ]


def test_the_same_objects_have_no_diff() -> None:
    assert diffs.diff(deployment(A="1"), deployment(A="1")) == ""


def test_a_changed_environment_value_is_named_and_not_shown() -> None:
    said = diffs.diff(deployment(A="old-planted", B="same"), deployment(A="new-planted", B="same"))
    assert said == "~ spec.containers.web.env.A.value: its value changes (hidden)"


def test_a_new_variable_does_not_make_the_others_look_changed() -> None:
    said = diffs.diff(deployment(B="same"), deployment(A="new-planted", B="same"))
    assert "+    - name: A" in said
    assert "its value changes" not in said
    assert "planted" not in said


def test_a_changed_value_of_a_secret_is_named_beside_other_differences() -> None:
    before, after = secret(password="old-planted"), secret(password="new-planted", extra="x-planted")
    after["metadata"] = {"labels": {"team": "a"}}
    said = diffs.diff(before, after)
    assert "+    team: a" in said
    assert "~ data.password: its value changes (hidden)" in said
    assert "+  extra: <hidden>" in said
    for value in ("old-planted", "new-planted", "x-planted"):
        assert value not in said
        assert base64.b64encode(value.encode()).decode() not in said


def test_what_is_redacted_inside_a_text_is_still_said_to_change() -> None:
    before, after = deployment(), deployment()
    after["spec"]["containers"][0]["args"] = ["--token=xyz-planted-2"]
    said = diffs.diff(before, after)
    assert said == "~ spec.containers.web.args.0: its value changes (hidden)"


def test_characters_that_no_eye_sees_are_spelled_out() -> None:
    after = deployment()
    after["spec"]["containers"][0]["image"] = "web:1\u202e\u200b"
    said = diffs.diff(deployment(), after)
    assert "<U+202E><U+200B>" in said
