"""What durable flows cost: flows a second and waiting times at 16 callers, ours beside plain DBOS as it comes.

pytest -m bench -s tests/bench/bench_flows.py
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.bench

COMMON = """
import asyncio, json, sys, time
from pathlib import Path

home = Path(sys.argv[1])
CALLERS = 16

async def measured(call, number):
    async def caller(numbers, waits):
        for n in numbers:
            began = time.perf_counter()
            await call(n)
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*[caller(iter(range(4)), []) for _ in range(CALLERS)])     # warm
    waits, numbers, began = [], iter(range(number)), time.perf_counter()
    await asyncio.gather(*[caller(numbers, waits) for _ in range(CALLERS)])
    took = time.perf_counter() - began
    waits.sort()
    return {"rate": number / took, "p50": waits[number // 2] * 1000, "p95": waits[int(number * 0.95)] * 1000}

async def same(n):
    return n
"""

PLAIN = (
    COMMON
    + """
from dbos import DBOS

async def main():
    DBOS(config={"name": "plain", "system_database_url": f"sqlite:///{home / 'plain.db'}", "log_level": "CRITICAL"})

    @DBOS.workflow()
    async def trivial(argument):
        return argument

    @DBOS.workflow()
    async def three(argument):
        return {"n": [await DBOS.run_step_async({"name": "same"}, same, n) for n in range(3)]}

    DBOS.launch()

    def call(flow):
        async def one(n):
            await (await DBOS.start_workflow_async(flow, {"n": n})).get_result()
        return one

    print(json.dumps({"trivial": await measured(call(trivial), 480), "three": await measured(call(three), 160)}))
    DBOS.destroy()

asyncio.run(main())
"""
)

OURS = (
    COMMON
    + """
from quarterdeck.keel import flows

@flows.flow("trivial")
async def trivial(argument):
    return argument

@flows.flow("three")
async def three(argument):
    return {"n": [await flows.step("same", same, n) for n in range(3)]}

async def main():
    async with flows.engine("", home) as engine:
        def call(flow):
            async def one(n):
                await engine.result(await engine.start(flow, {"n": n}))
            return one

        one = await measured(call("trivial"), 1600)
        print(json.dumps({"trivial": one, "three": await measured(call("three"), 480)}))

asyncio.run(main())
"""
)

WAKE = (
    COMMON
    + """
from quarterdeck.keel import flows

@flows.flow("asks")
async def asks(argument):
    await flows.ask("Well?", timeout_s=60)
    return {"at": time.perf_counter()}

async def main():
    waits = []
    async with flows.engine("", home) as engine:
        for n in range(50):
            id = await engine.start("asks", {})
            async for item in engine.watch(id):
                if item.kind == "question":
                    began = time.perf_counter()
                    await engine.answer(id, item.question, {"text": "yes"})
                if item.kind == "end":
                    waits.append((time.perf_counter() - began) * 1000)
    waits.sort()
    print(json.dumps({"p50": waits[25], "p95": waits[47]}))

asyncio.run(main())
"""
)


def run(program: str, home: Path) -> Any:
    home.mkdir()
    done = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(300)
def test_flows_beside_plain_dbos(tmp_path: Path) -> None:
    rounds = [(run(PLAIN, tmp_path / f"plain-{n}"), run(OURS, tmp_path / f"ours-{n}")) for n in range(2)]
    print()
    for name in ("trivial", "three"):
        plain, ours = (max((turn[which][name] for turn in rounds), key=lambda r: r["rate"]) for which in (0, 1))
        for who, figures in (("plain DBOS", plain), ("ours", ours)):
            print(
                f"{name:8} {who:10} {figures['rate']:6.0f} flows/s  p50 {figures['p50']:6.1f} ms"
                f"  p95 {figures['p95']:6.1f} ms"
            )
        rate, p95 = ours["rate"] / plain["rate"], plain["p95"] / ours["p95"]
        print(f"{name:8} {'ratio':10} {rate:.1f} × the rate, {p95:.1f} × less p95")
        assert ours["rate"] > 1.5 * plain["rate"]


def test_how_soon_a_watcher_sees_the_end_after_an_answer(tmp_path: Path) -> None:
    figures = run(WAKE, tmp_path / "wake")
    print(f"\nanswer → next step → recorded → seen: p50 {figures['p50']:.1f} ms, p95 {figures['p95']:.1f} ms")
    assert figures["p50"] < 50
