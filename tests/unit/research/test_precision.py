"""How right the rules are: on pages they were written with, and on pages they never saw."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from quarterdeck.research.evidence import Source
from quarterdeck.research.extraction import extract
from quarterdeck.research.layout import squeeze, visible_text
from quarterdeck.research.schema import check

ROOT = Path(__file__).parents[3]
HELD_OUT = ROOT / "tests" / "data" / "heldout_companies"
PRACTICE = ROOT / "examples" / "companies"


def test_at_least_95_of_100_filled_values_are_right_on_held_out_pages() -> None:
    right, wrong, missed = measure(HELD_OUT, HELD_OUT / "truth.json")
    print(
        f"held out: precision {right / (right + wrong):.3f} ({right + wrong} values), recall {right / (right + missed):.3f}"
    )
    assert right + wrong > 100
    assert right / (right + wrong) >= 0.95
    assert right / (right + missed) >= 0.7


def test_hardly_anything_is_wrong_on_the_practice_corpus() -> None:
    right, wrong, missed = measure(PRACTICE, ROOT / "tests" / "data" / "companies_truth.json")
    print(f"practice: precision {right / (right + wrong):.3f}, recall {right / (right + missed):.3f}")
    assert right / (right + wrong) >= 0.98
    assert right / (right + missed) >= 0.9


def measure(folder: Path, truths: Path) -> tuple[int, int, int]:
    """(right, wrong, missed) over all leaves; each item of a list counts. Every passage must be in its page."""
    shape = check(json.loads((folder / "schema.json").read_text("utf-8")))
    right = wrong = missed = 0
    for case in json.loads(truths.read_text("utf-8")):
        text = (folder / "pages" / case["page"]).read_text("utf-8")
        done = extract(case["company"], shape, [Source(case["url"], "", text)])
        for found in done.fields:
            assert found.passage
            assert len(found.passage) <= 240
            assert found.passage in squeeze(text) or found.passage in visible_text(text), (case["page"], found)
        told, true = flat(done.data), flat(case["truth"])
        right += len(told & true)
        wrong += len(told - true)
        missed += len(true - told)
    return right, wrong, missed


def flat(data: Any, path: str = "") -> set[tuple[str, str]]:
    if isinstance(data, dict):
        return {one for key, value in data.items() for one in flat(value, f"{path}.{key}")}
    if isinstance(data, list):
        return {one for value in data for one in flat(value, path)}
    return {(path, re.sub(r"[\W_]", "", str(data).casefold()))}
