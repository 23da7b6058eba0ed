"""What a caller may be told when something cannot be done."""

from __future__ import annotations


class Refusal(Exception):
    """A sentence for the caller: what is wrong, what to do next. Never carries a secret."""


class Denied(Refusal):
    """Policy or scope says no; asking again will not help."""
