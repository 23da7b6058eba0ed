"""Records: what was logged at once, even where it takes many lines.

A traceback belongs to the line that announced it and stays whole, in Python, Java, Go, Node and .NET. Lines are joined
within one source (a container, a stream, a file) before sources are merged, so interleaved pods cannot tear one apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo

from quarterdeck.logs.lines import Line, is_server_error, read_line, read_time

MOST_LINES = 400
"""Lines of one record that are kept; of a longer one the middle is left out."""

Unwrap = Callable[[str], tuple[float | None, str]]
_CRI = re.compile(r"(\d{4}-\d\d-\d\dT\S+) (?:stdout|stderr) [FP] ")

_PYTHON = "Traceback (most recent call last):"
_KEY = "PRIVATE KEY-----"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_GO = re.compile(r"panic: |fatal error: |goroutine \d+ \[|\[signal ")
_GO_FRAME = re.compile(
    r"goroutine \d+ \[|\[signal |created by |exit status \d|\S+\(.*\)$|\[recovered|r\w{1,3}\s+0x|\S+\.go:\d+"
)
_JAVA = re.compile(r"(?:Exception in thread |Caused by: |(?:[\w$]+\.)+[\w$]*(?:Exception|Error|Throwable)\b)")
_NODE = re.compile(r"(?:Uncaught |\[?Unhandled\w* )?\w*(?:Error|Exception)(?: \[\w+\])?: ")
_NODE_PLACE = re.compile(r"(?:/|node:|file://|[A-Z]:\\)\S*:\d+$")
_DOTNET = re.compile(r"Unhandled exception[.:] ")
# One cheap look that nearly every line fails, before the exact ones.
_OPENER = re.compile(
    r"Traceback|panic: |fatal|goroutine|\[signal|Caused|Unhandled|Exception in|Uncaught|\S*:\d+$"
    r"|[\w$.\[ ]*(?:Error|Exception|Throwable)\b"
)
_TROUBLE = re.compile(r"exception|error|fail|panic|crash|unhandled|uncaught|fatal", re.IGNORECASE)
_AFTER_MESSAGE = re.compile(r"[\[(]|DETAIL:|HINT:|LINE \d|CONTEXT:")  # database drivers explain on further lines


@dataclass(slots=True)
class Record:
    source: str
    time: float | None
    level: str
    body: str
    """The first line without its time stamp; of a JSON line its message."""
    text: str
    """All of it."""
    trace: str = ""
    """Which language's stack trace it holds, or empty."""
    first: int = 0
    """Position of its first line among the lines it was read from …"""
    end: int = 0
    """… and that after its last."""

    @property
    def failed(self) -> bool:
        """Whether this tells of an error: by its level, by a stack trace, or by a request answered 5xx."""
        return self.level in ("error", "critical") or self.trace not in ("", "key") or is_server_error(self.text)


@dataclass(slots=True)
class _Open:
    """The record that is being read."""

    head: Line
    first: int
    end: int
    lines: list[str]
    trace: str = ""
    phase: str = ""
    """Of a Python traceback: `frames`, `done` (its last line was seen), `chain` (another follows)."""
    blanks: int = 0
    cut: int = 0

    def troubled(self) -> bool:
        """Whether it speaks of trouble, so that a stack trace that follows will be its own."""
        return self.head.level in ("warning", "error", "critical") or bool(_TROUBLE.search(self.head.text[:400]))


def join(
    lines: Iterable[str], source: str = "", zone: tzinfo = UTC, now: float | None = None, unwrap: Unwrap | None = None
) -> Iterator[Record]:
    """The records in these lines. `unwrap` takes off what a container runtime has put before each of them."""
    current: _Open | None = None
    for position, text in enumerate(lines):
        noted = None
        if unwrap:
            noted, text = unwrap(text)
        if not text.strip():
            if current:
                current.blanks += 1
            continue
        line = read_line(text, zone, now)
        if current and _continues(current, line):
            _add(current, text, position)
            continue
        if current:
            yield _close(current, source)
        if noted is not None:
            line.time = noted
        current = _begin(line, position)
    if current:
        yield _close(current, source)


def kubelet_stamp(text: str) -> tuple[float | None, str]:
    """A line of the Kubernetes API with `timestamps=true`: the time, a space, the line."""
    stamp, _, rest = text.partition(" ")
    moment = read_time(stamp)
    return (None, text) if moment is None else (moment, rest)


