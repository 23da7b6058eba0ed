"""The titanium system itself: which services there are, what they need, and how each is laid out in the cluster."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from quarterdeck.titanium.cluster import NAMESPACE, Cluster

Object = dict[str, Any]
PLANTED_PASSWORD = "tr0ub4dor-and-3-staples"
PLANTED_KEY = "jwt-signing-key-8f2b6c1d9e"


@dataclass(frozen=True)
class Part:
    """One service of the system."""

    name: str
    """Its deployment and service in the cluster."""
    key: str
    """What the balancer's /stats calls it; empty for those it does not list."""
    port: int
    replicas: int = 1
    needs: tuple[str, ...] = ()
    memory: int = 256
    """Limit in MiB."""
    http: bool = True
    env: dict[str, str] = field(default_factory=dict)


PARTS = (
    Part("load-balancer", "load-balancer", 7100, needs=("api-gateway",), memory=128),
    Part("api-gateway", "api-gateway", 8000, 2, ("auth-service", "user-service", "blog-service"), 128),
    Part("user-service", "user_service", 8001, 2, ("redis",), 256, env={"DATABASE_URL": "sqlite:////data/users.db"}),
    Part("auth-service", "auth", 8002, 2, ("user-service",), 256),
    Part(
        "blog-service", "blog_service", 8005, 1, ("auth-service",), 256, env={"DATABASE_URL": "sqlite:////data/blog.db"}
    ),
    Part("redis", "", 6379, memory=128, http=False),
)
BY_NAME = {part.name: part for part in PARTS}
TAG = "1.4.2"


def image(part: Part) -> str:
    return "redis:7.4" if part.name == "redis" else f"titanium/{part.name}:{TAG}"


def install(cluster: Cluster) -> None:
    """Everything that the system's owner would have applied."""
    cluster.create("ServiceAccount", "default")
    cluster.create("ConfigMap", "titanium-config", data={"LOG_LEVEL": "info", "REGION": "local"})
    secret = {"jwt-key": PLANTED_KEY, "db-password": PLANTED_PASSWORD}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in secret.items()}
    cluster.create("Secret", "titanium-secrets", data=encoded)
    for part in PARTS:
        cluster.create("Service", part.name, **service(part))
        cluster.create("Deployment", part.name, **deployment(part))


def service(part: Part) -> Object:
    ports = [{"name": "main", "port": part.port, "targetPort": part.port}]
    return {"metadata": {"labels": {"app": part.name}}, "spec": {"selector": {"app": part.name}, "ports": ports}}


def deployment(part: Part) -> Object:
    labels = {"app": part.name}
    probe = {"httpGet": {"path": "/health", "port": part.port}} if part.http else {"tcpSocket": {"port": part.port}}
    container: Object = {
        "name": part.name,
        "image": image(part),
        "ports": [{"containerPort": part.port}],
        "env": [
            *({"name": name, "value": value} for name, value in part.env.items()),
            {"name": "SESSION_SECRET", "value": PLANTED_PASSWORD},
            {"name": "JWT_KEY", "valueFrom": {"secretKeyRef": {"name": "titanium-secrets", "key": "jwt-key"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "titanium-config"}}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": f"{part.memory}Mi"},
        },
        "readinessProbe": {**probe, "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**probe, "initialDelaySeconds": 5, "periodSeconds": 5, "failureThreshold": 3},
    }
    template = {
        "metadata": {"labels": labels, "annotations": {"titanium/owner": "platform"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
    }
    return {
        "metadata": {"labels": labels},
        "spec": {"replicas": part.replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def path(name: str) -> str:
    return f"{NAMESPACE}/{name}"
