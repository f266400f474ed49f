"""The chosen runs as plain data: parameters, and of each name one value a turn, with its step, time and label."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from flor_runtime.query.overview import overview
from flor_runtime.query.plainly import digits
from flor_runtime.query.records import (
    Facts,
    Log,
    RunFacts,
    commit_of,
    key_columns,
    logs_of,
    objects_of,
    part_of,
    turn_column,
)
from flor_runtime.query.spread import above, keep, meant, spread
from flor_runtime.store.asjson import json_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flor_runtime.query.where import Where
    from flor_runtime.store.layout import RunFolder

RECORDED = "recorded"
_LARGEST = 1023  # bits of an integer that is a number elsewhere, too: those of a float


class Point(NamedTuple):
    """One value of a series.

    Attributes:
        step: the turn of the innermost open loop, counted on over the turns of outer ones; 0 outside of loops.
        time: unix time at which the turn began when it was recorded.
        label: "recorded"; exact, verified or inexact where a replay recovered it.
    """

    step: int
    time: float
    value: object
    label: str


@dataclass
class Exported:
    """A run.

    Attributes:
        ended: unix time; None where nobody knows.
        points: of each name, in the order first seen; ascending steps, each once.
        dropped: how many values of a name stand at the place of a later one.
    """

    id: str
    name: str | None
    projid: str
    project: str
    script: str
    argv: list[str]
    status: str
    started: float
    ended: float | None
    vid: str | None
    parameters: dict[str, Any]
    points: dict[str, list[Point]]
    tags: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a person calls it, and no other run: its name and the beginning of its id."""
        return f"{self.name} {self.id[:8]}" if self.name else self.id[:8]

    def recovered(self) -> dict[str, dict[str, int]]:
        """Of each name that a replay has values of: how many by label."""
        found: dict[str, dict[str, int]] = {}
        for name, points in self.points.items():
            for point in points:
                if point.label != RECORDED:
                    counts = found.setdefault(name, {})
                    counts[point.label] = counts.get(point.label, 0) + 1
        return found

    def digest(self) -> str:
        """What changes when anything of it does."""
        known = (self.status, self.ended, self.vid, self.parameters, self.tags)
        try:
            what = repr((*known, self.points))
        except ValueError:  # a very large integer in a list
            what = repr((*known, json_value({name: list(map(list, series)) for name, series in self.points.items()})))
        return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()


def gather(
    folders: Sequence[RunFolder], names: Collection[str] = (), where: Where | None = None
) -> tuple[list[Exported], list[str]]:
    """The runs, oldest first, and what is to be said of them.

    Args:
        names: only these; a dictionary's name means all its parts.
        where: only values at places of which this is true.

    Raises:
        FlorError: a condition that asks for what is not there.
    """
    read: list[tuple[RunFolder, dict[str, Any], list[Log], Facts]] = []
    notes: list[str] = []
    for folder in folders:
        manifest = folder.manifest()
        logs = logs_of(folder, manifest)
        facts = part_of(folder, manifest, logs, above(names) if names else None)
        spread(facts)
        if names:
            keep(facts, meant(names, facts.names))
        notes += [note for note in facts.notes if note not in notes]
        read.append((folder, manifest, logs, facts))
    matching: Any = None
    if where is not None:
        from flor_runtime.query.matching import matching as rows_of

        matching = rows_of(folders, where, list(dict.fromkeys(name for *_, facts in read for name in facts.names)))
    runs = [_exported(*each, matching) for each in read]
    return runs, notes


def _exported(
    folder: RunFolder, manifest: dict[str, Any], logs: Sequence[Log], facts: Facts, matching: Any
) -> Exported:
    run = facts.runs[0]
    seen = overview(folder, manifest, logs)
    started = float(manifest["started"])
    points, dropped = _points(facts, run, logs, started, _chosen(run, matching))
    seconds = seen["seconds"]
    return Exported(
        id=folder.id,
        name=manifest.get("name"),
        projid=run.projid,
        project=str(manifest.get("project") or ""),
        script=str(manifest.get("script") or ""),
        argv=seen["argv"],
        status=seen["status"],
        started=started,
        ended=started + seconds if seconds is not None and seen["status"] != "alive" else None,
        vid=manifest.get("vid"),
        parameters=seen["parameters"],
        points=points,
        tags=_tags(manifest),
        dropped=dropped,
    )


