"""The remediation agent as a process: over A2A, REST and alerts, with a person's yes in a terminal, through kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from agent_process import Agent, Webhook, agent_process, broken, webhook

from quarterdeck.keel import audit
from quarterdeck.titanium.story import PracticeWorld, practice_world


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=8) as world:
        yield world


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture(scope="module")
def agent(world: PracticeWorld, hook: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with agent_process(tmp_path_factory.mktemp("agent"), world, hook) as agent:
        yield agent


@pytest.fixture(autouse=True)
def calm(world: PracticeWorld) -> Iterator[None]:
    yield
    world.renew()


def test_the_whole_story_over_a2a_with_a_yes_from_the_terminal(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    task = agent.send("Something is wrong with the blog. Mend it.", "story")["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    words, data = task["status"]["message"]["parts"]
    assert "database is locked" in words["text"]
    assert data["metadata"] == {"quarterdeck.change": True}
    assert "restartedAt" in data["data"]["before"]
    assert data["data"]["undo"]

    said = agent.send("yes", "forged", taskId=task["id"])["error"]["message"]
    assert "may not approve" in said
    agent.approve(data["data"]["change_id"])
    report = agent.ended(task["id"])
    assert (report["outcome"], report["kind"], report["service"]) == ("recovered", "database_locked", "blog-service")
    assert report["done"][0]["granted_by"] == "kim in a terminal"
    assert any("WAL" in advice or "write-ahead" in advice for advice in report["next"])
    assert {"requests", "ready pods"} <= {figure["name"] for figure in report["figures"]}
    cited = set(report["root"]["cites"])
    assert cited <= {one["id"] for one in report["evidence"]}

    done = agent.rpc("GetTask", {"id": task["id"]})["result"]
    assert done["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [artifact["name"] for artifact in done["artifacts"]] == ["report.md", "report.json"]
    markdown = agent.get(f"/agent/report/{report['id']}", accept="text/markdown").text
    assert markdown.startswith("# blog")
    found = agent.get("/agent/reports?q=locked").json()["reports"]
    assert report["id"] in {row["id"] for row in found}


def test_a_yes_over_a2a_from_an_approver_is_a_grant_and_a_no_ends_with_a_report(
    world: PracticeWorld, agent: Agent
) -> None:
    broken(world, "dependency", "redis")
    world.wait_until(lambda inside: not inside.all_ready(), "those who need it suffer", 20)
    for number in range(10):  # as soon as it is missed
        task = agent.send("mend it", f"no-thanks-{number}", "boss")["result"]["task"]
        if task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED":
            break
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED", task["status"]["message"]["parts"][0]["text"]
    refused = agent.send("no", "answer-no", "boss", taskId=task["id"])["result"]["task"]
    assert refused["status"]["state"] == "TASK_STATE_COMPLETED"
    report = agent.ended(task["id"], "boss")
    assert (report["outcome"], report["service"], report.get("done")) == ("refused", "redis", [])
    assert "refused" in report["not_done_because"]

    task = agent.send("mend it", "again", "boss")["result"]["task"]
    agent.send("yes", "answer-yes", "boss", taskId=task["id"])
    report = agent.ended(task["id"], "boss")
    assert (report["outcome"], report["kind"]) == ("recovered", "scaled_to_zero")
    assert report["done"][0]["granted_by"] == "boss over A2A"
    assert report["similar"]["count"] == 0, "it is the same incident, looked at once more"


def test_nothing_wrong_ends_at_once_and_a_reader_gets_an_analysis_only(world: PracticeWorld, agent: Agent) -> None:
    well = agent.post("/agent/diagnose", {"wait_s": 60}).json()
    assert well["outcome"] == "healthy", well["text"]
    broken(world, "bad-rollout", "auth-service")
    said = agent.post("/agent/diagnose", {"text": "what is wrong?", "wait_s": 60}, "reader").json()
    assert (said["outcome"], said["state"]) == ("reported", "completed")
    report = agent.get(f"/agent/report/{said['id']}", "reader").json()
    assert (report["kind"], report["service"]) == ("bad_rollout", "auth-service")
    assert "may not have changes made" in report["not_done_because"]


def test_what_no_restart_mends_is_not_acted_on_but_escalated(world: PracticeWorld, agent: Agent, hook: Webhook) -> None:
    hook.told.clear()
    broken(world, "disk-full", "blog-service")
    said = agent.post("/agent/diagnose", {"service": "blog_service", "wait_s": 60}).json()
    assert said["outcome"] == "reported", said
    report = agent.get(f"/agent/report/{said['id']}").json()
    assert (report["kind"], report["service"]) == ("disk_full", "blog-service")
    assert hook.told[0]["text"].startswith("*blog-service")
    assert report["id"] in hook.told[0]["text"]


def test_a_storm_of_alerts_becomes_one_task_and_what_is_known_starts_nothing(
    world: PracticeWorld, agent: Agent
) -> None:
    def notification(numbers: range, status: str = "firing", group: str = "storm") -> dict[str, Any]:
        alerts = [
            {
                "status": status,
                "labels": {"alertname": "Down", "service": "blog-service", "pod": f"p{number}"},
                "annotations": {"summary": "blog-service is down"},
                "startsAt": "2026-11-21T08:00:00Z",
                "fingerprint": f"{number:016x}",
            }
            for number in numbers
        ]
        labels = {"alertname": "Down", "service": "blog-service"}
        return {
            "version": "4", "groupKey": group, "status": status, "receiver": "quarterdeck",
            "groupLabels": labels, "commonLabels": labels, "commonAnnotations": {}, "externalURL": "", "alerts": alerts,
        }  # fmt: skip

    broken(world, "disk-full", "blog-service")
    assert httpx.post(f"{agent.url}/agent/alerts", json=notification(range(3))).status_code == 401
    first = agent.post("/agent/alerts", notification(range(1000))).json()
    assert (first["new"], bool(first["task"])) == (1000, True)
    again = agent.post("/agent/alerts", notification(range(500))).json()
    more = agent.post("/agent/alerts", notification(range(990, 1010))).json()
    assert again == {"task": first["task"], "new": 0}
    report = agent.ended(first["task"])
    assert (report["kind"], report["service"]) == ("disk_full", "blog-service")
    assert more["new"] == 10
    known = agent.post("/agent/alerts", notification(range(1000))).json()
    assert known["new"] == 0
    other = agent.post("/agent/alerts", notification(range(1), group="other")).json()
    assert other["task"] != first["task"]
    assert agent.post("/agent/alerts", notification(range(3), "resolved")).json()["task"] is None
    for wrong in ([], {"alerts": 3}, {"alerts": [{"labels": 3}]}, {"alerts": [{}] * 5001}):
        assert agent.post("/agent/alerts", wrong).status_code == 400


def test_an_approval_outlives_the_process_and_the_change_happens_once(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    task = agent.send("mend the blog", "outlive")["result"]["task"]
    change = task["status"]["message"]["parts"][1]["data"]["change_id"]
    agent.kill()
    agent.approve(change)
    agent.start()
    report = agent.ended(task["id"])
    assert report["outcome"] == "recovered", report["not_done_because"]
    assert [done["change"] for done in report["done"]] == [change]
    events = [one["event"] for one in audit.entries(agent.changes.trail) if one.get("change") == change]
    assert events.count("started") == events.count("applied") == 1
    same = agent.send("mend the blog", "outlive")["result"]["task"]
    assert (same["id"], same["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")


def test_of_two_runs_on_one_trouble_only_one_acts(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    first = agent.send("mend the blog", "first")["result"]["task"]
    assert first["status"]["state"] == "TASK_STATE_INPUT_REQUIRED", first["status"]["message"]["parts"][0]["text"]
    second = agent.send("mend the blog", "second")["result"]["task"]
    assert second["status"]["state"] == "TASK_STATE_COMPLETED"
    assert "already acts" in agent.ended(second["id"])["not_done_because"]
    cancelled = agent.rpc("CancelTask", {"id": first["id"]})["result"]
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    third = agent.send("mend the blog", "third")["result"]["task"]
    assert third["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    agent.rpc("CancelTask", {"id": third["id"]})


def test_a_tool_server_that_cannot_see_is_named_and_not_guessed_around(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    for _ in range(400):
        world.weather("503")
    said = agent.post("/agent/diagnose", {"wait_s": 90}, timeout=120).json()
    world.call(lambda world: world.cluster.weather.gusts.clear())
    report = agent.get(f"/agent/report/{said['id']}").json()
    assert report["outcome"] == "reported", report["outcome"]
    assert any("kubectl" in missing for missing in report["missing"])


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b'{"service": 3}', b'{"act": "no"}', b'{"wait_s": 1e9}'])
def test_a_wrong_call_is_answered_in_a_sentence(agent: Agent, body: bytes) -> None:
    headers = {"authorization": "Bearer kim"}
    response = httpx.post(f"{agent.url}/agent/diagnose", content=body, headers=headers, timeout=20)
    assert response.status_code == 400
    assert response.json()["error"].endswith(".")
    assert agent.get("/agent/report/rp-nothere").status_code == 404
