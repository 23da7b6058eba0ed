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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa


class Postgres:
    """One that can be killed and started again on its data and its port."""

    def __init__(self, *options: str) -> None:
        missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
        if missing:
            pytest.skip(f"PostgreSQL is not installed ({', '.join(missing)}): this is tested on SQLite only")
        self.home = Path(tempfile.mkdtemp(prefix="quarterdeck-postgres-"))  # pytest's folders are closed to other users
        self.as_user: dict[str, Any] = {}
        if os.getuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("nobody")
            path = {"PATH": os.environ["PATH"]}
            self.as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": path}
            os.chown(self.home, user.pw_uid, user.pw_gid)
        data = str(self.home / "data")
        made = ["initdb", "-D", data, "-U", "keel", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(made, check=True, cwd=self.home, capture_output=True, timeout=50, **self.as_user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        every = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", *options)
        self.command = ["postgres", "-D", data, "-p", str(port), *[part for one in every for part in ("-c", one)]]
        self.address = f"postgresql://keel@127.0.0.1:{port}"

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, cwd=self.home, stderr=subprocess.DEVNULL, **self.as_user)

    def wait(self) -> None:
        engine = sa.create_engine(f"postgresql+psycopg{self.address.removeprefix('postgresql')}/postgres")
        for attempt in range(400):
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                if self.process.poll() is not None or attempt == 399:
                    raise
                time.sleep(0.05)
        engine.dispose()

    def kill(self) -> None:
        """All of its processes, as when the machine is gone."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(20)
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    own = Postgres()
    own.start()
    try:
        own.wait()
        yield own.address
    finally:
        own.stop()
