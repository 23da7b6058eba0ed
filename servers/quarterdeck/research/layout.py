"""A source as sections: its lines, its label-value pairs, its tables; from HTML, Markdown or plain text alike.

Everything is bounded, and what a reader of the page does not see (scripts, hidden elements, navigation) is not read.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from typing import Any

from quarterdeck.keel.answers import plain
from quarterdeck.research.labels import concepts_of

LONGEST = 200_000
"""Characters of one source that are read."""
MOST_LINES = 6_000
LONGEST_LINE = 2_000
MOST_ROWS = 400


@dataclass(frozen=True)
class Pair:
    label: str
    value: str
    passage: str


@dataclass
class Section:
    heading: str
    level: int
    lines: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    grids: list[list[list[str]]] = field(default_factory=list)


@dataclass
class Layout:
    sections: list[Section]
    title: str = ""
    site: str = ""
    entities: list[dict[str, Any]] = field(default_factory=list)
    """What JSON-LD and microdata say, as JSON-LD objects; each with its passage under `@passage`."""
    metas: dict[str, str] = field(default_factory=dict)


def looks_like_html(text: str) -> bool:
    return bool(
        re.search(
            r"(?i)<(?:!doctype html|html|head|body|table|div|p|dl|ul|h[1-6]|script|main|article)\b[^<>]{0,300}>",
            text[:20_000],
        )
    )


def read(text: str) -> Layout:
    text = text[:LONGEST]
    return _Html(text).layout if looks_like_html(text) else _plain_layout(text)


def visible_text(text: str) -> str:
    """What a person sees of a source, with single blanks: passages are looked up in it."""
    if not looks_like_html(text):
        return squeeze(plain(text))
    return seen_text(read(text))


def seen_text(layout: Layout) -> str:
    said: list[str] = []
    for section in layout.sections:
        said += [section.heading, *section.lines, *(pair.passage for pair in section.pairs)]
        said += [" ".join(row) for grid in section.grids for row in grid]
    return squeeze(" ".join(said))


def squeeze(text: str) -> str:
    return " ".join(text.split())


_HEADING = re.compile(r"^(#{1,6})\s+(.{1,200}?)\s*#*$")
_LIST = re.compile(r"^(?:[-*+•‣◦▪]|\d{1,2}[.)])\s+")
_LABEL = re.compile(r"^(?P<label>[^:：|\t]{1,60}?)\s*[:：]\s*(?P<value>\S.{0,400})$")
_DASH = re.compile(r"^(?P<label>[^–—|:]{2,40}?)\s+(?:[–—|]|-)\s+(?P<value>\S.{0,300})$")
_TAB = re.compile(r"^(?P<label>[^\t|]{1,60}?)\s*(?:\t+|\s\|\s)\s*(?P<value>[^\t|]{1,400})$")
_SINCE = re.compile(r"^(?P<label>Established|Founded|Since|Est\.|Incorporated)(?:\sin)?\s(?P<value>\S.{3,40})$")
_SPACED = re.compile(r"^(?P<label>\S(?:[^\s]|\s(?!\s)){1,40}?)\s{2,}(?P<value>\S.{0,300})$")


def _unmarked(text: str) -> str:
    """Without Markdown's marks."""
    text = re.sub(r"!\[[^\]]{0,200}\]\([^)]{0,400}\)", " ", text)
    text = re.sub(
        r"\[([^\]]{1,200})\]\((https?://[^)\s]{1,300})\)", lambda m: m[2] if "://" in m[1] else f"{m[1]}", text
    )
    return re.sub(r"\*\*|__|(?<!\w)[*_](?=\w)|(?<=\w)[*](?!\w)|`", "", text).strip()


def pair_of(line: str) -> Pair | None:
    """The label and value that one line states."""
    bare = _unmarked(_LIST.sub("", line.strip()))
    for pattern in (_LABEL, _SINCE, _TAB, _DASH, _SPACED):
        match = pattern.match(bare)
        if match is None:
            continue
        label, value = match["label"].strip(), match["value"].strip()
        if pattern is _LABEL or concepts_of(label):
            if re.match(r"//", value) or (len(label.split()) > 6 and not concepts_of(label)):
                continue
            return Pair(label, value, squeeze(bare)[:240])
    return None


