"""Tell people when a person is needed: a webhook that Slack, Mattermost, Teams' workflows and others understand."""

from __future__ import annotations

import logging

from quarterdeck.agents.remediation.report import OUTCOMES, Report
from quarterdeck.keel import web
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings

log = logging.getLogger(__name__)


async def tell(settings: Settings, report: Report) -> bool:
    """Whether it was told. Raises Refusal when the webhook does not take it, so that the step is tried again: what
    listens may hear of one report twice, and can tell by the header `Idempotency-Key`, which is the report's id."""
    log.warning("needs a person: %s (%s), report %s", report.title, report.outcome, report.id)
    url = settings.agents.escalate_url.get_secret_value()
    if not url:
        return False
    lines = [f"*{report.title}*", OUTCOMES[report.outcome]]
    lines += [f"Not done: {report.not_done_because}"] if report.not_done_because else []
    lines += [f"- {text}" for text in report.next[:5]]
    lines.append(f"Report {report.id}")
    async with web.client(10.0) as http:
        try:
            response = await http.post(
                url, json={"text": _escaped("\n".join(lines)[:3000])}, headers={"idempotency-key": report.id}
            )
        except Exception as error:  # the address is a secret: it must not stand in the words
            raise Refusal(f"The escalation webhook cannot be reached ({type(error).__name__}).") from None
    if response.status_code >= 300:
        raise Refusal(f"The escalation webhook answered {response.status_code}.")
    return True


def _escaped(text: str) -> str:
    """So that what came from a log can mention nobody and forge no link there."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
