"""The local corpus through the tools: every kind of file, Korean, changes, what cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.keel.settings import ResearchSettings, Settings
from quarterdeck.research import corpus as corpus_module
from quarterdeck.research import folders
from quarterdeck.research.server import create_server


@pytest.fixture(autouse=True)
def look_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(corpus_module, "CHECK_SHARE", 0)
    monkeypatch.setattr(corpus_module, "PATIENCE_S", 20.0)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    (folder / "sub").mkdir(parents=True)
    (folder / "acme.html").write_text(
        "<title>Acme Robotics</title><link rel=canonical href='https://acme.example/about'>"
        "<main><p>Acme Robotics was founded in 2011 by Ada Kim.</p></main>"
    )
    (folder / "rival.html").write_text(
        "<title>Bolt Robotics</title><p>Bolt competes with Acme Robotics. Founders: Bo.</p>"
    )
    (folder / "sub" / "samsung.md").write_text(
        "---\nurl: https://s.example/\ndate: 2026-01-02\n---\n# 회사 소개\n삼성전자는 수원에 있다. 대표이사는 김하나.",
        encoding="utf-8",
    )
    (folder / "old.txt").write_bytes("주식회사 한빛로봇 설립 2015년".encode("cp949"))
    rows = [{"url": "https://att.example/", "title": "AT&T", "text": "AT&T (NYSE) telecom"}, {"html": "<h1>Zeta</h1>"}]
    (folder / "rows.jsonl").write_text("\n".join([json.dumps(rows[0]), "{broken", json.dumps(rows[1])]))
    (folder / ".hidden.html").write_text("<p>hiddenword</p>")
    return folder


def client(tmp_path: Path, *folders: Path, **more: Any) -> Client[Any]:
    research = ResearchSettings(corpus=[str(folder) for folder in folders], **more)
    return Client(create_server(Settings(home=tmp_path / "home", research=research)))


async def search(server: Client[Any], query: str, **arguments: Any) -> list[str]:
    result = await server.call_tool("search_web", {"query": query, **arguments})
    assert result.structured_content is not None
    return [row["url"] for row in result.structured_content["results"]]


async def test_a_page_that_breaks_its_reader_hides_no_other(
    tmp_path: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = '{"@type": "Organization", "name": "Aaa \\ud800 Halfway"}'
    (pages / "aaa.html").write_text(f"<script type='application/ld+json'>{half}</script><p>Halfway houses of Aaa.</p>")
    (pages / "aab.jsonl").write_text('{"title": "Surrogate \\udfff Ltd", "text": "Surrogates."}')
    (pages / "aac.md").write_text("# Breaker")
    page = folders._page

    def broken(text: str, kind: str, own: str, stem: str) -> folders.Document:
        if stem == "aac":
            raise OverflowError("year 300000 is out of range")
        return page(text, kind, own, stem)

    monkeypatch.setattr(folders, "_page", broken)
    async with client(tmp_path, pages) as server:
        assert (await search(server, "who founded Acme"))[0] == "https://acme.example/about"
        assert await search(server, "Halfway houses") == ["corpus://pages/aaa.html"]
        assert await search(server, "Surrogates") == ["corpus://pages/aab.jsonl#1"]
        told = await server.call_tool("list_sources", {})
    assert "aac.md cannot be read (OverflowError)" in str(told.structured_content)


async def test_every_kind_of_file_is_found_by_what_it_says(tmp_path: Path, pages: Path) -> None:
    async with client(tmp_path, pages) as server:
        assert (await search(server, "who founded Acme"))[0] == "https://acme.example/about"
        assert await search(server, "한빛로봇") == ["corpus://pages/old.txt"]
        assert await search(server, "Zeta") == ["corpus://pages/rows.jsonl#3"]
        assert await search(server, "hiddenword") == []
        listed = await server.call_tool("list_sources", {})
    assert listed.structured_content is not None
    assert listed.structured_content["providers"][0]["documents"] == 6
    assert listed.structured_content["order"] == ["corpus"]


@pytest.mark.parametrize("query", ["삼성전자", "수원", "김하나", "삼성", "수"])
async def test_korean_is_found_inside_longer_words(tmp_path: Path, pages: Path, query: str) -> None:
    async with client(tmp_path, pages) as server:
        assert await search(server, query) == ["https://s.example/"]


@pytest.mark.parametrize(
    "query",
    ['AT&T (NYSE) "x', '"', "*", "NEAR(a b)", "title:acme AND", "a OR", "^acme", "-", "{}", "x" * 10_000, "\x00", "🚀"],
)
async def test_no_text_is_a_syntax_error(tmp_path: Path, pages: Path, query: str) -> None:
    async with client(tmp_path, pages) as server:
        result = await server.call_tool("search_web", {"query": query}, raise_on_error=False)
    text = result.content[0].text  # type: ignore[union-attr]
    assert "syntax" not in text
    assert "failed inside" not in text


async def test_research_of_a_company_is_about_no_other(tmp_path: Path, pages: Path) -> None:
    async with client(tmp_path, pages) as server:
        found = (await server.call_tool("research_company", {"company_name": "Acme Robotics, Inc."})).structured_content
        assert found is not None
        assert [row["url"] for row in found["search_results"]] == [
            "https://acme.example/about",
            "corpus://pages/rival.html",
        ]
        assert found["metadata"]["cost"] == 0
        none = (await server.call_tool("research_company", {"company_name": "Nobody Heard Of"})).structured_content
    assert none is not None
    assert none["search_results"] == []


async def test_files_that_change_come_and_go(tmp_path: Path, pages: Path) -> None:
    async with client(tmp_path, pages) as server:
        assert await search(server, "quokka") == []
        (pages / "new.md").write_text("# Quokka\nA quokka farm.")
        assert await search(server, "quokka") == ["corpus://pages/new.md"]
        (pages / "new.md").write_text("# Wombat\nA wombat farm now.")
        os.utime(pages / "new.md", (1, 1))
        assert await search(server, "quokka") == []
        assert await search(server, "wombat") == ["corpus://pages/new.md"]
        (pages / "new.md").unlink()
        assert await search(server, "wombat") == []


async def test_the_index_outlives_the_process_and_takes_up_what_was_interrupted(tmp_path: Path, pages: Path) -> None:
    import sqlite3

    async with client(tmp_path, pages) as server:
        assert await search(server, "Acme")
    (database,) = (tmp_path / "home" / "research").glob("corpus-*.db")
    with sqlite3.connect(database) as db:  # as a kill in the middle of a file leaves it
        db.execute("UPDATE files SET mtime = 0, size = -1 WHERE path LIKE '%acme.html'")
    async with client(tmp_path, pages) as server:
        assert (await search(server, "founded 2011 Ada"))[0] == "https://acme.example/about"
        assert len(await search(server, "Ada")) == 1
    assert database.stat().st_mode & 0o077 == 0


async def test_links_that_lead_out_are_not_followed(tmp_path: Path, pages: Path) -> None:
    (tmp_path / "outside.txt").write_text("outsideword")
    (pages / "link.txt").symlink_to(tmp_path / "outside.txt")
    (pages / "loop").symlink_to(pages)
    async with client(tmp_path, pages) as server:
        assert await search(server, "outsideword") == []


async def test_what_cannot_be_read_is_named_and_hides_nothing_else(tmp_path: Path, pages: Path) -> None:
    (pages / "bad.parquet").write_bytes(b"PAR1 no")
    async with client(tmp_path, pages) as server:
        assert await search(server, "Acme")
        listed = (await server.call_tool("list_sources", {})).structured_content
    assert listed is not None
    assert "bad.parquet is no Parquet" in listed["note"]


async def test_rows_of_parquet_are_documents(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "p").mkdir()
    table = pyarrow.table({"url": ["https://p.example/"], "title": ["Parcel"], "content": ["Parcel ships things."]})
    pyarrow.parquet.write_table(table, tmp_path / "p" / "x.parquet")
    async with client(tmp_path, tmp_path / "p") as server:
        assert await search(server, "ships") == ["https://p.example/"]


async def test_a_document_of_the_corpus_is_fetched_by_its_address(tmp_path: Path, pages: Path) -> None:
    async with client(tmp_path, pages) as server:
        page = (await server.call_tool("fetch_page", {"url": "corpus://pages/old.txt"})).structured_content
        copy = (await server.call_tool("fetch_page", {"url": "https://acme.example/about"})).structured_content
    assert page is not None
    assert copy is not None
    assert page["text"] == "주식회사 한빛로봇 설립 2015년"
    assert "local corpus" in copy["note"]


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with client(tmp_path, tmp_path / "nowhere") as server:
        result = await server.call_tool("search_web", {"query": "x"}, raise_on_error=False)
    assert "there is no folder" in result.content[0].text  # type: ignore[union-attr]
