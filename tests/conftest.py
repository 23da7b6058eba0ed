"""How the suite is spread over processes, and the one server that several parts of it need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Files side by side; but figures are taken, and real clients driven, alone."""
    if config.option.markexpr in ("bench", "clients", "weather") or config.option.usepdb:
        return 0
    return max(2, min(4, (os.cpu_count() or 2) + 1))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own on a free loopback port, with its data in a temporary folder."""
    import own_postgres  # in tests/data, which is on the path once pytest has read its settings

    with own_postgres.server() as address:
        yield address
