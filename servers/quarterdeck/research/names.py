"""A company's name in text: where it stands, and where only a name alike does.

`Kestrel` is not in "Kestrel Foods makes …", `Aurora GmbH` is not in "Aurora Ltd". Whoever is not sure says no: a value
of another company is worse than none.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

UP = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĪİŁŃŇŌŐŘŚŞŠŢŤŪŮŰŹŻŽ"

_FORMS = (
    ("inc", "incorporated"),
    ("corp", "corporation"),
    ("co ltd", "company limited", "ltd", "limited", "주식회사", "(주)", "㈜", "co., ltd", "株式会社"),
    ("llc", "l.l.c"),
    ("llp",),
    ("plc", "p.l.c"),
    ("gmbh", "gmbh & co. kg", "gmbh & co kg"),
    ("ag",),
    ("se",),
    ("s.a", "sa"),
    ("sas", "s.a.s"),
    ("sarl", "s.a.r.l", "s.à r.l"),
    ("spa", "s.p.a"),
    ("srl", "s.r.l"),
    ("b.v", "bv"),
    ("n.v", "nv"),
    ("ab",),
    ("a/s", "as"),
    ("asa",),
    ("aps",),
    ("oy",),
    ("oyj",),
    ("k.k", "kk"),
    ("pte ltd", "pte. ltd"),
    ("pty ltd", "pty. ltd", "pty limited"),
    ("pvt ltd", "pvt. ltd", "private limited"),
    ("lda", "lda."),
    ("ltda",),
    ("kg",),
    ("ug",),
    ("s.l", "sl"),
    ("유한회사",),
)
_GROUP = {form: number for number, group in enumerate(_FORMS) for form in group}
_FORM = "|".join(re.escape(form).replace(r"\ ", r"\s") for form in sorted(_GROUP, key=len, reverse=True))
_BEHIND = re.compile(rf",?\s{{0,2}}(?P<form>{_FORM})\.?(?![\w&])", re.IGNORECASE)
_BEFORE = re.compile(r"(?:주식회사|\(주\)|㈜|유한회사|株式会社)\s?$")
_HEAD = re.compile(r"^\s*(?P<form>주식회사|\(주\)|㈜|유한회사|株式会社)\s*")

JOSA = "은|는|이|가|을|를|의|에|와|과|도|로|으로|에서|에는|에게|측|만|라는|이라는|까지|부터"
_KOREAN_AFTER = re.compile(rf"(?:{JOSA})?(?![가-힣\w])")
_KOREAN_NOUNS = re.compile(
    r"\s(?:대표|직원|임직원|본사|창업|매출|설립|관계자|회사|기업|소개|개요|홈페이지|주가|채용|제품|서비스는|사업|연혁|투자|주식회사"
    r"|신임|신입|정보|신규|상장|공식|뉴스|사옥|공장|연구|최고|부사장|사장|회장|이사|노조|측)"
)
_ROLE = r"CEO|CFO|CTO|COO|CMO|President|Chair|Chief|Chairman|Chairwoman|Founder|Co-founder|HQ|Headquarters"
_GENERIC_TEXT = """
    about us profile company overview home homepage facts fact sheet at a glance contact contacts careers press room
    news newsroom investors investor relations team our who we are leadership management the official website site
    welcome to of key information info data history impressum imprint legal notice page wiki wikipedia story mission
    and for reviews report annual corporate business directory listing registry results wikidata on in is was has
    linkedin crunchbase interview with figures numbers quick media kit boilerplate summary details people board
    Inc
    회사개요 기업개요 회사소개 기업정보 기업 정보 소개 개요 연혁 대표인사말 채용 공식 홈페이지 회사 위키백과 뉴스 인사말 찾아오시는길
