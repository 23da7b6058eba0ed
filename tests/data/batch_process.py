"""Runs one batch of extractions until it ends: what a test kills. Arguments: the API's address, the store, how many."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from quarterdeck.keel.model import Model
from quarterdeck.keel.settings import ModelSettings
from quarterdeck.research.batches import Item, extract_many
from quarterdeck.research.evidence import Source
from quarterdeck.research.schema import check

SHAPE = check({"type": "object", "properties": {"employees": {"type": "integer"}}, "required": ["employees"]})


def items(count: int) -> list[Item]:
    return [
        Item(f"c{n}", f"Company {n}", (Source(f"https://c{n}.example", "", f"Company {n} has {100 + n} employees."),))
        for n in range(count)
    ]


async def main(url: str, store: Path, count: int) -> None:
    model = Model(ModelSettings(api_key="k", base_url=url))
    async for outcome in extract_many(model, SHAPE, items(count), store, poll_s=0.05):
        data = outcome.extraction.data if outcome.extraction else outcome.problem
        print(outcome.id, data, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
