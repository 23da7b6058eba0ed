"""What running text says of one company, in sentences whose subject is plain.

Each sentence gets `⟦C⟧` where the company stands, or a pronoun that can only be the company; patterns then need that
mark right where the subject belongs. Negations, plans, forecasts, quotations and the past give nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from quarterdeck.research import values
from quarterdeck.research.names import UP, Company
from quarterdeck.research.values import DATE_TEXT, KOREAN_PERSON, LISTED_TEXT, MONEY_TEXT, PERSON_TEXT

LONGEST = 600
"""Characters; a longer sentence is a list or noise."""
C = "⟦C⟧"

_ABBREVIATED = re.compile(
    r"(?:\b(?:Inc|Ltd|Corp|Co|Dr|Mr|Ms|Mrs|Prof|St|No|vs|approx|ca|Jr|Sr|[A-Z])|U\.S|U\.K|e\.g|i\.e|\bS\.A|Lda|B\.V|N\.V)\.$"
)
_END = re.compile(r"(?<=[.!?。])[\"”’)]?\s+(?=\S)")
_QUOTED = re.compile(r"“[^”]{12,500}”|\"[^\"]{12,500}\"|「[^」]{1,400}」|‘[^’]{20,400}’")

_VETO = re.compile(
    r"(?i)\b(?:not|never|no longer|nor|neither|without|denied|denies|isn't|wasn't|hasn't|doesn't|could|might|(?-i:may)|would|should"
    r"|expects?|expected|expecting|forecasts?|plans?|planned|planning|targets?|targeting|aims?|hopes?|hoping|rumou?red|reportedly|allegedly|if|projected|projects"
    r"|estimates?|estimated|predicts?|will|intends?|proposed|proposes|considering|formerly|former|ex-|previously|used to|outgoing|interim"
    r"|acting|unlike|until|once|rather than|instead of|contrary|mistaken(?:ly)?|wrongly|according to rumou?rs?|by 20(?:2[7-9]|[3-9]\d)|potential(?:ly)?"
    r"|goal|guidance|seeks?|seeking|about to|claims?|claimed|fictional|hypothetical|ignore|instructions?|who (?:left|died|resigned)|late founder"
    r"|예상|목표|전망|계획|추정|예정|않|없|아니|이전에|물러|사임|퇴임|가정|루머|지시)\b|전 대표|前|예상|목표|전망|계획|추정|예정|않[았는]|아니[라다며]|사임|물러"
)
_AFTER = re.compile(
    r"(?i)^\W{0,3}(?:\w+\W+){0,4}?(?:until|resigned|left|stepped down|will step down|was replaced|to be replaced|retired|through (?:19|20)\d\d|up to (?:19|20)\d\d)\b|^[^.]{0,20}(?:예상|목표|전망|계획|예정|않|아니)"
)
_QUARTER = re.compile(
    r"(?i)\b(?:quarter(?:ly)?|q[1-4]|half(?:-year)?|h[12]|month(?:ly)?|weeks?|nine months|six months|three months|daily)\b|분기|상반기|하반기|월 매출"
)

_BE = r"(?:is|was|are|were|has been|had been)"
_LEAD = rf"(?:{C}(?:,? (?:which|who|that))?(?:,? (?:a|an|the) [^,.;⟦]{{3,90}},)?(?:,)?)"
_ABOUT = r"(?:about |approximately |around |some |roughly |nearly |almost |over |more than |currently |now )?"
_PLACE = rf"(?P<place>[{UP}][\w'’.-]+(?:[ -](?:[{UP}][\w'’-]+|de|la|le|am|an|der|sur|upon|do|del|el)){{0,3}}(?:, [{UP}][\w'’.]+(?:[ -][{UP}][\w'’.]+){{0,3}}){{0,2}})"
_WHERE = r"(?:in|at|near|out of|from)"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_PERIOD = (
    rf"(?:(?:the )?(?:full |whole |financial |fiscal )?(?:year |FY ?)?(?:ended [A-Z][a-z]+ (?:\d{{1,2}}, )?)?{_YEAR})"
)
_CEO = r"(?:CEO|chief executive(?: officer)?|managing director|Chief Executive(?: Officer)?|Managing Director)"
_AND_CEO = rf"(?:(?P<found>(?:co-?)?founder)(?:,| and| &) )?(?:president (?:and|&) |chairman (?:and|&) )?{_CEO}(?: (?:and|&) (?P<found2>(?:co-?)?founder))?"
_PEOPLE = rf"(?P<people>{PERSON_TEXT}(?:(?:, | and |, and | & ){PERSON_TEXT}){{0,5}})"
_TRADE = r"(?:(?:the|its|his|her|then)\s)?(?:(?:[a-zé-]+\s){1,3})?"
_HEADCOUNT = r"(?P<count>\d[\d,]{0,10})\+?"
_STAFF = r"(?:full[- ]time )?(?:employees|people|staff(?: members)?|workers|team members|persons|colleagues)"


def _p(text: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(text, flags)


# (concepts by group, pattern). Groups: date, place, people, person, count, money, year, ticker, exchange, company.
PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("founded", _p(rf"{_LEAD} {_BE} (?:originally |first )?(?:founded|established|incorporated|formed|set up|started|created)(?: as [^,.;⟦]{{2,60}},?)?(?: {_WHERE} [{UP}][^,.;⟦\d]{{2,50}}?,?)?(?: by {_PEOPLE})?(?: back)? (?:in|on) (?P<date>{DATE_TEXT})(?!s)(?: {_WHERE} [{UP}][\w ,]{{2,50}}?)?(?:,? by {_TRADE}(?P<people2>{PERSON_TEXT}(?:(?:, | and |, and | & ){PERSON_TEXT}){{0,5}}))?")),
    ("founded", _p(rf"^(?:Originally )?(?:[Ff]ounded|[Ee]stablished|[Ii]ncorporated|[Ff]ormed|[Ss]tarted) (?:{_WHERE} [{UP}][^,.;⟦\d]{{2,40}} )?in (?P<date>{DATE_TEXT})(?!s)(?: {_WHERE} [{UP}][^.;⟦\d]{{2,50}}?)?(?: by {_TRADE}{_PEOPLE})?, {C}")),
    ("founded", _p(rf"{C} \((?:founded|est\.|established)(?: in)? (?P<date>{DATE_TEXT})\)")),
    ("founded", _p(rf"{C}, (?:founded|established|incorporated)(?: {_WHERE} [{UP}][\w -]{{2,40}})? in (?P<date>{DATE_TEXT})(?: by {_TRADE}{_PEOPLE})?,")),
    ("founded", _p(rf"{C} is an? [^.;⟦]{{3,80}}? (?:company |firm |maker |manufacturer )?(?:founded|established) in (?P<date>{DATE_TEXT})(?: by {_TRADE}{_PEOPLE})?")),
    ("founded", _p(rf"(?:the present|the current) company {_BE} (?:incorporated|founded|established) in (?P<date>{DATE_TEXT})")),
    ("founded", _p(rf"^{_PEOPLE} (?:co-)?(?:founded|established|started) {C} in (?P<date>{DATE_TEXT})")),
    ("founders", _p(rf"{_LEAD} {_BE} (?:founded|co-founded|established|started) by {_TRADE}{_PEOPLE}(?=[,. ;]|$)")),
    ("founders", _p(rf"^{_PEOPLE} (?:co-)?founded {C}(?=[ ,.])")),
    ("headquarters", _p(rf"{_LEAD} {_BE} (?:now |currently )?(?:headquartered|based|located) {_WHERE} {_PLACE}")),
    ("headquarters", _p(rf"{C}, (?:which is |a [^,.;⟦]{{3,60}} )?(?:headquartered|based) {_WHERE} {_PLACE}(?=,| and|\.|$| is| was)")),
    ("headquarters", _p(rf"^(?:Headquartered|Based) {_WHERE} {_PLACE}, {C}")),
    ("headquarters", _p(rf"{C} (?:has|had|maintains|keeps) its (?:headquarters|head office) {_WHERE} {_PLACE}")),
    ("headquarters", _p(rf"{C}(?:['’]s?) (?:global |corporate |main )?(?:headquarters|head office)(?: is| are) (?:located )?{_WHERE} {_PLACE}")),
    ("headquarters", _p(rf"{C}(?:['’]s?) (?:headquarters|head office) (?:was |were )?moved (?:from [{UP}]\w+ )?to {_PLACE} in (?P<moved>(?:19|20)\d\d)")),
    ("headquarters", _p(rf"{C} is an? [^.;⟦]{{3,110}}? (?:headquartered|based) {_WHERE} {_PLACE}")),
    ("headquarters", _p(rf"{C} is an? (?P<place>[{UP}]\w+(?: [{UP}]\w+)?)-based ")),
    ("headquarters", _p(rf"{C} (?:is|was) founded .{{5,90}} and is (?:headquartered|based) {_WHERE} {_PLACE}")),
    ("ceo", _p(rf"{C}(?:['’]s?)? (?:current )?{_AND_CEO}(?: is|,)? (?P<person>{PERSON_TEXT})(?=[,. ]|$)")),
    ("ceo", _p(rf"(?P<person>{PERSON_TEXT}),? (?:is |who is |serves as |is the |the |its |as )?(?:current |the )?{_AND_CEO} (?:of|at) {C}", 0)),
    ("ceo", _p(rf"{_LEAD} {_BE} (?:currently )?(?:led|run|headed|managed) by (?:its |the )?(?:{_AND_CEO},? )?(?P<person>{PERSON_TEXT})")),
    ("ceo", _p(rf"{C} (?:has )?(?:named|appointed|promoted|hired) (?P<person>{PERSON_TEXT}) (?:as |to )?(?:its |be )?(?:new |next )?{_AND_CEO}")),
    ("ceo", _p(rf"(?P<person>{PERSON_TEXT}) (?:has been|is) {_AND_CEO} of {C}")),
    ("employees", _p(rf"{_LEAD} (?:(?:currently|now|today) )?(?:employs|employ|employed) {_ABOUT}(?:a (?:team|workforce|staff) of )?{_ABOUT}{_HEADCOUNT} {_STAFF}(?P<scope>[^.;]{{0,40}})")),
    ("employees", _p(rf"{_LEAD} (?:(?:currently|now|today) )?(?:has|have|had) {_ABOUT}(?:a (?:team|workforce|staff) of )?{_ABOUT}{_HEADCOUNT} (?:full[- ]time )?(?:employees|staff(?: members)?|team members)(?P<scope>[^.;]{{0,40}})")),
    ("employees", _p(rf"{C} (?:is|was) [^.;⟦]{{5,110}} and (?:now |currently |today )?(?:employs|has) {_ABOUT}{_HEADCOUNT} {_STAFF}(?P<scope>[^.;]{{0,40}})")),
    ("employees", _p(rf"^With {_ABOUT}{_HEADCOUNT} employees,? {C}(?P<scope>)")),
    ("employees", _p(rf"{C}(?:['’]s) (?:workforce|headcount|staff) (?:is|of|numbers|stands at|was|totals) {_ABOUT}{_HEADCOUNT}(?P<scope>[^.;]{{0,40}})")),
    ("employees", _p(rf"{C} (?:is|was) (?:now |currently )?(?:headquartered|based) in [^.;⟦]{{3,50}},? and employ(?:s|ed)? {_ABOUT}{_HEADCOUNT} {_STAFF}(?P<scope>[^.;]{{0,40}})")),
    ("revenue", _p(rf"{_LEAD} (?:reported|posted|generated|recorded|had|achieved|made|booked|earned)(?: an?)?(?: total| annual| group| net| consolidated)? (?:revenues?|sales|turnover) of {_ABOUT}(?P<money>{MONEY_TEXT}) (?:in|for|during) {_PERIOD}")),
    ("revenue", _p(rf"(?:In|For|During) {_PERIOD},? {C} (?:reported|posted|generated|recorded|had|achieved|made|booked|earned)(?: an?)?(?: total| annual| group| net| consolidated)? (?:revenues?|sales|turnover) of {_ABOUT}(?P<money>{MONEY_TEXT})")),
    ("revenue", _p(rf"{_LEAD} (?:has|had|generates|reports|reported|with)(?: an?)? annual (?:revenues?|sales|turnover) of {_ABOUT}(?P<money>{MONEY_TEXT})(?: (?:in|for) {_PERIOD})?")),
    ("revenue", _p(rf"{C}(?:['’]s) (?:total |annual |group |net )?(?:revenues?|sales|turnover) (?:was|were|reached|came to|amounted to|totall?ed) {_ABOUT}(?P<money>{MONEY_TEXT}) (?:in|for) {_PERIOD}")),
    ("revenue", _p(rf"{C}(?:['’]s) {_YEAR} (?:revenues?|sales|turnover) (?:was|were|reached|came to|totall?ed) {_ABOUT}(?P<money>{MONEY_TEXT})")),
    ("revenue", _p(rf"{C}(?:['’]s) (?:revenues?|sales|turnover) (?:in|for) {_PERIOD} (?:was|were|reached|came to|amounted to|totall?ed) {_ABOUT}(?P<money>{MONEY_TEXT})")),
    ("total_funding", _p(rf"{C} has raised (?:a total of |in total )?{_ABOUT}(?P<money>{MONEY_TEXT})(?: in total| to date| in total funding| in funding to date)")),
    ("total_funding", _p(rf"(?:total funding|total raised)(?: of {C})?(?: now)?(?: to| stands at| is) (?P<money>{MONEY_TEXT})")),
    ("parent", _p(rf"{C} is (?:a|the) (?:wholly[- ]owned |majority[- ]owned )?(?:subsidiary|division|unit|brand) of (?:the )?(?P<company>[{UP}][\w&'’.-]*(?: (?:[{UP}&][\w&'’.-]*|of|and)){{0,5}})")),
    ("parent", _p(rf"{C} (?:is|has been) (?:an? [^.;⟦]{{3,60}} )?(?:wholly |majority )?owned by (?:the )?(?P<company>[{UP}][\w&'’.-]*(?: [{UP}&][\w&'’.-]*){{0,5}})(?= since|[,.;]|$)")),
    ("ticker", _p(rf"{C} ?{LISTED_TEXT}")),
    # Korean
    ("founded", _p(rf"{C}(?:은|는|이|가|\([^)]{{0,40}}\)(?:은|는|이|가)?),? (?P<gap>[^.]{{0,50}}?)(?P<date>\d{{4}}년(?: ?\d{{1,2}}월)?(?: ?\d{{1,2}}일)?)(?:에| )?(?P<gap2>[^.\d]{{0,24}}?)(?:설립|창립|창업|창사)(?:됐|되었|된|했|한|하)")),
    ("founded", _p(rf"(?P<date>\d{{4}}년(?: ?\d{{1,2}}월)?(?: ?\d{{1,2}}일)?)(?:에)? (?:[가-힣]{{2,8}}에서 )?(?:설립|창립|창업)(?:된|한) {C}")),
    ("founders", _p(rf"{C}(?:은|는) (?:창업자|창립자|설립자) (?P<person>{KOREAN_PERSON})(?:이|가) (?P<date>\d{{4}}년)[^.]{{0,20}}(?:설립|창업|창립)한")),
    ("founders", _p(rf"{C}의 (?:창업자|창립자|설립자)(?:는|인) (?P<person>{KOREAN_PERSON})(?=이다|다|이며|로|입니다|,|$| )")),
    ("headquarters", _p(rf"{C}(?:은|는|\([^)]{{0,40}}\)(?:은|는)?) (?:[^.⟦]{{0,30}} )?(?P<place>[가-힣]{{2,8}}(?: [가-힣]{{2,6}}(?:시|군|구))?)에 본사를 (?:두|둔)")),
    ("headquarters", _p(rf"{C}[은는][^.⟦]{{0,60}}(?:된|한) {C}(?:은|는) (?P<place>[가-힣]{{2,8}}(?: [가-힣]{{2,6}}(?:시|군|구))?)에 본사를 (?:두|둔)")),
    ("headquarters", _p(rf"(?:{C}의 )?본사(?:는|가) (?P<place>[가-힣]{{2,8}}(?: [가-힣]{{2,6}}(?:시|군|구))?)에 (?:있|위치)")),
    ("employees", _p(r"(?:임직원|직원|종업원|사원)(?: ?수)?(?:은|는|이|가) (?:총 |모두 |현재 )?(?P<count>(?:약 ?)?\d[\d,]*(?:만)?(?: ?여)? ?명)(?P<scope>)")),
    ("ceo", _p(rf"{C} ?\(대표(?:이사)? ?(?P<person>{KOREAN_PERSON})\)")),
    ("ceo", _p(rf"{C}(?:의)? (?:신임 )?(?:대표이사|대표)(?:는|은)? (?P<person>{KOREAN_PERSON})(?=이다|다|이며|가|는|은|입니다| |,|$)")),
    ("ceo", _p(rf"(?:^|[\s,])(?P<person>{KOREAN_PERSON}) {C} (?:대표이사|대표)(?=[가-힣,. ]|$)")),
    ("ceo", _p(rf"{C}(?:은|는)[^.]{{0,40}}?(?P<person>{KOREAN_PERSON})(?: [가-힣]{{2,6}})?(?:을|를) (?:신임 )?(?:대표이사|대표)(?:로|에) (?:선임|임명)")),
    ("ceo", _p(rf"(?:^|, )(?:회사의 )?대표이사(?:는|은) (?P<person>{KOREAN_PERSON})(?=이다|다|이며|입니다|가 |,|$)")),
    ("revenue", _p(r"(?P<year>20\d\d)년(?:도)?(?: 연간| 연결)? ?매출(?:액)?(?:은|이|으로|을)? (?:약 ?)?(?P<money>(?:\d[\d,.]*\s?(?:조|억|만)\s?){1,3}(?:\d[\d,]*)?\s?원)(?:을|를|이|으로|으?로 집계|,|\.)?(?: (?:기록|달성|올렸|거뒀))?")),
    ("total_funding", _p(r"누적 (?:투자금|투자 ?유치(?:액|금액)?)(?:은|는|이)? (?:약 ?)?(?P<money>(?:\d[\d,.]*\s?(?:조|억|만)\s?){1,3}(?:\d[\d,]*)?\s?원)")),
    ("parent", _p(rf"(?:^|{C}의 )모회사(?:인|는|은) (?P<company>[가-힣A-Za-z]{{2,20}}?)(?=은|는|이다|다\b|의|이며|\s|,)")),
)  # fmt: skip

_FORMER_NAME = re.compile(r"(?i)\s?\((?:formerly|previously|originally)(?: known as| called)? [^()]{2,60}\)")
_OBJECT = re.compile(
    r"(?i)\b(?:of|by|with|to|for|from|against|than|including|like|and|or|between|at|about|owns|acquired|bought|unlike|via|joins?|joined"
    r"|supplies|serves|beats|sues|sued|left|outside|near|behind|over|on|into|makes|funds|backs|named|called)\s(?:the\s|its\s)?$"
)
_PRONOUN = re.compile(
    r"^(?:(?:Today|Now|Currently|As of (?:19|20)\d\d|In (?:19|20)\d\d|At the end of (?:19|20)\d\d|(?:Since|In) [^,]{3,40}),? )?"
    r"(?P<word>The (?:company|firm|business|group|manufacturer|startup|start-up|brand)(?:['’]s)?|Our company|It|Its|We|Our|회사는|회사의|회사 |동사는|당사는|당사의|당사 )(?=\s|,|$|\S)"
)
_INNER = re.compile(
    r"(?<=[, ])(?P<word>the company|we)(?= (?:is|are|was|were|had|has|have|employs|employ|reported|posted|generated))"
)


@dataclass(frozen=True)
class Said:
    concept: str
    value: Any
    passage: str
    year: int | None = None
    about: bool = False


def split(text: str) -> list[str]:
    """Its sentences."""
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if _ABBREVIATED.search(text[start : end.start()].rstrip('"”’) ')):
            continue
        found.append(text[start : end.start()].strip())
        start = end.end()
    return [*found, text[start:].strip()]


def read(line: str, company: Company, *, trusted: bool, official: bool) -> Iterator[Said]:
    """What a paragraph says. `trusted`: the text around is about the company, so pronouns may mean it;
    `official`: "we" is the company."""
    own = trusted
    line = re.sub(r"\[\d{1,3}\]", "", line)
    for sentence in split(line):
        if not 8 <= len(sentence) <= LONGEST:
            own = False
            continue
        marked, named = _marked(sentence, company, own, official and trusted)
        if named is None:
            own = False
            continue
        own = named
        if C not in marked and not (
            named and re.search(r"본사|직원|매출|대표이사|누적|present company|total funding", marked)
        ):
            continue
        yield from _said(marked, sentence)


def _marked(sentence: str, company: Company, own: bool, official: bool) -> tuple[str, bool | None]:
    """The sentence with the company marked, and whether it is what the next pronoun means; None: another one is."""
    bare = _FORMER_NAME.sub("", _QUOTED.sub(" ", sentence))
    mentions = company.mentions(bare)
    if any(one.verdict == "alike" for one in mentions):
        return "", None
    for one in reversed(mentions):
        bare = bare[: one.start] + C + bare[one.end :]
    pronoun = _PRONOUN.match(bare)
    if pronoun is not None:
        word = pronoun["word"].lower()
        first_person = word.startswith(("we", "our", "당사"))
        if (first_person and official) or (not first_person and own):
            if word == "our" and not re.match(
                r" (?:headquarters|head office|workforce|ceo|chief executive|annual|total)", bare[pronoun.end() :], re.I
            ):
                return bare, None
            possessive = word in ("its", "our") or word.endswith(("'s", "’s"))
            mark = (
                f"{C}는 "
                if word == "회사 "
                else f"{C}{word[2:]}"
                if re.match(r"회사|동사|당사", word)
                else f"{C}'s"
                if possessive
                else C
            )
            bare = bare[: pronoun.start("word")] + mark + bare[pronoun.end("word") :]
        elif not mentions:
            return bare, None if first_person else False
    if ((own or mentions) and C in bare[:120]) or official:
        bare = _INNER.sub(lambda match: C if match["word"] == "the company" or official else match["word"], bare)
        bare = re.sub(r"(?<= and )(?=employ |are headquartered|are based)", f"{C} ", bare) if official else bare
    lead = bare.find(C)
    if lead < 0:
        other = re.match(rf"(?:The |Its |Our )?(?:[a-z]+ ){{0,3}}[{UP}][\w&'’-]+(?: [{UP}][\w&'’-]+)*", bare)
        korean_other = re.match(r"[^.]{0,24}?[가-힣A-Za-z]{2,}(?:은|는|이|가) ", bare)
        if re.match(r"(?:임직원|직원|본사|종업원|매출|대표이사|누적|20\d\d년|19\d\d년)", bare) and own:
            return bare, True
        return bare, None if other or korean_other else own
    before = bare[:lead]
    subject = not re.search(
        rf"[{UP}][\w&'’-]+ (?:[{UP}][\w&'’-]+ )?(?:\w+ )?(?:is|was|has|had|acquired|owns|said)\b|[가-힣]{{2,}}(?:은|는) ",
        before,
    )
    return bare, subject and not re.match(r"(?:['’]s|의) (?!CEO|chief|headquarters|대표)", bare[lead + len(C) :])


@lru_cache(maxsize=2048)
def _said(marked: str, sentence: str) -> tuple[Said, ...]:
    """Remembered, since pages repeat themselves and are read again in a second round."""
    return tuple(_matched(marked, sentence))


def _matched(marked: str, sentence: str) -> Iterator[Said]:
    for concept, pattern in PATTERNS:
        for match in pattern.finditer(marked):
            if _VETO.search(marked, 0, match.end()) or _AFTER.match(marked[match.end() :]):
                continue
            if (
                concept not in ("ceo", "ticker")
                and match.group().startswith(C)
                and _OBJECT.search(marked[: match.start()])
            ):
                continue  # "a rival of ⟦C⟧ was founded": not the company was
            yield from _values(concept, match, marked, sentence)


def _values(concept: str, match: re.Match[str], marked: str, sentence: str) -> Iterator[Said]:
    groups = match.groupdict()
    passage = _around(sentence, match, marked)
    stated = int(groups["year"]) if groups.get("year") else _as_of(marked)
    if re.search(
        r"을 |를 |자회사|법인을|공장|지사|연구소|모회사|계열사|투자한|인수",
        f"{groups.get('gap') or ''} {groups.get('gap2') or ''}",
    ):
        return
    if groups.get("date") and concept in ("founded", "founders"):
        when = values.day(groups["date"])
        if when is not None:
            yield Said("founded", when, passage)
    names = groups.get("people") or groups.get("people2")
    if names:
        found = values.people(names)
        if found:
            yield Said("founders", tuple(found), passage)
    if groups.get("person"):
        who = values.person(_given(groups["person"]))
        if who is not None and concept == "founders":
            yield Said("founders", (who,), passage)
        elif who is not None:
            yield Said("ceo", who, passage)
            if groups.get("found") or groups.get("found2"):
                yield Said("founders", (who,), passage)
    if groups.get("place"):
        where = values.place(groups["place"].strip(" ."))
        if where is not None and (where.city or where.country):
            moved = int(groups["moved"]) if groups.get("moved") else None
            yield Said("headquarters", where, passage, moved)
    if groups.get("count"):
        scope = groups.get("scope") or ""
        # "1,150 people, of whom …" is the whole; "300 people in Asia" is a part.
        if re.match(r"\s?(?:in|at|across|from|throughout|per|for|on|of the|who|as)\b", scope) and not re.match(
            r"\s(?:worldwide|globally|across the world|in total|across (?:\w+ )?(?:countries|offices|sites|locations)|as of|in (?:19|20)\d\d|in (?:\d+|two|three|four|five|six|seven|eight|nine|ten) (?:countries|offices|locations))",
            scope,
        ):
            return
        many = values.count(groups["count"])
        if many is not None and many.number > 0:
            year = re.search(r"(?:in|as of|end of) (?:[A-Z][a-z]+ )?((?:19|20)\d\d)", scope)
            loose = bool(
                re.search(
                    r"\b(?:about|approximately|around|some|roughly|nearly|almost|over|more than) \d|\d\+", match.group()
                )
            )
            yield Said("employees", many, passage, int(year[1]) if year else stated, many.about or loose)
    if groups.get("money"):
        if concept == "revenue" and _QUARTER.search(marked):
            return
        amount = values.money(groups["money"].strip(" ,."))
        if amount is not None and amount.currency and amount.amount > 0:
            yield Said(concept, amount, passage, stated)
    if groups.get("symbol"):
        yield Said("ticker", (groups["exchange"], groups["symbol"]), passage)
    if groups.get("company"):
        yield Said("parent", groups["company"].strip(" .,"), passage)


def _given(name: str) -> str:
    return re.sub(r"^(?:CEO|President|Chairman|Founder)\s", "", name)


def _as_of(marked: str) -> int | None:
    """The year that the sentence opens with: "As of 2014, …"."""
    found = re.match(
        r"(?:In|As of|At the end of|By the end of|Since) (?:[A-Z][a-z]+ )?((?:19|20)\d\d)|((?:19|20)\d\d)년", marked
    )
    return int(found[1] or found[2]) if found else None


def _around(sentence: str, match: re.Match[str], marked: str) -> str:
    """The sentence; or, of a long one, the stretch that holds the values."""
    if len(sentence) <= 240:
        return sentence
    wanted = [text for text in match.groupdict().values() if text]
    places = [(at, at + len(text)) for text in wanted if (at := sentence.find(text)) >= 0]
    if not places:
        return sentence[:240]
    start, end = min(at for at, _ in places), max(at for _, at in places)
    start = max(0, min(start - 60, end - 240 + 20))
    return sentence[start : start + 240].strip()
