"""The kinds of lines of a window, compared with the window before it."""

from __future__ import annotations

from collections.abc import Sequence

from quarterdeck.logs.models import Kind
from quarterdeck.logs.records import Record
from quarterdeck.logs.templates import Shapes, Template
from quarterdeck.logs.words import safe, stamp


def kinds_of(records: Sequence[Record], before: Sequence[Record]) -> tuple[dict[str, int], list[Kind]]:
    """How many records there are of each level, and of each kind, against those of the window before."""
    shapes = Shapes()
    levels: dict[str, int] = {}
    for record in before:
        shapes.add(record, before=True)
    for record in records:
        shapes.add(record)
        levels[record.level or "unknown"] = levels.get(record.level or "unknown", 0) + 1
    kinds = [template for template in shapes.templates() if template.tally.count]
    compared = bool(before)
    kinds.sort(key=lambda kind: _weight(kind, compared))
    same_day = {stamp(moment)[:10] for moment in (records[0].time, records[-1].time) if moment is not None}
    return levels, [_kind(template, compared, len(same_day) == 1) for template in kinds]


def _weight(template: Template, compared: bool) -> tuple[int, int]:
    """New and bad first, then bad, then new, then the frequent."""
    bad = {"critical": 3, "error": 3, "warning": 2}.get(template.tally.level, 0)
    new = 1 if compared and not template.tally.before else 0
    return -(bad + 2 * new if bad else new), -template.tally.count


def _kind(template: Template, compared: bool, same_day: bool) -> Kind:
    tally = template.tally
    masked = "<" in template.text
    return Kind(
        template=safe(template.text, 240),
        count=tally.count,
        before=tally.before if compared else None,
        new=True if compared and not tally.before else None,
        level=tally.level or None,
        first=None if tally.first is None else stamp(tally.first, day=not same_day),
        last=None if tally.last is None else stamp(tally.last, day=not same_day),
        example=safe(tally.example, 240) if masked else None,
    )
