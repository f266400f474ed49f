"""What a run has left that a replay goes by: its libraries, and how many turns it began."""

from __future__ import annotations

from typing import Any

from flor_runtime.errors import ReplayError, StoreError
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder, read_json
from flor_runtime.store.runlog import keyed, read
from flor_runtime.store.turncount import read_counts

_MOST_TURNS, _MOST_GAPS = 50_000_000, 10_000  # of a run; entries into a main loop of which nothing is known


def read_facts(run: RunFolder) -> dict[str, Any]:
    """What the run wrote about its libraries when its main loop began; empty if it never did."""
    try:
        return read_json(run.path / "environment.json") or {}
    except StoreError:
        return {}


def turn_counts(run: RunFolder, reader: Reader) -> list[int]:
    """Turns that a run began, for each entry into a main loop; of a run that was killed, as many as are known."""
    try:
        entries = (read_json(run.ckpt / "turns.json") or {})["entries"]
        if all(type(count) is int and count >= 0 for count in entries) and sum(entries) < _MOST_TURNS:
            return list(entries)
    except (StoreError, KeyError, TypeError):
        pass
    counts, _ = read_counts(run.ckpt)
    for key in reader.entries:
        counts[key.entry] = max(counts.get(key.entry, 0), key.turn + bool(key.block))
    for path, _, _ in keyed(read(run.log)):
        if path:
            number = path[0][0].partition("@")[2]
            if number.startswith("fit"):
                continue  # a framework's loop: no main loop
            entry = int(number) if number.isdecimal() and len(number) < 10 else 0
            counts[entry] = max(counts.get(entry, 0), path[0][1])
    if max(counts, default=0) > len(counts) + _MOST_GAPS or sum(counts.values()) >= _MOST_TURNS:
        raise ReplayError(f"{run.path}: its turns can't be counted")
    return [counts.get(entry, 0) for entry in range(max(counts, default=-1) + 1)]
