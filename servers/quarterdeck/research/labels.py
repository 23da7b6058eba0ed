"""What a field of a schema, and a label on a page, speaks about: one small dictionary for both, English and Korean.

A label is known whole or not at all: "employees" is the head count, "employees in Asia" is not, nor is "CEO email".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from quarterdeck.research.schema import Leaf

CONCEPTS: dict[str, tuple[str, str]] = {
    # concept: (kind of its value, labels)
    "name": ("text", "company name|name|company|organization|organisation|business name|firm|기업명|회사명|상호|법인명|상호명|회사 이름|업체명|brand name|trading name|organization name"),
    "legal_name": ("text", "legal name|registered name|legal entity name|full name|full legal name|official name|official company name|legal entity|법인명|상호|정식 명칭|registered company name"),
    "founded": ("day", "founded|year founded|founded in|founded on|established|year established|established in|founding year|founding date|foundation|foundation date|date founded|date of foundation|date established|establishment date|year of foundation|year of establishment|foundation year|establishment year|establishment|incorporated|incorporated on|incorporation date|date of incorporation|year of incorporation|incorporation|year founded in|founding|since|inception|in business since|formed|formation|company founded|company established|설립|설립일|설립일자|설립연도|설립년도|창립|창립일|창립연도|창립년도|창업연도|설립 연월일|설립연월일|설립년월일|설립 시기|설립 연도|설립 년도|창사"),
    "headquarters": ("place", "headquarters|headquarter|head office|hq|headquarters location|hq location|corporate headquarters|company headquarters|main office|location|based in|headquartered in|headquarters address|registered office|registered office address|registered address|seat|principal office|address|company address|office address|postal address|global headquarters|world headquarters|본사|본사 소재지|본사위치|본사 위치|소재지|주소|본사 주소|본점|본점 소재지|위치|회사 주소|사업장 주소|place of business|company location|business address|head office address|domicile"),
    "ceo": ("person", "ceo|chief executive officer|chief executive|chief executive officer ceo|managing director|managing director ceo|ceo name|current ceo|company ceo|president ceo|president and ceo|president & ceo|chairman and ceo|general manager|geschäftsführer|대표이사|대표|대표자|대표이사 사장|대표자명|대표이사명|최고경영자|ceo 이름|president and chief executive officer|founder ceo|founder and ceo|founder & ceo|ceo & founder|ceo and founder|ceo and co founder|ceo & co founder|co founder & ceo|co founder and ceo|founder and chief executive|managing director md|group ceo|ceo and managing director|managing director and ceo|director general"),
    "founders": ("people", "founder|founders|founded by|co founders|cofounders|co founder|founder s|company founders|founder names|founder name|founding team|founders names|established by|founder and ceo|founder & ceo|ceo & founder|ceo and founder|ceo and co founder|ceo & co founder|co founder & ceo|co founder and ceo|founder ceo|founder and chief executive|founding members|창업자|설립자|창립자|공동창업자|공동 창업자|창업주"),
    "employees": ("count", "employees|number of employees|employee count|no of employees|num employees|staff|headcount|head count|team size|workforce|total employees|employee number|employees total|staff count|people employed|company size|employees worldwide|number of staff|total workforce|workforce size|average number of employees|full time employees|total headcount|employee headcount|number employees|임직원|임직원 수|임직원수|직원|직원 수|직원수|사원수|사원 수|종업원 수|종업원수|종업원|근로자 수|고용인원|인원|총 임직원수|employees number|size"),
    "revenue": ("money", "revenue|revenues|annual revenue|annual revenues|total revenue|sales|annual sales|turnover|annual turnover|net sales|net revenue|total revenues|revenue total|yearly revenue|group revenue|company revenue|latest revenue|consolidated revenue|consolidated sales|latest annual revenue|매출|매출액|연매출|연 매출|연간 매출|연간매출액|연간 매출액|매출 규모|총매출"),
    "operating_profit": ("money", "operating profit|operating income|ebit|profit from operations|영업이익"),
    "net_income": ("money", "net income|net profit|profit after tax|net earnings|profit for the year|당기순이익|순이익"),
    "total_funding": ("money", "total funding|funding|total funding raised|funding total|total raised|amount raised|funding raised|capital raised|total funding amount|money raised|total investment raised|누적 투자금|누적투자금|누적 투자 유치액|누적 투자|총 투자금|누적투자유치금액|누적 투자유치 금액|누적 투자금액|투자 유치액"),
    "valuation": ("money", "valuation|company valuation|latest valuation|post money valuation|기업가치|기업 가치"),
    "market_cap": ("money", "market cap|market capitalization|market capitalisation|market value|시가총액"),
    "total_assets": ("money", "total assets|assets|자산총계|총자산"),
    "capital": ("money", "share capital|capital stock|paid in capital|registered capital|자본금|납입자본금"),
    "industry": ("text", "industry|industries|sector|business sector|industry sector|field|line of business|nature of business|nature of business sic|area of business|business area|company industry|primary industry|main industry|업종|산업|사업분야|사업 분야|산업 분야|산업분야|업태|주요 업종|분야"),
    "products": ("list", "products|product|main products|key products|products and services|products & services|services|product lines|offerings|main products and services|주요 제품|주요제품|제품|주요 제품 및 서비스|주요 서비스|주요 생산품|주력 제품|주요생산품|생산품"),
    "website": ("url", "website|web site|url|homepage|official website|web|website url|company website|home page|site|web address|official site|internet|홈페이지|웹사이트|홈페이지 주소|공식 홈페이지|공식 웹사이트|웹 사이트|domain"),
    "email": ("email", "email|e mail|contact email|email address|general enquiries|general inquiries|mail|e mail address|general contact|company email|contact email address|general email|이메일|전자우편|메일|대표 이메일|대표이메일|이메일 주소|e메일|대표메일"),
    "phone": ("phone", "phone|telephone|tel|phone number|telephone number|main phone|contact number|contact phone|switchboard|main phone number|call us|company phone|t|전화|전화번호|대표전화|대표번호|연락처|대표 전화|대표 번호|대표전화번호|대표 전화번호"),
    "ticker": ("ticker", "ticker|stock ticker|ticker symbol|traded as|stock symbol|symbol|stock code|listed as|trading symbol|share ticker|종목코드|종목 코드|티커|상장코드"),
    "exchange": ("exchange", "stock exchange|exchange|listed on|listing|stock market|상장|상장 시장|상장시장|거래소|상장 거래소"),
    "parent": ("text", "parent|parent company|parent organization|owner|holding company|owned by|parent organisation|ultimate parent|subsidiary of|ownership|모회사|모기업|지배회사|parent company name"),
    "company_type": ("text", "company type|type of company|legal form|type|ownership type|entity type|corporate form|기업형태|기업 형태|회사 형태|법인형태|기업구분|legal structure"),
    "registration_number": ("text", "registration number|company number|company registration number|registered number|business registration number|commercial register number|company registration|company no|registration no|사업자등록번호|사업자 등록번호|법인등록번호|등록번호|사업자번호|crn"),
    "vat_number": ("text", "vat number|vat id|vat|vat no|vat registration number|tax id|tax number|ust idnr"),
    "cfo": ("person", "cfo|chief financial officer|finance director|최고재무책임자|재무이사"),
    "cto": ("person", "cto|chief technology officer|chief technical officer|최고기술책임자"),
    "coo": ("person", "coo|chief operating officer|최고운영책임자"),
    "chair": ("person", "chairman|chair|chairperson|chairwoman|chair of the board|board chair|chairman of the board|회장|이사회 의장|의장"),
    "slogan": ("text", "slogan|motto|tagline|슬로건"),
    "description": ("text", "description|company description|short description|about|summary|overview|company summary|business description|소개|설명|회사 소개|기업 소개|개요"),
    "key_people": ("staff", "key people|leadership|management|officers|executives|주요 인물|핵심 인물|경영진"),
}  # fmt: skip

PRECISE = {"size", "t", "name", "company", "location", "address", "site", "web", "type", "since", "about", "field", "services",
           "listing", "exchange", "symbol", "staff", "mail", "인원", "위치", "분야", "상장", "대표", "product", "domain",
           "overview", "summary", "funding", "foundation", "assets", "formed", "establishment", "internet"}  # fmt: skip
"""Labels that mean this on a page only as a label of a fact sheet, not in running text."""

_PARTS = {
    "city": "city", "town": "city", "country": "country", "state": "region", "region": "region", "province": "region",
    "street": "street", "street address": "street", "streetaddress": "street", "postal code": "postcode",
    "postcode": "postcode", "zip": "postcode", "zip code": "postcode", "postalcode": "postcode", "address": "text",
    "full address": "text", "도시": "city", "국가": "country", "시": "city", "나라": "country",
    "year": "year", "연도": "year", "fiscal year": "year", "date": "date", "month": "month", "day": "day",
    "currency": "currency", "currency code": "currency", "통화": "currency", "amount": "amount", "value": "amount",
    "금액": "amount", "count": "amount", "number": "amount", "total": "amount", "name": "name", "full name": "name",
    "이름": "name", "names": "name", "성명": "name", "as of": "year", "as of year": "year", "period": "year",
    "symbol": "symbol", "code": "symbol", "exchange": "exchange", "location": "text",
}  # fmt: skip
_KIND_PARTS = {
    "place": {"city", "country", "region", "street", "postcode", "text"},
    "money": {"amount", "currency", "year"},
    "count": {"amount", "year"},
    "day": {"year", "date", "month", "day"},
    "person": {"name"},
    "people": {"name"},
    "ticker": {"symbol", "exchange"},
    "text": {"name"},
    "list": {"name"},
}
_NEUTRAL = {
    "company",
    "company info",
    "company information",
    "info",
    "information",
    "overview",
    "profile",
    "company profile",
    "basic info",
    "basic information",
    "details",
    "data",
    "facts",
    "key facts",
    "general",
    "general info",
    "general information",
    "contact",
    "contacts",
    "contact info",
    "contact information",
    "contact details",
    "financials",
    "financial",
    "finance",
    "financial info",
    "financial information",
    "financial data",
    "people",
    "leadership",
    "management",
    "executives",
    "stock",
    "stock info",
    "listing",
    "business",
    "organization",
    "organisation",
    "corporate",
    "identity",
    "회사",
    "기업",
    "기업정보",
    "회사정보",
    "기본정보",
    "연락처",
    "재무",
    "재무정보",
    "경영진",
    "firm",
    "company data",
    "company details",
    "metrics",
    "key metrics",
    "history",
}
_CODES = {
    "usd": "USD",
    "eur": "EUR",
    "krw": "KRW",
    "gbp": "GBP",
    "jpy": "JPY",
    "chf": "CHF",
    "won": "KRW",
    "cny": "CNY",
}
_POWERS = {
    "million": 6,
    "millions": 6,
    "mn": 6,
    "m": 6,
    "billion": 9,
    "billions": 9,
    "bn": 9,
    "thousand": 3,
    "thousands": 3,
    "k": 3,
}
_FLUFF = {
    "latest",
    "current",
    "approximate",
    "approx",
    "estimated",
    "most",
    "recent",
    "the",
    "of",
    "company",
    "s",
    "total",
    "reported",
    "main",
    "primary",
    "official",
    "full",
    "in",
}
_OTHERS = re.compile(
    r"(?i)\b(?:parent|holding|subsidiar(?:y|ies)|competitors?|previous|former|predecessor|successor|customers?|suppliers?|investors?)\b"
    r"|모회사|자회사|경쟁사|이전|전임"
)


@dataclass(frozen=True)
class Meaning:
    """What a schema's leaf asks for."""

    concept: str
    part: str = ""
    year: int | None = None
    currency: str = ""
    power: int | None = None
    """The value is wanted in units of ten to this power."""

    @property
    def kind(self) -> str:
        return CONCEPTS[self.concept][0] if self.concept in CONCEPTS else "any"


