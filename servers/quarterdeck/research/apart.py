"""Pages that could break their reader are read in a child process of bounded time and memory: PDF, and large HTML.

python -P -m quarterdeck.research.apart pdf < file.pdf        # what the child runs; it answers in JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, Literal

from quarterdeck.keel.errors import Refusal

CPU_S = 15
MEMORY = 1 << 30
AT_ONCE = 2

Kind = Literal["pdf", "html"]
_gate: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None


async def read_apart(kind: Kind, body: bytes) -> dict[str, Any]:
    """Title, text, published and, for a PDF, pages and read. Raises Refusal for what cannot be read in bounds.
    The caller bounds the time."""
    async with _one_of_few():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "quarterdeck.research.apart", kind,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ},
        )  # fmt: skip
        try:
            out, _ = await process.communicate(body)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        raise Refusal("The page cannot be read: it needs more time or memory than one is given.") from None
    if problem := answer.get("problem"):
        raise Refusal(f"The page cannot be read: {problem}.")
    return answer


def _one_of_few() -> asyncio.Semaphore:
    global _gate
    loop = asyncio.get_running_loop()
    if _gate is None or _gate[0] is not loop:
        _gate = (loop, asyncio.Semaphore(AT_ONCE))
    return _gate[1]


def main(kind: str) -> int:
    import resource

    # Set before anything of the file is looked at. On macOS only the limit of time holds.
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ValueError, OSError):
        pass
    body = sys.stdin.buffer.read()
    answer: dict[str, Any]
    try:
        if kind == "pdf":
            from quarterdeck.research import pdf

            answer = pdf.read(body)
        else:
            from dataclasses import asdict

            from quarterdeck.research import html

            answer = asdict(html.read(body.decode(errors="replace")))
    except MemoryError:
        answer = {"problem": "it needs more memory than one is given"}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
