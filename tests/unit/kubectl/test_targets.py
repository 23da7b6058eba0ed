"""A change is written only over the object that was shown, however much its status moves."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import resources
from quarterdeck.kubectl.cluster import Cluster
from quarterdeck.kubectl.targets import TRIES, Patched, fingerprint

from .conftest import Api, answer, status

WEB: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "uid": "u1", "resourceVersion": "1", "generation": 1, "labels": {"a": "b"}},
    "spec": {"replicas": 2},
    "status": {"readyReplicas": 2},
}
MERGE = "application/merge-patch+json"
MOVED = status(409, "the object has been modified; please apply your changes to the latest version")


def web(version: str = "1", **status: Any) -> dict[str, Any]:
    found = copy.deepcopy(WEB)
    found["metadata"]["resourceVersion"] = version
    found["status"] |= status
    return found


def test_a_fingerprint_holds_everything_but_what_moves_by_itself() -> None:
    noisy = web("2", readyReplicas=0)
    noisy["metadata"] |= {"generation": 9, "managedFields": [{"manager": "x"}]}
    assert fingerprint(noisy) == fingerprint(WEB)
    for place, key in (("spec", "paused"), ("metadata", "annotations")):
        changed = copy.deepcopy(WEB)
        changed[place][key] = {"x": "y"}
        assert fingerprint(changed) != fingerprint(WEB)
    changed = copy.deepcopy(WEB)
    changed["metadata"]["labels"]["a"] = "c"
    assert fingerprint(changed) != fingerprint(WEB)
    assert fingerprint(None) == "absent"


def shown(api: Api, cluster: Cluster) -> Patched:
    api.says(answer(WEB))
    patched = Patched(cluster, resources.DEPLOYMENT, "shop", "web")
    api.asked.clear()
    api.bodies.clear()
    return patched


def scale(_: Any) -> dict[str, Any]:
    return {"spec": {"replicas": 3}}


def test_a_write_carries_the_version_of_a_read_just_before_it(api: Api, cluster: Cluster) -> None:
    patched = shown(api, cluster)
    api.says(answer(web("7", readyReplicas=0)), answer(WEB))
    patched.write(scale, MERGE)
    assert json.loads(api.bodies[-1]) == {"spec": {"replicas": 3}, "metadata": {"resourceVersion": "7"}}
    assert [method for method, _ in api.asked] == ["GET", "PATCH"]


def test_a_status_that_moves_in_between_is_waited_out_and_not_for_ever(api: Api, cluster: Cluster) -> None:
    patched = shown(api, cluster)
    api.says(answer(web("7")), MOVED, answer(web("8", readyReplicas=1)), answer(WEB))
    patched.write(scale, MERGE)
    assert json.loads(api.bodies[-1])["metadata"] == {"resourceVersion": "8"}
    api.says(*[answer(web("7")), MOVED] * TRIES)
    with pytest.raises(Refusal, match="kept changing while it was written; nothing was changed"):
        patched.write(scale, MERGE)


@pytest.mark.parametrize("change", ["spec", "uid", "label", "gone"])
def test_an_object_that_is_not_the_one_shown_is_left_alone(api: Api, cluster: Cluster, change: str) -> None:
    patched = shown(api, cluster)
    other = web("7")
    if change == "spec":
        other["spec"]["replicas"] = 5
    if change == "uid":
        other["metadata"]["uid"] = "u2"
    if change == "label":
        other["metadata"]["labels"] = {}
    api.says(status(404, "not found") if change == "gone" else answer(other))
    with pytest.raises(Refusal, match="nothing was changed"):
        patched.write(scale, MERGE)
    assert [method for method, _ in api.asked] == ["GET"]
