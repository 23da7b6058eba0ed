"""How the suite is spread over processes."""

from __future__ import annotations

import os

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Files side by side; but figures are taken, and real clients driven, alone."""
    if config.option.markexpr in ("bench", "clients", "weather") or config.option.usepdb:
        return 0
    return max(2, min(4, (os.cpu_count() or 2) + 1))
