"""Settings: `QUARTERDECK_*` environment over quarterdeck.toml over defaults that work.

Read once in `main` by `load()` and handed down as a value. The file is `$QUARTERDECK_CONFIG`, else
`~/.config/quarterdeck/quarterdeck.toml`; never one from the current folder, because AI clients start servers
inside whatever repository is open, and a stranger's repository must not bring its own policy.

The environment name of a setting is QUARTERDECK_, its section and its name: `[logs] loki_url` is
QUARTERDECK_LOGS_LOKI_URL. Lists are comma separated; tables (`services`, `agents`) are `name=value` pairs, also
comma separated. Rules, tokens and prices are only read from the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from quarterdeck.keel.errors import Refusal

PREFIX = "QUARTERDECK_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StatsSettings(Section):
    """Where the system's figures come from."""

    source: Literal["balancer", "prometheus"] = "balancer"
    url: str = Field("http://127.0.0.1:7100", description="the load balancer; its /stats is read")
    services: dict[str, str] = Field(
        {
            "load-balancer": "http://127.0.0.1:7100/lb-health",
            "api-gateway": "http://127.0.0.1:8000/health",
            "user_service": "http://127.0.0.1:8001/health",
            "auth": "http://127.0.0.1:8002/health",
            "blog_service": "http://127.0.0.1:8005/health",
        },
        description="each service's health address",
    )
    prometheus_url: str = Field("", description="Prometheus' HTTP API, e.g. http://127.0.0.1:9090")
    prometheus_token: SecretStr = Field(SecretStr(""), description="bearer token for Prometheus")
    sample_every_s: float = Field(5.0, ge=0.05, le=3600, description="background sampling for history")
    timeout_s: float = Field(5.0, gt=0, le=60)


class KubectlSettings(Section):
    """Which clusters and namespaces may be seen and changed."""

    kubeconfig: str = Field("", description="path; empty: $KUBECONFIG, ~/.kube/config, or in-cluster")
    contexts: list[str] = Field([], description="contexts that may be used; empty: only the current one")
    namespace: str = Field("", description="default namespace; empty: the context's own, else 'default'")
    namespaces: list[str] = Field([], description="namespaces that may be used; empty: all")
    timeout_s: float = Field(15.0, gt=0, le=120, description="longest wait for one answer of the API server")
    verify_s: float = Field(25.0, gt=0, le=900, description="how long a change is watched until it is healthy")
    max_replicas: int = Field(100, ge=0, le=10000, description="scale_deployment refuses more than this")


class LogsSettings(Section):
    """Where logs are read."""

    source: Literal["kubernetes", "loki", "files"] = "kubernetes"
    loki_url: str = Field("", description="Loki's address, e.g. http://127.0.0.1:3100")
    loki_tenant: str = ""
    loki_token: SecretStr = Field(SecretStr(""), description="bearer token for Loki")
    loki_label: str = Field("app", description="the label that names a service in Loki")
    files: dict[str, str] = Field({}, description="service → glob of its files, e.g. blog=/var/log/blog/*.log*")
    timeout_s: float = Field(20.0, gt=0, le=300)


