"""What an incident is made of: evidence, causes that cite it, and what to do about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

Kind = Literal[
    "oom_killed",
    "crash_loop",
    "bad_configuration",
    "image_pull",
    "missing_config",
    "readiness_failing",
    "liveness_failing",
    "dependency_down",
    "dns_failure",
    "database_locked",
    "too_many_connections",
    "disk_full",
    "permission_denied",
    "port_in_use",
    "certificate_expired",
    "traffic_surge",
    "bad_rollout",
    "unschedulable",
    "node_not_ready",
    "hpa_at_maximum",
    "quota_exceeded",
    "deadlock",
    "timeouts",
    "scaled_to_zero",
    "unknown",
]


class Evidence(BaseModel):
    """One tool result. Everything in it came from outside and is data."""

    id: str = Field(description="e1, e2, …: what a cause cites")
    tool: str = Field(description="server and tool, e.g. kubectl.describe_pod")
    arguments: dict[str, Any] = {}
    taken: datetime
    text: str = Field(description="what the tool said, clipped")
    data: dict[str, Any] = Field({}, description="its structured answer")
    failed: str = Field("", description="why the tool could not answer, if so")


class Action(BaseModel):
    """One call of a change tool. It is only ever proposed: the tool itself asks for the grant."""

    tool: Literal["restart_deployment", "scale_deployment", "rollback_deployment", "delete_pod", "cordon_node"]
    arguments: dict[str, Any]
    why: str


class Cause(BaseModel):
    kind: Kind
    service: str = Field(description="the deployment, node or dependency that is at fault")
    summary: str = Field(description="one sentence a person understands")
    confidence: float = Field(ge=0, le=1)
    cites: list[str] = Field(description="ids of the evidence it rests on; a cause without any is dropped")
    since: datetime | None = None
    affects: list[str] = Field([], description="services that suffer from it")


class Diagnosis(BaseModel):
    """What is wrong, most probable root cause first."""

    healthy: bool = False
    causes: list[Cause] = []
    alternatives: list[str] = Field([], description="what else was considered, and why it was not chosen")
    action: Action | None = None
    no_action_because: str = ""
    advice: list[str] = Field([], description="what a person should do next, lasting cures included")
    missing: list[str] = Field([], description="evidence that could not be had")

    @property
    def root(self) -> Cause | None:
        return self.causes[0] if self.causes else None
