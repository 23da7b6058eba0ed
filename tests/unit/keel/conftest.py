"""What the keel's tests share: a home, its ledger, and one lever to change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import Settings, load

sys.path.append(str(Path(__file__).parents[2] / "data" / "lever"))

if TYPE_CHECKING:
    from quarterdeck.lever.server import Lever


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"QUARTERDECK_HOME": str(tmp_path / "home"), "QUARTERDECK_CONFIG": "", "HOME": str(tmp_path)})


@pytest.fixture
def changes(settings: Settings) -> Changes:
    settings.home.mkdir()
    return Changes.of(settings)


@pytest.fixture
def lever(changes: Changes) -> Lever:
    from quarterdeck.lever.server import Lever

    return Lever(changes.home)