@lru_cache(maxsize=4096)
def normal(label: str) -> str:
    """A label's words: without case, marks and brackets; camelCase and snake_case taken apart."""
    label = unicodedata.normalize("NFKC", label)[:120]
    label = re.sub(r"\([^)]{0,80}\)|\[[^\]]{0,40}\]", " ", label)
    label = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    words = re.findall(r"[^\W_]+|&", label.casefold())
    return " ".join(words)


def _table() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for concept, (_, labels) in CONCEPTS.items():
        for label in labels.split("|"):
            for key in {label, label.replace(" ", "") if re.search(r"[가-힣]", label) else label}:
                table[key] = (*table.get(key, ()), concept)
    return table


_LABELS = _table()


@lru_cache(maxsize=8192)
def concepts_of(label: str) -> tuple[str, ...]:
    """What a page's label speaks about: ('founded',), ('ceo', 'founders') for "CEO & founder"; () when unknown."""
    words = normal(label)
    found = _LABELS.get(words) or _LABELS.get(words.replace(" ", "")) if words else None
    if not found and re.search(r"(?:^| )(?:19|20)\d\d(?: |$)|^fy", words):
        bare = re.sub(r"\b(?:fy ?|fiscal year )?(?:19|20)\d\d\b|\bin$|\bfy\b", "", words).strip()
        found = _LABELS.get(" ".join(bare.split()))
    return found or ()


