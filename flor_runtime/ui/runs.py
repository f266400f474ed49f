"""The runs as a table: one row a run, one column a name with its last value. From the index, so that a thousand
runs of ten thousand records are there at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flor_runtime.cli.text import duration, plain
from flor_runtime.query.records import Runs, moment_of

if TYPE_CHECKING:
    from flor_runtime.store.layout import Home, RunFolder

_LONGEST = 300  # characters of a cell
KEYS = ("run", "status", "started", "took", "script")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: what stands above it; no other column has it.
        name: the parameter or what was logged; "" for what is known of every run.
        values: None, or a plain number, text or truth value; one a run.
        there: whether the run has something of that name: an array is there, and its value is None.
        labels: "exact", "verified" or "inexact" where a replay recovered the value, else None.
    """

    title: str
    name: str
    values: list[Any]
    there: list[bool]
    labels: list[str | None]


@dataclass(frozen=True)
class RunTable:
    """Runs, newest first.

    Attributes:
        folders: where each run is.
        titles: what each run is called: its name or the beginning of its id, with the time where that is not enough.
        facts: what is known of each (see `query.overview`).
        notes: what could not be read, and why.
    """

    folders: list[RunFolder]
    titles: list[str]
    facts: list[dict[str, Any]]
    columns: list[Column]
    notes: list[str] = field(default_factory=list)


def read(runs: Runs = None, home: Home | None = None) -> RunTable:
    """The table of runs.

    Args:
        runs: as for `flor show`: names or ids; "all"; None: those of the current project.

    Raises:
        StoreError: no such run, or a newer flor wrote one.
    """
    from flor_runtime.query.catalog import chosen, overviews
    from flor_runtime.store.layout import Home

    store = home or Home()
    listed = chosen(runs, store)[::-1]
    facts = overviews(listed, store)
    notes = [*store.notes, *(note for each in facts for note in each.get("said") or ())]
    titles = titles_of(facts)
    columns = [*_key_columns(facts, titles), *_named_columns(facts)]
    return RunTable([each.folder for each in listed], titles, facts, columns, list(dict.fromkeys(notes)))


def titles_of(facts: Sequence[dict[str, Any]]) -> list[str]:
    """What each run is called, no two the same."""
    names = [plain(each.get("name") or str(each["run"])[:8], 80) for each in facts]
    taken: dict[str, int] = {}
    for name in names:
        taken[name] = taken.get(name, 0) + 1
    return [
        name if taken[name] == 1 else f"{name} ({str(each['run'])[:8]})"
        for name, each in zip(names, facts, strict=True)
    ]


def when(facts: dict[str, Any]) -> str:
    """When a run began, or its commit was made, in this machine's time."""
    return datetime.fromtimestamp(moment_of(facts)).strftime("%Y-%m-%d %H:%M")


def command_of(facts: dict[str, Any]) -> str:
    """The script and its arguments."""
    return plain(" ".join([str(facts.get("script") or ""), *map(str, facts.get("argv") or ())]), _LONGEST)


def _key_columns(facts: Sequence[dict[str, Any]], titles: list[str]) -> list[Column]:
    took = ["" if each.get("seconds") is None else duration(each["seconds"]) for each in facts]
    found = {
        "run": titles,
        "status": [str(each.get("status")) for each in facts],
        "started": [when(each) for each in facts],
        "took": took,
        "script": [command_of(each) for each in facts],
    }
    if len({each.get("project") for each in facts}) > 1:
        found["project"] = [plain(each.get("projid") or "", 80) for each in facts]
    return [Column(title, "", values, [True] * len(values), [None] * len(values)) for title, values in found.items()]


def _named_columns(facts: Sequence[dict[str, Any]]) -> list[Column]:
    """Parameters in which the runs differ, then what was logged, in the order in which the runs have it."""
    logged = _logged(facts)
    columns = []
    titles = {*KEYS, "project"}
    for name in dict.fromkeys(name for each in facts for name in each["parameters"]):
        values = [each["parameters"].get(name) for each in facts]
        if name not in logged and len({repr(value) for value in values}) > 1:
            there = [name in each["parameters"] for each in facts]
            columns.append(Column(_title(name, titles), name, _shown(values), there, [None] * len(facts)))
    for name in logged:
        wholes = [_whole(name, each) for each in facts]
        known = [each["last"].keys() | each["names"].keys() | each["recovered"].keys() for each in facts]
        there = [name in each for each in known]
        recovered = [
            each["recovered"].get(whole) if is_there and whole not in each["names"] else None
            for each, whole, is_there in zip(facts, wholes, there, strict=True)
        ]
        values = [each["last"].get(name) for each in facts]
        columns.append(Column(_title(name, titles), name, _shown(values), there, recovered))
    return columns


def _logged(facts: Sequence[dict[str, Any]]) -> list[str]:
    """What was logged, in the order first seen; of a dictionary its parts where they are known."""
    found: dict[str, None] = {}
    for each in facts:
        parts: dict[str, list[str]] = {}
        for name in each["last"]:
            parts.setdefault(_whole(name, each), []).append(name)
        for name in (*each["names"], *each["recovered"]):
            found |= dict.fromkeys(parts.get(name, [name]))
    with_parts = {name.rpartition("/")[0] for name in found}
    return [name for name in found if name not in with_parts or any(name in each["last"] for each in facts)]


def _whole(name: str, facts: dict[str, Any]) -> str:
    """The name that a value was logged under: that of the dictionary, for a part of one."""
    known = (facts["names"], facts["recovered"])
    whole = name
    while not any(whole in each for each in known) and "/" in whole:
        whole = whole.rpartition("/")[0]
    return whole


def _title(name: str, taken: set[str]) -> str:
    title = plain(name, _LONGEST).strip() or "(no name)"
    while title in taken:
        title += "_logged"
    taken.add(title)
    return title


def _shown(values: Sequence[Any]) -> list[Any]:
    """Values as cells: numbers and truth values as they are, everything else as a short text."""
    return [
        value if value is None or isinstance(value, (bool, int, float)) else plain(value, _LONGEST) for value in values
    ]
