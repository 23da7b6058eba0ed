"""`quarterdeck watch`: the poll loop, for a terminal or a supervisor such as systemd."""

from __future__ import annotations

import argparse

from quarterdeck.deck import diagnose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Look at the system every few seconds; on each new trouble the remediation agent finds the cause, proposes a "
        "change, waits for `quarterdeck approve` (or asks here, in a terminal), acts, verifies and reports."
    )
    parser.add_argument("service", nargs="?", help="look only at this one")
    parser.add_argument("--every", type=float, default=15.0, metavar="S", help="seconds between looks (default 15)")
    parser.add_argument("--only-look", action="store_true", help="report causes; propose no change")
    parser.set_defaults(watch=True, json=False, markdown=False)


run = diagnose.run