class ResearchSettings(Section):
    """Where companies are looked up: local folders, search providers, pages."""

    provider: Literal["corpus", "tavily", "exa", "brave", "searxng", "hybrid"] = Field(
        "corpus", description="who is asked when a caller names nobody; hybrid merges several"
    )
    order: list[Literal["corpus", "tavily", "exa", "brave", "searxng"]] = Field(
        ["corpus", "tavily", "exa", "brave", "searxng"],
        description="whom hybrid asks, and who is asked next when one fails; those that are not set up are left out",
    )
    corpus: list[str] = Field([], description="folders of pages; empty: the folder `corpus` in home")
    tavily_key: SecretStr = SecretStr("")
    exa_key: SecretStr = SecretStr("")
    brave_key: SecretStr = SecretStr("")
    tavily_url: str = "https://api.tavily.com"
    exa_url: str = "https://api.exa.ai"
    brave_url: str = "https://api.search.brave.com"
    searxng_url: str = Field("", description="your own SearXNG, with the format json switched on")
    limits: dict[str, str] = Field(
        {"tavily": "100/min", "exa": "10/s", "brave": "50/s", "searxng": "2/s"},
        description="searches that each provider allows, e.g. brave=1/s,tavily=1000/min",
    )
    prices: dict[str, float] = Field({}, description="US dollars for one search, by provider; none: cost is unknown")
    timeout_s: float = Field(10.0, gt=0, le=50, description="longest wait for one answer of a provider")
    deadline_s: float = Field(25.0, gt=0, le=50, description="longest time for one search, every provider tried")
    redis_url: SecretStr = Field(
        SecretStr(""), description="limits and cache shared by several processes, e.g. redis://host:6379/0"
    )
    extract_at_once: int = Field(25, ge=1, le=1000, description="extractions that are with the model at once")
    reflect_at_once: int = Field(20, ge=1, le=1000, description="reflections that are with the model at once")
    search_ttl_s: float = Field(21_600.0, ge=0, le=2_592_000, description="how long found results are reused")
    page_ttl_s: float = Field(86_400.0, ge=0, le=2_592_000, description="how long fetched pages are reused")
    stale_s: float = Field(
        604_800.0, ge=0, le=7_776_000, description="how long after that they stand in when nobody answers; 0: never"
    )
    cache_mb: int = Field(256, ge=1, le=65536, description="largest size of the cache in home")
    page_s: float = Field(25.0, gt=0, le=50, description="longest time for one page, redirects and robots.txt too")
    page_mb: int = Field(10, ge=1, le=64, description="largest page, packed or unpacked")
    allow: list[str] = Field([], description="origins inside that pages may be fetched from, e.g. http://10.0.0.5:8080")
    user_agent: str = Field(
        "Quarterdeck/0.1 (+https://github.com/quarterdeck/quarterdeck)",
        min_length=1, max_length=200, description="how pages' owners see us; robots.txt is read for Quarterdeck",
    )  # fmt: skip

    @field_validator("tavily_url", "exa_url", "brave_url", "searxng_url")
    @classmethod
    def _addresses(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
        return value.rstrip("/")

    @field_validator("tavily_key", "exa_key", "brave_key")
    @classmethod
    def _keys(cls, value: SecretStr) -> SecretStr:
        bare = value.get_secret_value().strip()
        if not (bare.isascii() and bare.isprintable()) or " " in bare:
            raise ValueError("a key is one word of plain letters, digits and dashes; copy it again")
        return SecretStr(bare)

    @field_validator("limits")
    @classmethod
    def _rates(cls, value: dict[str, str]) -> dict[str, str]:
        for name, rate in value.items():
            if not re.fullmatch(r"[1-9]\d{0,5}/(s|min)", rate):
                raise ValueError(f"the limit of {name[:40]} is written like 10/s or 100/min")
        return value

    @field_validator("user_agent")
    @classmethod
    def _header(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("use plain ASCII letters")
        return value


class BridgeSettings(Section):
    """Which A2A agents may be given work. Several addresses of one agent, separated by spaces, share it."""

    agents: dict[str, str] = Field({}, description="name → address, e.g. remediation=http://127.0.0.1:7400")
    registries: dict[str, str] = Field(
        {},
        description="name → a catalogue of agents (ARD): a registry's API, a domain, or a manifest, "
        "e.g. work=https://registry.example/api/v1",
    )
    registry_allow: list[str] = Field(
        [],
        description="origins that registries' entries may point to although they are inside or not of the publisher's "
        "domain, e.g. http://10.0.0.5:7400",
    )
    also: dict[str, str] = Field(
        {}, description="agent → further addresses of its own that its card may point to, such as its gRPC port"
    )
    credentials: dict[str, SecretStr] = Field(
        {}, description="agent or registry → its bearer token or API key; or env:VARIABLE, or keyring:SERVICE"
    )
    callers: dict[str, str] = Field(
        {},
        description="agent or registry → globs of callers who may see and use it, separated by spaces; "
        "not named: everyone",
    )
    keys: dict[str, str] = Field({}, description="agent → file with the public key (PEM or JWKS) that signs its card")
    any_address: bool = Field(False, description="callers may also name agents by an address, never one inside")
    push_url: str = Field("", description="where agents reach `serve bridge --http`, to say that a task went on")
    database: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL address for what the bridge remembers, to see your tasks from every machine; "
        "empty: a file in home",
    )
    folders: list[str] = Field([], description="folders whose files may be handed to agents; empty: none")
    timeout_s: float = Field(30.0, gt=0, le=300, description="longest wait for one short answer of an agent")
    hedge_s: float = Field(
        0.0, ge=0, le=60, description="ask one more instance of an agent for its card after so long; 0: do not"
    )
    longest_s: float = Field(3600.0, gt=0, le=86400, description="how long one task is followed at a stretch")
    largest_mb: int = Field(16, ge=1, le=256, description="an agent's answer or stream may be this large")

    @field_validator("agents")
    @classmethod
    def _names(cls, agents: dict[str, str]) -> dict[str, str]:
        for name, address in agents.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"{name[:60]!r} is no name for an agent; use letters, digits, '-', '_' and '.'")
            if not address.split() or not all(one.startswith(("http://", "https://")) for one in address.split()):
                raise ValueError(f"agent {name} needs an http or https address")
        return agents

    @field_validator("registries")
    @classmethod
    def _catalogues(cls, registries: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name, address in registries.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"{name[:60]!r} is no name for a registry; use letters, digits, '-', '_' and '.'")
            if name in info.data.get("agents", {}):
                raise ValueError(f"{name} is an agent's name already; a registry needs one of its own")
            if not address.startswith(("http://", "https://")) or len(address.split()) != 1:
                raise ValueError(f"registry {name} needs one http or https address")
        return registries

    @field_validator("registry_allow")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        if not all(one.startswith(("http://", "https://")) for one in origins):
            raise ValueError("an origin begins with http:// or https://")
        return origins


