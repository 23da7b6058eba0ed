"""What runs in a script's background, where Ctrl-C is ignored, ends cleanly when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

QUARTERDECK = str(Path(sys.executable).parent / "quarterdeck")
IN_THE_BACKGROUND = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("command", "ready"),
    [
        (["agents", "--port", "0"], "startup complete"),
        (["serve", "stats", "--http", "--port", "0"], "startup complete"),
        (["watch", "--only-look", "--every", "1"], "Looking every"),
        (["expose", "logs", "--port", "0"], "startup complete"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_sigterm_ends_it_with_143_and_no_traceback(command: list[str], ready: str, tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "QUARTERDECK_HOME": str(tmp_path / "home"),
        "QUARTERDECK_CONFIG": "",
        "QUARTERDECK_STATS_URL": "http://127.0.0.1:9",
        "KUBECONFIG": str(tmp_path / "none"),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", IN_THE_BACKGROUND, QUARTERDECK, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environ,
    )
    late = threading.Timer(60, process.kill)
    late.start()
    said = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if ready in line:
                break
        process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
        assert process.wait(30) == 143, said
    finally:
        late.cancel()
        process.kill()
        process.communicate()
    assert ready in said
    assert "Traceback" not in said
