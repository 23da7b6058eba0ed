"""The remediation agent's card, and what it understands of a message."""

from __future__ import annotations

import re
from typing import Any

from a2a.types.a2a_pb2 import Message

from quarterdeck.agents.remediation.flow import NAME
from quarterdeck.agents.runtime.agent import Agent, Skill, data_of, text_of
from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

LONGEST_TEXT = 4_000
LONGEST_NAME = 253
# In words a person uses; a data part {"act": false} says it for sure.
_ONLY_LOOK = re.compile(
    r"(?i)\b(?:only|just)\s+(?:look|analy[sz]e|diagnose|report|check|tell)|\b(?:look|analy[sz]e|diagnose|report)\s+only\b"
    r"|\b(?:do not|don'?t|without)\s+(?:\w+\s+)?(?:chang|act|touch|mend|fix|restart|anything)"
    r"|만\s*(?:봐|보고|분석|진단|알려)|(?:보기|분석|진단|확인)만|nur\s+(?:ansehen|schauen|analysieren)"
)


def read(message: Message) -> dict[str, Any]:
    """Text in anybody's words, or a data part `{"service"?, "alert"?, "act"?}`."""
    return asked(text_of(message), data_of(message))


def _labels(alert: dict[str, Any]) -> dict[str, str]:
    given = alert.get("labels")
    labels = given if isinstance(given, dict) else {}
    return {clip(plain(str(name)), 60): clip(redact(plain(str(value))), 200) for name, value in [*labels.items()][:30]}


def asked(text: str, data: dict[str, Any]) -> dict[str, Any]:
    service, alert, act = data.get("service"), data.get("alert"), data.get("act", not _ONLY_LOOK.search(text))
    if service is not None and not (isinstance(service, str) and 0 < len(service) <= LONGEST_NAME):
        raise Refusal("`service` must be the name of a service.")
    if alert is not None and not isinstance(alert, dict):
        raise Refusal("`alert` must be an object like Alertmanager's: {labels, annotations, startsAt}.")
    if not isinstance(act, bool):
        raise Refusal("`act` must be true or false; false only analyses.")
    found: dict[str, Any] = {"text": clip(redact(text), LONGEST_TEXT), "act": act}
    if service:
        found["service"] = service
    if alert:
        found["alert"] = {"labels": _labels(alert)}
    return found


REMEDIATION = Agent(
    name="remediation",
    title="Quarterdeck remediation",
    description=(
        "Finds out why a system is unhealthy, says so with evidence, asks a person before it changes anything, mends, "
        "verifies and reports."
    ),
    version="1.0.0",
    skills=(
        Skill(
            "diagnose",
            "Diagnose",
            "Find the root cause of what is wrong now and report it with evidence; changes nothing. "
            'Send a data part {"act": false}, and {"service": "blog-service"} to name one.',
            ("diagnosis", "kubernetes", "incident", "sre"),
            ("Why is blog-service offline? Only look.",),
        ),
        Skill(
            "remediate",
            "Remediate",
            "Diagnose, propose one change, wait for a person's approval, carry it out, watch whether it helps, report.",
            ("remediation", "kubernetes", "incident", "restart", "rollback", "scale"),
            ("Something is wrong. Mend it.", "blog-service is down"),
        ),
    ),
    flow=NAME,
    read=read,
)
