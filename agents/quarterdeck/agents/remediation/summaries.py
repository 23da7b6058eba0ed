"""One sentence for a person: what is wrong with whom."""

from __future__ import annotations

from collections.abc import Sequence

from quarterdeck.agents.remediation.models import Kind

_SENTENCES: dict[Kind, str] = {
    "oom_killed": "{service} uses more memory than it may and is killed",
    "crash_loop": "{service} crashes again and again",
    "bad_configuration": "{service} cannot work with its configuration",
    "image_pull": "the image of {service} cannot be pulled",
    "missing_config": "{service} needs a Secret or ConfigMap that is not there",
    "readiness_failing": "{service} runs but says that it is not ready",
    "liveness_failing": "{service} hangs and is killed by its liveness probe",
    "dependency_down": "{service} does not answer those who need it",
    "dns_failure": "{service} cannot resolve {about}",
    "database_locked": "the database of {service} is locked",
    "too_many_connections": "{service} has no connections left",
    "disk_full": "the disk of {service} is full",
    "permission_denied": "{service} is denied what it needs",
    "port_in_use": "{service} finds its port taken",
    "certificate_expired": "a certificate that {service} meets has expired",
    "traffic_surge": "far more traffic than usual reaches {service}",
    "bad_rollout": "the new revision of {service} fails",
    "unschedulable": "no node takes the pods of {service}",
    "node_not_ready": "node {service} is not ready",
    "hpa_at_maximum": "{service} cannot grow: its autoscaler is at its maximum",
    "quota_exceeded": "{service} may not create more pods: the quota is used up",
    "deadlock": "{service} is deadlocked",
    "timeouts": "{service} waits too long for {about}",
    "scaled_to_zero": "{service} is scaled to 0 although it is needed",
    "unknown": "what ails {service} is unknown",
}


def summary_of(kind: Kind, service: str, words: str, about: str, affects: Sequence[str]) -> str:
    said = _SENTENCES[kind].format(service=service, about=about or "what it needs")
    because = f": {' '.join(words.split())[:220]}" if words else ""
    suffering = f" ({', '.join(affects[:5])} suffer{'s' if len(affects) == 1 else ''} from it)" if affects else ""
    said = said if said.startswith(service) else f"{said[:1].upper()}{said[1:]}"  # names keep their spelling
    return f"{said}{suffering}{because}"
