"""Rules and model side by side: where they agree, where not, and which of them is used.

The rules win. They are the same each time and can be read; the model is asked for what they do not know. So:
- The model failed, or could show nothing: the rules stand, and that is said.
- The rules found a cause: they stand, with the model's causes among the alternatives. What is done is what the rules
  say, which may be nothing, whatever the model proposes.
- The rules say that all is well: that stands too; a cause of the model is a lead for a person.
- The rules do not know: the model's diagnosis is used. Its action only if its confidence is at least ACT_FROM.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, Field

from quarterdeck.agents.remediation.judgement import Judged, same_name
from quarterdeck.agents.remediation.models import Action, Cause, Diagnosis
from quarterdeck.keel.answers import clip

ACT_FROM = 0.6
"""Confidence from which an action of the model alone is put before a person."""
MOST = 12
"""Lines of advice, alternatives and gaps that a merged diagnosis keeps."""

View = Literal["agree", "disagree", "only rules", "only model", "neither"]


class Comparison(BaseModel):
    """What the rules and the model said, and what is made of it."""

    cause: View = Field("neither", description="on the kind of the root cause")
    service: View = Field("neither", description="on which service is at fault")
    action: View = Field("neither", description="on what to do")
    words: list[str] = Field([], description="the same in sentences")
    used: Literal["rules", "model"]
    why: str = Field(description="why this one is used")
    failure: str = Field("", description="why the model has no say")
    dropped: list[str] = Field([], description="what the model said and could not show")
    diagnosis: Diagnosis = Field(description="the one that is used")


def compare(rules: Diagnosis, judged: Judged | None) -> Comparison:
    """`judged` is None when there is no model (no key): then the rules judge alone."""
    if judged is None:
        return Comparison(used="rules", why="There is no model: no key is set.", diagnosis=rules)
    model = judged.diagnosis
    if model is None:
        failure = judged.failure or "The model gave no diagnosis."
        return Comparison(
            used="rules",
            why="The model failed, so the rules judge alone.",
            failure=failure,
            words=[f"The model has no say: {failure}"],
            dropped=judged.dropped,
            diagnosis=rules,
        )
    mine, other = _known(rules), _known(model)
    used, why, diagnosis = _choose(rules, model)
    return Comparison(
        cause=_view(mine.kind if mine else "", other.kind if other else ""),
        service=_view(same_name(mine.service) if mine else "", same_name(other.service) if other else ""),
        action=_view(_key(rules.action), _key(model.action)),
        words=[_on_cause(rules, model), _on_action(rules, model)],
        used=used,
        why=why,
        dropped=judged.dropped,
        diagnosis=diagnosis,
    )


def _known(diagnosis: Diagnosis) -> Cause | None:
    root = diagnosis.root
    return root if root is not None and root.kind != "unknown" else None


def _view(rules: str, model: str) -> View:
    if rules and model:
        return "agree" if rules == model else "disagree"
    return "only rules" if rules else "only model" if model else "neither"


def _key(action: Action | None) -> str:
    """Two actions are the same if they would be the same call; spelling of names aside."""
    if action is None:
        return ""
    arguments = {
        name: same_name(value) if isinstance(value, str) else value for name, value in action.arguments.items()
    }
    arguments.pop("namespace", None)  # left out where it is the default
    return f"{action.tool} {json.dumps(arguments, sort_keys=True, default=str)}"


def _choose(rules: Diagnosis, model: Diagnosis) -> tuple[Literal["rules", "model"], str, Diagnosis]:
    mine, other = _known(rules), _known(model)
    if mine is None and not rules.healthy and other is not None:
        why = "The rules do not know the cause, and the model shows one with evidence."
        action = model.action
        because = model.no_action_because
        if action is not None and other.confidence < ACT_FROM:
            because = (
                f"The model alone proposes {_say_action(action)}, and its confidence of {other.confidence:.2f} "
                f"is below {ACT_FROM:.2f}."
            )
            action = None
        return "model", why, _merged(model, rules, "rules", action, because)
    if mine is None and rules.healthy:
        why = "The rules find nothing wrong" + (
            ", and so does the model." if other is None else "; the model's cause is a lead."
        )
    elif mine is None:
        why = "Neither the rules nor the model know the cause."
    elif other is None:
        why = "Only the rules found a cause that rests on evidence."
    elif _same(mine, other):
        why = "Both agree; what to do follows the rules."
    else:
        why = "They disagree, and then the rules win: they are the same each time and can be read."
    return "rules", why, _merged(rules, model, "model", rules.action, rules.no_action_because)


def _merged(used: Diagnosis, beside: Diagnosis, other_name: str, action: Action | None, because: str) -> Diagnosis:
    """The one that is used, with what the other adds for a person to read."""
    root, other = used.root, _known(beside)
    alternatives = list(used.alternatives)
    if other is not None and (root is None or not _same(root, other)):
        alternatives.append(f"The {other_name}: {_say_cause(other)}")
    return used.model_copy(
        update={
            "action": action,
            "no_action_because": because,
            "alternatives": _union(alternatives, beside.alternatives),
            "advice": _union(used.advice, beside.advice),
            "missing": _union(used.missing, beside.missing),
        }
    )


def _union(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys((*first, *second)))[:MOST]


def _on_cause(rules: Diagnosis, model: Diagnosis) -> str:
    mine, other = _known(rules), _known(model)
    if mine and other and _same(mine, other):
        return f"Rules and model agree on the cause: {_say_cause(mine)}."
    said = _say_view(rules, mine), _say_view(model, other)
    if said[0] == said[1]:
        return f"Rules and model agree: {said[0]}."
    return f"They differ on the cause. Rules: {said[0]}. Model: {said[1]}."


def _on_action(rules: Diagnosis, model: Diagnosis) -> str:
    mine, other = (_say_plan(one) for one in (rules, model))
    if rules.action is None and model.action is None:
        return "Neither proposes a change."
    if _key(rules.action) == _key(model.action):
        return f"They agree on what to do: {mine}."
    return f"They differ on what to do. Rules: {mine}. Model: {other}."


def _same(one: Cause, other: Cause) -> bool:
    return (one.kind, same_name(one.service)) == (other.kind, same_name(other.service))


def _say_view(diagnosis: Diagnosis, root: Cause | None) -> str:
    if root is not None:
        return _say_cause(root)
    return "nothing is wrong" if diagnosis.healthy else "the cause is not known"


def _say_plan(diagnosis: Diagnosis) -> str:
    if diagnosis.action is not None:
        return _say_action(diagnosis.action)
    because = diagnosis.no_action_because.rstrip(".")
    return "no change" + (f", because {clip(because, 200)}" if because else "")


def _say_cause(cause: Cause) -> str:
    return (
        f"{cause.kind} at {cause.service} ({clip(cause.summary.rstrip('.'), 160)}; confidence {cause.confidence:.2f})"
    )


def _say_action(action: Action) -> str:
    return f"{action.tool}({', '.join(f'{name}={clip(str(value), 80)}' for name, value in action.arguments.items())})"
