"""Secrets never leave: what looks like one is replaced before text reaches an answer, a log or the audit trail.

Three ways to know a secret: its own shape (tokens, keys, addresses with a password), the name in front of it
(`DB_PASSWORD=…`), and its value (those this process was given itself, and Kubernetes Secrets it has read: `remember`).
Names that only speak about a secret (`secretName`, `token_ttl`) and words of a sentence ("token: expired") stay
readable: a diagnosis needs them. Every pattern is bounded or possessive, so hostile text costs linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

MARK = "[redacted]"

# Cheap hints, in lower case, decide which of the exact patterns are tried at all: most text holds no secret, and the
# patterns take a hundred times as long as the look for a hint.
_WORDS = ("pass", "pwd", "비밀번호", "패스워드", "secret", "token", "key", "credential", "cookie", "sess", "dsn")
_PREFIXES_TEXT = """
    ghp_ gho_ ghu_ ghs_ ghr_ github_pat glpat- gldt- glrt- glcbt- glptt- glsoat- glft- glagent- glsa_ glc_ akia asia
    xox xapp sk- sk_ rk_ pk_ aiza npm_ pypi- hf_ sg. dop_v1 ya29. qd_ hvs. shpat_ gocspx age-secret dapi :aa
"""
_PREFIXES = tuple(_PREFIXES_TEXT.split())

_PREFIXED = "|".join(
    (
        r"gh[pousr]_[A-Za-z0-9]{16,}+",
        r"github_pat_[A-Za-z0-9_]{16,}+",
        r"gl(?:pat|dt|rt|cbt|ptt|soat|ft|agent)-[A-Za-z0-9_-]{16,}+",
        r"gl(?:sa|c)_[A-Za-z0-9_=+/]{16,}+",
        r"(?:AKIA|ASIA)[A-Z0-9]{12,}+",
        r"xox[abeprs]-[A-Za-z0-9-]{8,}+",
        r"xapp-[A-Za-z0-9-]{8,}+",
        r"AIza[A-Za-z0-9_-]{20,}+",
        r"npm_[A-Za-z0-9]{20,}+",
        r"pypi-[A-Za-z0-9_-]{16,}+",
        r"hf_[A-Za-z0-9]{16,}+",
        r"hvs\.[A-Za-z0-9_-]{16,}+",
        r"shpat_[A-Za-z0-9]{16,}+",
        r"GOCSPX-[A-Za-z0-9_-]{16,}+",
        r"AGE-SECRET-KEY-[A-Z0-9]{16,}+",
        r"dapi[a-f0-9]{32}",
        r"SG\.[A-Za-z0-9_.-]{16,}+",
        r"dop_v1_[a-f0-9]{16,}+",
        r"ya29\.[A-Za-z0-9_-]{16,}+",
        r"qd_[A-Za-z0-9_-]{20,}+",
        r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,}+",
        r"sk-(?:ant|proj|or|svcacct|admin)-[A-Za-z0-9_-]{8,}+",
        r"sk-[A-Za-z0-9]{20,}+",
        r"\d{8,12}:AA[A-Za-z0-9_-]{30,}+",
    )
)
_PEM_KEY = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    # A key with its end; or without one, as far as it looks like a key: it must not hide what comes after it.
    # No possessive groups here: Python before 3.11.4 matches them wrongly.
    (
        ("-----begin",),
        re.compile(rf"{_PEM_KEY}[^-]*+(?:-(?!----)[^-]*+)*-----END [A-Z0-9 ]{{0,40}}KEY(?: BLOCK)?-----"),
        MARK,
    ),
    (
        ("-----begin",),
        re.compile(rf"{_PEM_KEY}(?:(?:\s|\\[rn])+[A-Za-z0-9+/=]{{16,}}+)*(?:(?:\s|\\[rn])+[A-Za-z0-9+/]+={{1,2}})?"),
        MARK,
    ),
    (
        ("authorization",),
        re.compile(
            r"(?i)\b((?:proxy-)?authorization\\?[\"']?\s{0,4}[:=]\s{0,4}\[?\\?[\"']?)"
            r"(?:(?:digest|aws4[\w-]{0,20}|hawk|signature)\s[^\n]++|(?:bearer|basic|token|apikey|negotiate|ntlm)\s++[^\s\"'\\,;\]]++)"
        ),
        rf"\1{MARK}",
    ),
    (
        ("cookie",),
        re.compile(
            r"(?i)\b((?:set-)?cookie\d?\\?[\"']?\s{0,4}[:=]\s{0,4}(?!\[redacted)\[?\\?[\"']?)[^\s=;,\"']{1,128}=[^\r\n\"'\\\]]*+"
        ),
        rf"\1{MARK}",
    ),
    (
        ("bearer", "basic"),
        re.compile(r"\b((?i:bearer|basic)\s{1,4})(?=[a-z]{0,512}[^a-z\s])[A-Za-z0-9._~+/=-]{8,}+"),
        rf"\1{MARK}",
    ),
    (("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)*+"), MARK),
    (_PREFIXES, re.compile(rf"(?<![A-Za-z0-9])(?:{_PREFIXED})"), MARK),
    (("hooks.slack",), re.compile(r"(https://hooks\.slack\.com/)[A-Za-z]{1,20}/[A-Za-z0-9/_-]++"), rf"\1{MARK}"),
    (("webhooks",), re.compile(r"(discord(?:app)?\.com/api/webhooks/)\d{1,30}/[A-Za-z0-9_-]++"), rf"\1{MARK}"),
    (("@",), re.compile(r"(://[^\s/:@\"'?#]{0,128}:)[^\s/\"']{1,256}@"), rf"\1{MARK}@"),
    (("@",), re.compile(r"(://)[A-Za-z0-9_-]{20,256}@"), rf"\1{MARK}@"),
    (
        ("sig=", "signature=", "x-amz-security-token="),
        re.compile(r"(?i)([?&;](?:sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature)=)[^&\s\"'<>]++"),
        rf"\1{MARK}",
    ),
    (
        ("identified", "password"),
        re.compile(r"(?i)(\bidentified\s{1,4}by\s{1,4}(?:password\s{1,4})?|\bpassword\s{1,4})'[^'\n]{1,4096}'"),
        rf"\1'{MARK}'",
    ),
    (("auth",), re.compile(r"(?i)(\"auth\\?\"\s{0,4}:\s{0,4}\\?\")[A-Za-z0-9+/]{8,}+={0,2}"), rf"\1{MARK}"),
)

_WORD = (
    r"(?P<word>passwords?|passwd|passphrase|passcode|pass|pwd|secret[-_]?(?:access[-_]?)?key|secret|token"
    r"|(?:api|access|private|account|shared|auth|encryption|signing|master|license)[-_]?key"
    r"|credentials?|비밀번호|패스워드|session[-_]?id|sessid|cookie|dsn)"
)
_REST = r"(?P<rest>[\w.-]{0,40})"
_NAMED = re.compile(rf"(?i){_WORD}{_REST}(?:\\{{0,3}}[\"'])?\s{{0,4}}(?:=>|:=|[:=]|%3d)[ \t]{{0,8}}")
_FLAG = re.compile(rf"(?i)(?<![\w-])--?[\w-]{{0,40}}?{_WORD}{_REST}[ \t]{{1,4}}(?!-)")
_LISTED = re.compile(  # Kubernetes' env: {name: DB_PASSWORD, value: …}
    rf"(?i)name\\?[\"']?\s{{0,4}}:\s{{0,4}}\\?[\"']?[\w.-]{{0,40}}?{_WORD}{_REST}\\?[\"']?,?\s{{1,40}}\\?[\"']?value\\?[\"']?\s{{0,4}}:\s{{0,4}}".replace(
        r",?\s{1,40}", r"(?:,\s{0,40}|\s{1,40})"
    )
)
_ELEMENT = re.compile(rf"(?i)<[\w:.-]{{0,40}}?{_WORD}{_REST}>")
_NETRC = re.compile(r"(?i)\b(?P<word>login)\s{1,20}\S{1,128}\s{1,20}password(?P<rest>)\s{1,4}")
_USER = re.compile(r"(?<!\S)(?P<word>-u|--user)(?P<rest>)[ =]{1,4}[\"']?[^\s:\"']{1,128}:")

_NAMES = (
    (_WORDS, _LISTED),
    (_WORDS, _NAMED),
    (_WORDS, _FLAG),
    (_WORDS, _ELEMENT),
    (("login",), _NETRC),
    (("-u ", "-u=", "--user"), _USER),
)

_VALUE = re.compile(
    r"\\\"(?:[^\"\\\n]|\\\\\\\"|\\[^\"\n])*+(?:\\\"|$)"  # JSON inside JSON
    r"|\"(?:[^\"\\\n]|\\.)*+(?:\"|$)"
    r"|'[^'\n]*+(?:'|$)"
    r"|[|>][-+0-9]{0,2}[ \t]*\n(?:[ \t]+[^\n]*(?:\n|\Z))++"  # a YAML block
    # A word; a separator belongs to it when the word goes on and no new name begins.
    r"|(?:[^\s\"',;&)}\]<]|[,;&)}\]\"'<](?=[^\s\"',;&)}\]<\\])(?![\"']?[\w.-]{1,40}[\"']?[:=]|/))++",
    re.MULTILINE,
)

# A name that ends so only speaks about a secret.
_ABOUT_TEXT = """
    name names ref refs type types ttl algorithm alg count counts version file files filename path paths dir
    directory folder expiration expiry expires expired expire seconds minutes hours ms length len size policy
    policies provider endpoint url uri issuer audience mode enabled disabled required optional manager store class
    kind bucket limit limits rate usage used total totals format field fields header headers prefix suffix index
    status state lifetime age rotation mount source template request requests review reviews reset exchange refresh
    per second cache helper plugin controller operator service server error errors failure invalid missing
    generation min max idle timeout window sync go py js ts java rb rs yaml yml json toml txt md crt cfg conf html
    log sh
