"""Faults that can be put into the practice system, each with its look from outside and its cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quarterdeck.titanium import breakages
from quarterdeck.titanium.images import Behaviour
from quarterdeck.titanium.traffic import SURGE

if TYPE_CHECKING:
    from quarterdeck.titanium.world import World

Object = dict[str, Any]

LOCKED = (
    "ERROR:    Exception in ASGI application",
    "Traceback (most recent call last):",
    '  File "/app/blog/routes.py", line 88, in create_post',
    "    await repository.insert(post)",
    '  File "/app/blog/repository.py", line 41, in insert',
    '    cursor.execute("INSERT INTO posts (author, title, body) VALUES (?, ?, ?)", row)',
    "sqlite3.OperationalError: database is locked",
)


@dataclass(frozen=True)
class Fault:
    name: str
    words: str
    """What breaks and what heals it."""
    inject: Callable[[World], None]
    clear: Callable[[World], None]


def _behave(service: str, **behaviour: Any) -> Callable[[World], None]:
    return lambda world: world.behave(service, Behaviour(**behaviour))


def _well(service: str) -> Callable[[World], None]:
    return lambda world: world.behave(service, None)


def _simple(name: str, words: str, service: str, **behaviour: Any) -> Fault:
    return Fault(name, words, _behave(service, **behaviour), _well(service))


def _lock(world: World) -> None:
    world.traffic.target = SURGE
    end = "CRITICAL: giving up after 5 retries, database is locked"
    world.behave("blog-service", Behaviour(dies=(*LOCKED, end), lives=1.5, says=LOCKED))
    world.cured_by_restart("blog-service")


def _unlock(world: World) -> None:
    world.calm()
    world.behave("blog-service", None)


def _container(service: str, alter: Callable[[Object], None]) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.remember(service)
        world.cluster.change("Deployment", service, lambda d: alter(d["spec"]["template"]["spec"]["containers"][0]))

    return change


def _restore(service: str) -> Callable[[World], None]:
    return lambda world: world.restore(service)


def _env(name: str, **source: Any) -> Callable[[Object], None]:
    def alter(container: Object) -> None:
        container["env"] = [*(v for v in container["env"] if v["name"] != name), {"name": name, **source}]

    return alter


def _missing_key(key: str) -> Callable[[Object], None]:
    return _env("PAYMENT_KEY", valueFrom={"secretKeyRef": {"name": "payment-secrets", "key": key}})


def _set_image(tag: str) -> Callable[[Object], None]:
    return lambda container: container.update(image=container["image"].rpartition(":")[0] + f":{tag}")


def _bad_rollout(world: World) -> None:
    _container("auth-service", _set_image("1.5.0-rc1"))(world)
    lines = (
        "Traceback (most recent call last):",
        '  File "/app/auth/settings.py", line 12, in <module>',
        "    ISSUER = os.environ['TOKEN_ISSUER_URL']",
        "KeyError: 'TOKEN_ISSUER_URL'",
    )
    world.behave("auth-service", Behaviour(dies=lines, lives=0.5, only_image="titanium/auth-service:1.5.0-rc1"))


def _restore_all(service: str) -> Callable[[World], None]:
    def clear(world: World) -> None:
        world.behave(service, None)
        world.restore(service)

    return clear


def _scale(service: str, replicas: int) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.remember(service)
        world.cluster.change("Deployment", service, lambda d: d["spec"].update(replicas=replicas))

    return change


def _node(type: str, status: str, reason: str, message: str) -> Callable[[World], None]:
    return lambda world: world.node_condition("titanium-node-2", type, status, reason, message)


def _quota(world: World) -> None:
    hard = {"pods": "9"}
    status = {"hard": hard, "used": {"pods": "9"}}
    world.cluster.create("ResourceQuota", "compute", spec={"hard": hard}, status=status)
    _scale("api-gateway", 6)(world)


def _no_quota(world: World) -> None:
    world.cluster.delete("ResourceQuota", "compute")
    world.restore("api-gateway")


def _disk(world: World) -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/app/blog/uploads.py", line 30, in save',
        "    handle.write(chunk)",
        "OSError: [Errno 28] No space left on device",
    )
    world.behave("blog-service", Behaviour(dies=lines, lives=2.0, says=lines))
    message = "kubelet has disk pressure"
    world.node_condition("titanium-node-2", "DiskPressure", "True", "KubeletHasDiskPressure", message)


def _no_disk(world: World) -> None:
    world.behave("blog-service", None)
    message = "kubelet has no disk pressure"
    world.node_condition("titanium-node-2", "DiskPressure", "False", "KubeletHasNoDiskPressure", message)


def _need(container: Object) -> None:
    container["resources"]["requests"] = {"cpu": "64", "memory": "64Mi"}
    container["resources"]["limits"] = {"cpu": "64", "memory": "256Mi"}


def _surge(world: World) -> None:
    world.traffic.target = SURGE


def _calm(world: World) -> None:
    world.calm()


def _full_scaler(world: World) -> None:
    world.traffic.target = SURGE
    breakages.autoscaler(world, "api-gateway", most=2)


def _no_scaler(world: World) -> None:
    world.calm()
    world.cluster.delete("HorizontalPodAutoscaler", "api-gateway")


_ALL = (
    Fault(
        "blog-locked",
        "traffic 80 → 150 RPS, `database is locked`, blog-service crashes; a rollout restart heals it",
        _lock,
        _unlock,
    ),
    Fault("surge", "traffic 80 → 150 RPS, nothing else; passes when cleared", _surge, _calm),
    _simple("oom", "user-service leaks memory until it is OOMKilled; a higher limit only delays it", "user-service",
            leak_mib_s=60.0, says=("WARNING  cache holds 1200000 entries and is not evicted",)),
    Fault("image", "blog-service is set to a tag that does not exist; roll back", _container("blog-service", _set_image("9.9.9")),
          _restore("blog-service")),
    Fault("config", "auth-service needs a Secret that is not there; create it or roll back",
          _container("auth-service", _missing_key("api-key")), _restore("auth-service")),
    _simple("readiness", "auth-service runs but its readiness probe answers 503; a restart does not help", "auth-service",
            unready="HTTP probe failed with statuscode: 503",
            says=("WARNING  health: token cache is warming up, not ready",)),
    _simple("liveness", "api-gateway hangs and is killed by its liveness probe again and again", "api-gateway",
            dead='Get "http://10.244.0.12:8000/health": context deadline exceeded (Client.Timeout exceeded)'),
    Fault("dependency", "redis is scaled to 0: user-service is not ready, others log connection refused; scale it to 1",
          _scale("redis", 0), _restore("redis")),
    Fault("disk-full", "blog-service crashes on a full disk, its node has disk pressure; free space", _disk, _no_disk),
    Fault("bad-rollout", "a new auth-service version crashes at start while the old one serves; roll back", _bad_rollout,
          _restore_all("auth-service")),
    _simple("crash-config", "api-gateway exits at once on a bad setting; mend the setting", "api-gateway", lives=0.5,
            dies=('{"level":"fatal","msg":"invalid configuration: UPSTREAM_TIMEOUT: time: unknown unit \\"secs\\""}',)),
    _simple("dns", "auth-service cannot resolve user-service", "auth-service",
            says=("ERROR    user-service: [Errno -3] Temporary failure in name resolution",),
            unready="HTTP probe failed with statuscode: 503"),
    _simple("too-many-connections", "user-service runs out of database connections", "user-service",
            says=("sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out",
                  "FATAL:  sorry, too many clients already"), unready="HTTP probe failed with statuscode: 500"),
    _simple("permission", "blog-service may not write its data folder", "blog-service", lives=0.5,
            dies=("PermissionError: [Errno 13] Permission denied: '/data/blog.db'",)),
    _simple("port-in-use", "user-service finds its port taken", "user-service", lives=0.5,
            dies=("ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8001): address already in use",)),
    _simple("cert-expired", "auth-service refuses an expired certificate", "auth-service",
            says=("ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",),
            unready="HTTP probe failed with statuscode: 502"),
    _simple("deadlock", "user-service hangs in a deadlock and times out", "user-service",
            says=("ERROR    worker 3 blocked for 30 s in lock acquire (held by worker 1, which waits for worker 3)",),
            unready='Get "http://10.244.0.14:8001/health": context deadline exceeded'),
    Fault("unschedulable", "api-gateway asks for 64 cores: its new pods stay Pending", _container("api-gateway", _need),
          _restore("api-gateway")),
    Fault("node-not-ready", "titanium-node-2 stops reporting",
          _node("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
          _node("Ready", "True", "KubeletReady", "kubelet is posting ready status")),
    Fault("config-map", "user-service reads a ConfigMap that is not there; create it or roll back",
          _container("user-service", lambda c: c["envFrom"].append({"configMapRef": {"name": "feature-flags"}})),
          _restore("user-service")),
    _simple("timeouts", "blog-service waits in vain for a mail service outside", "blog-service",
            says=("requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='api.mailer.example', port=443): Read timed out.",),
            unready='Get "http://10.244.0.15:8005/health": context deadline exceeded'),
    Fault("taint", "every node is tainted and auth-service has to start anew: its pods stay Pending; take the taint off",
          lambda world: breakages.taint_nodes(world, "dedicated", "gpu", replace_pods_of="auth-service"), breakages.untaint_nodes),
    Fault("autoscaler", "traffic 80 → 150 RPS while api-gateway's autoscaler runs its maximum; raise it", _full_scaler, _no_scaler),
    Fault("quota", "the namespace's pod quota is used up: api-gateway cannot grow to 6", _quota, _no_quota),
)  # fmt: skip

FAULTS = {fault.name: fault for fault in _ALL}
