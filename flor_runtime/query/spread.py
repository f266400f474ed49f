"""Dictionaries in tables: `flor.log("val", {"loss": 0.5, "acc": 0.9})` has the columns `val/loss` and `val/acc`.

The store and `log_records` keep the dictionary as it was logged; tables spread it, at any depth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from flor_runtime.query.records import Facts, RunFacts
from flor_runtime.store.logformat import BOOL, FLOAT, INT, NONE, TEXT, VALUE

#: columns that one dictionary may become; a larger one stays a value
MOST = 200
_KINDS = {float: FLOAT, int: INT, bool: BOOL, type(None): NONE}


def above(names: Collection[str]) -> set[str]:
    """These names, and those that dictionaries may have been logged under of which they are a part."""
    found = set(names)
    for name in names:
        parts = name.split("/")
        found |= {"/".join(parts[:count]) for count in range(1, len(parts))}
    return found


def meant(names: Collection[str], known: Collection[str]) -> list[str]:
    """Of the known names, those that are meant: a dictionary's name means all of its parts."""
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys(each for each in known if each == name or each.startswith(name + "/"))
    return list(found)


def spread(facts: Facts) -> None:
    """Replace the records that hold dictionaries by one for each of their parts."""
    parts = {number: found for number, value in enumerate(facts.objects) if (found := list(leaves("", value)))}
    if not parts:
        return
    codes = {name: code for code, name in enumerate(facts.names)}
    whole = set()
    for run in facts.runs:
        whole |= _spread(run, parts, facts, codes)
    names = _ordered(facts.names, [facts.names[code] for code in whole])
    left = {code for run in facts.runs for code in set(run.name.tolist())}
    keep(facts, [name for name in names if codes[name] not in whole or codes[name] in left])


def leaves(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    """The parts of a dictionary, by their path; none of what is no dictionary, or too large a one."""
    if not isinstance(value, dict) or not value or not all(type(key) in (str, int) for key in value):
        return
    found: list[tuple[str, object]] = []
    for key, item in value.items():
        inner = list(leaves(f"{prefix}/{key}", item))
        found += inner or [(f"{prefix}/{key}", item)]
        if len(found) > MOST:
            return
    yield from found


def _spread(run: RunFacts, parts: dict[int, list[tuple[str, object]]], facts: Facts, codes: dict[str, int]) -> set[int]:
    """Spread the dictionaries of one run; returns the names that they had."""
    import numpy as np

    stored = np.flatnonzero(run.kind == VALUE)
    rows = [row for row in stored.tolist() if int(run.raw[row]) in parts]
    if not rows:
        return set()
    counts = np.ones(len(run.name), np.int64)
    names: list[int] = []
    values: list[object] = []
    whole = set()
    for row in rows:
        inside = parts[int(run.raw[row])]
        counts[row] = len(inside)
        code = int(run.name[row])
        whole.add(code)
        for path, value in inside:
            name = facts.names[code] + path
            if name not in codes:
                codes[name] = len(facts.names)
                facts.names.append(name)
                if facts.names[code] in facts.logged:
                    facts.logged.add(name)
            names.append(codes[name])
            values.append(value)
    source = np.repeat(np.arange(len(run.name)), counts)
    new = np.isin(source, rows)
    for column in ("place", "name", "kind", "raw", "source"):
        setattr(run, column, getattr(run, column)[source])
    kind, raw = encoded(values, facts.objects)
    run.name = run.name.astype(np.int64)
    run.name[new], run.kind[new], run.raw[new] = names, kind, raw
    return whole


def _ordered(names: list[str], whole: list[str]) -> list[str]:
    """Parts where their dictionary stood, and not at the end, where they were found."""
    place = {name: number for number, name in enumerate(names)}

    def key(name: str) -> tuple[int, int]:
        dictionaries = [place[base] for base in whole if name.startswith(base + "/")]
        return min([place[name], *dictionaries]), place[name]

    return sorted(names, key=key)


def keep(facts: Facts, names: Sequence[str]) -> None:
    """Put the names into this order, and drop the records of others."""
    import numpy as np

    wanted = {name: number for number, name in enumerate(names)}
    numbers = np.array([wanted.get(name, -1) for name in facts.names] or [0], np.int64)
    for run in facts.runs:
        run.name = numbers[run.name]
        kept = run.name >= 0
        if not kept.all():
            for column in ("place", "name", "kind", "raw", "source"):
                setattr(run, column, getattr(run, column)[kept])
    facts.names = list(names)


def encoded(values: list[Any], objects: list[object]) -> tuple[Any, Any]:
    """Kinds and raw values of Python values, as in a log; what is no scalar is put into `objects`."""
    import numpy as np

    values = [
        value.item() if isinstance(value, np.generic) and value.dtype.kind not in "Mm" else value for value in values
    ]
    kind = np.fromiter((_KINDS.get(type(value), VALUE) for value in values), np.uint8, len(values))
    raw = np.zeros(len(values), np.uint64)
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    at = kind == FLOAT
    raw[at] = column[at].astype(np.float64).view(np.uint64)
    at = kind == BOOL
    raw[at] = column[at].astype(bool)
    for row in np.flatnonzero(kind == INT).tolist():
        if -(2**63) <= values[row] < 2**63:
            raw[row] = values[row] & (2**64 - 1)
        else:
            kind[row] = VALUE
    for row in np.flatnonzero(kind == VALUE).tolist():
        kind[row] = TEXT if isinstance(values[row], str) else VALUE
        raw[row] = len(objects)
        objects.append(values[row])
    return kind, raw
