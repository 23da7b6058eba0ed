"""What a caller may be told when something cannot be done."""

from __future__ import annotations


class Refusal(Exception):
    """A sentence for the caller: what is wrong, what to do next. Never carries a secret."""


class Away(Refusal):
    """What it needs, such as a database, is away just now. Nothing is wrong with what was asked: ask again soon."""


class Denied(Refusal):
    """Policy or scope says no; asking again will not help."""
