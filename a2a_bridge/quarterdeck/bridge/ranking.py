"""Which skill fits a task, from the words of both."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from quarterdeck.keel.answers import plain

if TYPE_CHECKING:
    from quarterdeck.bridge.cards import Card, Skill

_WORD = re.compile(r"[a-z0-9]+|[^\W\d_a-zA-Z]+")
_COMMON_TEXT = """
    a an and are as at be by can do find for from get have help how i in into is it its me my of on or our please that
    the their them this to us use what when which who why will with you your
"""
_COMMON = frozenset(_COMMON_TEXT.split())


def words(text: str) -> list[str]:
    """What is compared: words without common ones and endings; other scripts by pairs of letters."""
    found = []
    for word in _WORD.findall(plain(text).lower().replace("_", " ")):
        if not word.isascii():
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word not in _COMMON:
            found.append(_stem(word))
    return found


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ers", "er", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def rank(task: str, having: list[tuple[str, Card]]) -> list[tuple[float, str, Skill, list[str]]]:
    """Skills by how well their words fit the task's; rare words count for more. 1.0 is every word of the task."""
    asked = set(words(task))
    skills = [
        (name, skill, Counter(words(skill.words)), Counter(words(f"{card.title} {card.about}")))
        for name, card in having
        for skill in card.skills
    ]
    if not asked or not skills:
        return []
    spread = Counter(word for *_, own, around in skills for word in {*own, *around} & asked)
    weight = {word: math.log(1 + len(skills) / (0.5 + spread[word])) for word in asked}
    total = sum(weight.values())
    ranked = []
    for name, skill, own, around in skills:
        hits = [word for word in asked if own[word] or around[word]]
        score = sum(weight[word] * (1.0 if own[word] else 0.4) for word in hits) / total
        if score > 0.05:
            ranked.append((round(score, 3), name, skill, sorted(hits, key=lambda word: -weight[word])))
    return sorted(ranked, key=lambda row: -row[0])
