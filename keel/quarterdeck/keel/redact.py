"""Secrets never leave: what looks like one is replaced before text reaches an answer, a log or the audit trail.

Two ways to know a secret: its shape (tokens, keys, passwords after their name) and its value (those this process
was given itself, and Kubernetes Secrets it has read: `remember`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MARK = "[redacted]"

_SECRET_NAME = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?"
    r"|auth[-_]?key|encryption[-_]?key|signing[-_]?key|session[-_]?id|cookie|dsn)"
)

# Cheap hints decide whether the exact patterns are tried at all: most lines hold no secret.
_HINT = re.compile(
    r"pass|pwd|secret|token|key|credential|cookie|session|dsn|bearer|basic\s|authorization|:[^\s/@]{1,256}@|eyJ"
    r"|gh[pousr]_|github_pat|glpat-|AKIA|ASIA|xox|sk[-_]|rk_|pk_|AIza|-----BEGIN|hooks\.slack|npm_|pypi-|hf_|SG\."
    r"|dop_v1|ya29\.|qd_",
    re.IGNORECASE,
)

_PREFIXED = "|".join(
    (
        r"gh[pousr]_[A-Za-z0-9]{16,}",
        r"github_pat_[A-Za-z0-9_]{16,}",
        r"glpat-[A-Za-z0-9_-]{16,}",
        r"(?:AKIA|ASIA)[A-Z0-9]{12,}",
        r"xox[abeprs]-[A-Za-z0-9-]{8,}",
        r"AIza[A-Za-z0-9_-]{20,}",
        r"npm_[A-Za-z0-9]{20,}",
        r"pypi-[A-Za-z0-9_-]{16,}",
        r"hf_[A-Za-z0-9]{16,}",
        r"SG\.[A-Za-z0-9_.-]{16,}",
        r"dop_v1_[a-f0-9]{16,}",
        r"ya29\.[A-Za-z0-9_-]{16,}",
        r"qd_[A-Za-z0-9_-]{20,}",
        r"(?:sk|rk|pk)[-_](?:live|test|ant|proj|or|svcacct)?[-_A-Za-z0-9]{12,}",
    )
)
_QUOTED_OR_WORD = r"(\\?\"(?:[^\"\\\n]|\\.){1,4096}\"|'[^'\n]{1,4096}'|[^\s\"',;&)}\]]{1,4096})"

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}KEY-----|\Z)", re.DOTALL),
        MARK,
    ),
    (
        re.compile(
            r"(?i)\b(authorization|x-api-key|x-auth-token|set-cookie|cookie)(\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?)"
            r"(?:(?:bearer|basic|token|digest)\s+)?[^\s\"'\\]+(?:;\s*[^\s\"'\\]+)*"
        ),
        rf"\1\2{MARK}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MARK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), MARK),
    (re.compile(rf"\b(?:{_PREFIXED})"), MARK),
    (re.compile(r"https://hooks\.slack\.com/services/[A-Za-z0-9/]+"), MARK),
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@\"']{0,128}:)[^\s/@\"']{1,256}@"), rf"\1{MARK}@"),
    # name=value, "name": "value", NAME: value; a quoted value may hold spaces
    (
        re.compile(
            rf"(?i)([\w.-]{{0,40}}{_SECRET_NAME}[\w-]{{0,20}}\\?[\"']?\s{{0,4}}(?:=>|[:=])\s{{0,4}}){_QUOTED_OR_WORD}"
        ),
        "",
    ),
    (re.compile(rf"(?i)(--?[\w-]{{0,40}}{_SECRET_NAME}[\w-]{{0,20}}\s+)([^\s-]\S{{0,4096}})"), rf"\1{MARK}"),
)

# What stands behind "token:" in ordinary sentences and is no secret.
_HARMLESS = re.compile(
    r"(?i)^[\"'\\]{0,2}(?:|true|false|null|none|nil|yes|no|ok|missing|expired|invalid|required|unknown|empty|unset|set"
    r"|not|is|was|\[redacted\]?|\*{2,}|<[\w .-]{1,40}>|\$\{?\w{1,60}\}?|\d{1,5}|/[\w./-]{1,200})[\"'\\]{0,2}$"
)

_known: dict[str, None] = {}
_KNOWN_MOST = 4096
_SHORTEST = 6


def remember(values: Iterable[str]) -> None:
    """Values that are secret whatever they look like. Short ones are left out: they would blacken ordinary words."""
    for value in values:
        if len(value) >= _SHORTEST:
            _known.pop(value, None)
            _known[value] = None
    while len(_known) > _KNOWN_MOST:
        del _known[next(iter(_known))]


def redact(text: str) -> str:
    """The text without the secrets in it."""
    for value in _known:
        if value in text:
            text = text.replace(value, MARK)
    if not _HINT.search(text):
        return text
    for pattern, replacement in _SHAPES:
        text = pattern.sub(replacement or _hide_value, text)
    return text


def _hide_value(match: re.Match[str]) -> str:
    name, value = match.group(1), match.group(2)
    if _HARMLESS.match(value):
        return match.group(0)
    quote = value[0] if value[0] in "\"'" else '\\"' if value.startswith('\\"') else ""
    return f"{name}{quote}{MARK}{quote}"