class Rule(Section):
    """One line of policy. The first rule that fits decides; the globs default to anything."""

    decision: Literal["allow", "ask", "deny"]
    server: str = "*"
    tool: str = "*"
    context: str = "*"
    namespace: str = "*"
    name: str = "*"
    caller: str = "*"


class ChangesSettings(Section):
    """How changes are consented to."""

    default: Literal["ask", "deny"] = Field("ask", description="when no rule fits")
    grant_s: float = Field(600.0, gt=0, le=86400, description="how long an approval stays usable")
    pending_s: float = Field(86400.0, gt=0, le=604800, description="how long a request waits for a person")
    rules: list[Rule] = []


class Token(Section):
    """One bearer token for HTTP. Only its SHA-256 is kept: `quarterdeck token NAME` makes one."""

    name: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Literal["read", "spend", "change", "approve"]] = ["read"]


class HttpSettings(Section):
    """`quarterdeck serve … --http`."""

    host: str = "127.0.0.1"
    port: int = Field(7300, ge=0, le=65535)
    allowed_hosts: list[str] = Field([], description="further Host headers to accept")
    allowed_origins: list[str] = Field([], description="browser origins to accept")
    tokens: list[Token] = []
    jwks_url: str = Field("", description="accept JWTs signed by these keys")
    issuer: str = ""
    audience: str = ""


class AgentsSettings(Section):
    """Headless agents: where they serve, which servers they use, whom they tell."""

    port: int = Field(7400, ge=0, le=65535)
    servers: dict[str, str] = Field(
        {}, description="server → its MCP address, when it runs apart, e.g. kubectl=http://10.0.0.5:7300/kubectl"
    )
    servers_token: SecretStr = Field(SecretStr(""), description="bearer token for those")
    push_allow: list[str] = Field([], description="origins inside that push notifications may go to")
    approve_s: float = Field(3600.0, gt=0, le=604800, description="how long an agent waits for an approval")
    healthy_s: float = Field(60.0, gt=0, le=3600, description="how long a mended service may take to be well again")
    steady_s: float = Field(10.0, gt=0, le=600, description="how long it must then stay well")
    escalate_url: SecretStr = Field(SecretStr(""), description="webhook told of what needs a person (Slack-compatible)")
    at_once: int = Field(8, ge=1, le=100, description="tool calls that all runs together have in flight")


