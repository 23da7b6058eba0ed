"""What a piece of text says, typed: money, dates, counts, places, people. None where it is not plain.

All of it is strict: a range, a bound, two years side by side or words that are not understood give None, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from quarterdeck.research.names import UP

_SCALES = {
    "thousand": 3, "k": 3, "천": 3, "million": 6, "millions": 6, "mn": 6, "mio": 6, "m": 6, "mil": 6, "백만": 6,
    "billion": 9, "billions": 9, "bn": 9, "b": 9, "십억": 9, "trillion": 12, "tn": 12, "만": 4, "천만": 7, "억": 8,
    "조": 12, "crore": 7, "lakh": 5,
}  # fmt: skip
_CURRENCIES = {
    "us$": "USD", "usd": "USD", "$": "USD", "dollars": "USD", "us dollars": "USD", "u.s. dollars": "USD", "달러": "USD",
    "€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR", "유로": "EUR", "£": "GBP", "gbp": "GBP",
    "pounds": "GBP", "pounds sterling": "GBP", "¥": "JPY", "jpy": "JPY", "yen": "JPY", "엔": "JPY", "₩": "KRW",
    "krw": "KRW", "won": "KRW", "원": "KRW", "chf": "CHF", "swiss francs": "CHF", "a$": "AUD", "aud": "AUD",
    "c$": "CAD", "cad": "CAD", "ca$": "CAD", "hk$": "HKD", "hkd": "HKD", "s$": "SGD", "sgd": "SGD", "nt$": "TWD",
    "sek": "SEK", "nok": "NOK", "dkk": "DKK", "₹": "INR", "inr": "INR", "rupees": "INR", "cny": "CNY", "rmb": "CNY",
    "yuan": "CNY", "위안": "CNY", "pln": "PLN", "brl": "BRL", "r$": "BRL", "zar": "ZAR", "mxn": "MXN", "twd": "TWD",
}  # fmt: skip
_CODE = "|".join(re.escape(word) for word in sorted(_CURRENCIES, key=len, reverse=True))
_SCALE = "|".join(sorted((word for word in _SCALES if word.isascii()), key=len, reverse=True))
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,15}(?:\.\d{1,6})?"
_MONEY = re.compile(
    rf"(?P<before>(?:{_CODE})\s?)?(?P<number>{_NUMBER})\s?(?P<scale>(?:{_SCALE})\b\.?)?"
    rf"\s?(?P<after>(?:{_CODE})(?![a-z]))?",
    re.IGNORECASE,
)
_KOREAN = re.compile(
    rf"(?P<before>[₩$€]\s?)?(?P<parts>(?:(?:{_NUMBER})\s?(?:조|천만|백만|십억|억|만|천)\s?){{1,4}}(?:(?:{_NUMBER})(?=\s?원))?)\s?"
    r"(?P<after>원|달러|유로|엔|위안)?"
)
MONEY_TEXT = rf"(?:(?:{_CODE})\s?)?(?:{_NUMBER})\s?(?:(?:{_SCALE})\b\.?)?\s?(?:(?:{_CODE})(?![a-z]))?"
_ABOUT = re.compile(
    r"^(?:about|approximately|approx\.?|around|some|roughly|nearly|almost|over|more than|circa|c\.|ca\.|~|≈|약|대략)\s?",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"(?:none|n/?a|not (?:disclosed|available|applicable|known|public)|unknown|undisclosed|tba|tbd|private|-+|–|—|\?|vacant"
    r"|없음|미공개|비공개|미정|해당 ?없음|정보 ?없음|공석|confidential|pending|unavailable|no|nil|various|see .*)\.?",
    re.IGNORECASE,
)
NEWEST = 2100


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = ""
    year: int | None = None
    about: bool = False
    text: str = ""
    """As it stands in the source."""


@dataclass(frozen=True)
class Count:
    number: int
    year: int | None = None
    about: bool = False


@dataclass(frozen=True)
class Day:
    year: int
    month: int | None = None
    day: int | None = None

    def iso(self) -> str:
        rest = "".join(f"-{part:02d}" for part in (self.month, self.day) if part is not None)
        return f"{self.year:04d}{rest}"


@dataclass(frozen=True)
class Place:
    text: str
    city: str = ""
    region: str = ""
    country: str = ""
    street: str = ""
    postcode: str = ""


def nothing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return bool(_NOTHING.fullmatch(text.strip(" ()[]")))


def year_in(text: str) -> int | None:
    """The one year that a bracket or a label names."""
    years = {int(year) for year in re.findall(r"(?<!\d)((?:19|20)\d\d)(?!\d)", text)}
    return years.pop() if len(years) == 1 else None


def _without_notes(text: str) -> tuple[str, int | None]:
    """Without footnotes and brackets, and the year that a bracket names."""
    text = re.sub(r"\[[^\]]{0,20}\]", "", text)
    brackets = re.findall(r"\(([^)]{0,80})\)", text)
    year = year_in(" ".join(brackets))
    text = re.sub(r"\([^)]{0,80}\)", " ", text)
    tail = re.search(
        r"(?:,|;)?\s*(?:\bin|\bas of|\bat end of|\bFY|\bfiscal(?: year)?|as at)\s*(?:[A-Z][a-z]+ )?((?:19|20)\d\d)\s*$",
        text,
    )
    if tail is not None:
        year = year or int(tail[1])
        text = text[: tail.start()]
    tail = re.search(r"^\s*((?:19|20)\d\d)년?(?:\s?\d{1,2}월)?\s?(?:말)?\s?(?:기준)?\s+(?=\S)", text)
    if tail is not None and re.search(r"[가-힣]", text):
        year = year or int(tail[1])
        text = text[tail.end() :]
    return " ".join(text.split()).strip(" .;,*"), year


def number(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def money(text: str, unit: tuple[str, int] | None = None) -> Money | None:
    """An amount. `unit` is the (currency, power of ten) that a table states for all its bare numbers."""
    said, year = _without_notes(text)
    if nothing(said):
        return None
    bare, about = _stripped(said)
    match = _KOREAN.fullmatch(bare)
    if match is not None:
        total = _korean(match["parts"])
        sign = (match["before"] or match["after"] or "").strip()
        return None if total is None else Money(total, _CURRENCIES.get(sign, ""), year, about, said)
    match = _MONEY.fullmatch(bare)
    if match is None:
        return None
    amount = number(match["number"])
    if amount is None:
        return None
    sign = (match["before"] or match["after"] or "").strip().lower()
    scale = (match["scale"] or "").lower().rstrip(".")
    if not sign and not scale:
        if unit is None:
            return None  # a bare number: of what?
        return Money(amount * 10 ** unit[1], unit[0], year, about, said)
    power = _SCALES.get(scale, 0)
    if sign and not scale and unit is not None and unit[1]:
        power = unit[1]
    return Money(amount * 10**power, _CURRENCIES.get(sign, "") or (unit[0] if unit else ""), year, about, said)


def unit_of(text: str) -> tuple[str, int] | None:
    """The unit that a caption or a label states: '(in £ million)', '단위: 억원', 'USD thousands'."""
    match = re.search(
        rf"(?P<code>{_CODE})?\s?(?:in\s)?(?P<scale>{_SCALE})s?\b(?:\s(?:of\s)?(?P<after>{_CODE}))?", text, re.I
    )
    if match is not None and (match["code"] or match["after"]):
        code = _CURRENCIES[(match["code"] or match["after"]).lower()]
        return code, _SCALES[match["scale"].lower()]
    match = re.search(r"(조|천만|백만|십억|억|만|천)\s?(원|달러|유로|엔)", text)
    if match is not None:
        return _CURRENCIES[match[2]], _SCALES[match[1]]
    match = re.search(r"\b(USD|EUR|GBP|KRW|JPY|CHF|CNY|SEK|NOK|DKK)\b|단위\s?[:：]\s?(원)", text)
    if match is not None:
        return (match[1] or "KRW"), 0
    return None


def _korean(parts: str) -> Decimal | None:
    total = Decimal(0)
    for figure, scale in re.findall(rf"({_NUMBER})\s?(조|천만|백만|십억|억|만|천)?", parts):
        amount = number(figure)
        if amount is None:
            return None
        total += amount * 10 ** _SCALES.get(scale, 0)
    return total


def _stripped(text: str) -> tuple[str, bool]:
    about = _ABOUT.match(text)
    return (text[about.end() :], True) if about is not None else (text, False)


_PEOPLE_WORDS = r"(?:employees?|people|staff|members?|persons?|workers?|FTEs?|full[- ]time(?: employees| staff)?|team members|colleagues|associates|명|인|여 ?명)"
_COUNT = re.compile(
    rf"(?P<number>{_NUMBER})\s?(?P<scale>만|천|k|thousand)?\s?(?P<rest>\d{{1,4}})?\s?(?P<plus>\+)?\s?(?:여\s?)?(?:{_PEOPLE_WORDS})?(?:\s(?:worldwide|globally|in total))?",
    re.IGNORECASE,
)


def count(text: str) -> Count | None:
    """How many: '6,450', 'about 340 people', '1,280명', '500+'. Not '51-200'."""
    said, year = _without_notes(text)
    bare, about = _stripped(said)
    match = _COUNT.fullmatch(bare)
    if match is None:
        return None
    amount = number(match["number"])
    scale = (match["scale"] or "").lower()
    if amount is None or (match["rest"] and not scale):
        return None
    total = amount * 10 ** _SCALES.get(scale, 0) + int(match["rest"] or 0)
    if total != int(total) or total > 10**8:
        return None
    return Count(int(total), year, about or bool(match["plus"]) or "여" in bare)


_MONTHS = {
    name: number
    for number, names in enumerate(
        [
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ],
        1,
    )
    for name in names.split()
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})[-./](?P<m>\d{1,2})[-./](?P<d>\d{1,2})(?!\d)"),
    re.compile(r"(?<!\d)(?P<y>\d{4})년(?:\s?(?P<m>\d{1,2})월(?:\s?(?P<d>\d{1,2})일)?)?"),
    re.compile(
        rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?(?P<month>{_MONTH})\.?,?\s(?P<y>\d{{4}})(?!\d)", re.I
    ),
    re.compile(rf"\b(?P<month>{_MONTH})\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<y>\d{{4}})(?!\d)", re.I),
    re.compile(rf"\b(?P<month>{_MONTH})\.?,?\s(?P<y>\d{{4}})(?!\d)", re.I),
    re.compile(r"(?<![\d.])(?P<y>\d{4})[-./](?P<m>\d{1,2})(?![\d-])"),
    re.compile(r"(?<![\d.,$€£-])(?P<y>1[4-9]\d\d|20\d\d)(?![\d,]|\.\d)"),
)
DATE_TEXT = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)?\s)?(?:(?i:{_MONTH})\.?,?\s)?(?:\d{{1,2}}(?:st|nd|rd|th)?,\s)?"
    r"(?:1[4-9]\d\d|20\d\d)(?:-\d\d-\d\d)?(?![\d,]\d)"
)


def day(text: str) -> Day | None:
    """The one date of a text; None when it names several years."""
    found: Day | None = None
    taken = re.sub(r"\(?\b\d{1,4} years? ago\)?", " ", text)
    for pattern in _DATES:
        for match in list(pattern.finditer(taken)):
            groups = match.groupdict()
            month = groups.get("m") or (_MONTHS[groups["month"].lower()] if groups.get("month") else None)
            year, month, date = int(groups["y"]), int(month) if month else None, groups.get("d")
            one = Day(year, month, int(date) if date else None)
            if (
                not 1400 <= year < NEWEST
                or (month is not None and not 1 <= month <= 12)
                or not 0 < (one.day or 1) <= 31
            ):
                return None
            if found is not None and found.year != one.year:
                return None
            if found is None:
                found = one
        taken = pattern.sub(" ", taken)
    return found


_COUNTRY_TEXT = """
    Argentina|Australia|Austria|Bangladesh|Belgium|Brazil|Bulgaria|Canada|Chile|China|Colombia|Croatia|Cyprus|Czechia
    |Czech Republic|Denmark|Egypt|England|Estonia|Finland|France|Germany|Ghana|Greece|Hong Kong|Hungary|Iceland|India
    |Indonesia|Ireland|Israel|Italy|Japan|Kenya|Korea|South Korea|Republic of Korea|Kazakhstan|Latvia|Lithuania
    |Luxembourg|Malaysia|Malta|Mexico|Morocco|Netherlands|The Netherlands|New Zealand|Nigeria|Northern Ireland|Norway
    |Pakistan|Peru|Philippines|Poland|Portugal|Qatar|Romania|Russia|Saudi Arabia|Scotland|Serbia|Singapore|Slovakia
    |Slovenia|South Africa|Spain|Sweden|Switzerland|Taiwan|Thailand|Tunisia|Turkey|Türkiye|UAE|United Arab Emirates
    |UK|U.K.|United Kingdom|Great Britain|Ukraine|United States|United States of America|Uruguay|US|U.S.|USA|U.S.A.|Vietnam|Wales
    |대한민국|한국|미국|일본|중국|독일|프랑스|영국|베트남|싱가포르|인도|대만|캐나다|호주|네덜란드|스위스|스웨덴|이탈리아|스페인
