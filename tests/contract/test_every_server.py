"""What AI clients need of every tool, held for all servers at once: each rule stands for a client that breaks."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import bpe_openai
import jsonschema
import pytest
from fastmcp import Client, FastMCP
from mcp_types import Tool

from quarterdeck.keel.settings import Settings, load

SERVERS = ("stats", "kubectl", "logs", "research", "bridge")
ERAS = ("auto", "legacy")
CHANGES = {
    "restart_deployment",
    "scale_deployment",
    "rollback_deployment",
    "delete_pod",
    "cordon_node",
    "apply_manifest",
}
# Not changes of ours, but they do something outside: hidden from callers who may only read.
ACTS = {"delegate", "delegate_many", "answer_task", "cancel_task"}
ASKED_FOR = {
    "stats": {
        "get_system_stats",
        "get_service_status",
        "get_traffic_metrics",
        "check_health",
        "list_services",
        "get_traffic_history",
        "query_metrics",
        "query_metrics_range",
    },
    "kubectl": {
        "list_pods",
        "describe_pod",
        "get_pod_logs",
        "list_resources",
        "get_resource",
        "list_events",
        "rollout_status",
        "rollout_history",
        "top_pods",
        "top_nodes",
        "find_problems",
    }
    | CHANGES,
    "logs": {"get_service_logs", "search_logs", "summarize_logs", "tail_errors"},
    "research": {
        "search_web",
        "fetch_page",
        "research_company",
        "extract_data",
        "reflect_quality",
        "list_sources",
    },
    "bridge": {
        "list_agents",
        "describe_agent",
        "find_agent_for",
        "check_task",
        "wait_for_task",
        "list_tasks",
        "read_artifact",
    }
    | ACTS,
}
# What each argument is called with to provoke an answer from a server whose sources are all down.
SAMPLE: dict[str, Any] = {
    "string": "blog-service",
    "integer": 1,
    "number": 1.0,
    "boolean": False,
    "array": [],
    "object": {},
}
ENCODING = bpe_openai.get_encoding("o200k_base")


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """Settings whose every source refuses the connection."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"
        "clusters: [{name: gone, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: me, user: {token: planted-kube-token-4711}}]\n"
        "contexts: [{name: gone, context: {cluster: gone, user: me, namespace: titanium-local}}]\n"
    )
    return load(
        {
            "QUARTERDECK_HOME": str(tmp_path / "home"),
            "QUARTERDECK_CONFIG": "",
            "QUARTERDECK_KUBECTL_KUBECONFIG": str(kubeconfig),
            "QUARTERDECK_STATS_URL": "http://127.0.0.1:9",
            "QUARTERDECK_STATS_PROMETHEUS_URL": "http://127.0.0.1:9",
            "QUARTERDECK_STATS_SERVICES": "blog_service=http://127.0.0.1:9/health",
            "QUARTERDECK_BRIDGE_AGENTS": "blog-service=http://127.0.0.1:9",
        }
    )


def make(name: str, settings: Settings) -> FastMCP[Any]:
    server: FastMCP[Any] = import_module(f"quarterdeck.{name}.server").create_server(settings)
    return server


async def tools_of(name: str, settings: Settings, era: str = "auto") -> list[Tool]:
    async with Client(make(name, settings), mode=era) as client:
        return await client.list_tools()


@pytest.mark.parametrize("name", SERVERS)
async def test_every_tool_that_was_promised_is_there_in_both_eras(name: str, nowhere: Settings) -> None:
    for era in ERAS:
        assert {tool.name for tool in await tools_of(name, nowhere, era)} >= ASKED_FOR[name]


@pytest.mark.parametrize("name", SERVERS)
async def test_input_schemas_are_flat_objects_with_plain_ascii_names(name: str, nowhere: Settings) -> None:
    for tool in await tools_of(name, nowhere):
        schema = tool.input_schema
        assert schema["type"] == "object", tool.name
        assert not {"$ref", "$defs", "anyOf", "oneOf", "allOf"} & set(schema), tool.name
        for argument, inner in schema.get("properties", {}).items():
            assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", argument), (tool.name, argument)
            assert isinstance(inner, dict), (tool.name, argument)
            assert isinstance(inner.get("type"), str), (tool.name, argument)
            assert "$ref" not in json.dumps(inner), (tool.name, argument)
            if inner["type"] == "array":
                assert inner["items"].get("type") in ("string", "integer", "number", "object"), (tool.name, argument)