"""
_ABOUT = frozenset(_ABOUT_TEXT.split())
# What stands behind "token:" in ordinary sentences and is no secret.
_PROSE_TEXT = """
    true false null none nil undefined yes no ok on off missing expired expires expiring invalid valid required
    optional unknown empty unset set not is was are has had have be been does did do will would must may might can
    cannot can't could should unexpected expected acquired acquire released failed fails failure failing denied
    mismatch mismatched found wrong incorrect error errors bad too all files compat systemd present absent provided
    rejected accepted revoked refreshed refresh refreshing updated changed rotated created deleted read loaded
    loading unauthorized forbidden authentication authorization authenticated at in of for from to by with without
    after before the a an this that and or because when while until unable unsupported malformed undecodable
    verified verification redacted hidden masked projected string str int integer bool boolean bytes object map
    slice length len starting stopped ready
"""
_PROSE = frozenset(_PROSE_TEXT.split())
_FACT = re.compile(
    r"(?i:\d{1,5}(?:\.\d{1,4})?(?:[kmg]i?b?|ms|s|m|h|d|%)?(?:/\d{1,5}(?:ms|s|m|h)?)?)"  # counts, sizes, times, rates
    r"|\*{2,64}|<[\w .-]{1,40}>|\{\{[^{}]{1,60}\}\}|%[a-z]"
    r"|\$[A-Z_]{3,60}|\$\{\w{1,60}\}?|\$\(\w{1,60}\)?"  # the value stands in a variable
    r"|/(?:etc|var|run|usr|opt|home|root|tmp|mnt|srv|app|data|secrets?|proc|dev|api|v\d)/[\w./-]{1,200}",
)
_BEFORE_PASS = re.compile(r"(?i)(?:db|pg|my|sql|user|smtp|redis|root|mail|admin|ssh|ftp|http|proxy)$")
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")

_known: dict[str, None] = {}
_longest_first: list[str] = []
_KNOWN_MOST = 4096
_SHORTEST = 6


def remember(values: Iterable[str]) -> None:
    """Values that are secret whatever they look like. Short ones are left out: they would blacken ordinary words."""
    for value in values:
        for form in {value, value.strip(), json.dumps(value)[1:-1]}:
            if len(form) >= _SHORTEST and form not in MARK:
                _known.pop(form, None)
                _known[form] = None
    while len(_known) > _KNOWN_MOST:
        del _known[next(iter(_known))]
    # A short value may be part of a long one: replaced first, it would leave the long one's rest standing.
    _longest_first[:] = sorted(_known, key=len, reverse=True)


def redact(text: str) -> str:
    """The text without the secrets in it."""
    for value in _longest_first:
        if value in text:
            text = text.replace(value, MARK)
    low = text.lower()
    for hints, pattern, replacement in _SHAPES:
        if any(hint in low for hint in hints):
            text = pattern.sub(replacement, text)
    for hints, pattern in _NAMES:
        if any(hint in low for hint in hints):
            text = _hide_values(pattern, text)
    return text


def _hide_values(pattern: re.Pattern[str], text: str) -> str:
    """Hide what stands behind each name; go on right behind a name that hides nothing, its value may be a name too."""
    kept: list[str] = []
    done = at = 0
    search: Callable[[str, int], re.Match[str] | None] = pattern.search
    while (named := search(text, at)) is not None:
        at = named.end()
        if _only_about(named, text):
            continue
        value = _VALUE.match(text, at)
        if value is None or _harmless(value.group()):
            continue
        said = value.group()
        quote = '\\"' if said.startswith('\\"') else said[0] if said[0] in "\"'" else ""
        tail = "\n" if said.endswith("\n") else ""
        kept += (text[done:at], quote, MARK, quote, tail)
        done = at = value.end()
    return "".join((*kept, text[done:])) if kept else text


def _only_about(named: re.Match[str], text: str) -> bool:
    """Whether this name is another word that merely holds ours (compass, tokenizer), or speaks about a secret."""
    word, rest, start = named["word"], named["rest"], named.start("word")
    if word.lower() in ("pass", "dsn") and start and text[start - 1].isalpha():
        camel = text[start - 1].islower() and word[0].isupper()
        if not camel and not _BEFORE_PASS.search(text, max(0, start - 6), start):
            return True
    if not rest:
        return False
    pieces = [piece.lower() for piece in _PIECE.findall(rest)]
    if (
        pieces
        and rest[0].isascii()
        and rest[0].isalpha()
        and rest[0].isupper() == word[-1].isupper()
        and pieces[0] not in ("value", "hash", "data", "key")
    ):
        return True
    return bool(pieces) and (pieces[-1] in _ABOUT or "ref" in pieces)


def _harmless(value: str) -> bool:
    if value.endswith(":") and re.fullmatch(f"(?i){_WORD}:", value):
        return True  # "token: token: …": the second is a name again
    bare = value.strip("\"'\\").rstrip(".,:;!?)]}")
    return not bare or value == MARK or f"{bare}]" == MARK or bare.lower() in _PROSE or bool(_FACT.fullmatch(bare))
