"""How tables mark values that a replay recovered."""

from __future__ import annotations

from collections.abc import Iterable

#: by label: the mark, its style on a terminal, what it means
_MARKS = {
    "exact": ("*", "cyan", "* recovered by replay"),
    "inexact": ("~", "yellow", "~ recovered by replay, not exact"),
    "verified": ("+", "blue", "+ recovered by replay, verified: no state differs, a value may (docs/replay.md)"),
}
_NONE = ("", "", "")


def of(label: str | None) -> str:
    """The mark; "" for what was recorded."""
    return _MARKS.get(label or "", _NONE)[0]


def style(label: str | None) -> str:
    """How rich shows it."""
    return _MARKS.get(label or "", _NONE)[1]


def used(labels: Iterable[str | None]) -> list[str]:
    """The lines of a legend for these labels."""
    found = set(labels)
    return [text for label, (_, _, text) in _MARKS.items() if label in found]
