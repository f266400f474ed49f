"""The records of one run as bytes, in the log's own closed encoding, and joined to those of others."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from flor_runtime.query.records import Facts, RunFacts, Source
from flor_runtime.store.logformat import TEXT
from flor_runtime.store.values import decode, encode

_ARRAYS = ("places", "place", "name", "kind", "raw", "source")


def pack(part: Facts) -> bytes:
    """A run's records, as `unpack` reads them."""
    (run,) = part.runs
    data = {
        "projid": run.projid, "runid": run.runid, "started": run.tstamp, "vid": run.vid, "levels": run.levels,
        **{name: getattr(run, name) for name in _ARRAYS},
        "sources": [tuple(vars(source).values()) for source in run.sources],
        "names": part.names, "parameters": sorted(part.parameters), "logged": sorted(part.logged),
        "objects": part.objects, "notes": part.notes,
    }  # fmt: skip
    return encode(data)


def unpack(data: bytes) -> Facts:
    """The records of a run.

    Raises:
        ValueError: the bytes are none, or don't fit together.
    """
    import numpy as np

    found: Any = decode(data)
    try:
        run = RunFacts(
            projid=found["projid"],
            runid=found["runid"],
            tstamp=found["started"],
            vid=found["vid"],
            levels=found["levels"],
            sources=[Source(*fields) for fields in found["sources"]],
            **{name: found[name] for name in _ARRAYS},
        )
        part = Facts(
            [run], found["names"], set(found["parameters"]), set(found["logged"]), found["objects"], found["notes"]
        )
        count = len(run.name)
        stored = run.raw[run.kind >= TEXT]
        fits = (
            all(len(getattr(run, name)) == count for name in _ARRAYS[1:])
            and run.places.shape == (len(run.places), len(run.levels))
            and _below(run.place, len(run.places))
            and _below(run.name, len(part.names))
            and _below(run.source, len(run.sources))
            and _below(stored, len(part.objects))
            and isinstance(run.tstamp, datetime)
        )
    except (KeyError, TypeError, AttributeError, np.exceptions.DTypePromotionError) as error:
        raise ValueError(f"no records: {error}") from error
    if not fits:
        raise ValueError("records that don't fit together")
    return part


def _below(numbers: Any, limit: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < limit)


def join(facts: Facts, codes: dict[str, int], part: Facts, names: Collection[str] | None) -> None:
    """Add a run's records to those of others; with `names`, only these."""
    import numpy as np

    (run,) = part.runs
    if names is not None:
        wanted = np.array([*(name in names for name in part.names), False])
        kept = wanted[run.name]
        if not kept.all():
            for column in _ARRAYS[1:]:
                setattr(run, column, getattr(run, column)[kept])
    stored = run.kind >= TEXT
    if stored.any() and facts.objects:
        run.raw = run.raw.copy()
        run.raw[stored] += np.uint64(len(facts.objects))
    local = set(run.name.tolist()) if names is not None else range(len(part.names))
    numbers = np.zeros(len(part.names) + 1, np.int64)
    for code, name in enumerate(part.names):
        if code in local:
            numbers[code] = codes.setdefault(name, len(codes))
    run.name = numbers[run.name]
    facts.objects += part.objects
    facts.parameters |= part.parameters
    facts.logged |= part.logged
    facts.notes += [note for note in part.notes if note not in facts.notes]
    facts.runs.append(run)