def _tags(manifest: dict[str, Any]) -> dict[str, str]:
    tags = {
        "project": manifest.get("project"),
        "script": manifest.get("script"),
        "branch": manifest.get("branch"),
        "python": manifest.get("python"),
        "version": manifest.get("vid"),
        "commit": commit_of(manifest).get("id"),
    }
    return {name: str(value) for name, value in tags.items() if value}


def _points(
    facts: Facts, run: RunFacts, logs: Sequence[Log], started: float, chosen: NDArray[Any] | None
) -> tuple[dict[str, list[Point]], dict[str, int]]:
    """The series of a run; parameters are none."""
    import numpy as np

    steps = _steps(run).tolist()
    times = _times(run, logs, started).tolist()
    labels = [source.label if source.replay else RECORDED for source in run.sources]
    values = objects_of(run.kind, run.raw, facts.objects)
    captured = np.array([source.captured for source in run.sources], bool)
    outside: NDArray[np.bool_] = ~(run.places > 0).max(axis=1, initial=False)
    taken = ~(captured[run.source] & outside[run.place])  # those are parameters
    if chosen is not None:
        taken &= chosen[run.place]
    found: dict[str, dict[int, Point]] = {}
    dropped: dict[str, int] = {}
    rows = np.flatnonzero(taken)
    columns = (run.name[rows].tolist(), run.place[rows].tolist(), run.source[rows].tolist(), values[rows].tolist())
    for code, place, source, value in zip(*columns, strict=True):
        name = facts.names[code]
        series = found.setdefault(name, {})
        step = steps[place]
        if step in series:
            dropped[name] = dropped.get(name, 0) + 1
        if isinstance(value, int) and value.bit_length() > _LARGEST:
            value = digits(value)
        series[step] = Point(step, times[place], value, str(labels[source]))
    ordered = {name: found[name] for name in facts.names if name in found}
    return {name: [series[step] for step in sorted(series)] for name, series in ordered.items()}, dropped


def _steps(run: RunFacts) -> NDArray[Any]:
    """Of each place: the turn of its innermost loop, counted on over the turns of those around it."""
    import numpy as np

    order = sorted(range(len(run.levels)), key=lambda level: run.levels[level] != "entry")
    places = run.places[:, order]
    steps = np.zeros(len(places), np.int64)
    if not len(order) or not len(places):
        return steps
    inner = (places > 0) * np.arange(1, len(order) + 1)
    depth = inner.max(axis=1)
    for level in range(1, len(order) + 1):
        here = np.flatnonzero(depth == level)
        if not len(here):
            continue
        outer, which = np.unique(places[here, : level - 1], axis=0, return_inverse=True)
        turns = places[here, level - 1]
        most = np.zeros(len(outer), np.int64)
        np.maximum.at(most, which.reshape(-1), turns)
        steps[here] = (np.cumsum(most) - most)[which.reshape(-1)] + turns
    return steps


def _times(run: RunFacts, logs: Sequence[Log], started: float) -> NDArray[Any]:
    """Of each place: when it began in the run itself; where only a replay was there, then."""
    import numpy as np

    began, order = [], []
    for source, records, _ in reversed(logs):  # as `part_of` puts them together
        began.append(records.started)
        order.append(np.full(len(records.started), 2 if source.replay else 1 if source.captured else 0))
    times, rank = np.concatenate(began), np.concatenate(order)
    if len(times) and run.places.shape[1]:
        _, group = np.unique(run.places, axis=0, return_inverse=True)
        group = group.reshape(-1)
        first = np.lexsort((rank, times <= 0, group))
        heads = first[np.unique(group[first], return_index=True)[1]]
        times = times[heads][group]
    return np.where(times > 0, times, started)


def _chosen(run: RunFacts, matching: Any) -> NDArray[Any] | None:
    """Of each place, whether a condition is true of it, or somewhere in it."""
    if matching is None:
        return None
    import pandas as pd

    from flor_runtime.query.matching import covered

    columns: dict[str, Any] = key_columns([run], [len(run.places)])
    columns |= {level: turn_column(run.places[:, number]) for number, level in enumerate(run.levels)}
    return covered(pd.DataFrame(columns), matching, run.levels)
