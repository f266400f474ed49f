"""What is known of each name: in how many runs it was recorded, in how many a replay recovered it, and where a
statement for it could not be placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from flor_runtime.ui.runs import RunTable


class Coverage(NamedTuple):
    """A name over the runs of a table: how many have it, and from where.

    Attributes:
        recovered: of a label, how many.
        missing: the runs without it, newest first.
    """

    name: str
    recorded: int
    recovered: dict[str, int]
    missing: list[str]


def coverage(table: RunTable) -> list[Coverage]:
    """One for each name that was logged, in the order of the table's columns."""
    names = dict.fromkeys(name for each in table.facts for name in (*each["names"], *each["recovered"]))
    found = []
    for name in names:
        recorded, missing = 0, []
        labels: Counter[str] = Counter()
        for facts, title in zip(table.facts, table.titles, strict=True):
            if name in facts["names"]:
                recorded += 1
            elif name in facts["recovered"]:
                labels[facts["recovered"][name]] += 1
            else:
                missing.append(title)
        found.append(Coverage(name, recorded, dict(labels), missing))
    return found


class Place(NamedTuple):
    """What becomes of today's statement in a version.

    Attributes:
        what: "placed", "already" there, or "refused".
        where: file and line.
        why: of a refusal, its code and reason; else what else the statement took.
    """

    name: str
    version: str
    runs: str
    when: str
    what: str
    where: str
    why: str


def places(names: Sequence[str], script: str | None = None) -> list[Place]:
    """Where a statement of today's script for these names would stand in each recorded version, or why it can't.

    It is the same as `flor-backport --vars NAMES` says; nothing is written.

    Raises:
        flor_transform.errors.TransformError: the script doesn't log it, or there is none.
    """
    import flor

    return [_place(row) for row in flor.backport(list(names), script=script)]


def _place(row: dict[str, Any]) -> Place:
    where = f"{row['path']}:{row['line']}" if row["line"] else str(row["path"] or "")
    moment = str(row["when"] or "")[:16].replace("T", " ")
    return Place(
        str(row["name"]),
        str(row["version"])[:8],
        str(row["title"] or ""),
        moment,
        row["what"],
        where,
        str(row["how"] or ""),
    )