@pytest.mark.parametrize("name", SERVERS)
async def test_names_are_short_and_descriptions_say_something(name: str, nowhere: Settings) -> None:
    for tool in await tools_of(name, nowhere):
        assert re.fullmatch(r"[a-z0-9_]{3,40}", tool.name)
        # Gemini CLI cuts mcp_SERVER_TOOL at 64 characters.
        assert len(f"mcp_quarterdeck-{name}_{tool.name}") <= 63
        assert tool.description is not None
        assert len(tool.description) > 40, tool.name


@pytest.mark.parametrize("name", SERVERS)
async def test_limits_that_clients_hide_are_repeated_in_words(name: str, nowhere: Settings) -> None:
    for tool in await tools_of(name, nowhere):
        for argument, inner in tool.input_schema.get("properties", {}).items():
            for key in ("minimum", "maximum", "maxLength"):
                words = f"{inner.get('description', '')} {tool.description}".replace(",", "").replace(" ", "")
                if key in inner and (key != "maxLength" or inner[key] > 260):  # nobody writes longer names
                    assert str(inner[key]) in words, f"{tool.name}.{argument} does not say its {key} {inner[key]}"


@pytest.mark.parametrize("name", SERVERS)
async def test_annotations_tell_the_truth(name: str, nowhere: Settings) -> None:
    for tool in await tools_of(name, nowhere):
        notes = tool.annotations
        assert notes is not None
        assert notes.read_only_hint is (tool.name not in CHANGES | ACTS), tool.name
        assert notes.destructive_hint is not None
        assert notes.idempotent_hint is not None
        assert notes.open_world_hint is not None
        if notes.read_only_hint:
            assert notes.destructive_hint is False


@pytest.mark.parametrize("name", SERVERS)
async def test_output_schemas_are_real_objects(name: str, nowhere: Settings) -> None:
    for tool in await tools_of(name, nowhere):
        assert tool.output_schema is not None, tool.name
        assert tool.output_schema["type"] == "object"
        assert tool.output_schema["properties"], tool.name
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", SERVERS)
async def test_with_every_source_down_each_tool_answers_in_one_short_sentence(
    name: str, era: str, nowhere: Settings
) -> None:
    async with Client(make(name, nowhere), mode=era) as client:
        for tool in await client.list_tools():
            schema = tool.input_schema
            arguments = {key: SAMPLE[schema["properties"][key]["type"]] for key in schema.get("required", [])}
            result = await client.call_tool(tool.name, arguments, raise_on_error=False)
            text = result.content[0].text  # type: ignore[union-attr]
            assert text.strip(), tool.name
            assert "Traceback" not in text
            assert "pydantic" not in text
            assert "planted-kube-token" not in text
            if result.is_error:
                assert len(text) < 600, (tool.name, text)
            else:
                assert len(text.encode()) <= 8192
                jsonschema.validate(result.structured_content, tool.output_schema or {})


@pytest.mark.parametrize("name", SERVERS)
async def test_wrong_arguments_are_refused_in_a_sentence_of_ours(name: str, nowhere: Settings) -> None:
    async with Client(make(name, nowhere)) as client:
        for tool in await client.list_tools():
            result = await client.call_tool(tool.name, {"no_such_argument": "x" * 5000}, raise_on_error=False)
            text = result.content[0].text  # type: ignore[union-attr]
            assert result.is_error
            assert tool.name in text
            assert len(text) < 400
            assert "pydantic" not in text


@pytest.mark.parametrize("name", SERVERS)
async def test_read_only_mode_leaves_no_change_tool_to_list_or_to_call(name: str, nowhere: Settings) -> None:
    settings = nowhere.model_copy(update={"read_only": True})
    async with Client(make(name, settings)) as client:
        tools = await client.list_tools()
        assert tools
        assert not {tool.name for tool in tools} & (CHANGES | ACTS)
        for change in CHANGES | ACTS:
            result = await client.call_tool(change, {}, raise_on_error=False)
            assert result.is_error
            assert "no tool" in result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("name", SERVERS)
async def test_servers_introduce_themselves(name: str, nowhere: Settings) -> None:
    async with Client(make(name, nowhere), mode="legacy") as client:
        told = client.initialize_result
        assert told is not None
        assert told.instructions
        assert 80 < len(told.instructions) < 2000


async def test_all_tools_together_are_cheap_to_list(nowhere: Settings) -> None:
    spent: dict[str, int] = {}
    for name in SERVERS:
        for tool in await tools_of(name, nowhere):
            tokens = len(ENCODING.encode(tool.model_dump_json(by_alias=True, exclude_none=True)))
            assert tokens <= (700 if name == "research" else 500), f"{name}.{tool.name} costs {tokens} tokens"
            spent[name] = spent.get(name, 0) + tokens
    assert spent["stats"] + spent["kubectl"] + spent["logs"] < 9000
    assert spent["research"] < 4000
    assert sum(spent.values()) < 15000
