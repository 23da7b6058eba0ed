"""What an HTML page says, as plain text: its main part with headings, lists and tables, without what surrounds it.

What a page states about itself for machines (JSON-LD, microdata) is kept as labelled lines at the end, since the
best facts about a company stand there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

MOST_TEXT = 400_000
DEEPEST = 300
"""Nesting at which a page is cut off. No honest page comes near, and the parser's time grows with its square."""
MOST_HTML = 5_000_000
MOST_FACTS = 80

_DROPPED = (
    "script, style, noscript, template, svg, canvas, iframe, object, embed, audio, video, nav, aside, form button,"
    " button, select, input, textarea, dialog, [hidden], [aria-hidden=true],"
    " [role=navigation], [role=complementary], [role=search], [role=dialog], [role=alertdialog]"
)
_DROPPED_OUTSIDE = "footer, header, [role=banner], [role=contentinfo]"
"""Of the page; inside an article or its main part they belong to it."""
_NOISE = re.compile(
    r"(?i)(?:^|[\s_-])(?:cookies?|consent|gdpr|newsletter|subscribe|popup|modal|breadcrumbs?|sidebar|share|sharing|social"
    r"|related|advert|advertisement|ads?|promo|skip|skiplink|menu|navbar|nav|pagination|pager|toolbar)(?:$|[\s_-])"
    r"|cookie-?(?:banner|bar|notice|consent)|onetrust"
)
_UNSEEN = re.compile(
    r"(?i)display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d]*[1-9])|opacity\s*:\s*0(?![.\d])"
)
_BLOCK_TAGS = """
    address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu ol p pre section summary table tbody td tfoot th thead
    tr ul
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_APART = frozenset(("p", "table", "dl", "ul", "ol", "section", "article"))
_HEADINGS = {f"h{n}": "#" * n + " " for n in range(1, 7)}
_DATES = (
    "meta[property='article:published_time']",
    "meta[property='article:modified_time']",
    "meta[property='og:updated_time']",
    "meta[name=date]",
    "meta[name=pubdate]",
    "meta[name='publish-date']",
    "meta[name='last-modified']",
    "meta[name='dc.date']",
    "meta[name='DC.date.issued']",
    "meta[itemprop=datePublished]",
)
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-./](\d{1,2})[-./](\d{1,2})(?!\d)")
_SPACE = re.compile(r"[ \t\r\n\f\v\xa0\u200b]+")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass
class Page:
    title: str
    text: str
    published: str | None = None
    address: str = ""
    """The address that the page gives itself."""


def read(html: str) -> Page:
    tree = LexborHTMLParser(_tamed(html))
    facts = list(_facts(tree))
    published = _published(tree, facts)
    title = _title(tree)
    address = _address(tree)
    described = _meta(tree, "meta[name=description]") or _meta(tree, "meta[property='og:description']")
    body = tree.body
    text = ""
    if body is not None:
        _clean(tree)
        text = _text(_main(tree, body))
    if described and described[:60] not in text:
        text = f"{described}\n\n{text}".strip()
    if facts:
        lines = [f"{label}: {value}" for label, value in facts]
        text = f"{text}\n\nThe page says about itself, for machines:\n" + "\n".join(lines)
    return Page(title, text[:MOST_TEXT].strip(), published, address)


_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,15})")
_OPTIONAL_TEXT = "p li td tr th dt dd thead tbody tfoot colgroup rp rt"
_VOID_TEXT = "area base br col embed hr img input link meta param source track wbr html head body"
_DECORATING_TEXT = "a b big code em font i nobr s small strike strong tt u"
_OPTIONAL = frozenset(_OPTIONAL_TEXT.split())  # closed by their next of kin
_VOID = frozenset(_VOID_TEXT.split())
_DECORATING = frozenset(_DECORATING_TEXT.split())
_BARE = re.compile(rf"(?i)</?(?:{'|'.join(_DECORATING)}|option|optgroup|select)(?![a-z0-9])[^>]*+>?")


def _tamed(html: str) -> str:
    """The page as the parser gets it. Where tags that only decorate are left open it repeats them in every block,
    and it looks through all options for each next one: then these tags are taken out."""
    html = html[:MOST_HTML]
    depth = decorating = options = 0
    for match in _TAG.finditer(html):
        tag, step = match[2].lower(), -1 if match[1] else 1
        if tag in _DECORATING:
            decorating += step
        elif tag == "option":
            options += 1
        elif tag not in _OPTIONAL and tag not in _VOID:
            depth = max(0, depth + step)
            if depth > DEEPEST:
                html = html[: match.start()]
                break
    return _BARE.sub(" ", html) if decorating > 20 or options > 1000 else html


def date_of(text: str) -> str | None:
    """The first date in a text, as 2026-11-21."""
    match = _DATE.search(text[:200])
    if match is None or not 1 <= int(match[2]) <= 12 or not 1 <= int(match[3]) <= 31:
        return None
    return f"{match[1]}-{int(match[2]):02}-{int(match[3]):02}"


def _meta(tree: LexborHTMLParser, selector: str) -> str:
    node = tree.css_first(selector)
    return _flat(node.attributes.get("content") or "")[:1000] if node is not None else ""


def _flat(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _title(tree: LexborHTMLParser) -> str:
    for selector in ("title", "h1"):
        node = tree.css_first(selector)
        if node is not None and (text := _flat(node.text())):
            return text[:300]
    return _meta(tree, "meta[property='og:title']")[:300]


def _address(tree: LexborHTMLParser) -> str:
    link = tree.css_first("link[rel=canonical]")
    found = (link.attributes.get("href") or "" if link is not None else "") or _meta(tree, "meta[property='og:url']")
    found = found.strip()
    return found[:2000] if found.startswith(("http://", "https://")) else ""


def _published(tree: LexborHTMLParser, facts: list[tuple[str, str]]) -> str | None:
    for wanted in ("date modified", "date published"):
        for label, value in facts:
            if label.endswith(wanted) and (found := date_of(value)):
                return found
    for selector in _DATES:
        if found := date_of(_meta(tree, selector)):
            return found
    node = tree.css_first("time[datetime]")
    return date_of(node.attributes.get("datetime") or "") if node is not None else None


def _clean(tree: LexborHTMLParser) -> None:
    for node in tree.css(_DROPPED):
        node.decompose()
    for node in tree.css(_DROPPED_OUTSIDE):
        if not _inside(node):
            node.decompose()
    body = tree.body
    whole = len(body.text()) if body is not None else 0
    doomed = []
    for node in tree.css("[style], [class], [id]"):
        attributes = node.attributes
        if node.tag in ("html", "body", "main", "article"):
            continue
        if _UNSEEN.search(attributes.get("style") or ""):
            doomed.append(node)
        elif _NOISE.search(f"{attributes.get('class') or ''} {attributes.get('id') or ''}"):
            if len(node.text()) * 3 <= whole:  # a wrapper around everything has an unlucky name
                doomed.append(node)
    for node in reversed(doomed):  # children before their parents
        node.decompose()


def _inside(node: LexborNode) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.tag in ("main", "article") or parent.attributes.get("role") == "main":
            return True
        parent = parent.parent
    return False


def _main(tree: LexborHTMLParser, body: LexborNode) -> LexborNode:
    """The page's main part where it marks one that holds most of the text; else all of it."""
    whole = len(_flat(body.text()))
    for selector in ("main", "[role=main]", "article"):
        found = tree.css(selector)
        if len(found) == 1 and len(_flat(found[0].text())) * 5 >= whole * 2:
            return found[0]
    return body


