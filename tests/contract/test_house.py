"""The house itself: one namespace from several roots, imports that go down, a light keel, a clean wheel."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.keel import web
from quarterdeck.keel.changes import Change, Changes, Target
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import load

HOUSE = Path(__file__).parents[2]
ROOTS = [HOUSE / root for root in ("deck", "a2a_bridge", "agents", "registry", "servers", "keel", "examples/titanium")]
PACKAGES = sorted(package for root in ROOTS for package in root.glob("quarterdeck/*/") if any(package.glob("*.py")))


def test_no_source_root_closes_the_namespace() -> None:
    closed = [root for root in ROOTS if (root / "quarterdeck" / "__init__.py").exists()]
    assert closed == [], "an __init__.py there hides every other root from an editable install"


def test_the_rooms_are_where_the_plan_says() -> None:
    assert {package.name for package in PACKAGES} >= {
        "deck",
        "keel",
        "bridge",
        "stats",
        "kubectl",
        "logs",
        "research",
        "registry",
        "titanium",
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_is_typed_and_its_init_imports_nothing(package: Path) -> None:
    assert (package / "py.typed").exists()
    body = ast.parse((package / "__init__.py").read_text()).body
    assert [type(statement) for statement in body] == [ast.Expr], "one docstring and nothing else"


def test_imports_go_down_only() -> None:
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=HOUSE, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]


HEAVY = (
    "kubernetes",
    "re2",
    "httpx",
    "httpx2",
    "fastmcp",
    "mcp",
    "prometheus_client",
    "cryptography",
    "yaml",
    "anthropic",
)
# What a module of the keel is there for may be heavy; nothing else.
MAY = {"tools": {"fastmcp", "mcp", "httpx2", "httpx", "yaml", "cryptography"}, "web": {"httpx"}, "guard": {"httpx"}}


@pytest.mark.parametrize("module", sorted(file.stem for file in (HOUSE / "keel/quarterdeck/keel").glob("[a-z]*.py")))
def test_the_keel_is_light(module: str) -> None:
    script = f"import sys, quarterdeck.keel.{module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert set(ran.stdout.split()) <= MAY.get(module, set())


def test_help_pays_for_no_server() -> None:
    script = (
        "import sys\nfrom quarterdeck.deck.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *(name for name in (*{HEAVY!r}, 'pydantic') if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.splitlines()[-1] == "HEAVY"


def build(out: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    ran = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_a_wheel_puts_one_name_into_site_packages(tmp_path: Path) -> None:
    build(tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"quarterdeck"}
    assert "quarterdeck/__init__.py" not in names
    for package in PACKAGES:
        source = {file.name for file in package.glob("*.py")} | {"py.typed"}
        shipped = {name.split("/")[-1] for name in names if name.startswith(f"quarterdeck/{package.name}/")}
        assert source <= shipped, package.name
    assert any(name.endswith("entry_points.txt") for name in names)
    assert not [name for name in names if "test" in name.lower() or name.endswith(".pyc")]


@pytest.mark.parametrize("name", ["stats", "kubectl", "logs", "research", "bridge"])
async def test_no_tool_of_any_server_grants(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"
        "clusters: [{name: gone, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: me, user: {}}]\n"
        "contexts: [{name: gone, context: {cluster: gone, user: me}}]\n"
    )
    settings = load(
        {
            "QUARTERDECK_HOME": str(tmp_path / "home"),
            "XDG_CONFIG_HOME": str(tmp_path),
            "QUARTERDECK_KUBECTL_KUBECONFIG": str(kubeconfig),
            "QUARTERDECK_STATS_URL": "http://127.0.0.1:9",
            "QUARTERDECK_STATS_SERVICES": "blog=http://127.0.0.1:9/health",
        }
    )
    changes = Changes.of(settings)
    change = Change("kubectl", "scale_deployment", "scale", (Target("deployment", "blog"),), "1", "2", "scale", "2")
    pending = changes.request(change, Caller("local:me"))
    samples: dict[str, Any] = {
        "string": pending.id,
        "integer": 1,
        "number": 1.0,
        "boolean": True,
        "array": [pending.id],
        "object": {},
    }
    server = import_module(f"quarterdeck.{name}.server").create_server(settings)
    async with Client(server) as client:
        for tool in await client.list_tools():
            assert not any(word in tool.name for word in ("approve", "grant", "consent", "confirm", "allow"))
            properties = tool.input_schema.get("properties", {})
            assert not {"approve", "approved", "confirm", "grant", "yes"} & set(properties), tool.name
            required = {key: samples[properties[key]["type"]] for key in tool.input_schema.get("required", [])}
            await client.call_tool(tool.name, required, raise_on_error=False)
    assert changes.get(pending.id).state == "pending"
