"""Reads JSON with comments and trailing commas, as editors write it. Reads only: rewriting would lose the comments."""

from __future__ import annotations

import json
import re
from typing import Any

_PIECES = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


def loads(text: str) -> Any:
    """The document. Raises json.JSONDecodeError, as json.loads does."""
    bare = _PIECES.sub(lambda found: found[1] or " ", text)
    return json.loads(_LAST_COMMA.sub(lambda found: found[1] or "", bare) or "{}")
