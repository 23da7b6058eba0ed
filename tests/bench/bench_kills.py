"""A job on the grown set-up while parts of it are killed with -9 at random: does it end as undisturbed?

pytest -m bench -s tests/bench/bench_kills.py
QUARTERDECK_TEST_COMPANIES=100 QUARTERDECK_TEST_KILLS=6 QUARTERDECK_TEST_SEED=3 QUARTERDECK_TEST_COORDINATORS=2 …

Coordinators, workers, Redis and PostgreSQL are processes of their own on loopback, as deploy/ has them; who is killed
is started again after 0.2 to 3 s, as a supervisor does. The simulated internet (latencies and faults as in
bench_thousand.py) writes down every call, which tells what was done twice.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from grown import Fleet, Member, fleet, until
from simulated import right

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
COUNT = int(os.environ.get("QUARTERDECK_TEST_COMPANIES", "1000"))
KILLS = int(os.environ.get("QUARTERDECK_TEST_KILLS", "20"))
SEED = int(os.environ.get("QUARTERDECK_TEST_SEED", "7"))
COORDINATORS = int(os.environ.get("QUARTERDECK_TEST_COORDINATORS", "2"))
WORKERS = {"research": 3, "extraction": 3, "reflection": 2, "storage": 1}
AT_ONCE = "research=6,extraction=4,reflection=6,storage=10"
WINDOW = max(20, min(200, COUNT // 5))
KINDS = ("coordinator", "research", "extraction", "reflection", "storage", "redis", "postgres")
GOING_AGAIN_S = 30.0
Json = dict[str, Any]


def test_a_thousand_companies_while_everything_is_killed(tmp_path: Path) -> None:
    size: Json = {"coordinators": COORDINATORS, "workers": WORKERS, "at_once": AT_ONCE, "window": WINDOW}
    with fleet(tmp_path / "calm", **size) as calm:
        took, _ = run(calm, 0)
        expected = calm.results("kills")
        calm_calls = calm.asked()
    print(f"\n{COUNT:,} companies undisturbed in {took:.0f} s: {states(expected)}, {len(calm_calls):,} calls")
    with fleet(tmp_path / "wild", **size) as wild:
        took, kills = run(wild, KILLS)
        found = wild.results("kills")
        calls = wild.asked()
        job = wild.job("kills")
    print(f"{COUNT:,} companies and {KILLS} kills in {took:.0f} s: {states(found)}, {len(calls):,} calls")
    slowest = max(kills, key=lambda kill: kill["going_s"])
    late = max(kills, key=lambda kill: kill["back_s"])
    print(f"the job goes on after at most {slowest['going_s']:.1f} s ({slowest['who'].name}); "
          f"the one killed serves after at most {late['back_s']:.1f} s ({late['who'].name})")  # fmt: skip
    print(f"the longest time without a result {standstill(found):.1f} s, undisturbed {standstill(expected):.1f} s")
    twice, flying, wrong = repeated(calls, kills)
    print(f"{sum(twice.values())} calls were made twice {dict(twice)}; {flying} steps were in flight at the kills")
    print(f"undisturbed, without a kill, {sum(repeated(calm_calls, [])[0].values())} were")
    print(f"said meanwhile: {dict(Counter(wild.refused)) or 'nothing but answers'}")
    print(f"wrong: {wrong[:5] or 'nothing'}")
    calmly = outcomes(expected)
    for name, outcome in outcomes(found).items():
        if outcome != calmly[name]:
            problems = [one["problem"] for one in found if one["company_name"] == name]
            print(f"{name}: {outcome} and not {calmly[name]}, for {problems}")
    assert [one["n"] for one in found] == list(range(COUNT)), "each once"
    assert (job["done"], job["good"] + job["incomplete"] + job["failed"]) == (COUNT, COUNT)
    assert outcomes(found) == calmly
    assert all(right(one) for one in found if one["state"] == "complete")
    assert all(kill["before"] < COUNT for kill in kills), "they are killed while there is work"
    assert slowest["going_s"] < GOING_AGAIN_S
    assert not wrong, f"{len(wrong)} finished steps were done again"
    assert sum(twice.values()) <= flying
    for log in (tmp_path / "wild").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name


def run(on: Fleet, kills: int) -> tuple[float, list[Json]]:
    """The job from its beginning to its end; who was killed when, and how long it took to get going again."""
    dice = random.Random(SEED)
    due = [(number + dice.random()) / kills * 0.92 * COUNT for number in range(kills)]
    order: list[str] = []
    while len(order) < kills:  # everybody's turn comes, in any order
        order += dice.sample(KINDS, len(KINDS))
    began = time.monotonic()
    on.submit("kills", COUNT)
    done: list[Json] = []
    for number, (at, kind) in enumerate(zip(due, order, strict=False), 1):
        reach(on, at, done)
        time.sleep(dice.uniform(0, 1.0))  # the moment itself is left to chance, too
        kill = killed(on, dice.choice(on.named(kind)), dice.uniform(0.2, 3.0), done)
        print(f"{time.monotonic() - began:5.0f} s  {number:2} {kill['who'].name:<14} killed when {kill['before']} were "
              f"done, started {kill['down_s']:.1f} s after, the job goes on {kill['going_s']:.1f} s after",
              flush=True)  # fmt: skip
    reach(on, COUNT, done)
    until(lambda: on.job("kills").get("state") == "completed", "the job is over", 60)
    return time.monotonic() - began, done


def killed(on: Fleet, victim: Member, pause_s: float, kills: list[Json]) -> Json:
    """Kill one and start it again. The job goes again when more is done than was when the victim was started."""
    before = on.job("kills").get("done", 0)
    kill: Json = {"who": victim, "at": time.time(), "began": time.monotonic(), "before": before, "back_s": 0.0}
    on.kill(victim)
    while time.monotonic() - kill["began"] < pause_s:
        look(on, kills)
        time.sleep(0.05)
    before = None if victim.name == "postgres" else on.job("kills").get("done")
    on.start(victim)
    kills.append(kill)
    while True:
        look(on, kills)
        job = on.job("kills")
        before = job.get("done") if before is None else before
        if job and (job["done"] > before or job["done"] == COUNT):
            break
        assert time.monotonic() - kill["began"] < 120, f"two minutes after the kill of {victim.name}: {job}"
        time.sleep(0.05)
    kill |= {"down_s": pause_s, "going_s": time.monotonic() - kill["began"], "until": time.time()}
    return kill


def look(on: Fleet, kills: list[Json]) -> None:
    """Start whoever ended by himself, and see who serves again."""
    on.tend()
    for kill in kills:
        if not kill["back_s"] and kill["who"].serves():
            kill["back_s"] = time.monotonic() - kill["began"]


def reach(on: Fleet, done: float, kills: list[Json]) -> None:
    """Wait until so many are done; none for two minutes is a job that stands still."""
    last, since = -1, time.monotonic()
    while True:
        look(on, kills)
        now = on.job("kills").get("done", last)
        if now >= done:
            return
        if now != last:
            last, since = now, time.monotonic()
        assert time.monotonic() - since < 120, f"nothing for two minutes: {on.job('kills')}"
        time.sleep(0.1)


def states(found: list[Json]) -> Json:
    return dict(Counter(one["state"] for one in found))


def outcomes(found: list[Json]) -> Json:
    return {one["company_name"]: (one["state"], one["data"], one["iterations"]) for one in found}


def standstill(found: list[Json]) -> float:
    ended = sorted(one["finished"] for one in found)
    return max(later - earlier for earlier, later in itertools.pairwise(ended))


def repeated(calls: list[Json], kills: list[Json]) -> tuple[Counter[str], int, list[str]]:
    """Calls that a provider worked on more than once, by kind; steps that were in flight at the kills; and what was
    done again although it had been finished: the next step of the same company had begun, and it was nobody's who was
    left without a coordinator at a kill and went on by himself."""
    work: dict[str, list[Json]] = defaultdict(list)
    for call in calls:
        work[call["name"]].append(call)
    twice: Counter[str] = Counter()
    wrong: list[str] = []
    flying = 0
    for name, own in work.items():
        own.sort(key=lambda call: call["began"])
        step = -1
        steps: list[tuple[str, float]] = []
        known: dict[str, int] = {}
        worked: Counter[str] = Counter()
        tries: dict[str, list[Json]] = defaultdict(list)
        for call in own:
            if call["key"] not in known:  # new work: of this step, or of the next
                if not steps or steps[-1][0] != call["kind"]:
                    steps.append((call["kind"], call["began"]))
                    step += 1
                known[call["key"]] = step
            elif known[call["key"]] < step and not any(_met(one, kills) for one in tries[call["key"]]):
                wrong.append(f"{name}: {call['kind']} again at {call['began']:.1f}, {call['how']}")
            tries[call["key"]].append(call)
            if call["how"] in ("done", "left"):
                worked[call["key"]] += 1
                twice[call["kind"]] += worked[call["key"]] > 1
        ends = [began for _, began in steps[1:]] + [own[-1]["ended"]]
        flying += sum(
            began <= kill["until"] and kill["at"] <= end
            for kill in kills
            for (_, began), end in zip(steps, ends, strict=True)
        )
    return twice, flying, wrong


def _met(call: Json, kills: list[Json]) -> bool:
    """Whether a call was on its way when somebody was killed."""
    return any(call["began"] <= kill["until"] and kill["at"] <= call["ended"] for kill in kills)