class FlowsSettings(Section):
    """Where durable flows live, and how much they may do at once."""

    database: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL address, e.g. postgresql://user:password@host/name; empty: a file in home",
    )
    concurrency: int = Field(16, ge=1, le=256, description="steps that run at once in one process")
    keep_days: float = Field(90.0, gt=0, le=36500, description="flows that ended are forgotten after so many days")


class CompaniesSettings(Section):
    """Research of companies in batches: where the four worker agents are, and how much they do at once."""

    research: str = Field("", description="addresses of research agents, separated by spaces; empty: in this process")
    extraction: str = Field("", description="addresses of extraction agents")
    reflection: str = Field("", description="addresses of reflection agents")
    storage: str = Field("", description="addresses of storage agents; they must share the database")
    token: SecretStr = Field(SecretStr(""), description="bearer token for those")
    at_once: dict[str, int] = Field(
        {}, description="agent → calls that one instance takes at once, e.g. research=5,extraction=5"
    )
    window: int = Field(200, ge=1, le=2000, description="companies in work at once in one coordinator")
    processes: int = Field(
        0, ge=0, le=64, description="worker processes beside the coordinator on its machine; 0: all in one process"
    )
    notes: str = Field(
        "", description="raw notes and sources: a folder, or s3://bucket/prefix; empty: beside the results"
    )
    s3_endpoint: str = Field("", description="an S3-compatible store's address; empty: Amazon's")
    s3_region: str = "us-east-1"
    s3_key: str = Field("", description="access key id")
    s3_secret: SecretStr = SecretStr("")

    @field_validator("research", "extraction", "reflection", "storage")
    @classmethod
    def _addresses(cls, value: str) -> str:
        if not all(one.startswith(("http://", "https://")) for one in value.split()):
            raise ValueError("addresses begin with http:// or https:// and are separated by spaces")
        return value

    @field_validator("at_once")
    @classmethod
    def _limits(cls, value: dict[str, int]) -> dict[str, int]:
        for name, number in value.items():
            if name not in ("research", "extraction", "reflection", "storage") or not 1 <= number <= 500:
                raise ValueError(
                    f"{name[:40]}={number}: name research, extraction, reflection or storage, from 1 to 500"
                )
        return value


