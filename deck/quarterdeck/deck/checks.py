"""What `quarterdeck doctor` looks at. Each check answers with findings, bounds its own waits, and prints no secret."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from quarterdeck.deck.clients import CLIENTS, AiClient
from quarterdeck.deck.install import SERVERS, started
from quarterdeck.deck.installed import differences, entries_in
from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import Settings, config_path, load, unknown_variables

OK, WARN, FAIL = "ok", "warn", "fail"
WANTED = {"fastmcp": ("4.1.2", "4.2"), "mcp": ("2.3", "3"), "kubernetes": ("37", "38"), "httpx": ("0.28", "1")}
START_S = 30.0


@dataclass(frozen=True)
class Finding:
    status: str
    what: str
    detail: str
    mend: str = ""


def settings() -> Settings:
    return load()


def python(_: Settings | None) -> list[Finding]:
    running = ".".join(str(part) for part in sys.version_info[:3])
    return [Finding(OK, "python", f"{running} at {sys.executable}")]


def packages(_: Settings) -> list[Finding]:
    found = []
    for name, (least, below) in WANTED.items():
        try:
            have = version(name)
        except PackageNotFoundError:
            found.append(
                Finding(FAIL, f"package {name}", "not installed", "install Quarterdeck again: pip install -e .")
            )
            continue
        if not _numbers(least) <= _numbers(have) < _numbers(below):
            mend = f"pip install '{name}>={least},<{below}'"
            found.append(Finding(WARN, f"package {name}", f"{have}; tried with {least} up to {below}", mend))
    return found or [Finding(OK, "packages", ", ".join(f"{name} {version(name)}" for name in WANTED))]


def _numbers(text: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in text.split(".")[:3]]


def configuration(settings: Settings) -> list[Finding]:
    path = config_path()
    there = "is read" if path.is_file() else "is not there, so defaults hold"
    found = [Finding(OK, "settings", f"{path} {there}")]
    found += [
        Finding(WARN, "settings", f"{name} is set, but nothing reads it", "look for a slip of the pen")
        for name in unknown_variables(os.environ)
    ]
    if (Path.cwd() / "quarterdeck.toml").is_file() and path.resolve() != (Path.cwd() / "quarterdeck.toml").resolve():
        detail = (
            "the quarterdeck.toml in this folder is not read: a stranger's repository must not bring its own policy"
        )
        found.append(Finding(WARN, "settings", detail, f"move it to {path}, or set QUARTERDECK_CONFIG"))
    for number, rule in enumerate(settings.changes.rules, 1):
        if rule.decision == "allow" and rule.namespace == rule.context == rule.name == "*":
            detail = f"policy rule {number} allows {rule.tool} everywhere without asking"
            found.append(Finding(WARN, "policy", detail, "narrow it by context, namespace or name"))
    if settings.read_only:
        found.append(Finding(OK, "policy", "read-only: change tools are left out of the list"))
    return found


def state(settings: Settings) -> list[Finding]:
    home = settings.home
    changes = Changes.of(settings)
    found = []
    if home.is_dir() and os.name == "posix" and (mode := stat.S_IMODE(home.stat().st_mode)) & 0o077:
        found.append(Finding(WARN, "state", f"others may look into {home} (mode {mode:o})", f"chmod 700 {home}"))
    if not changes.trail.exists() and not (home / "changes.db").exists():  # to look would make them
        return [Finding(OK, "audit trail", "nothing recorded yet"), *found]
    verdict = changes.verify_trail()
    if verdict.problem:
        mend = "find out who did it; the lines before are as they were written"
        found.append(Finding(FAIL, "audit trail", verdict.problem, mend))
    elif verdict.lines:
        found.append(Finding(OK, "audit trail", f"whole, {verdict.lines} lines in {changes.trail}"))
    else:
        found.append(Finding(OK, "audit trail", "nothing recorded yet"))
    waiting = len(changes.waiting())
    if waiting:
        found.append(Finding(OK, "changes", f"{waiting} wait for you: quarterdeck approve"))
    return found


def cluster(settings: Settings) -> list[Finding]:
    from quarterdeck.kubectl.cluster import ApiRefusal, Clusters

    clusters = Clusters(settings.kubectl)
    try:
        opened = clusters.use(None)
        told = opened.get("/version")
    except Refusal as error:
        detail, _, mend = str(error).rpartition(". ")  # our sentences end with what to do
        if "quarterdeck world" not in mend:
            mend += " No cluster at hand? `quarterdeck world` brings one to practise on."
        return [Finding(FAIL, "cluster", detail, mend) if detail else Finding(FAIL, "cluster", str(error), "")]
    server = clip(plain(str(told.get("gitVersion", "?"))), 40)
    found = [Finding(OK, "cluster", f"context {opened.name}, {server}, namespace {opened.namespace}")]
    for what, path, mend in (
        ("pods", f"/api/v1/namespaces/{opened.namespace}/pods?limit=1", "give the user the `view` role there"),
        (
            "metrics",
            "/apis/metrics.k8s.io/v1beta1",
            "top_pods and top_nodes need metrics-server; the rest works without",
        ),
    ):
        try:
            opened.get(path)
        except ApiRefusal as error:
            missing = what == "metrics"
            found.append(Finding(WARN if missing else FAIL, f"cluster {what}", clip(str(error), 200), mend))
    found += _rights(opened)
    return found


def _rights(opened: Any) -> list[Finding]:
    wishes = (("restart, scale, roll back", "patch", "apps", "deployments"), ("delete pods", "delete", "", "pods"))
    lacking = []
    for words, verb, group, resource in wishes:
        attributes = {"namespace": opened.namespace, "verb": verb, "group": group, "resource": resource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        try:
            told = opened.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        except Refusal:
            return []
        if not (told.get("status") or {}).get("allowed"):
            lacking.append(words)
    if lacking:
        detail = f"your user may not {' or '.join(lacking)}: those tools will be refused"
        return [Finding(WARN, "cluster rights", detail, "fine if you only want to look")]
    return [Finding(OK, "cluster rights", "may restart, scale, roll back and delete pods, each under a grant")]


def sources(settings: Settings) -> list[Finding]:
    """The addresses that stats and logs read."""
    import httpx

    found = []
    wanted = []
    if settings.stats.source == "balancer":
        wanted.append(("stats balancer", f"{settings.stats.url.rstrip('/')}/stats", "QUARTERDECK_STATS_URL"))
    if settings.stats.prometheus_url or settings.stats.source == "prometheus":
        url = f"{settings.stats.prometheus_url.rstrip('/')}/-/healthy"
        wanted.append(("stats Prometheus", url, "QUARTERDECK_STATS_PROMETHEUS_URL"))
    if settings.logs.source == "loki":
        wanted.append(("logs Loki", f"{settings.logs.loki_url.rstrip('/')}/ready", "QUARTERDECK_LOGS_LOKI_URL"))
    for what, url, variable in wanted:
        shown = redact(url)
        try:
            status = httpx.get(url, timeout=5, follow_redirects=False).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            mend = f"start it, or set {variable} to its address"
            found.append(Finding(FAIL, what, f"{shown} does not answer ({type(error).__name__})", mend))
            continue
        well = status < 500
        found.append(
            Finding(OK if well else WARN, what, f"{shown} answers {status}", "" if well else "look at its log")
        )
    if settings.logs.source == "files":
        found += _files(settings)
    return [*found, _research(settings)]


def _research(settings: Settings) -> Finding:
    from quarterdeck.research.ready import why_not

    missing = why_not(settings)
    ready = [name for name, why in missing.items() if not why]
    if ready:
        return Finding(OK, "research", f"asks {', '.join(ready)}")
    return Finding(
        OK, "research",
        "no pages to search are set up; fine if you do not research companies, else set QUARTERDECK_RESEARCH_CORPUS "
        "to a folder of pages, or a provider's key such as QUARTERDECK_RESEARCH_TAVILY_KEY",
    )  # fmt: skip


def _files(settings: Settings) -> list[Finding]:
    if not settings.logs.files:
        mend = "set QUARTERDECK_LOGS_FILES, e.g. blog=/var/log/blog/*.log"
        return [Finding(FAIL, "logs files", "no service has files", mend)]
    from glob import glob

    found = []
    for service, patterns in settings.logs.files.items():
        count = sum(len(glob(pattern.strip())) for pattern in str(patterns).split(";"))  # noqa: PTH207 - an absolute glob
        status, mend = (OK, "") if count else (WARN, "look at the pattern and at who may read the folder")
        found.append(Finding(status, f"logs of {service}", f"{count} files match", mend))
    return found


def servers(_: Settings) -> list[Finding]:
    """Each server really starts over stdio and lists its tools."""
    begun = {name: time.monotonic() for name in SERVERS}
    running = {name: _launch([sys.executable, *started(name)], dict(os.environ)) for name in SERVERS}
    found = []
    for name, process in running.items():
        count, problem = _tools(process)
        took = time.monotonic() - begun[name]
        if count:
            found.append(Finding(OK, f"server {name}", f"starts, {count} tools, {took:.1f} s (all at once)"))
        else:
            found.append(
                Finding(FAIL, f"server {name}", problem, f"run `quarterdeck serve {name}` and read what it says")
            )
    return found


def _launch(command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)


def _tools(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """How many tools the server lists; 0 and the reason when it does not."""
    information = {"name": "quarterdeck doctor", "version": "1"}
    parameters = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": information}
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}},
    ]
    import threading

    timer, until = threading.Timer(START_S, process.kill), time.monotonic() + START_S
    timer.start()
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if answer.get("id") == 2:
                return len(answer["result"]["tools"]), ""
        if time.monotonic() >= until:
            return 0, f"did not answer within {START_S:.0f} s; on a busy machine, try again"
        assert process.stderr is not None
        said = process.stderr.read(4000).decode(errors="replace").strip().splitlines()
        return 0, clip(redact(plain(said[-1])), 200) if said else "ended without a word"
    except (OSError, ValueError, KeyError) as error:
        return 0, f"answered with no protocol ({type(error).__name__})"
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def agents(settings: Settings) -> list[Finding]:
    """The A2A agents that the bridge may give work to, and the registries where it finds more."""
    if not settings.bridge.agents and not settings.bridge.registries:
        return [
            Finding(
                OK,
                "agents",
                "none named; the bridge has nobody to delegate to ([bridge.agents] or [bridge.registries] in the "
                "settings)",
            )
        ]
    import asyncio

    from quarterdeck.bridge.agents import Directory
    from quarterdeck.bridge.tasks import Memory
    from quarterdeck.keel.identity import Caller, local_user
    from quarterdeck.registry.entries import STRANGE

    async def ask() -> list[Finding]:
        memory = Memory.of(settings)
        directory = Directory(settings.bridge, memory)
        try:
            caller = Caller(f"local:{local_user()}")
            cards = await directory.cards(caller)
            catalogues = await directory.catalogues(caller)
        finally:
            await directory.close()
            memory.close()
        found = []
        for name, card in cards:
            if isinstance(card, Refusal):
                keys = "credential" in str(card)
                mend = (
                    f"mend {name} under [bridge.credentials]; env:VARIABLE needs no keyring"
                    if keys
                    else "start it, or mend [bridge.agents]"
                )
                found.append(Finding(WARN, f"agent {name}", clip(str(card), 400), mend))
            elif card.changed and time.time() - card.changed < 7 * 86400:
                said = f"its card changed: {card.changed_what}"
                found.append(Finding(WARN, f"agent {name}", said, "ask who runs it, if that is news to you"))
            elif card.proto.security_requirements and name not in settings.bridge.credentials:
                said = "answers, but its card wants a credential, and none is set for it"
                found.append(Finding(WARN, f"agent {name}", said, f"put one for {name} under [bridge.credentials]"))
            else:
                found.append(Finding(OK, f"agent {name}", f"answers, {len(card.skills)} skills, card {card.signature}"))
        for name, known in catalogues.items():
            if known.problem:
                section = "[bridge.credentials]" if "credential" in known.problem else "[bridge.registries]"
                mend = f"see whether it runs, or mend {name} under {section}"
                found.append(Finding(WARN, f"registry {name}", clip(known.line(), 400), mend))
            elif STRANGE in known.left_out and not known.agents:
                mend = "where you vouch for the place of their cards, name its origin under [bridge] registry_allow"
                found.append(Finding(WARN, f"registry {name}", clip(known.line(), 400), mend))
            else:
                found.append(Finding(OK, f"registry {name}", known.line()))
        return found

    return asyncio.run(ask())


def port(settings: Settings) -> list[Finding]:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", settings.http.port)) == 0:
            detail = f"port {settings.http.port} is in use; `serve --http` would need another"
            return [Finding(WARN, "http", detail, "it may be your own server; else use --port")]
    return [Finding(OK, "http", f"port {settings.http.port} is free for `quarterdeck serve all --http`")]


def clients(_: Settings) -> list[Finding]:
    """Clients on this machine that have our servers: do they start what `quarterdeck install` would write now?"""
    found = []
    for client in CLIENTS.values():
        for path, flag in _files_of(client):
            if not path.is_file():
                continue
            try:
                entries = entries_in(client, path)
            except (OSError, ValueError) as error:
                found.append(Finding(WARN, f"client {client.name}", f"{path} cannot be read ({type(error).__name__})"))
                continue
            if entries:
                found.append(_client(client, entries, path, f"quarterdeck install {client.name}{flag}"))
    if not found:
        found.append(Finding(WARN, "clients", "no AI client has the servers yet", "run `quarterdeck install CLIENT`"))
    return found


def _files_of(client: AiClient) -> list[tuple[Path, str]]:
    found = [(client.file(sys.platform, os.environ, Path.home()), "")]
    return [*found, (Path.cwd() / client.project, " --project")] if client.project else found


def _client(client: AiClient, entries: dict[str, Any], path: Path, install: str) -> Finding:
    what = f"client {client.name}"
    seen = {name: differences(client, name, entry) for name, entry in entries.items()}
    for name, (wrong, _) in seen.items():
        if wrong:
            detail = clip(f"{name} in {path} {'; '.join(wrong)}", 600)
            return Finding(FAIL, what, detail, f"run `{install}` again in this shell, then restart {client.title}")
    for name, (_, unusual) in seen.items():
        if unusual:
            detail = clip(f"{name} in {path} {'; '.join(unusual)}", 600)
            return Finding(WARN, what, detail, f"fine if you meant it; else run `{install}` again")
    return Finding(OK, what, f"{path} has {', '.join(entries)}, with this shell's settings")


ALL: tuple[Callable[[Settings], list[Finding]], ...] = (
    python, packages, configuration, state, cluster, sources, agents, servers, port, clients,
)  # fmt: skip
