"""After a yes a person is told who goes on, and on whose word."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.deck import approve
from quarterdeck.keel.changes import Change, Changes, Target
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import ChangesSettings


@pytest.mark.parametrize(
    ("caller", "server", "tool", "told"),
    [
        ("local:me", "kubectl", "scale_deployment", "it calls scale_deployment again with the same arguments."),
        ("local:me", "bridge", "answer_task", "Tell your AI client to go on with answer_task"),
        ("agent:remediation", "kubectl", "scale_deployment", "agent:remediation goes on by itself."),
    ],
)
def test_after_a_yes_it_is_said_who_goes_on(
    caller: str,
    server: str,
    tool: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = Changes(ChangesSettings(), tmp_path)
    target = Target(kind="deployment", name="blog", context="here", fingerprint="1")
    change = Change(server, tool, "scale blog to 3", (target,), "2", "3", "scale to 2", "exact")
    pending = changes.request(change, Caller(caller))
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert approve.ask(changes, pending) == 0
    assert told in capsys.readouterr().out.splitlines()[-1]