def _text(root: LexborNode) -> str:
    """The node's text, block by block. Walks without recursion: a page may be nested as deep as it likes."""
    lines: list[str] = []
    parts: list[str] = []
    preformatted = 0
    mark = ""
    cells: list[list[str]] = []
    """Of each table row that is open: the cells that are done."""

    def flush() -> None:
        nonlocal mark
        text = "".join(parts) if preformatted else _flat("".join(parts))
        parts.clear()
        if text.strip():
            if cells:
                cells[-1].append(f"{mark.strip()} {text}".strip().replace("\n", " "))
            else:
                lines.append(mark + text)
            mark = ""

    node: LexborNode | None = root
    entering = True
    depth = 0
    while node is not None:
        tag = node.tag
        if entering:
            if node.is_text_node:
                parts.append(node.text_content or "")
            elif tag == "br":
                parts.append("\n") if preformatted else flush()
            elif tag in _BLOCKS:
                flush()
                if tag in _HEADINGS:
                    mark = f"\n{_HEADINGS[tag]}"
                elif tag == "li":
                    mark = "- "
                elif tag == "tr":
                    cells.append([])
                elif tag == "pre":
                    preformatted += 1
                elif tag in _APART and not cells and node.parent is not None and node.parent.tag != "li":
                    lines.append("")
                elif tag in ("td", "th") and cells:
                    cells[-1].append("\0")
            child = node.first_child
            if child is not None and (node.is_element_node or depth == 0):
                node = child
                depth += 1
                continue
        if node.is_element_node and tag in _BLOCKS:
            flush()
            mark = ""
            if tag == "pre":
                preformatted -= 1
            elif tag == "tr" and cells:
                _close_row(cells, lines)
            elif tag == "dt" and lines:
                if not lines[-1].rstrip().endswith((":", "：")):
                    lines[-1] += ":"
                lines.append("\1")
        if depth == 0:
            break
        if node.next is not None:
            node, entering = node.next, True
        else:
            node, entering = node.parent, False
            depth -= 1
    flush()
    return _joined(lines)