"""
COUNTRIES = {name.strip().casefold() for name in _COUNTRY_TEXT.replace("\n", "").split("|")}
_ISO = {
    "AT": "Austria", "AU": "Australia", "BE": "Belgium", "BR": "Brazil", "CA": "Canada", "CH": "Switzerland",
    "CN": "China", "CZ": "Czechia", "DE": "Germany", "DK": "Denmark", "EE": "Estonia", "ES": "Spain", "FI": "Finland",
    "FR": "France", "GB": "United Kingdom", "GR": "Greece", "HU": "Hungary", "IE": "Ireland", "IL": "Israel",
    "IN": "India", "IT": "Italy", "JP": "Japan", "KR": "South Korea", "LT": "Lithuania", "LU": "Luxembourg",
    "LV": "Latvia", "MX": "Mexico", "NL": "Netherlands", "NO": "Norway", "NZ": "New Zealand", "PL": "Poland",
    "PT": "Portugal", "RO": "Romania", "SE": "Sweden", "SG": "Singapore", "TW": "Taiwan", "US": "United States",
    "VN": "Vietnam", "ZA": "South Africa", "ID": "Indonesia", "TH": "Thailand", "MY": "Malaysia", "PH": "Philippines",
}  # fmt: skip
_STATES = {
    "alabama",
    "alaska",
    "arizona",
    "arkansas",
    "california",
    "colorado",
    "connecticut",
    "delaware",
    "florida",
    "georgia",
    "hawaii",
    "idaho",
    "illinois",
    "indiana",
    "iowa",
    "kansas",
    "kentucky",
    "louisiana",
    "maine",
    "maryland",
    "massachusetts",
    "michigan",
    "minnesota",
    "mississippi",
    "missouri",
    "montana",
    "nebraska",
    "nevada",
    "new hampshire",
    "new jersey",
    "new mexico",
    "new york",
    "north carolina",
    "north dakota",
    "ohio",
    "oklahoma",
    "oregon",
    "pennsylvania",
    "rhode island",
    "south carolina",
    "south dakota",
    "tennessee",
    "texas",
    "utah",
    "vermont",
    "virginia",
    "washington",
    "west virginia",
    "wisconsin",
    "wyoming",
    "ontario",
    "quebec",
    "british columbia",
    "alberta",
    "manitoba",
    "nova scotia",
    "bavaria",
    "saxony",
    "hesse",
    "new south wales",
    "victoria",
    "queensland",
    "gyeonggi-do",
    "gyeonggi",
}
_POSTCODE = re.compile(
    r"\b(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]{1,2}-\d{4,5}|\d{4,5}(?:-\d{3,4})?(?: ?[A-Z]{2}(?=\b))?|\d{3} \d{2})\b"
)
_KOREAN_CITY = re.compile(
    r"(?:대한민국\s?)?(?:(?P<metro>(?:서울|부산|대구|인천|광주|대전|울산|세종)(?:특별자치시|특별시|광역시|시)?)"
    r"|(?P<do>(?:경기|강원|충청북|충청남|전라북|전라남|전북|전남|충북|충남|경상북|경상남|경북|경남|제주|강원특별자치|제주특별자치|전북특별자치)도?)\s"
    r"(?P<city>[가-힣]{1,4}(?:시|군))|(?P<lone>[가-힣]{1,5}(?:시|군)))(?=\s|$|[,.])"
)


def place(text: str) -> Place | None:
    """A place or an address, as far as its parts are plain."""
    text = re.sub(r"\[[^\]]{0,20}\]", "", text)
    text = " ".join(re.sub(r"\([^)]{0,80}\)", " ", text).split()).strip(" .;,")
    if (
        not text
        or nothing(text)
        or len(text) > 160
        or re.search(r"\b(?:and|or|offices|various|several)\b|;|\d{5,}명", text)
    ):
        return None
    if re.search(r"[가-힣]", text):
        return _korean_place(text)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    country = postcode = region = street = ""
    if (parts and parts[-1].casefold().rstrip(".") in COUNTRIES | {"the netherlands"}) or (
        parts and parts[-1].casefold() in COUNTRIES
    ):
        country = parts.pop()
    towns: list[str] = []
    for part in parts:
        found = _POSTCODE.search(part)
        if found is not None and (towns or street or not re.match(r"\d+ \w+ \w", part)):
            postcode = postcode or found.group()
            part = (part[: found.start()] + part[found.end() :]).strip(" ,-")
        if not part:
            continue
        if re.search(r"\d", part) or re.search(
            r"(?i)\b(?:street|st|road|rd|avenue|ave|lane|drive|suite|floor|building|blvd|boulevard|house|park|square|plaza|str)\b\.?$",
            part,
        ):
            street = f"{street}, {part}".strip(", ")
        elif towns and (part.casefold() in _STATES or re.fullmatch(r"[A-Z]{2}", part)):
            region = part
        else:
            towns.append(part)
    if len(towns) > 2:
        return Place(text, country=country)
    if len(towns) == 2 and not country and not street and not region:
        region = towns.pop()  # 'Porto, Norte': the second is some larger area
    elif len(towns) == 2:
        region = region or ("" if street else towns[1])
        towns = towns[-1:] if street else towns[:1]
    city = towns[0] if towns else ""
    if city and not re.fullmatch(rf"[{UP}'][\w'’.\- ]{{1,40}}", city):
        city = ""
    if city.casefold() in COUNTRIES and not country and city.casefold() not in ("singapore", "hong kong", "luxembourg"):
        city, country = "", city
    if not (city or country or street):
        return None
    return Place(text, city, region, country, street, postcode)


def _korean_place(text: str) -> Place | None:
    match = _KOREAN_CITY.match(text)
    if match is None:
        return None
    city = match["metro"] or match["city"] or match["lone"]
    country = "대한민국" if text.startswith("대한민국") else ""
    street = text[match.end() :].strip(" ,")
    return Place(text, city, match["do"] or "", country, street if re.search(r"\d", street) else "")


def country_name(code: str) -> str:
    return _ISO.get(code.upper(), code) if len(code) == 2 else code


_PARTICLE = r"van|von|de|der|den|di|da|dos|del|la|le|el|bin|ibn|al|ter|ten|zu|af|e|y"
_WORD = rf"(?:[{UP}]\.|[{UP}][\w'’]*(?:-[{UP}]?[\w'’]+)?|O['’][{UP}]\w+)"
PERSON_TEXT = rf"(?:(?:Dr|Mr|Ms|Mrs|Prof|Sir|Dame)\.?\s)?{_WORD}(?:\s(?:{_WORD}|{_PARTICLE}(?=\s))){{1,4}}"
_PERSON = re.compile(
    rf"(?:(?:Dr|Mr|Ms|Mrs|Prof|Sir|Dame)\.?\s)?(?P<name>{_WORD}(?:\s(?:{_WORD}|{_PARTICLE}(?=\s))){{1,4}})"
)
_SURNAMES = "김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하곽성차주우구민진나지엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모탁국어은편용예봉경사부"
KOREAN_PERSON = rf"[{_SURNAMES}][가-힣]{{1,3}}"
_NOT_PEOPLE = re.compile(
    r"(?i)\b(?:inc|ltd|gmbh|group|holdings?|capital|ventures?|partners?|company|corp|university|institute|bank|fund|board|"
    r"team|officer|director|president|manager|chief|executive|street|limited|technologies|systems|industries|the|"
    r"committee|council|ministry|founder|family|search|previous|former|vacant|interim|acting|appointed|pending|labs?|"
    r"software|robotics|energy|foods?|media|press|home|contact|about|north|south|united|new|managing|general|vice|our)\b"
)


def person(text: str) -> str | None:
    """A person's name, without title and bracket."""
    text = re.sub(r"\[[^\]]{0,20}\]|\([^)]{0,80}\)", " ", text)
    text = " ".join(text.split()).strip(" .,;·")
    if re.search(r"[가-힣]", text):
        text = re.sub(r"\s?(?:대표이사|대표|사장|회장|씨|님|박사|이사장)$", "", text).strip()
        return text if re.fullmatch(KOREAN_PERSON, text) else None
    match = _PERSON.fullmatch(text)
    if match is None or _NOT_PEOPLE.search(text) or match["name"].casefold() in COUNTRIES:
        return None
    return match["name"]


