"""From pages to text, from names to queries, from many lists to one: the plain functions."""

from __future__ import annotations

from quarterdeck.research.addresses import canonical
from quarterdeck.research.html import read
from quarterdeck.research.notes import excerpt, merged, words_of
from quarterdeck.research.providers import Hit
from quarterdeck.research.queries import queries_for

PAGE = """
<html><head><title>Acme &amp; Co</title><meta name=description content="We make robots.">
<script type="application/ld+json">{"@type": "Organization", "name": "Acme", "foundingDate": "2011-03-04",
 "founder": [{"@type": "Person", "name": "Kim"}, {"@type": "Person", "name": "Ada"}], "dateModified": "2026-01-02"}</script>
</head><body><header><nav><a>Home</a></nav><h2>Site</h2></header><div class="cookie-banner">We use cookies</div>
<main><header><h1>About</h1></header><p>Acme <b>Robotics</b> makes<br>things.</p><ul><li>one<li>two</ul>
<table><tr><th>Name<th>Role</tr><tr><td>Kim<td><p>CEO</p></tr></table><dl><dt>Founded</dt><dd>2011</dd></dl>
<p style="display: none">hidden</p><aside>side</aside><script>code()</script></main><footer>foot</footer></body></html>
"""


def test_a_page_keeps_its_content_and_loses_what_surrounds_it() -> None:
    page = read(PAGE)
    assert page.title == "Acme & Co"
    assert page.published == "2026-01-02"
    for kept in ("# About", "Acme Robotics makes\nthings.", "- one\n- two", "Name | Role\nKim | CEO", "Founded: 2011"):
        assert kept in page.text, page.text
    for lost in ("Home", "Site", "cookies", "hidden", "side", "code", "foot"):
        assert lost not in page.text
    assert "founder: Kim, Ada" in page.text
    assert "founding date: 2011-03-04" in page.text


def test_pages_made_to_break_the_parser_are_read_nevertheless() -> None:
    for hostile in (
        "<div><p>" * 20_000 + "x",
        "<b>" * 300 + "<p>x" * 30_000,
        "<select>" + "<option>x" * 20_000,
        "<table><tr><td>x" * 5_000,
        "<ul><li>" * 10_000,
        "<script type='application/ld+json'>" + "[" * 50_000 + "</script><p>x",
        "<![CDATA[", "<", "", "\x00" * 100,
    ):  # fmt: skip
        assert isinstance(read(hostile).text, str)


def test_queries_cover_the_fields_that_are_wanted_required_ones_first() -> None:
    schema = {
        "properties": {
            "company_name": {},
            "foundingYear": {},
            "ceo": {"title": "Chief executive"},
            "hq": {"description": "Headquarters city"},
            "revenue_usd": {},
        },
        "required": ["ceo"],
    }
    assert queries_for("Acme", schema, 3) == [
        "Acme company profile",
        "Acme chief executive founding year",
        "Acme headquarters city revenue usd",
    ]
    assert queries_for("Acme", schema, 2, ["Acme CEO 2026", "revenue"]) == ["Acme CEO 2026", "Acme revenue"]
    assert queries_for("한빛로봇", {}, 3) == ["한빛로봇 회사 소개"]
    assert queries_for('Acme "A\nB"', {}, 1) == ["Acme A B company profile"]


def test_schemas_that_are_none_make_no_trouble() -> None:
    for schema in (
        [],
        None,
        {"properties": 3},
        {"properties": {"a": 3, "": {}}, "required": 7},
        {"properties": {"x": {"title": 9}}},
    ):
        assert queries_for("Acme", schema, 3)[0] == "Acme company profile"


def test_results_are_merged_round_by_round() -> None:
    def hit(url: str) -> Hit:
        return Hit(url, url, "", "x")

    lists = [
        [hit("https://a.example/1"), hit("https://a.example/2")],
        [hit("http://www.a.example/1/?utm_source=x"), hit("https://b.example")],
    ]
    assert [one.url for one in merged(lists, 9)] == ["https://a.example/1", "https://a.example/2", "https://b.example"]
    assert canonical("https://a.example/x?b=2&a=1") == canonical("http://www.a.example/x/?a=1&b=2#part")
    assert canonical("https://a.example/x?id=1") != canonical("https://a.example/x?id=2")


def test_an_excerpt_has_the_beginning_and_the_lines_that_were_asked_for() -> None:
    lines = [f"Line {number} says nothing of use here at all." for number in range(300)]
    lines[250] = "The founders are Kim and Ada."
    found = excerpt("\n".join(lines), 1000, words_of(["Acme founders"]))
    assert len(found) <= 1000
    assert found.startswith("Line 0")
    assert "founders are Kim and Ada" in found
