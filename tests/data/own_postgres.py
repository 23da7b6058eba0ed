"""A PostgreSQL server of our own on a free loopback port, with its data in a temporary folder."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa


@contextmanager
def server() -> Iterator[str]:
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL is not installed ({', '.join(missing)}): this is tested on SQLite only")
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
    process = subprocess.Popen(
        ["postgres", "-D", data, "-p", str(port), *[part for option in options for part in ("-c", option)]],
        cwd=home,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    try:
        address = f"postgresql://keel@127.0.0.1:{port}"
        engine = sa.create_engine(f"postgresql+psycopg{address.removeprefix('postgresql')}/postgres")
        for attempt in range(200):
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                if process.poll() is not None or attempt == 199:
                    raise
                time.sleep(0.05)
        engine.dispose()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)
