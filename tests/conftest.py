"""How the suite is spread over processes, and the one server that several parts of it need."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Files side by side; but figures are taken, and real clients driven, alone."""
    if config.option.markexpr in ("bench", "clients", "weather") or config.option.usepdb:
        return 0
    return max(2, min(4, (os.cpu_count() or 2) + 1))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of our own on a free loopback port, with its data in a temporary folder."""
    import psycopg

    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL is not installed ({', '.join(missing)}): only SQLite is tested")
    home = Path(tempfile.mkdtemp(prefix="quarterdeck-postgres-"))  # pytest's own folders are closed to other users
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("nobody")
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": {"PATH": os.environ["PATH"]}}
        os.chown(home, user.pw_uid, user.pw_gid)
    data = str(home / "data")
    made = ["initdb", "-D", data, "-U", "keel", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    subprocess.run(made, check=True, cwd=home, capture_output=True, timeout=50, **as_user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
    server = subprocess.Popen(
        ["postgres", "-D", data, "-p", str(port), *[part for option in options for part in ("-c", option)]],
        cwd=home,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    try:
        address = f"postgresql://keel@127.0.0.1:{port}"
        for attempt in range(200):
            try:
                psycopg.connect(f"{address}/postgres").close()
                break
            except psycopg.OperationalError:
                if server.poll() is not None or attempt == 199:
                    raise
                time.sleep(0.05)
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(home, ignore_errors=True)
