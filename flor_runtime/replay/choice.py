"""Which runs and turns a replay was asked for: `--epochs 3,5-7`, `--where "lr > 0.01 and epoch >= 5"`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import ReplayError
from flor_runtime.query.matching import asked_for
from flor_runtime.query.pivot import gather, pivot
from flor_runtime.query.records import LEVELS, moment_of
from flor_runtime.query.where import Where
from flor_runtime.replay.recorded import turn_counts
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.runlog import keyed, read

if TYPE_CHECKING:
    import pandas as pd

_RANGE = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9})?)?")
_ALL, _LAST = "all", "last"
Turns = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Epochs:
    """Turns of main loops, as `--epochs` names them.

    Attributes:
        ranges: (first, last) turns, from 1; no last one: up to the end.
        last: the last turn, whichever it is.
    """

    text: str
    ranges: tuple[tuple[int, int | None], ...]
    last: bool = False

    @classmethod
    def parse(cls, text: str) -> Epochs:
        """Read `3,5-7`, `10-`, `last`, `all`.

        Raises:
            ReplayError: it is none of these.
        """
        ranges: list[tuple[int, int | None]] = []
        last = False
        for part in text.split(","):
            word = part.strip()
            if word == _ALL:
                ranges.append((1, None))
                continue
            if word == _LAST:
                last = True
                continue
            found = _RANGE.fullmatch(word)
            if found is None:
                raise ReplayError(f"--epochs {text!r}: {word!r} is none of 3, 5-7, 10-, last, all")
            first = int(found[1])
            end = int(found[2]) if found[2] else None if "-" in word else first
            if not first or (end is not None and end < first):
                raise ReplayError(f"--epochs {text!r}: {word!r}: epochs are counted from 1, upwards")
            ranges.append((first, end))
        return cls(text, tuple(ranges), last)

    def of(self, counts: Sequence[int]) -> Turns:
        """The turns, from 0, of entries into a main loop that had so many."""
        found = {}
        for entry, count in enumerate(counts):
            turns = {t - 1 for first, end in self.ranges for t in range(first, min(end or count, count) + 1)}
            found[entry] = sorted(turns | ({count - 1} if self.last and count else set()))
        return found


def selected(runs: Sequence[RunFolder], where: Where, names: Sequence[str] = ()) -> dict[str, Turns | None]:
    """The runs for which a condition is true somewhere, by id, each with the turns, by entry, for which it is; None: it
    is true of the whole run.

    Args:
        names: that are to be recovered: the condition may ask for them where no run has logged them yet.

    Raises:
        FlorError: it asks for what is not there.
    """
    asked = asked_for(runs, where, names)
    everything = not set(names).isdisjoint(where.names)  # a turn that a name is missing in is a row of others
    facts = gather(runs, [] if everything else asked) if asked or everything else None
    frame = pivot(facts, facts.names).frame if facts is not None else None
    found: dict[str, Turns | None] = {}
    for run in runs:
        rows = _run_rows(frame, run)
        main = _main_level(run)
        if main in where.names and not bool(rows[main].notna().any()):
            reader = Reader(run.ckpt)
            rows = _by_turn(rows, main, turn_counts(run, reader))
            reader.close()
        if missing := [name for name in names if name in where.unknown([*map(str, rows.columns)])]:
            rows = rows.assign(**dict.fromkeys(missing))
        rows = rows[where.rows(rows)]
        if len(rows):
            found[run.id] = _turns_of(rows, main)
    return found


def _run_rows(frame: pd.DataFrame | None, run: RunFolder) -> pd.DataFrame:
    """The rows of one run; one without any values if it has none."""
    import pandas as pd

    manifest = run.manifest()
    own = {
        "projid": str(manifest.get("projid") or Path(str(manifest.get("project", ""))).name),
        "runid": str(manifest.get("name") or run.id[:8]),
        "tstamp": pd.Timestamp(datetime.fromtimestamp(moment_of(manifest))),
        "vid": manifest.get("vid"),
    }
    if frame is not None:
        rows = frame[(frame["runid"] == own["runid"]) & (frame["tstamp"] == own["tstamp"])]
        if len(rows):
            return rows
    others = [str(column) for column in (frame.columns if frame is not None else LEVELS) if column not in own]
    empty = {name: pd.array([None], "Int64") if name in LEVELS else pd.Series([None], dtype=object) for name in others}
    return pd.DataFrame({**{name: [value] for name, value in own.items()}, **empty})


def _main_level(run: RunFolder) -> str:
    """What tables call the turns of a run's main loop."""
    names = [path[0][0] for path, _, _ in keyed(read(run.log)) if path]
    if not names:
        plans = run.manifest().get("plans") or {}
        names = [loop.get("name") for plan in plans.values() for loop in plan.get("loops", ()) if not loop.get("code")]
    return str(next(iter(names), "") or "epoch").partition("@")[0]


def _by_turn(rows: pd.DataFrame, main: str, counts: Sequence[int]) -> pd.DataFrame:
    """These rows for each turn of the main loop: what they hold is true of all of them."""
    import pandas as pd

    places = [(entry, turn) for entry, count in enumerate(counts) for turn in range(count)]
    parts = []
    for n in range(len(rows)):
        part = rows.iloc[[n] * len(places)].reset_index(drop=True)
        part[main] = pd.array([turn + 1 for _, turn in places], "Int64")
        if len(counts) > 1:
            part["entry"] = pd.array([entry + 1 for entry, _ in places], "Int64")
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if places else rows.iloc[:0]


def _turns_of(rows: pd.DataFrame, main: str) -> Turns | None:
    """The turns, by entry, that rows are in; None if one is in none: all."""
    if main not in rows.columns or bool(rows[main].isna().any()):
        return None
    found: dict[int, set[int]] = {}
    entries: list[Any] = rows["entry"].tolist() if "entry" in rows.columns else [1] * len(rows)
    for entry, turn in zip(entries, rows[main].tolist(), strict=True):
        found.setdefault(int(entry) - 1 if isinstance(entry, int) else 0, set()).add(int(turn) - 1)
    return {entry: sorted(turns) for entry, turns in found.items()}


def both(one: Turns | None, other: Turns | None) -> Turns | None:
    """The turns that two choices have in common."""
    if one is None or other is None:
        return other if one is None else one
    return {entry: [turn for turn in turns if turn in other.get(entry, ())] for entry, turns in one.items()}
