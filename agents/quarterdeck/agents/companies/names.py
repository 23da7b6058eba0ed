"""Names of companies as people write them in lists: cleaned for everybody who reads them, and told apart."""

from __future__ import annotations

import hashlib
import unicodedata

from quarterdeck.keel.answers import plain

LONGEST = 300


def clean(name: object) -> str:
    """One line without control characters, half characters and space around it; empty when nothing is left."""
    text = str(name)[: 64 * LONGEST].encode("utf-8", "replace").decode()
    return " ".join(plain(unicodedata.normalize("NFC", text)).split())


def key(name: str) -> str:
    """The same for names that differ only in how they are written: capitals, spaces, composed letters."""
    same = unicodedata.normalize("NFKC", name).casefold()
    return hashlib.blake2b(same.encode(), digest_size=12).hexdigest()
