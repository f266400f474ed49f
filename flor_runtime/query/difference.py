"""What differs between two runs besides their code: arguments, environment, what was logged; as plain data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flor_runtime.errors import StoreError
from flor_runtime.query.overview import names_of
from flor_runtime.query.records import Log, logs_of
from flor_runtime.query.spread import leaves
from flor_runtime.replay.recorded import read_facts
from flor_runtime.secrets import mask_arguments
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.logformat import VALUE

_MANIFEST = ("python", "executable", "platform", "host", "hash_seed", "processes", "epsilon")
_LARGEST = 2**1023  # of integers that a float can stand for
_MOST = 10_000  # dictionaries of a name that are looked into, the last ones
_FACTS = ("torch", "numpy", "threads", "deterministic", "capability", "cuda", "device", "gpus", "cores")


class Ends(NamedTuple):
    """What was logged under a name.

    Attributes:
        last: a number or a short text, None for others; `least` and `most` are of its numbers.
        label: of a replay that recovered it: exact, verified or inexact; None if the run recorded it.
    """

    records: int
    last: Any
    least: float | None
    most: float | None
    label: str | None


class Side(NamedTuple):
    """What is compared of a run.

    Attributes:
        command: the script and its arguments.
        parameters: by name; `environment`: what results hang on; `metrics`: by name.
    """

    run: str
    name: str | None
    command: str
    parameters: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Ends]


def side(folder: RunFolder) -> Side:
    """Read one run.

    Raises:
        StoreError: it can't be read.
    """
    manifest = folder.manifest()
    logs = logs_of(folder, manifest)
    arguments = mask_arguments(list(map(str, manifest.get("argv") or []))).argv
    name = manifest.get("name")
    return Side(
        folder.id,
        str(name) if name else None,
        " ".join([str(manifest.get("script") or ""), *arguments]),
        _parameters(logs),
        _environment(manifest, read_facts(folder)),
        {
            name: Ends(records, last, least, most, _label(label))
            for name, records, label, last, least, most in names_of(logs)
        }
        | _parts(logs),
    )


def _parts(logs: Sequence[Log]) -> dict[str, Ends]:
    """Of names that stand for dictionaries, what was logged under each of their parts."""
    found: dict[str, dict[str, list[Any]]] = {}
    labels: dict[str, str | None] = {}
    for origin, records, wanted in logs:
        for code, rows in records.by_name().items():
            name = records.names[code]
            rows = [row for row in rows[-_MOST:].tolist() if records.kind[row] == VALUE]
            if not rows or (wanted is not None and name not in wanted):
                continue
            found[name], labels[name] = {}, _label(origin.label)
            for row in rows:
                with contextlib.suppress(StoreError):  # a damaged one
                    value = records.value(row)
                    for part, leaf in leaves(name, value) if isinstance(value, dict) else ():
                        found[name].setdefault(part, []).append(leaf)
    return {part: _ends(values, labels[name]) for name, parts in found.items() for part, values in parts.items()}


def _ends(values: Sequence[Any], label: str | None) -> Ends:
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and v == v
               and (isinstance(v, float) or abs(v) < _LARGEST)]  # fmt: skip
    last = values[-1] if isinstance(values[-1], (bool, int, float, str)) else None
    return Ends(len(values), last, min(numbers, default=None), max(numbers, default=None), label)


def _label(label: Any) -> str | None:
    return label if label in ("exact", "verified", "inexact") else None


def _parameters(logs: Sequence[Log]) -> dict[str, Any]:
    for origin, records, _ in logs:
        if origin.captured:
            return {name: value for path, name, value, _ in records.rows() if not path}
    return {}


def _environment(manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: manifest[key] for key in _MANIFEST if manifest.get(key) is not None}
    found |= {key: facts[key] for key in _FACTS if facts.get(key) is not None}
    variables, packages = manifest.get("env"), facts.get("packages")
    found |= {f"${name}": text for name, text in variables.items()} if isinstance(variables, dict) else {}
    if isinstance(packages, dict):
        found |= {f"package {name}": version for name, version in packages.items() if name not in _FACTS and version}
    return found


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, the two values under `a` and `b`; one that is not there is left out."""
    found = {}
    for name in [*a, *(name for name in b if name not in a)]:
        both = {key: values[name] for key, values in (("a", a), ("b", b)) if name in values}
        if len(both) < 2 or not same(both["a"], both["b"]):
            found[name] = both
    return found


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; NaN is equal to itself here, and 1 is not True."""
    if isinstance(a, (Ends, list, tuple)) and isinstance(b, type(a)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
        return True
    if type(a).__module__ != "builtins" or type(b).__module__ != "builtins":
        return type(a) is type(b) and str(a) == str(b)  # arrays, images: as they are shown
    return bool(a == b)
