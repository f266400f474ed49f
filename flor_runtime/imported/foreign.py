"""A run of another tool as plain data, and its way into the store."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flor_runtime import secrets
from flor_runtime.errors import FlorError, StoreError
from flor_runtime.store.layout import FORMAT, Home, RunFolder, write_json
from flor_runtime.store.runlog import RunLog

_LARGEST_TURN = 2**32 - 1
_LONGEST = 10_000  # characters of a text


class ImportFailed(FlorError):
    """There are no runs of that tool, or they can't be read."""


class Value(NamedTuple):
    """One value of a metric."""

    step: int
    time: float
    value: float | int | str


@dataclass
class ForeignRun:
    """A run of another tool.

    Attributes:
        key: what is the run's own, wherever its files lie.
        status: finished, failed or interrupted; "" where it is not known to have ended.
        flor: the id of the run that flor exported it from.
    """

    tool: str
    key: str
    name: str | None
    project: str
    place: str
    started: float = 0.0
    ended: float | None = None
    status: str = ""
    script: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[Value]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    flor: str | None = None

    @property
    def id(self) -> str:
        """The run's id here, the same each time."""
        return hashlib.sha256(f"{self.tool}\0{self.key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def digest(self, level: str) -> str:
        """What changes when anything of it does."""
        what = repr((level, self.name, self.project, self.started, self.ended, self.status, self.script,
                     self.parameters, self.tags, self.metrics))  # fmt: skip
        return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()


class Taken(NamedTuple):
    """What became of a run: "new", "brought up to date", "as before", or why it was left out."""

    id: str
    name: str | None
    what: str


def take(run: ForeignRun, root: Path, level: str, home: Home) -> Taken:
    """Put a run into the store, whole or not at all.

    Args:
        root: the project that it is to stand in.
        level: the loop that its steps are turns of.

    Raises:
        StoreError: the store can't be written.
    """
    if run.flor is not None and (home.runs / run.flor).exists():
        return Taken(run.flor, run.name, "is a run of this store that was exported: left out")
    digest = run.digest(level)
    there = home.runs / run.id
    known: Any = None
    if there.exists():
        try:
            known = RunFolder(there).manifest().get("imported")
        except StoreError:
            known = {}
        if isinstance(known, dict) and known.get("digest") == digest:
            return Taken(run.id, run.name, "as before")
    try:
        home.runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.root, prefix=".new-") as scratch:
            made = RunFolder(Path(scratch) / run.id)
            made.path.mkdir()
            _write(made, run, root, level, digest)
            if known is not None:
                there.rename(Path(scratch) / "before")
            made.path.rename(there)
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{there}: can't be made: {error}") from error
    return Taken(run.id, run.name, "new" if known is None else "brought up to date")


def _write(folder: RunFolder, run: ForeignRun, root: Path, level: str, digest: str) -> None:
    clock = _Clock(_moment(run.started))
    outside, turns, shift, notes = _turns(run)
    log = RunLog(folder.log, clock=clock)
    for name, value in outside:
        log.append(0, name, value)
    for turn, time, values in turns:
        clock.now = time
        context = log.context(0, level, turn)
        for name, value in values:
            log.append(context, name, value)
    log.close()
    captured = RunLog(folder.captured, clock=clock)
    for name, value in {**run.parameters, **{f"tag.{tag}": text for tag, text in run.tags.items()}}.items():
        captured.append(0, name, secrets.mask(name, value[:_LONGEST] if isinstance(value, str) else value))
    captured.close()
    if shift:
        notes.append(f"its steps begin at {1 - shift}: here they are counted from 1")
    if not run.status:
        notes.append(f"{run.tool} doesn't say that it ended")
    manifest = {
        "started": clock.began, "pid": 0, "projid": run.project, "project": str(root), "script": run.script,
        "name": run.name, "argv": [], "env": {}, "vid": None, "repo": None, "plans": {}, "settings": {},
        "notes": [f"imported from {run.tool}: {run.place}", *run.notes, *notes],
        "imported": {"tool": run.tool, "digest": digest, "shift": shift},
    }  # fmt: skip
    folder.begin(manifest)
    last = max([clock.began, *(time for _, time, _ in turns)] if run.ended is None else [_moment(run.ended)])
    if run.status:
        error = f"{run.tool} says that it failed" if run.status == "failed" else None
        code = {"finished": 0, "failed": 1}.get(run.status)
        end = {"format": FORMAT, "status": run.status, "ended": last, "exit": code, "error": error}
        write_json(folder.path / "end.json", end)
    else:  # its last sign of life is that of its files
        for path in (folder.path / "run.json", *folder.log.iterdir()):
            os.utime(path, (last, last))


class _Clock:
    """Gives the log the times that the other tool has."""

    def __init__(self, began: float) -> None:
        self.began = self.now = began

    def __call__(self) -> float:
        return self.now


_Pairs = list[tuple[str, float | int | str]]


def _turns(run: ForeignRun) -> tuple[_Pairs, list[tuple[int, float, _Pairs]], int, list[str]]:
    """(what belongs to the run as a whole, [(turn, time, values)], what was added to steps, notes).

    A metric that has one value, at step 0, was logged without a step.
    """
    outside: _Pairs = []
    steps: dict[int, tuple[list[float], _Pairs]] = {}
    for name, values in run.metrics.items():
        if len(values) == 1 and values[0].step == 0:
            outside.append((name, values[0].value))
            continue
        for value in values:
            times, pairs = steps.setdefault(value.step, ([], []))
            times.append(_moment(value.time))
            pairs.append((name, value.value))
    shift = 1 - min(steps) if steps and min(steps) < 1 else 0
    notes = []
    beyond = [step for step in steps if step + shift > _LARGEST_TURN]
    if beyond:
        notes.append(f"values at {len(beyond)} steps beyond {_LARGEST_TURN} are left out")
    kept = sorted(set(steps) - set(beyond))
    return outside, [(step + shift, min(steps[step][0]), steps[step][1]) for step in kept], shift, notes


def _moment(seconds: float) -> float:
    """A time that a manifest can have."""
    return min(max(float(seconds), 0.0), 1e11) if math.isfinite(seconds) else 0.0


def chosen(runs: Iterator[ForeignRun], wanted: list[str] | None) -> Iterator[ForeignRun]:
    """The runs of these names, or keys that begin so.

    Raises:
        ImportFailed: one is not there.
    """
    if wanted is None:
        yield from runs
        return
    missing = set(wanted)
    for run in runs:
        fits = {text for text in wanted if text and (run.name == text or run.key.startswith(text))}
        missing -= fits
        if fits:
            yield run
    if missing:
        raise ImportFailed(f"no run {sorted(missing)[0]!r} there")
