"""Names of services: of pods, of hosts, as load balancers and people spell them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SAFE = "bcdfghjklmnpqrstvwxz2456789"
# As controllers name pods: NAME-HASH-RANDOM, NAME-RANDOM or NAME-NUMBER. They use no vowels.
_POD = re.compile(rf"(.+?)(?:-((?=[a-z]*\d)[{_SAFE}]{{6,10}}))?-[{_SAFE}]{{5}}|(.+)-\d{{1,4}}")
_REPLICA_SET = re.compile(rf"(.+)-((?=[a-z]*\d)[{_SAFE}]{{6,10}})")
_ENDINGS = ("service", "svc", "server", "headless", "primary", "master", "rw", "db")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[?[0-9a-fA-F]*:[0-9a-fA-F:]+\]?")

PORTS = {
    5432: ("postgres", "postgresql", "pg", "cockroach"), 3306: ("mysql", "mariadb", "percona"),
    6379: ("redis", "valkey", "keydb"), 26379: ("redis", "sentinel"), 27017: ("mongo", "mongodb"),
    9092: ("kafka", "redpanda"), 5672: ("rabbitmq", "amqp", "activemq"), 11211: ("memcached", "memcache"),
    9200: ("elasticsearch", "opensearch", "elastic"), 2181: ("zookeeper",), 2379: ("etcd",), 4222: ("nats",),
    1433: ("mssql", "sqlserver"), 1521: ("oracle",), 9042: ("cassandra", "scylla"), 8500: ("consul",), 8200: ("vault",),
    1883: ("mosquitto", "mqtt"), 9000: ("minio", "clickhouse"), 8123: ("clickhouse",),
}  # fmt: skip
"""Which kind of service listens on a port: for messages that name only the port."""


def bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def stem(pod: str) -> tuple[str, str]:
    """The workload that a pod's name speaks of, and the hash of its replica set."""
    named = _POD.fullmatch(pod)
    return (named[1] or named[3], named[2] or "") if named else (pod, "")


_MADE = {
    "Deployment": re.compile(rf"((?=[{_SAFE}]*\d)[{_SAFE}]{{6,10}}|[{_SAFE}]{{8,10}})-[{_SAFE}]{{5}}"),
    "StatefulSet": re.compile(r"()\d{1,4}"),
    "DaemonSet": re.compile(rf"()[{_SAFE}]{{5}}"),
}


def made_by(pod: str, workload: str, kind: str) -> str | None:
    """The hash in the name of a pod (may be empty) if a workload of this kind and name gave it that name."""
    if not pod.startswith(f"{workload}-") or kind not in _MADE:
        return None
    found = _MADE[kind].fullmatch(pod[len(workload) + 1 :])
    # Jobs name their pods alike, after the minute in which they start: digits only.
    return None if found is None or found[1].isdigit() else found[1]


def replica_set(name: str) -> tuple[str, str]:
    named = _REPLICA_SET.fullmatch(name)
    return (named[1], named[2]) if named else (name, "")


def same(name: str, known: Iterable[str]) -> str | None:
    """Which of the known services a spelling means: `blog_service`, `blog`, `Blog-Service` are one."""
    wanted = bare(name)
    if not wanted:
        return None
    every = list(known)
    for one in every:
        if bare(one) == wanted:
            return one
    short = _short(wanted)
    near = [one for one in every if _short(bare(one)) == short]
    return near[0] if len(near) == 1 else None


def _short(name: str) -> str:
    for ending in _ENDINGS:
        if name.endswith(ending) and len(name) > len(ending) + 1:
            return name.removesuffix(ending)
    return name


def host(name: str, known: Iterable[str]) -> str | None:
    """The service that a host name leads to: `redis.titanium.svc.cluster.local`, `redis-0.redis-headless`."""
    every = list(known)
    parts = [part for part in name.lower().strip(".").split(".") if part]
    if not parts or _ADDRESS.fullmatch(name):
        return None
    for part in parts[:2]:
        if found := same(part, every) or same(stem(part)[0], every):
            return found
    return None


def is_address(name: str) -> bool:
    return bool(_ADDRESS.fullmatch(name))


def by_port(port: int, known: Iterable[str]) -> str | None:
    kinds = PORTS.get(port, ())
    return next((one for one in known if any(kind in bare(one) for kind in kinds)), None)
