"""Reflection: what is missing, wrong, contradicted, stale; what to search for next."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.keel.settings import ModelSettings, Settings
from quarterdeck.keel.tools import new_server
from quarterdeck.research.evidence import Source
from quarterdeck.research.judging import add_tools
from quarterdeck.research.reflection import Claim, Reflection, reflect
from quarterdeck.research.schema import check

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["ceo", "founded_year"],
    "properties": {
        "ceo": {"type": "string"},
        "founded_year": {"type": "integer"},
        "employees": {"type": "integer"},
        "headquarters": {"type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}}},
        "warranty_years": {"type": "integer", "description": "length of the warranty"},
    },
}
SHAPE = check(SCHEMA)
TODAY = date(2026, 11, 21)


def judged(
    data: dict[str, Any],
    claims: list[Claim] | None = None,
    sources: list[Source] | None = None,
    name: str = "Acme Robotics",
) -> Reflection:
    return reflect(name, SHAPE, data, claims or [], sources or [], TODAY)


def issues(done: Reflection) -> list[str]:
    return [str(issue) for issue in done.issues]


def test_required_fields_weigh_three_times_as_much() -> None:
    assert judged({}).completeness == 0
    assert judged({"ceo": "Ann Bell"}).completeness == pytest.approx(3 / 10)
    both = judged({"ceo": "Ann Bell", "founded_year": 1999})
    assert both.completeness == pytest.approx(6 / 10)
    assert both.is_complete, "all that is required is there"
    assert both.missing == ["employees", "headquarters.city", "headquarters.country", "warranty_years"]


def test_empty_values_are_missing() -> None:
    assert judged({"ceo": "", "founded_year": None}).missing[:2] == ["ceo", "founded_year"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"founded_year": "long ago"}, "founded_year"),
        ({"founded_year": 2031}, "no year in which"),
        ({"founded_year": 300}, "no year in which"),
        ({"employees": -5}, "negative"),
        ({"employees": 60_000_000}, "more people"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_is_a_serious_issue(data: dict[str, Any], said: str) -> None:
    done = judged({"ceo": "Ann Bell", "founded_year": 1999, **data})
    assert any(said in issue for issue in issues(done))
    assert not done.is_complete


def test_sources_that_contradict_each_other_are_an_issue() -> None:
    sources = [
        Source(f"https://{at}.example", "", f"Acme Robotics was founded in {year}.")
        for at, year in (("a", 1998), ("b", 1999))
    ]
    done = judged({"ceo": "Ann Bell", "founded_year": 1998}, sources=sources)
    assert any(issue.startswith("founded_year: sources disagree") for issue in issues(done))
    assert not done.is_complete
    other = judged({"ceo": "Ann Bell", "founded_year": 1998}, sources=sources[1:])
    assert any("says 1999" in issue for issue in issues(other))


def test_values_without_support_are_an_issue() -> None:
    source = Source("https://a.example", "", "Acme Robotics is led by Ann Bell.")
    good = Claim("ceo", "Ann Bell", 0.9, source.url, "is led by Ann Bell")
    assert judged({"ceo": "Ann Bell", "founded_year": 1999}, [good], [source]).is_complete
    for bad in (
        Claim("ceo", "Ann Bell", 0.9, source.url, "led by Carl Dorn"),
        Claim("ceo", "Ann Bell", 0.9, source.url, ""),
    ):
        done = judged({"ceo": "Ann Bell", "founded_year": 1999}, [bad], [source])
        assert any("passage" in issue for issue in issues(done))
        assert not done.is_complete


def test_stale_and_doubtful_values_are_said_but_do_not_block() -> None:
    sources = [Source("https://a.example", "", "Ann Bell leads. As of 2019 it has 90 employees.", "2020-01-05")]
    claims = [
        Claim("ceo", "Ann Bell", 0.3, "https://a.example", "Ann Bell leads"),
        Claim("employees", 90, 0.8, "https://a.example", "As of 2019 it has 90 employees"),
    ]
    done = judged({"ceo": "Ann Bell", "founded_year": 1999, "employees": 90}, claims, sources)
    assert "ceo: rests on a source of 2020-01-05" in issues(done)
    assert "employees: is as of 2019" in issues(done)
    assert "ceo: is doubtful (confidence 0.30)" in issues(done)
    assert done.is_complete
    assert {"Acme Robotics current CEO", "Acme Robotics number of employees"} <= set(done.queries), (
        "worth looking again"
    )


def test_follow_up_queries_name_company_and_field_required_first() -> None:
    done = judged({})
    assert done.queries == [
        "Acme Robotics current CEO",
        "Acme Robotics year founded",
        "Acme Robotics number of employees",
        "Acme Robotics headquarters location",
        "Acme Robotics warranty years",
    ]
    assert judged({}, name="가온테크").queries[:2] == ["가온테크 대표이사", "가온테크 설립연도"]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "city", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "x"]), json, max_size=5), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_data_can_be_judged(data: dict[str, Any], text: str) -> None:
    done = judged(data, [Claim("ceo", "x", None, "", text)], [Source("u", "", text)])
    assert 0 <= done.completeness <= 1
    assert len(done.queries) <= 5
    assert all(len(issue) < 500 for issue in issues(done))


async def test_the_tools_go_together_and_refuse_in_words() -> None:
    options = Settings(model=ModelSettings(api_key=""))
    server = new_server("research", "…", options)
    add_tools(server, options)
    sources = [
        {
            "url": "https://a.example",
            "title": "Acme Robotics",
            "content": "# Acme Robotics\n\nCEO: Ann Bell\nFounded: 1999",
        }
    ]
    base = {"company_name": "Acme Robotics", "extraction_schema": SCHEMA}
    async with Client(server) as client:
        told = (await client.call_tool("extract_data", {**base, "sources": sources})).structured_content
        assert told["extracted_data"] == {"ceo": "Ann Bell", "founded_year": 1999}
        assert [one["passage"] for one in told["fields"]] == ["CEO: Ann Bell", "Founded: 1999"]
        more = {"extracted_data": told["extracted_data"], "fields": told["fields"], "sources": sources}
        seen = (await client.call_tool("reflect_quality", {**base, **more})).structured_content
        assert seen["is_complete"] is True
        assert seen["quality_issues"] == []
        empty = (await client.call_tool("extract_data", base)).structured_content
        assert empty["extracted_data"] == {}
        assert "nothing to read" in empty["note"]
        for wrong, said in (
            ({"company_name": " \n "}, "company_name is empty"),
            ({"company_name": "x" * 10_000}, "at most 300"),
            ({"extraction_schema": {}}, "without properties"),
            ({"research_notes": "x" * 300_000}, "are read"),
            ({"sources": sources * 60}, "too many"),
        ):
            with pytest.raises(ToolError, match=said):
                await client.call_tool("extract_data", {**base, **wrong})


async def test_a_very_wide_extraction_keeps_its_data_and_fits() -> None:
    options = Settings(model=ModelSettings(api_key=""))
    server = new_server("research", "…", options)
    add_tools(server, options)
    schema = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(200)}}
    text = "# Acme Robotics\n\n" + "\n".join(f"Field {n}: {'값' * 100}{n}" for n in range(200))
    async with Client(server) as client:
        arguments = {"company_name": "Acme Robotics", "extraction_schema": schema, "research_notes": text}
        result = await client.call_tool("extract_data", arguments)
    assert len(result.structured_content["extracted_data"]) == 200
    assert "did not fit" in result.structured_content["note"]