def _close_row(cells: list[list[str]], lines: list[str]) -> None:
    row: list[str] = []
    for part in cells.pop():
        if part == "\0":
            row.append("")
        elif row:
            row[-1] = f"{row[-1]} {part}".strip()
        else:
            row.append(part)
    if any(row):
        text = " | ".join(row)
        if cells:
            cells[-1].append(text)
        else:
            lines.append(text)


def _joined(lines: list[str]) -> str:
    """Lines with at most one empty line between them; a definition stands on its term's line."""
    out: list[str] = []
    term = False
    for line in lines:
        if line == "\1":
            term = True
        elif not line.strip():
            if out and out[-1] and not term:
                out.append("")
        elif term and out:
            out[-1] += f" {line.strip()}"
            term = False
        else:
            term = False
            if line.startswith("\n"):
                if out and out[-1]:
                    out.append("")
                line = line[1:]
            out.append(line.rstrip())
    return "\n".join(out).strip()


def _facts(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    """What JSON-LD and microdata say, as labels and values, in the page's order."""
    seen: set[tuple[str, str]] = set()
    for pair in (*_json_ld(tree), *_microdata(tree)):
        if pair not in seen and len(seen) < MOST_FACTS:
            seen.add(pair)
            yield pair


def _json_ld(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    for node in tree.css("script[type='application/ld+json']")[:20]:
        try:
            found = json.loads(node.text(), strict=False)
        except (ValueError, RecursionError):
            continue
        yield from _flattened(found, "", 0)


def _flattened(value: Any, label: str, depth: int) -> Iterator[tuple[str, str]]:
    """A tree of JSON as lines: `founder: Kim, Ada`, `address street address: …`."""
    if depth > 5:
        return
    if isinstance(value, list):
        names = [name for one in value[:50] if (name := _name(one))]
        if label and names and len(names) == len(value[:50]):
            yield label, ", ".join(names)
            return
        for one in value[:50]:
            yield from _flattened(one, label, depth + 1)
    elif isinstance(value, dict):
        kind = value.get("@type")
        if not label and isinstance(kind, str) and "@graph" not in value:
            yield "kind of thing", _flat(kind)[:100]
        if label and (name := _name(value)):
            yield label, name
        for key, inner in list(value.items())[:60]:
            if (key.startswith("@") and key != "@graph") or (label and key == "name"):
                continue
            said = "" if key == "@graph" else _WORDS.sub(" ", key).lower()[:60]
            yield from _flattened(inner, f"{label} {said}".strip(), depth + 1)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and label:
        if text := _flat(str(value))[:500]:
            yield label, text


def _name(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name")
    return _flat(value)[:200] if isinstance(value, str) else ""


def _microdata(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    for node in tree.css("[itemprop]")[:200]:
        attributes = node.attributes
        if "itemscope" in attributes:
            continue
        value = attributes.get("content") or attributes.get("datetime") or node.text()
        label = _WORDS.sub(" ", attributes.get("itemprop") or "").lower()[:60]
        if label and (text := _flat(value or "")[:500]):
            yield label, text
