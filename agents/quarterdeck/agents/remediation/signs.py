"""What a text from a log or an event says: which class of trouble, and of whom.

Texts are data. A line can only say one of the classes that we know, whatever else it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.wordings import ALIKE, UNLESS, WORDINGS

LONGEST = 6_000
COMPLAINTS: frozenset[Kind] = frozenset({"dependency_down", "dns_failure", "timeouts"})
"""Classes of which the one who says them may only be the victim."""

LINE_HEAD, LINE_TAIL = 400, 200
"""What is read of a longer line."""


def _compiled(*patterns: str) -> Any:
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.max_mem = False, False, 64 << 20
    return re2.compile("(?m)" + "|".join(f"(?:{pattern})" for pattern in patterns), options)


_NEVER = r"[^\s\S]"
_PATTERNS = tuple(
    (kind, weight, _compiled(*patterns), _compiled(ALIKE.get(kind, _NEVER)), _compiled(UNLESS.get(kind, _NEVER)))
    for kind, weight, patterns in WORDINGS
)
# What users type reaches logs inside requests and quoted fields: it says nothing of the system.
_REQUEST = re.compile(
    r'"(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) [^"]{0,2000}"'
    r'|\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) /\S{0,2000}|"(?:path|url|uri|route|target)": ?"/[^"]{0,2000}"'
)
_TYPED = re.compile(
    r"\b(?:q|query|search|comment|title|subject|body|content|payload|input|user[-_ ]?agent|ua|text|email|mail|user"
    r"|login|referer|referrer|(?:\w{1,20}[-_ ])?name|username|account|customer|nick|headline|post|tag|label)"
    r"\\?[\"']?(?:\s{0,9}[=:]\s{0,9}|\s{1,9})(?:\"(?:[^\"\\]|\\.){0,2000}\"|'(?:[^'\\]|\\.){0,2000}')",
    re.IGNORECASE,
)
# What else stands in quotes counts only where a program quotes a message: after a colon or a bracket, or after words
# such as "error". `login of user "x: database is locked" failed` is about a user.
_QUOTED = re.compile(
    r"\"((?:[^\"\\\n]|\\.){1,2000})\"|(?<![\w\\])'([^'\n]{1,400})'(?!\w)|“([^”\n]{1,400})”|`([^`\n]{1,400})`"
)
_QUOTES = re.compile(
    r"(?:^|[(\[{]|[(\[]-?\w{1,9}, ?|\b(?:says|said|with|at|because|panic|panicked)|\b(?:msg|message|reason|cause"
    r"|caused by|details?|desc|description|stack|stacktrace|trace|log|event|hint|stderr|output|fatal|panic|warning"
    r"|failed|failure|\w{0,60}(?:error|exception|err)s?)[\"']?\s{0,9}[=:]?)\s{0,9}$",
    re.IGNORECASE,
)
_ACCESS = re.compile(r'HTTP/\d(?:\.\d)?\\?" (\d{3})\b|"status(?:_code)?": ?(\d{3})\b')

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?"
_URL = re.compile(rf"\b[a-z][a-z0-9+.-]{{1,30}}://(?:[^\s/@\"']{{1,200}}@)?({_HOST})(?::(\d{{1,5}}))?", re.IGNORECASE)
_HOST_PORT = re.compile(rf"(?<![\w./:@-])({_HOST})(?:/({_HOST}))?:(\d{{2,5}})(?!\d|:\d|\.\d)")
# Words after which a host is named. After a mere noun such as "server" it has to stand in quotes, or behind at or on.
_SAID = re.compile(
    r"\b(?:lookup|ENOTFOUND|EAI_\w+|UnknownHostException|translate host name|unknown (?:mysql server )?host"
    r"|resolve(?: host(?:name)?| hostname| name| server| address)?|not found in upstream|connect(?:ing|ion)? to"
    r"|talking to|calling|call to|reach(?:ing)?|contact(?:ing)?|waiting for|response from|reply from|answer from"
    r"|reading (?:response )?(?:header )?from|request to|querying"
    r"|(?:server|broker|database|service|upstream|backend|peer|cluster|dependency|target|host)[\"']?"
    r"(?: at| on|\s*[:=]|(?= [\"'`])))"
    rf"(?=[\"']?\s*[:=]?\s*[\"'`(]?(?<!\w)(?:the )?({_HOST}))",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    rf"(?:^|[\s\"'`(\[])({_HOST}):? (?:is|was|became|has|did) (?:currently )?"
    r"(?:not |un)(?:reachable|available|respond|answer)",
    re.IGNORECASE,
)
_COMMON = frozenset(
    (
        "the", "a", "an", "to", "of", "on", "in", "at", "for", "by", "it", "its", "host", "hostname", "server", "name",
        "service", "http", "https", "tcp", "udp", "upstream", "error", "failed", "localhost", "connection", "connect",
        "timeout", "resolve", "database", "db", "address", "port", "request", "client", "is", "was", "none", "null",
        "that", "this", "running", "unavailable", "returned", "closed", "node", "broker", "brokers", "cluster",
        "socket", "peer", "remote", "backend", "dependency", "target", "available", "any", "all", "lock", "response",
    )
)  # fmt: skip
_MAKES = ("postgres", "mysql", "mariadb", "redis", "mongo", "kafka", "rabbitmq", "elasticsearch", "memcached", "etcd")
"""Makes of servers: for messages that name neither host nor port."""


@dataclass(frozen=True)
class Sign:
    """One thing a text says."""

    kind: Kind
    weight: float
    words: str
    """The line that says it."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Names and ports it speaks of."""