"""
GENERIC = frozenset(_GENERIC_TEXT.lower().split())
_STARTS = frozenset(
    [
        "the",
        "a",
        "an",
        "at",
        "in",
        "on",
        "of",
        "for",
        "from",
        "with",
        "by",
        "to",
        "and",
        "or",
        "when",
        "while",
        "as",
        "since",
        "after",
        "before",
        "but",
        "today",
        "also",
        "about",
        "welcome",
        "join",
        "why",
        "how",
        "is",
        "was",
        "our",
        "your",
        "ceo",
        "cfo",
        "cto",
        "coo",
        "president",
        "chairman",
        "founder",
        "founded",
        "headquartered",
        "based",
        "established",
        "shares",
        "meet",
        "inside",
        "named",
        "contact",
        "visit",
        "company",
        "unlike",
    ]
)
_HEADLINE = frozenset(
    [
        "announces",
        "announce",
        "raises",
        "raise",
        "launches",
        "launch",
        "names",
        "appoints",
        "acquires",
        "opens",
        "closes",
        "reports",
        "posts",
        "wins",
        "secures",
        "expands",
        "unveils",
        "signs",
        "joins",
        "completes",
        "hires",
        "loses",
        "cuts",
        "gets",
        "builds",
        "plans",
        "says",
        "has",
        "is",
        "to",
        "moves",
        "sells",
        "buys",
        "celebrates",
        "grows",
        "adds",
        "and",
    ]
)

Verdict = Literal["same", "alike"]
MOST_SEEN = 5_000
"""Lines of one company's pages whose mentions are remembered."""


@dataclass(frozen=True)
class Mention:
    start: int
    end: int
    verdict: Verdict
    full: str
    """With the legal form, as it stands there."""
    formed: bool


def fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Company:
    """The company that is asked for."""

    def __init__(self, name: str) -> None:
        self.asked = " ".join(unicodedata.normalize("NFKC", name).split())
        core, self.form = _without_form(self.asked)
        self.core = core or self.asked
        words = re.findall(r"[^\W_]+", self.core)[:12]
        gap = r"[\s\-–.,'’&+/·]{0,3}(?:and\s)?"
        self._words = [word.casefold() for word in words]
        body = gap.join(re.escape(word) for word in words) if words else re.escape(self.core[:80])
        self.korean = bool(re.search(r"[가-힣]$", self.core))
        tail = "" if self.korean else r"(?![\w])(?![-&]\w)"
        self._pattern = re.compile(rf"(?<![\w&])(?<!\w-){body}{tail}", re.IGNORECASE)
        self.short: re.Pattern[str] | None = None
        self._seen: dict[tuple[str, bool, bool], list[Mention]] = {}

    def mentions(self, text: str, *, title: bool = False) -> list[Mention]:
        # Pages repeat themselves and each other, and each line is looked at more than once.
        key = (text, title, self.short is not None)
        if (known := self._seen.get(key)) is None:
            known = self._mentions(text, title)
            if len(self._seen) < MOST_SEEN:
                self._seen[key] = known
        return list(known)

    def _mentions(self, text: str, title: bool) -> list[Mention]:
        found = [
            one for match in self._pattern.finditer(text) if (one := self._judge(match, text, title=title)) is not None
        ]
        if self.short is not None:
            for match in self.short.finditer(text):
                if not any(one.start <= match.start() < one.end for one in found):
                    one = self._judge(match, text, title=title)
                    if one is not None and not one.formed:
                        found.append(one)
        return sorted(found, key=lambda one: one.start)

    def known_short(self, text: str) -> None:
        """Let the first word stand for the company in this text, where nothing else there begins with it."""
        self.short = None
        words = self.core.split()
        first = words[0]
        if len(words) < 2 or len(first) < 5 or not first[0].isupper() or fold(first) in GENERIC or self.korean:
            return
        short = re.compile(rf"(?<![\w&-]){re.escape(first)}(?![\w-])")
        for match in short.finditer(text):
            rest = text[match.end() : match.end() + 60]
            if self._pattern.match(text, match.start()):
                continue
            if re.match(rf"\s(?!(?:{_ROLE})\b)[{UP}]", rest):
                return
        self.short = short

    def same(self, text: str) -> bool:
        """Whether a whole text, such as a table's cell, is this company's name."""
        rest, form = _without_form(" ".join(unicodedata.normalize("NFKC", text).split()))
        rest = re.sub(r"\s*\([^)]{0,60}\)$", "", rest)
        rest, form = (rest, form) if form else _without_form(rest)
        return [word.casefold() for word in re.findall(r"[^\W_]+", rest)] == self._words and self._agrees(form)

    def titled(self, text: str) -> Literal["profile", "article", "alike", ""]:
        """What a title says of a page: its profile, something about it, about another with a name alike; or nothing."""
        verdict: Literal["profile", "article", "alike", ""] = ""
        for part in re.split(r"\s[|–—·»:-]\s|\s?[|»]\s?|:\s|\s-\s", text):
            mentions = self.mentions(part, title=True)
            if not mentions:
                continue
            if any(one.verdict == "alike" for one in mentions):
                return "alike"
            rest = part[: mentions[0].start] + " " + part[mentions[0].end :]
            rest = re.sub(r"\([^)]{0,60}\)|['’]s\b|\d+", " ", rest)
            words = re.findall(r"[^\W_]+", rest.casefold())
            profile = all(word in GENERIC or re.sub(rf"(?:{JOSA})$", "", word) in GENERIC for word in words if word)
            if profile:
                return "profile"
            verdict = verdict or "article"
        return verdict

    def _agrees(self, form: str) -> bool:
        if not form or not self.form:
            return True
        return _GROUP.get(form) == _GROUP.get(self.form)

    def _judge(self, match: re.Match[str], text: str, *, title: bool) -> Mention | None:
        start, end = match.span()
        form = ""
        behind = _BEHIND.match(text, end)
        if behind is not None and not (behind["form"].islower() and behind["form"] in ("as", "se", "sa", "ab", "co")):
            form, end = fold(behind["form"]).rstrip("."), behind.end()
            if text[behind.end("form") : end] == "." and not re.match(r"\s[a-z(,]|,|$", text[end : end + 2]):
                end = behind.end("form") if not _dotted(form) else end
        elif (before := _BEFORE.search(text, max(0, start - 6), start)) is not None:
            form, start = before.group().strip(), before.start()
        verdict: Verdict = "same" if self._agrees(form) else "alike"
        if self.korean and not form and not _KOREAN_AFTER.match(text, end):
            return Mention(start, end, "alike", text[start:end], False)
        after = text[end : end + 40]
        if self.korean and not form and re.match(r"\s[가-힣]", after) and not _KOREAN_NOUNS.match(after):
            # A particle or a known word ends a Korean name; another noun may well belong to it.
            if title or not re.match(r"\s(?:\d|[가-힣]{2,4}\s)", after):
                verdict = verdict if re.match(r"\s[가-힣]{2,}(?:은|는|이|가|을|를|의|에|로|으로)\b", after) else "alike"
        follows = re.match(rf"[ \u00a0-](?P<word>[{UP}][\w'’-]*|\d+[A-Z]+)", after)
        if follows is not None and not re.match(rf"(?:{_ROLE}|[QH][1-4]|FY\d*)\b", follows["word"]):
            word = follows["word"].casefold()
            if not (title and (word in GENERIC or word in _HEADLINE)):
                verdict = "alike"
        bracket = re.match(r"\s?\(([^)]{1,60})\)", after)
        if bracket is not None and not self._harmless(bracket[1]):
            verdict = "alike"
        prior = re.search(rf"(?P<word>[{UP}][\w'’&-]*)\s$", text[max(0, start - 40) : start])
        if prior is not None and prior["word"].casefold() not in _STARTS | GENERIC:
            verdict = "alike" if not self._introduced(text[max(0, start - 60) : start]) else verdict
        return Mention(start, end, verdict, text[start:end].strip(" ,"), bool(form))

    def _introduced(self, before: str) -> bool:
        """Whether the capital word right before the name is a place or a trade, not a part of it: 'maker Acme' is,
        'Berlin Acme' is not known."""
        return bool(re.search(rf"(?:{_ROLE})\s$|[.!?]\s\S+\s$", before))

    def _harmless(self, inside: str) -> bool:
        """A bracket behind the name that does not make it another company: its ticker, its name in another script."""
        inside = inside.strip()
        if re.search(r"[:：\d]|대표|이하|^(?:the )?[\"“']|formerly|founded|est\.|company|회사|http|www", inside):
            return True
        if bool(re.search(r"[가-힣一-龥]", inside)) != bool(re.search(r"[가-힣一-龥]", self.core)):
            return True
        initials = "".join(word[0] for word in self._words)
        return inside.casefold() == initials or bool(re.fullmatch(r"[A-Z0-9.]{2,6}", inside))


def _dotted(form: str) -> bool:
    return form not in ("gmbh", "ag", "se", "plc", "llc", "ab", "as", "oy", "limited", "incorporated", "corporation")


@lru_cache(maxsize=4096)
def _without_form(name: str) -> tuple[str, str]:
    head = _HEAD.match(name)
    if head is not None:
        return name[head.end() :].strip(), head["form"]
    tail = re.search(rf"[,\s]+(?P<form>{_FORM})\.?$|(?P<korean>\s?(?:주식회사|\(주\)|㈜))$", name, re.IGNORECASE)
    if tail is not None and tail.start() > 0:
        form = tail["form"] or tail["korean"]
        return name[: tail.start()].strip(" ,"), fold(form).rstrip(".")
    return name, ""