def _plain_layout(text: str) -> Layout:
    layout = Layout([Section("", 0)])
    lines = plain(text).splitlines()[:MOST_LINES]
    grid: list[list[str]] = []

    def close() -> None:
        if grid:
            _place_rows(layout.sections[-1], [row[:] for row in grid])
            grid.clear()

    for at, raw in enumerate(lines):
        line = raw.rstrip()[:LONGEST_LINE]
        bare = line.strip()
        if bare.startswith("|") and bare.count("|") >= 2:
            cells = [_unmarked(cell) for cell in bare.strip("|").split("|")]
            if not all(re.fullmatch(r"\s*:?-{2,}:?\s*", cell) for cell in cells):
                grid.append(cells)
            continue
        close()
        if not bare:
            continue
        heading = _HEADING.match(bare)
        if heading is not None:
            name = _unmarked(heading[2])
            layout.title = layout.title or name
            layout.sections.append(Section(name, len(heading[1])))
            continue
        setext = lines[at + 1].strip() if at + 1 < len(lines) else ""
        marked = _unmarked(_LIST.sub("", bare))
        section = layout.sections[-1]
        if not layout.title and len(bare) < 160:
            layout.title = marked
        if re.fullmatch(r"={3,}|-{3,}", setext) or _bare_heading(bare):
            layout.sections.append(Section(marked, 7))
            continue
        if re.fullmatch(r"[=\-*_]{3,}", bare):
            continue
        if bare.startswith(">"):
            marked = marked.lstrip("> ")
        section.lines.append(marked)
        pair = pair_of(bare)
        if pair is not None:
            section.pairs.append(pair)
    close()
    return layout


def _bare_heading(line: str) -> bool:
    """A short line that is no sentence, no pair and no item: in plain text that is all there is of a heading."""
    if len(line) > 70 or _LIST.match(line) or re.search(r"[.!?。:：|\t,;]\s*$|[:：|\t]", line):
        return False
    words = line.split()
    return 0 < len(words) <= 8 and not re.search(r"\d{3,}|다$|@|  ", line)


def _place_rows(section: Section, rows: list[list[str]]) -> None:
    """Rows of two are pairs; anything wider is a table. Rows of label, value, label, value are two pairs each."""
    rows = [[squeeze(cell) for cell in row] for row in rows[:MOST_ROWS]]
    rows = [row for row in rows if any(row)]
    if not rows:
        return
    width = max(len(row) for row in rows)
    labels = sum(bool(concepts_of(row[0])) for row in rows if row)
    across = sum(bool(concepts_of(cell)) for cell in rows[0])
    if (
        width == 4
        and all(len(row) in (2, 4) for row in rows)
        and (
            sum(bool(concepts_of(row[0])) and len(row) == 4 and bool(concepts_of(row[2])) for row in rows) * 2
            >= len(rows)
        )
    ):
        rows = [half for row in rows for half in (row[:2], row[2:]) if half]
        width = 2
    if width <= 2 and not (across == 2 and len(rows) > 1 and labels <= 1):
        for row in rows:
            if len(row) == 2 and row[0] and row[1] and len(row[0]) <= 80:
                section.pairs.append(Pair(row[0].rstrip(" :："), row[1], squeeze(" ".join(row))[:240]))
            elif len(row) == 1:
                section.lines.append(row[0])
    else:
        section.grids.append(rows)


_SKIP = {
    "script",
    "style",
    "noscript",
    "template",
    "nav",
    "aside",
    "form",
    "svg",
    "button",
    "select",
    "iframe",
    "head",
    "option",
    "textarea",
    "object",
    "canvas",
    "video",
    "audio",
}
_BLOCKS = {
    "p",
    "div",
    "section",
    "article",
    "main",
    "header",
    "footer",
    "ul",
    "ol",
    "li",
    "br",
    "hr",
    "tr",
    "td",
    "th",
    "dd",
    "dt",
    "dl",
    "table",
    "blockquote",
    "pre",
    "figure",
    "figcaption",
    "address",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "body",
    "html",
    "summary",
    "details",
    "caption",
    "tbody",
    "thead",
    "fieldset",
}
_DEEPEST = 250


