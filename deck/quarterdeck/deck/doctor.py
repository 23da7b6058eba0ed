"""`quarterdeck doctor`: everything a newcomer gets wrong, checked, with how to mend it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING

from quarterdeck.deck import checks
from quarterdeck.deck.checks import FAIL, OK, WARN, Finding
from quarterdeck.keel.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

PATIENCE_S = 60.0
MARKS = {OK: "ok  ", WARN: "warn", FAIL: "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check Python, settings, cluster, addresses, servers and the configuration of your AI clients, and say how to "
        "mend what is wrong. It changes nothing. Settings are those of this shell: run it where you ran `install`."
    )
    parser.add_argument(
        "--json", action="store_true", help="the findings as JSON; the exit code is 1 if something fails"
    )


def run(arguments: argparse.Namespace) -> int:
    found: list[Finding] = []
    for finding in examine(quiet=arguments.json):
        found.append(finding)
        if not arguments.json:
            mend = f"\n      → {finding.mend}" if finding.mend else ""
            print(f"{MARKS[finding.status]}  {finding.what}: {finding.detail}{mend}", flush=True)
    print(
        json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False) if arguments.json else verdict(found)
    )
    return 1 if any(finding.status == FAIL for finding in found) else 0


def examine(*, quiet: bool) -> Iterator[Finding]:
    """The findings as they come, in the order of the checks. A check that hangs is reported as such and left behind."""
    try:
        settings = checks.settings()
    except Refusal as error:
        yield from [*checks.python(None), Finding(FAIL, "settings", str(error), "")]
        return
    pool = ThreadPoolExecutor(len(checks.ALL))
    running: list[tuple[str, Future[list[Finding]]]] = [
        (check.__name__, pool.submit(check, settings)) for check in checks.ALL
    ]
    started = time.monotonic()
    for name, future in running:
        left = max(0.1, PATIENCE_S - (time.monotonic() - started))
        while left > 0 and not future.done():
            _progress(name, started, quiet)
            wait([future], min(1.0, left))
            left = PATIENCE_S - (time.monotonic() - started)
        try:
            found = future.result(0)
        except TimeoutError:
            found = [Finding(FAIL, name, f"no answer within {PATIENCE_S:.0f} s", "try again, or look at what hangs")]
        except Refusal as error:
            found = [Finding(FAIL, name, str(error), "")]
        except Exception as error:  # one broken check must not hide the others
            found = [Finding(FAIL, name, f"the check itself failed ({type(error).__name__}: {error})"[:300], "")]
        _progress("", started, quiet)
        yield from found
    pool.shutdown(wait=False, cancel_futures=True)


def _progress(name: str, started: float, quiet: bool) -> None:
    if quiet or not sys.stderr.isatty():
        return
    said = f"checking {name} … {time.monotonic() - started:.0f} s" if name else ""
    sys.stderr.write(f"\r\033[K{said}")
    sys.stderr.flush()


def verdict(found: list[Finding]) -> str:
    failed = sum(1 for finding in found if finding.status == FAIL)
    if failed:
        return f"\n{failed} thing{'s' if failed > 1 else ''} to mend. New here? `quarterdeck demo` needs none of this."
    if any(f.what == "clients" for f in found):
        return "\nAll well so far. Next: `quarterdeck install claude-code` (or another client)."
    warned = sum(1 for finding in found if finding.status == WARN)
    but = f", but for {warned} warning{'s' if warned > 1 else ''} above" if warned else ""
    return f"\nAll well{but}. Ask your client what is wrong in your cluster."