def people(text: str) -> list[str] | None:
    """A list of people; None when anything in it is not one."""
    text = re.sub(r"\[[^\]]{0,20}\]|\([^)]{0,80}\)", " ", text)
    parts = re.split(r"\s*(?:,\s(?:and|&)\s|\sand\s|\s&\s|,|;|·|、|/|\n|\s및\s)\s*", text.strip(" .;,"))
    parts = [part for part in parts if part.strip()]
    if len(parts) == 1 and re.fullmatch(rf"{KOREAN_PERSON}(?:와|과) {KOREAN_PERSON}", parts[0]):
        parts = re.split(r"(?:와|과) ", parts[0])
    found = [person(part) for part in parts]
    if not found or len(found) > 12 or any(one is None for one in found):
        return None
    return [one for one in found if one]


def address_of_mail(text: str) -> str | None:
    match = re.fullmatch(r"(?:mailto:)?([\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5})", text.strip(" <>.;,"))
    return match[1] if match else None


def web_address(text: str) -> str | None:
    text = text.strip(" <>.;,")
    match = re.fullmatch(r"\[?[^\]\s]*\]?\(?(https?://[^\s<>()\"']{3,200})\)?", text)
    if match is not None:
        return match[1]
    if (
        re.fullmatch(r"(?:www\.)?[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,4}(?:/[\w./-]{0,80})?", text, re.I)
        and "@" not in text
    ):
        return text if re.search(r"[a-z]{2,}(?:/|$)", text, re.I) else None
    return None


