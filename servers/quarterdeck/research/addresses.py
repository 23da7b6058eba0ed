"""When two addresses are one page: without what only tells where a reader came from."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_TRACKING = frozenset(
    ("fbclid", "gclid", "dclid", "msclkid", "mc_cid", "mc_eid", "igshid", "yclid", "ref", "ref_src", "source", "spm")
)


def canonical(url: str) -> str:
    """One form for comparing, not for fetching: http or https, www or none, a slash at the end or none are the same."""
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url.strip()
    if parts.scheme not in ("http", "https"):
        return url.strip()
    host = host.removeprefix("www.")
    place = host if port in (None, 80, 443) else f"{host}:{port}"
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True, max_num_fields=None)
        if not name.lower().startswith("utm_") and name.lower() not in _TRACKING
    ]
    return urlunsplit(("", place, parts.path.rstrip("/"), urlencode(sorted(query)), ""))
