"""What went wrong for now only, told apart from what stays wrong."""

from __future__ import annotations

from quarterdeck.keel.errors import Refusal


class Passing(Refusal):
    """Worth trying again. Says so in its first words, since that is all that is left of it beyond MCP or A2A."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        self.after_s = after_s
        super().__init__(f"Try again{'' if after_s is None else f' in {after_s:.3g} s'}: {why}")
