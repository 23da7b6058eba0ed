"""`quarterdeck world`: the practice system in the foreground, and its faults."""

from quarterdeck.titanium.command import add_arguments, run

__all__ = ["add_arguments", "run"]