class Price(Section):
    """What a million tokens of one model cost, in US dollars. The cache's prices default to that of input."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(None, ge=0)
    cache_write: float | None = Field(None, ge=0)


class ModelSettings(Section):
    """The language model that may judge beside the rules. Without a key there is none, and the rules judge alone."""

    api_key: SecretStr = Field(SecretStr(""), description="else $ANTHROPIC_API_KEY; set it empty to use no model")
    base_url: str = Field("", description="the Messages API; empty: $ANTHROPIC_BASE_URL, else Anthropic's own")
    large: str = Field("claude-opus-5-5", min_length=1, max_length=200, description="for diagnosis")
    small: str = Field("claude-haiku-5-5", min_length=1, max_length=200, description="for extraction")
    max_tokens: int = Field(16_000, ge=256, le=128_000, description="longest single answer")
    most_calls: int = Field(12, ge=1, le=100, description="requests for one judgement")
    most_tokens: int = Field(400_000, ge=1000, le=10_000_000, description="tokens in and out for one judgement")
    timeout_s: float = Field(240.0, gt=0, le=3600, description="longest time for one judgement, retries and tools too")
    prices: dict[str, Price] = Field({}, description="by model name; without one only tokens are counted")

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, value: SecretStr) -> SecretStr:
        bare = value.get_secret_value().strip()
        if not (bare.isascii() and bare.isprintable()) or " " in bare:
            raise ValueError("a key is one word of plain letters, digits and dashes; copy it again")
        return SecretStr(bare)

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
        return value.rstrip("/")


class Settings(Section):
    read_only: bool = Field(False, description="leave every change tool out of the list")
    home: Path = Field(default_factory=lambda: default_home(), description="state: changes, audit trail")
    stats: StatsSettings = StatsSettings()
    kubectl: KubectlSettings = KubectlSettings()
    logs: LogsSettings = LogsSettings()
    research: ResearchSettings = ResearchSettings()
    bridge: BridgeSettings = BridgeSettings()
    changes: ChangesSettings = ChangesSettings()
    agents: AgentsSettings = AgentsSettings()
    http: HttpSettings = HttpSettings()
    flows: FlowsSettings = FlowsSettings()
    companies: CompaniesSettings = CompaniesSettings()
    model: ModelSettings = ModelSettings()

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return _expanded(value)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a container's user without a home
        raise Refusal(
            f"{path} needs a home directory, and there is none. Set {PREFIX}HOME to a folder of ours."
        ) from None


def default_home() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return _expanded(Path(base)) / "quarterdeck"


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    environ = os.environ if environ is None else environ
    if named := environ.get(f"{PREFIX}CONFIG"):
        return _expanded(Path(named))
    return _expanded(Path(environ.get("XDG_CONFIG_HOME") or "~/.config")) / "quarterdeck" / "quarterdeck.toml"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises Refusal with the name of what is wrong and how to write it."""
    environ = os.environ if environ is None else environ
    path = config_path(environ)
    values: dict[str, Any] = {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if environ.get(f"{PREFIX}CONFIG"):
            raise Refusal(
                f"{PREFIX}CONFIG names {path}, which is not there. Create it or unset the variable."
            ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refusal(f"{path} is not valid TOML: {error}. Mend that line or move the file away.") from None
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}. Mend its permissions or move it away.") from None
    for name, place in _places().items():
        if name in environ:
            _put(values, place, environ[name])
    if environ.get("ANTHROPIC_API_KEY"):  # what people have set already; a key of our own goes before it
        section = values.setdefault("model", {})
        if isinstance(section, dict):
            section.setdefault("api_key", environ["ANTHROPIC_API_KEY"])
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        if first["type"] == "extra_forbidden":
            raise Refusal(f"There is no setting {where[:80]!r}; it stands in {path}.{_near(first['loc'])}") from None
        source = variable(where) if variable(where) in environ else path
        raise Refusal(
            f"Setting {where}: {first['msg'].removeprefix('Value error, ')}. It stands in {source}."
        ) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """QUARTERDECK_* names that nothing reads: usually a slip of the pen."""
    known = {*_places(), f"{PREFIX}CONFIG"}
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_") and name not in known
    )


def _near(place: tuple[int | str, ...]) -> str:
    """What an unknown setting was probably meant to be."""
    model: Any = Settings
    for part in place[:-1]:
        inner = model.model_fields[part].annotation if isinstance(part, str) and part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            return ""
        model = inner
    near = get_close_matches(str(place[-1]), model.model_fields, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(model.model_fields)}."


def variable(where: str) -> str:
    return PREFIX + where.replace(".", "_").upper()


def _places() -> dict[str, tuple[str, ...]]:
    places: dict[str, tuple[str, ...]] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for inner in section.model_fields:
                if inner not in ("rules", "tokens", "prices"):
                    places[variable(f"{name}.{inner}")] = (name, inner)
        else:
            places[variable(name)] = (name,)
    return places


def _put(values: dict[str, Any], place: tuple[str, ...], text: str) -> None:
    target: Any = values
    model: type[BaseModel] = Settings
    for part in place[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            return  # the file holds something else than a section here, and validation says so
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        model = inner
    kind = str(model.model_fields[place[-1]].annotation)
    if kind.startswith("list"):
        target[place[-1]] = [item.strip() for item in text.split(",") if item.strip()]
    elif kind.startswith("dict"):
        pairs = (item.split("=", 1) for item in text.split(",") if item.strip())
        target[place[-1]] = {pair[0].strip(): pair[1].strip() if len(pair) > 1 else "" for pair in pairs}
    else:
        target[place[-1]] = text