@lru_cache(maxsize=1024)
def _meaning_of(words: str) -> Meaning | None:
    """Words of a field's name, as a concept with its part, year and unit."""
    year = currency = ""
    power: int | None = None
    kept = []
    tokens = words.split()
    for at, token in enumerate(tokens):
        if re.fullmatch(r"(?:fy)?((?:19|20)\d\d)", token) and len(tokens) > 1:
            year = token[-4:]
        elif token in _CODES and len(tokens) > 1:
            currency = _CODES[token]
        elif token in _POWERS and at and (len(token) > 2 or currency or tokens[-1] in _CODES):
            power = _POWERS[token]
        elif token in ("fy",):
            continue
        else:
            kept.append(token)

    def made(concept: str, part: str = "") -> Meaning:
        return Meaning(concept, part, int(year) if year else None, currency, power)

    for candidate in (kept, [token for token in kept if token not in _FLUFF]):
        said = " ".join(candidate)
        concept = _first(said)
        if concept:
            return made(concept)
        for cut in range(1, len(candidate)):
            concept, part = _first(" ".join(candidate[:cut])), _PARTS.get(" ".join(candidate[cut:]), "")
            if concept and part in _KIND_PARTS.get(CONCEPTS[concept][0], ()):
                return made(concept, part)
            # year_founded, city_of_headquarters
            part, concept = _PARTS.get(" ".join(candidate[:cut]), ""), _first(" ".join(candidate[cut:]))
            if concept and part in _KIND_PARTS.get(CONCEPTS[concept][0], ()):
                return made(concept, part)
    return None