def wrapping(sample: str) -> Unwrap | None:
    """How a container runtime's log file wraps its lines, told by one of them; None for plain lines."""
    if _CRI.match(sample):
        return _cri
    if sample.startswith('{"log":') and '"stream":' in sample:
        return _docker
    return None


def _cri(text: str) -> tuple[float | None, str]:
    found = _CRI.match(text)
    return (read_time(found.group(1)), text[found.end() :]) if found else (None, text)


def _docker(text: str) -> tuple[float | None, str]:
    try:
        fields = json.loads(text)
        return read_time(str(fields["time"])), str(fields["log"]).rstrip("\n")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, text


def _begin(line: Line, position: int) -> _Open:
    if "\n" in line.text:  # Loki keeps a whole record in one entry
        line.body = line.body.split("\n", 1)[0]
        trace, phase = ("stack", "") if _PYTHON in line.text or "\n\tat " in line.text else _opens(line.body)
    else:
        trace, phase = _opens(line.body)
    return _Open(line, position, position + 1, [line.text], trace, phase)


def _opens(text: str) -> tuple[str, str]:
    """Which language's stack trace (or a private key, that it be hidden whole) starts here, and the phase it is in."""
    if _KEY in text:
        return "key", ""
    if not _OPENER.match(text):
        return "", ""
    if text.startswith(_PYTHON):
        return "python", "frames"
    if _GO.match(text):
        return "go", ""
    if _JAVA.match(text):
        return "java", ""
    if _NODE.match(text) or _NODE_PLACE.match(text):
        return "node", ""
    if _DOTNET.match(text):
        return ".net", ""
    return "", ""


def _continues(current: _Open, line: Line) -> bool:
    """Whether the line belongs to the open record; moves a traceback on to its next phase."""
    text = line.text
    if line.time is not None:
        return False
    if current.trace == "key":
        return _key_goes_on(current, text)
    if text[0] in " \t":
        if not current.trace and text.lstrip().startswith(("at ", _PYTHON, "+ Exception Group Traceback")):
            current.trace = "stack"
        return True
    if current.trace == "python":
        return _python_goes_on(current, line)
    if current.trace == "go" and _GO_FRAME.match(text):
        return True
    if current.trace in ("java", "stack") and text.startswith(("Caused by: ", "Suppressed: ", "... ", "--- ")):
        return True
    if current.trace == "node" and (
        text.startswith(("Node.js v", "^", "Thrown at:"))
        or (_NODE_PLACE.match(current.lines[0]) and (_NODE.match(text) or not _NODE_PLACE.match(text)))
    ):
        return True
    if text[0] in "}])" and current.lines[-1][:1] in " \t":
        return True
    trace, phase = _opens(text)
    if trace and not current.trace and not line.headed and current.troubled():
        current.trace, current.phase = trace, phase
        return True
    return False


def _key_goes_on(current: _Open, text: str) -> bool:
    if current.lines[-1].startswith("-----END"):
        return False
    return " " not in text.strip() or text.startswith(("-----END", "Proc-Type:", "DEK-Info:"))


def _python_goes_on(current: _Open, line: Line) -> bool:
    text = line.text
    if current.phase == "frames":
        current.phase = "done"
        return True
    if text.startswith(_CHAINED):
        current.phase = "chain"
        return True
    if current.phase == "chain" and text.startswith(_PYTHON):
        current.phase = "frames"
        return True
    return current.phase == "done" and not current.blanks and bool(_AFTER_MESSAGE.match(text)) and not line.headed


def _add(current: _Open, text: str, position: int) -> None:
    current.lines.extend([""] * min(current.blanks, 2))
    current.blanks = 0
    current.lines.append(text)
    current.end = position + 1
    while len(current.lines) > MOST_LINES:
        del current.lines[MOST_LINES // 2]
        current.cut += 1


def _close(current: _Open, source: str) -> Record:
    if current.cut:
        current.lines.insert(MOST_LINES // 2, f"… {current.cut} lines left out …")
    head = current.head
    level = head.level or ("error" if current.trace not in ("", "key") else "")
    return Record(
        source, head.time, level, head.body, "\n".join(current.lines), current.trace, current.first, current.end
    )
