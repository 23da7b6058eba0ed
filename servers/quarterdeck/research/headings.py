"""Whose section it is: what headings say about the text below them."""

from __future__ import annotations

import re
from typing import Literal

from quarterdeck.research import values
from quarterdeck.research.labels import concepts_of
from quarterdeck.research.layout import squeeze
from quarterdeck.research.names import GENERIC, Company

Standing = Literal["own", "open", "other"]
"""Whose section it is: the company's, nobody's in particular, another's."""

_ELSE = re.compile(
    r"(?i)^(?:our |key |main |other |selected |the |its )?(?:competit\w+|rivals?|alternatives|similar \w+|related \w+|parent(?: company)?|"
    r"partners?|customers?|clients?|investors? list|backers|subsidiar\w+|acquisitions|portfolio|affiliates?|peers?|suppliers?|see also|"
    r"sister \w+|other companies|you may also.*|more companies|people also.*|references|testimonials|case stud\w+|press agency|"
    r"media contact|press contact|agency|history|timeline|previous\w*|former\w*|outlook|forecast\w*|guidance|comments?|disclaimer|group companies|"
    r"참고|관계사|계열사|경쟁사|경쟁 ?업체|협력사|고객사|모회사|자회사|투자사|파트너|관련 기업|유사 기업|비교 기업|전망|연혁|관련 기사|댓글)\b[^.]{0,40}$|^(?:관계사|계열사|경쟁사|경쟁업체|협력사|고객사|모회사|자회사|관련 ?기업|유사 ?기업|비교 ?기업|연혁|주요 ?고객)"
)  # fmt: skip
_HEADING_WORDS_TEXT = """
    company corporate business key quick basic general financial financials figures numbers facts statistics stats data
    contact contacts address addresses location locations office offices headquarters leadership management board directors
    executive executives officers people team staff employees founders founder industry sector products product services
    solutions technology story history mission vision values five-year five year summary highlights performance results
    annual report reports profile overview information details registration legal imprint impressum about us our the we
    are who what do where how of in and at by for with a an to stock shares listing market share price investor investors
    relations news press media research development sustainability careers jobs ownership structure funding rounds total
    fact sheet snapshot introduction background operations revenue sales growth workforce culture today now glance
    footer identity general enquiries inquiries telephone phone email online web website links sources
    회사 기업 개요 소개 정보 현황 재무 조직 인사말 문의 연락처 주요 기본 일반 경영진 대표 사업 제품 분야 비전 요약 실적 매출 인력 위치
    오시는길 오시는 길 주소 본사 채용 회사개요 기업개요 회사소개 기업정보 회사정보 재무정보 기본정보 재무현황 일반현황 회사현황 기업현황 주요현황 상세 상세정보 및 지표
"""
_HEADING_WORDS = frozenset(_HEADING_WORDS_TEXT.split()) | GENERIC


def standing_of(heading: str, around: Standing, company: Company) -> Standing:
    """Whose section a heading opens, within one that is `around`."""
    if not heading:
        return around
    bare = re.sub(r"^\d{1,2}[.)]\s*", "", squeeze(heading))
    titled = company.titled(bare)
    if titled == "alike":
        return "other"
    if titled == "profile":
        return "own"
    if around == "other" or _ELSE.match(bare):
        return "other"
    if titled == "article":
        return around
    words = re.findall(r"[^\W_]+(?:-[^\W_]+)*", bare)
    unknown = [word for word in words if word.casefold() not in _HEADING_WORDS and not word.isdigit()]
    if not unknown or values.person(bare):
        return around
    if re.match(r"(?i)about\s", bare) or concepts_of(bare):
        return "other" if re.match(r"(?i)about\s", bare) else around
    # "Clean power for farms" is a phrase; "Vectra Buses" may well be another company.
    if any(word[0].isupper() or re.search(r"[가-힣]", word) for word in unknown[:1] if word != words[0]) or (
        len(words) <= 4 and all(word[0].isupper() or re.match(r"[가-힣]", word) for word in words)
    ):
        return "other" if around == "own" and not _phrase(bare) else around
    return around


def _phrase(heading: str) -> bool:
    return len(heading.split()) > 5 or bool(re.search(r"[,!?]|\b(?:for|with|that|your|we|is)\b", heading))