def phone(text: str) -> str | None:
    text = re.sub(r"\([^)\d]{1,40}\)", " ", text)
    text = " ".join(text.removeprefix("tel:").split()).strip(" .;,")
    digits = re.sub(r"\D", "", text)
    return text if re.fullmatch(r"\+?[\d][\d\s().\-/]{5,24}\d", text) and 7 <= len(digits) <= 15 else None


_EXCHANGE = r"NASDAQ|NYSE(?: American)?|LSE|AIM|TSE|TYO|TSX|ASX|HKEX|SEHK|KRX|KOSPI|KOSDAQ|SSE|SZSE|Euronext(?: \w+)?|FWB|XETRA|SIX|OMX|BSE|NSE|SGX|코스피|코스닥|유가증권시장|Nasdaq(?: \w+)?|BME|WSE|OSE|OTC\w*"
_TICKER = re.compile(
    rf"(?:(?P<exchange>{_EXCHANGE})\s?[:：]?\s?)?(?P<symbol>[A-Z0-9]{{1,6}}(?:[.-][A-Z]{{1,2}})?)(?:\s?\((?P<behind>{_EXCHANGE})\))?"
)
LISTED_TEXT = rf"\(\s?(?P<exchange>{_EXCHANGE})\s?[:：]\s?(?P<symbol>[A-Z0-9]{{1,6}}(?:[.-][A-Z]{{1,2}})?)\s?\)"


def ticker(text: str) -> tuple[str, str] | None:
    """(exchange or '', symbol)."""
    text = text.strip(" .;,")
    match = _TICKER.fullmatch(text)
    if match is None or nothing(text):
        return None
    symbol = match["symbol"]
    if re.fullmatch(_EXCHANGE, symbol) or (symbol.isdigit() and len(symbol) < 4):
        return None
    return match["exchange"] or match["behind"] or "", symbol
