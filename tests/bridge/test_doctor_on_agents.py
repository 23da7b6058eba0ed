"""`quarterdeck doctor` says which agents answer, and how to mend it where they do not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from a2a.types import SecurityRequirement, StringList
from pydantic import SecretStr

from quarterdeck.deck import checks
from quarterdeck.keel.settings import Settings


async def test_doctor_says_which_agents_answer(ship: Any) -> None:
    started = await ship()
    agents = {**started.settings.bridge.agents, "gone": "http://127.0.0.1:9"}
    bridge = started.settings.bridge.model_copy(update={"agents": agents})
    settings = started.settings.model_copy(update={"bridge": bridge})
    well, gone = await asyncio.to_thread(checks.agents, settings)
    assert (well.status, well.what) == (checks.OK, "agent crew")
    assert "2 skills" in well.detail
    assert (gone.status, gone.what) == (checks.WARN, "agent gone")
    assert "refused the connection" in gone.detail
    assert gone.mend
    none = started.settings.model_copy(update={"bridge": bridge.model_copy(update={"agents": {}})})
    (only,) = await asyncio.to_thread(checks.agents, none)
    assert only.status == checks.OK


async def test_doctor_warns_of_an_agent_that_wants_a_credential_that_nobody_set(tmp_path: Path) -> None:
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    shown = card(url)
    shown.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    bridge: dict[str, Any] = {"agents": {"crew": url}}
    async with serving(app(Crew(), shown), listener):
        (without,) = await asyncio.to_thread(
            checks.agents, Settings.model_validate({"home": tmp_path, "bridge": bridge})
        )
        bridge["credentials"] = {"crew": "token-of-the-crew"}
        (found,) = await asyncio.to_thread(checks.agents, Settings.model_validate({"home": tmp_path, "bridge": bridge}))
    assert (without.status, without.what) == (checks.WARN, "agent crew")
    assert "[bridge.credentials]" in without.mend
    assert found.status == checks.OK


async def test_a_credential_that_cannot_be_had_is_mended_where_credentials_stand(ship: Any) -> None:
    started = await ship()
    keys = {"crew": SecretStr("env:NO_SUCH_VARIABLE_HERE")}
    bridge = started.settings.bridge.model_copy(update={"credentials": keys})
    settings = started.settings.model_copy(update={"bridge": bridge})
    (found,) = await asyncio.to_thread(checks.agents, settings)
    assert found.status == checks.WARN
    assert "NO_SUCH_VARIABLE_HERE" in found.detail
    assert "[bridge.credentials]" in found.mend
