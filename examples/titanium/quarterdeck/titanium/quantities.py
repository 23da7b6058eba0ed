"""Quantities as manifests write them: `250m`, `128Mi`, `1.5`, `2G`."""

from __future__ import annotations

_SUFFIXES = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def parse(quantity: object) -> float:
    text = str(quantity).strip()
    digits = text.rstrip("numkMGTPiK")
    try:
        return float(digits) * _SUFFIXES[text[len(digits) :]]
    except (ValueError, KeyError):
        return 0.0