def signs_in(text: str) -> list[Sign]:
    """What the text says, the most telling first; of a stack trace its last lines tell most."""
    return list(_signs_in(_clipped(text, LONGEST // 2, LONGEST // 2)))


@lru_cache(maxsize=2048)
def _signs_in(text: str) -> tuple[Sign, ...]:
    if harmless(text):
        return ()
    text = _unquoted(_TYPED.sub(" ", _REQUEST.sub(" ", text)))
    found: dict[Kind, Sign] = {}
    lines = [_clipped(line, LINE_HEAD, LINE_TAIL) for line in text.split("\n") if line.strip()]
    for line in reversed(lines):
        kind, weight = _class_of(line)
        if kind is not None and kind not in found:
            hosts = hosts_in(text) if kind in COMPLAINTS or kind == "too_many_connections" else ()
            found[kind] = Sign(kind, weight, line.strip()[:300], hosts)
    return tuple(sorted(found.values(), key=lambda sign: -sign.weight))


def _unquoted(text: str, depth: int = 2) -> str:
    """The text without quoted words that are no message of a program; quoted names of one word stay."""

    def kept(found: re.Match[str]) -> str:
        said = found[1] or found[2] or found[3] or found[4]
        if not _QUOTES.search(text[max(0, found.start() - 80) : found.start()]):
            return found[0] if not re.search(r"\s", said) else " "
        inner = said.replace('\\"', '"')
        return found[0][0] + _unquoted(inner, depth - 1) + found[0][-1] if depth else found[0]

    return _QUOTED.sub(kept, text)


def _class_of(line: str) -> tuple[Kind | None, float]:
    line = line.encode("utf-8", "replace").decode()  # RE2 reads no lone surrogates
    for kind, weight, pattern, alike, unless in _PATTERNS:
        if pattern.search(line) and not unless.search(line) and pattern.search(alike.sub(" ", line)):
            return kind, weight
    return None, 0.0


def _clipped(text: str, head: int, tail: int) -> str:
    """The head and the tail of a long text. A quotation whose beginning fell out is left out as well."""
    if len(text) <= head + tail:
        return text
    end = text[-tail:]
    if end.count('"') % 2:
        end = end.partition('"')[2]
    return f"{text[:head]} {end}"


def harmless(text: str) -> bool:
    """Whether this is the log line of a request that was not answered 5xx: nothing failed."""
    found = _ACCESS.search(text)
    return found is not None and not (found[1] or found[2] or "").startswith("5") and "\n" not in text


def hosts_in(text: str) -> tuple[tuple[str, int], ...]:
    """Hosts that a text names, with their ports (0: not said), those with a port first."""
    found: dict[str, int] = {}
    for host, port in _URL.findall(text):
        found.setdefault(host, int(port or 0))
    for host, address, port in _HOST_PORT.findall(text):
        if not _is_place(host):
            for one in (host, address):
                if one and not one.isdigit():
                    found[one] = max(found.get(one, 0), int(port))
    for host in (*_SAID.findall(text), *_BEFORE.findall(text)):
        if host.lower() not in _COMMON and not host.isdigit():
            found.setdefault(host.rstrip(".:"), 0)
    kept = [(host, port) for host, port in found.items() if host.lower() not in _COMMON and not _is_place(host)]
    return tuple(sorted(kept, key=lambda pair: not pair[1])[:8])


_PLACE = re.compile(r"\.(?:py|go|js|ts|java|rb|rs|kt|cs|cpp|c|php|scala|mjs|cjs|yaml|yml|json|conf)$", re.IGNORECASE)


def _is_place(host: str) -> bool:
    """`routes.py:88` is a place in a program."""
    return bool(_PLACE.search(host))


def targets(
    sign: Sign, known: Collection[str], own: str, addresses: dict[str, str], ports: dict[int, list[str]]
) -> tuple[str | None, str | None]:
    """(the service of ours, else the host outside) that a complaint is about."""
    others = [name for name in known if name != own]
    for host, _ in sign.hosts:
        if found := addresses.get(host) or names.host(host, others):
            if found != own:
                return found, None
    if named := _spoken_of(sign.words, others):
        return named, None
    outside = [
        host
        for host, port in sign.hosts
        if not names.is_address(host) and (port or len(host) > 2) and not names.host(host, [own])
    ]
    for _, port in sign.hosts:
        listening = [name for name in ports.get(port, ()) if name != own]
        if len(listening) == 1 and not outside:
            return listening[0], None
        if port and not any("." in host for host in outside) and (found := names.by_port(port, others)):
            return found, None
    if outside:
        return None, min(outside, key=lambda host: "." not in host)
    for host, port in sign.hosts:
        if names.is_address(host) and port:
            return None, f"{names.PORTS[port][0]} at {host}" if port in names.PORTS else f"{host}:{port}"
    make = next((make for make in _MAKES if make in sign.words.lower()), None)
    return (next((name for name in others if make in name.lower()), None), make) if make else (None, None)


def _spoken_of(words: str, others: Collection[str]) -> str | None:
    """The one service that a sentence names: `auth-service`, `auth service`, `auth`."""
    said = words.lower()
    for ends in ((), ("-service", "-svc", "-server", "-api")):
        found = set()
        for name in others:
            short = next((name.removesuffix(end) for end in ends if name.endswith(end)), "" if ends else name)
            spelled = r"[-_ ]?".join(map(re.escape, re.split(r"[-_]", short.lower())))
            if short and re.search(rf"(?<![\w.-]){spelled}(?![\w-])", said):
                found.add(name)
        if len(found) == 1:
            return found.pop()
    return None
