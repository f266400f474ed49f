"""What is known of a run as a whole, as plain data: what `flor runs` lists, and the index keeps."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from flor_runtime.query.records import Log, commit_of
from flor_runtime.query.spread import leaves
from flor_runtime.query.unskippable import places
from flor_runtime.secrets import mask_arguments
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.logformat import BOOL, FLOAT, INT, TEXT, VALUE
from flor_runtime.store.logreader import Records

_SHORT = 200  # characters of a text
_CERTAIN = ("exact", "verified", "inexact")


def overview(
    folder: RunFolder, manifest: dict[str, Any], logs: Sequence[Log], named: Sequence[tuple[Any, ...]] | None = None
) -> dict[str, Any]:
    """What is known of a run; `said` is what could not be read of it.

    Args:
        named: what `names_of` says of the logs, where that is known.
    """
    named = list(names_of(logs)) if named is None else named
    end = folder.end()
    status = folder.status(manifest, end)
    started = float(manifest["started"])
    ended = end.get("ended") if end else time.time() if status == "alive" else folder.last_sign()
    counts: Counter[str] = Counter()
    parameters: dict[str, Any] = {}
    for origin, records, _ in reversed(logs):
        if origin.replay is None:
            counts.update(_counts(records, inside=origin.captured))
            folder.notes += [note for note in records.notes if note not in folder.notes]
        if origin.captured:
            parameters = {name: _simple(value) for path, name, value, _ in records.rows() if not path}
    return {
        "run": folder.id,
        "name": manifest.get("name"),
        "status": status,
        "started": started,
        "seconds": round(max(ended - started, 0.0), 3) if isinstance(ended, (int, float)) else None,
        "projid": manifest.get("projid"),
        "project": manifest.get("project"),
        "script": manifest.get("script"),
        "argv": mask_arguments(list(map(str, manifest.get("argv") or []))).argv,
        "parameters": parameters,
        "python": manifest.get("python"),
        "vid": manifest.get("vid"),
        "commit": commit_of(manifest) or None,
        "exit": end.get("exit") if end else None,
        "error": end.get("error") if end else None,
        "bytes": folder.size(),
        "records": counts.total(),
        "names": dict(counts),
        "recovered": _recovered(logs),
        "last": {name: last for name, _, _, last, *_ in named if last is not None} | dict(_parts(logs)),
        "unskippable": places(folder, manifest),
        "notes": [note for note in manifest.get("notes") or [] if isinstance(note, str)],
        "said": list(folder.notes),
    }


def _counts(records: Records, *, inside: bool) -> dict[str, int]:
    """How many records of each name there are, in the order first seen; with `inside`, of those in a loop."""
    found = []
    for code, rows in records.by_name().items():
        kept = rows[records.ctx[rows] > 0] if inside else rows
        if len(kept):
            found.append((int(kept[0]), records.names[code], len(kept)))
    return {name: count for _, name, count in sorted(found)}


def names_of(logs: Sequence[Log]) -> Iterator[tuple[Any, ...]]:
    """What was logged under each name: (name, records, recovered, last, min, max) by the best source that has it."""
    found: dict[str, tuple[Any, ...]] = {}
    for origin, records, wanted in logs:
        for code, rows in records.by_name().items():
            name = records.names[code]
            if origin.captured:
                rows = rows[records.ctx[rows] > 0]
            if len(rows) and (wanted is None or name in wanted):
                found[name] = (name, len(rows), origin.label, *_ends(records, rows))
    yield from found.values()


def _parts(logs: Sequence[Log]) -> Iterator[tuple[str, Any]]:
    """Of a name whose last value is a dictionary its parts that are numbers or short texts."""
    found: dict[str, tuple[Records, int]] = {}
    for origin, records, wanted in logs:
        for code, rows in records.by_name().items():
            name = records.names[code]
            if origin.captured:
                rows = rows[records.ctx[rows] > 0]
            if len(rows) and (wanted is None or name in wanted):
                found[name] = records, int(rows[-1])
    for name, (records, row) in found.items():
        if records.kind[row] == VALUE:
            with contextlib.suppress(Exception):  # a damaged one
                for part, value in leaves(name, records.value(row)):
                    if isinstance(value, (bool, float, str)) or _is_short(value):
                        yield part, value[:_SHORT] if isinstance(value, str) else value


def _recovered(logs: Sequence[Log]) -> dict[str, str]:
    """The names that replays have values of, with the label that these have: where several, the least certain one of
    the replay that counts most."""
    found: dict[str, tuple[str | None, str]] = {}
    for origin, records, wanted in logs:
        if origin.replay is None or origin.label is None:
            continue
        for code in records.by_name():
            name = records.names[code]
            if wanted is None or name in wanted:
                replay, label = found.get(name, (None, origin.label))
                if replay != origin.replay:
                    label = origin.label
                found[name] = origin.replay, max(label, origin.label, key=_CERTAIN.index)
    return {name: label for name, (_, label) in found.items()}


def _ends(records: Records, rows: Any) -> tuple[Any, Any, Any]:
    """The last value, if it is a number or a short text, and the least and the largest number."""
    import numpy as np

    kind, raw = records.kind[rows], records.raw[rows]
    numbers = np.concatenate([raw[kind == FLOAT].view(np.float64), raw[kind == INT].view(np.int64)])
    numbers = numbers[~np.isnan(numbers)]
    last = None
    if kind[-1] in (FLOAT, INT, BOOL, TEXT):
        with contextlib.suppress(Exception):  # a damaged text
            last = records.value(int(rows[-1]))
    if isinstance(last, str):
        last = last[:_SHORT]
    return last, *((float(numbers.min()), float(numbers.max())) if len(numbers) else (None, None))


def _is_short(value: object) -> bool:
    """Whether it is an integer that Python writes out: it refuses more than 4,300 digits."""
    return isinstance(value, int) and value.bit_length() < 10_000


def _simple(value: object) -> object:
    """A parameter as JSON has it."""
    if isinstance(value, list):
        return [_simple(item) for item in value]
    if isinstance(value, int) and not _is_short(value):
        return hex(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
