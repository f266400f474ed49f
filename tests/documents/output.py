"""Is what a command prints what the page shows? Ids, times and sizes are another run's; numbers of a training may differ a
little from machine to machine; runs that are replayed at the same time end in any order."""

from __future__ import annotations

import re

_VOLATILE = (
    (re.compile(r"\b\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d(?:\+00:00)?)?)?"), "DATE"),
    (re.compile(r"\b[0-9a-f]{7,40}\b"), "ID"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|s|min)\b"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:bytes|kB|MB|GB)\b"), "SIZE"),
    (re.compile(r"\b\d+ workers?\b"), "WORKERS"),
    (re.compile(r"(?<=File \")/\S+/"), ""),
    (re.compile(r"[─━-]{3,}"), "RULE"),
)
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
_NEAR = 0.1  # of a metric: another processor rounds otherwise


def difference(shown: str, printed: str) -> str | None:
    """The first line that only one of the two has; None if there is none. A line `…` stands for any lines."""
    left = [line for line in map(_plain, printed.split("\n")) if line]
    for line in map(_plain, shown.split("\n")):
        if line in ("", "…"):
            continue
        found = next((other for other in left if _same(line, other)), None)
        if found is None:
            return f"shown, and not printed: {line}"
        left.remove(found)
    if left and "…" not in shown.split("\n"):
        return f"printed, and not shown: {left[0]}"
    return None


def _plain(line: str) -> str:
    for pattern, word in _VOLATILE:
        line = pattern.sub(word, line)
    return " ".join(line.split())


def _same(one: str, other: str) -> bool:
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    numbers = zip(map(float, _NUMBER.findall(one)), map(float, _NUMBER.findall(other)), strict=True)
    return all(abs(a - b) <= _NEAR * max(1.0, abs(a)) for a, b in numbers)