class _Html:
    def __init__(self, text: str) -> None:
        from selectolax.lexbor import LexborHTMLParser

        self.layout = Layout([Section("", 0)])
        self.line: list[str] = []
        tree = LexborHTMLParser(text)
        self._heads(tree)
        if tree.body is not None:
            self._microdata(tree)
            self._walk(tree.body, 0)
        self._flush()

    def _heads(self, tree: Any) -> None:
        title = tree.css_first("title")
        self.layout.title = squeeze(plain(title.text()))[:300] if title is not None else ""
        for meta in tree.css("meta")[:200]:
            name = (meta.attributes.get("property") or meta.attributes.get("name") or "").lower()
            if name and meta.attributes.get("content"):
                self.layout.metas.setdefault(name, squeeze(plain(meta.attributes["content"]))[:1000])
        self.layout.site = self.layout.metas.get("og:site_name", "")
        for script in tree.css('script[type="application/ld+json"]')[:20]:
            raw = script.text()
            try:
                told = json.loads(raw)
            except (ValueError, RecursionError):
                continue
            self._entities(told)

    def _entities(self, told: Any) -> None:
        stack, seen = [told], 0
        while stack and seen < 500:
            node = stack.pop()
            seen += 1
            if isinstance(node, list):
                stack += reversed(node[:100])
            elif isinstance(node, dict):
                if "@type" in node:
                    self.layout.entities.append(node)
                stack += [node[key] for key in ("@graph", "mainEntity", "about", "publisher") if key in node]

    def _microdata(self, tree: Any) -> None:
        for attribute, kind in (("itemtype", "itemprop"), ("typeof", "property")):
            for scope in tree.css(f"[{attribute}]")[:50]:
                if not self._inside(scope, attribute):
                    self.layout.entities.append(self._item(scope, attribute, kind, 0))

    @staticmethod
    def _inside(node: Any, attribute: str) -> bool:
        """Whether it is a property of an item around it, and is read with that."""
        return bool(node.attributes.get("itemprop") if attribute == "itemtype" else node.attributes.get("property"))

    def _item(self, scope: Any, attribute: str, kind: str, depth: int) -> dict[str, Any]:
        item: dict[str, Any] = {
            "@type": (scope.attributes.get(attribute) or "").rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        }
        stack = [scope.child]
        steps = 0
        while stack and steps < 2000:
            node = stack.pop()
            if node is None:
                continue
            steps += 1
            stack.append(node.next)
            if not node.is_element_node:
                continue
            name = node.attributes.get(kind)
            inner = node.attributes.get(attribute) is not None
            if name:
                value: Any = self._item(node, attribute, kind, depth + 1) if inner and depth < 4 else self._value(node)
                key = name.split()[0].rsplit(":", 1)[-1]
                item[key] = (
                    [*item[key], value]
                    if isinstance(item.get(key), list)
                    else [item[key], value]
                    if key in item
                    else value
                )
            if not inner:
                stack.append(node.child)
        return item

    @staticmethod
    def _value(node: Any) -> str:
        attributes = node.attributes
        for name in ("content", "datetime", "href"):
            if attributes.get(name) and (name != "href" or node.tag in ("a", "link")):
                return squeeze(plain(attributes[name]))[:500]
        return squeeze(plain(node.text(separator=" ")))[:500]

    def _hidden(self, node: Any) -> bool:
        attributes = node.attributes
        style = (attributes.get("style") or "").replace(" ", "").lower()
        return (
            "hidden" in attributes
            or attributes.get("aria-hidden") == "true"
            or "display:none" in style
            or "visibility:hidden" in style
            or "font-size:0" in style
        )

    def _walk(self, node: Any, depth: int) -> None:
        if depth > _DEEPEST or len(self.layout.sections) > MOST_LINES:
            return
        child = node.child
        while child is not None:
            tag = child.tag
            if tag == "-text":
                self.line.append(child.text(deep=False) if child.text_content is None else child.text_content)
            elif child.is_element_node and tag not in _SKIP and not self._hidden(child):
                if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
                    self._flush()
                    self.layout.sections.append(Section(self._text(child)[:200], int(tag[1])))
                elif tag == "table":
                    self._flush()
                    self._table(child, depth)
                elif tag == "dl":
                    self._flush()
                    self._definitions(child)
                elif tag in _BLOCKS:
                    self._flush()
                    if tag == "footer":  # no longer under the last heading
                        self.layout.sections.append(Section("", 0))
                    self._walk(child, depth + 1)
                    self._flush()
                else:
                    self._walk(child, depth + 1)
            child = child.next

    def _text(self, node: Any) -> str:
        said: list[str] = []

        def gather(at: Any, depth: int) -> None:
            child = at.child
            while child is not None and depth < _DEEPEST and len(said) < 2000:
                if child.tag == "-text":
                    said.append(child.text_content or "")
                elif child.tag == "br" or child.tag in ("li", "p", "div"):
                    said.append("\n")
                    gather(child, depth + 1)
                elif child.is_element_node and child.tag not in ("script", "style") and not self._hidden(child):
                    gather(child, depth + 1)
                child = child.next

        gather(node, 0)
        return "\n".join(part for part in (squeeze(plain(line)) for line in "".join(said).split("\n")) if part)

    def _table(self, table: Any, depth: int) -> None:
        caption = table.css_first("caption")
        if caption is not None:
            self.layout.sections[-1].lines.append(squeeze(self._text(caption)))
        if table.css_first("table table") is not None:  # for looks only
            self._walk(table, depth + 1)
            return
        rows = []
        for row in table.css("tr")[:MOST_ROWS]:
            cells = [
                self._text(cell).replace("\n", "; ")
                for cell in row.iter()
                if cell.tag in ("td", "th") and not self._hidden(cell)
            ]
            if cells:
                rows.append(cells[:60])
        _place_rows(self.layout.sections[-1], rows)

    def _definitions(self, node: Any) -> None:
        label = ""
        for item in node.css("dt, dd")[:MOST_ROWS]:
            text = self._text(item).replace("\n", "; ")
            if item.tag == "dt":
                label = squeeze(text)
            elif label and text:
                self.layout.sections[-1].pairs.append(
                    Pair(label.rstrip(" :："), text, squeeze(f"{label} {text}")[:240])
                )

    def _flush(self) -> None:
        line = squeeze(plain(html.unescape("".join(self.line))))[:LONGEST_LINE]
        self.line = []
        section = self.layout.sections[-1]
        if not line or sum(map(len, (section.lines,))) > MOST_LINES:
            return
        section.lines.append(line)
        pair = pair_of(line)
        if pair is not None:
            section.pairs.append(pair)