def _first(words: str) -> str:
    found = _LABELS.get(words) or _LABELS.get(words.replace(" ", ""))
    return found[0] if found else ""


_OF_WHOM = {"name", "legal_name", "description", "company_type"}
_COMPANY = {word for word in _NEUTRAL if re.search("company|profile|info|overview|general|details|data|facts|business|corporate|firm|회사|기업|organi", word)} - {
    "contact info", "contact information", "contact details", "financial info", "financial information", "financial data", "stock info"
}  # fmt: skip
_LONE_PARTS = {"city": "headquarters", "country": "headquarters"}


def meaning_of(leaf: Leaf) -> Meaning | None:
    """What a leaf asks for; None when that is not plain. Its title and name are tried, then what its description
    begins with; the description's unit and year count in any case."""
    about = re.sub(r"(?i)\b(?:e\.?g\.?|for example|such as|예:|예시:)(?s:.*)", "", leaf.about)
    found = None
    names = [step for step in leaf.path if step != "[]"]
    listed = "[]" in leaf.path
    for steps in (list(leaf.words), names):
        tried, stripped = [normal(step) for step in steps], set()
        while len(tried) > 1 and not listed and tried[0] in _NEUTRAL and _meaning_of(" ".join(tried)) is None:
            stripped.add(tried.pop(0))
        found = _meaning_of(" ".join(tried))
        if found is not None and found.concept in _OF_WHOM and not stripped <= _COMPANY:
            found = None  # leadership.name is not the company's
        if found is None and len(tried) == 1 and tried[0] in _LONE_PARTS:
            found = Meaning(_LONE_PARTS[tried[0]], tried[0])
        if found is not None:
            break
    alone = len(names) == 1 or all(normal(step) in _NEUTRAL for step in names[:-1])
    if found is None and alone and about:
        opening = re.split(r"[.,;:(]| of the | for the | as ", about.strip(), maxsplit=1)[0]
        found = _meaning_of(normal(re.sub(r"(?i)^(?:the|a|an)\s|\bcompany['’]s\b", " ", opening)))
    if found is None or (listed and found.kind not in ("people", "list", "text")):
        return None
    if listed and found.kind == "text" and found.concept != "industry":
        return None
    if found.concept not in ("parent", "total_funding", "founders") and _OTHERS.search(about):
        return None
    if found.kind in ("money", "count"):
        year = re.search(r"(?<!\d)((?:19|20)\d\d)(?!\d)", about)
        currency, power = found.currency, found.power
        if found.kind == "money":
            code = re.search(r"\b(USD|EUR|KRW|GBP|JPY|CHF|CNY)s?\b|(US dollars?|dollars)|(euros?)|(원)", about)
            if code and not currency and not re.search(r"(?i)(?:iso|or|any|original|units? of)\b", about):
                currency = code[1] or ("USD" if code[2] else "EUR" if code[3] else "KRW")
            scale = re.search(r"(?i)\b(?:in|\(|,)?\s?(?:(thousand)|(million)|(billion))s?\b|(백만|억)\s?원", about)
            if scale and power is None:
                power = 3 if scale[1] else 6 if scale[2] else 9 if scale[3] else {"백만": 6, "억": 8}[scale[4]]
                if scale[4]:
                    currency = currency or "KRW"
        found = Meaning(found.concept, found.part, found.year or (int(year[1]) if year else None), currency, power)
    return found


def plain_labels(leaf: Leaf) -> set[str]:
    """Labels under which a page may state a field that no concept is known for: its own name and title."""
    names = [step for step in leaf.path if step != "[]"]
    if any(normal(step) not in _NEUTRAL for step in names[:-1]) or leaf.path.count("[]") > 1:
        return set()
    return {words for words in (normal(names[-1]), normal(leaf.words[-1])) if len(words) > 2}
