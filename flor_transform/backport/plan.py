"""What a backport comes to: plain data, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Why a statement was not placed: code -> what it means. The message of a Refusal gives the particulars.
CODES: Mapping[str, str] = {
    "SYNTAX": "one of the two versions does not parse",
    "NOT-LOGGED": "the newer version logs no such name",
    "NO-PLACE": "nothing around the statement exists in the older version",
    "AMBIGUOUS": "several places fit and what lies between them matters",
    "UNBOUND": "a name that the statement reads is not bound at its place",
    "EFFECT": "the expression may change what the older version computes",
    "NO-EXPRESSION": "the expression that the newer version logs is not in the older one",
    "FORM": "the place takes no new statement (an elif, a line shared with others)",
    "PROOF": "the result did not parse; this is a fault of ours, please report it",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """One statement that stands at its place in the older version.

    ``line`` counts in the result (1-based) and ``old_line`` in the version given: the line that the text
    stands before (or in, for an insertion inside an expression). ``new_line`` is its line in the newer one.
    """

    name: str
    new_line: int
    line: int
    old_line: int
    text: str
    how: Literal["placed", "already"]
    renames: tuple[tuple[str, str], ...] = ()
    brought: tuple[str, ...] = ()
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One statement that was not placed, and why. ``candidates`` are lines of the older version."""

    name: str
    code: str
    message: str
    new_line: int = 0
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BackportResult:
    """The older version with the statements in it, and what became of each of them."""

    code: bytes
    placements: tuple[Placement, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    changed: bool = field(default=False)

    def to_json(self) -> dict[str, Any]:
        """Placements and refusals as plain data, for ``--output-format json``."""
        return {
            "changed": self.changed,
            "placements": [asdict(p) for p in self.placements],
            "refusals": [asdict(r) for r in self.refusals],
        }
