"""What a replay of one run has to do: the new statements at their places, the turns that they need, the cost."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime import secrets, versions
from flor_runtime.errors import ReplayError, StoreError
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.layout import RunFolder, read_json
from flor_runtime.store.runlog import keyed, read

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites

_MOST_TURNS, _MOST_GAPS = 50_000_000, 10_000  # of a run; entries into a main loop of which nothing is known
_RESTORE = 0.005  # seconds: a first guess at one restore, for the estimate


@dataclass
class Placed:
    """The statements of today's files in one version.

    Attributes:
        patched: texts with the statements in them, by path relative to the project.
        lines: of the new statements, by the same paths.
        names: found a place. `refused`: reasons by name. `recorded`: the run logged them itself. `recovered`: an
            earlier replay has their values, from the same statements.
        texts: of the new statements, by name.
    """

    patched: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    recorded: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class RunPlan:
    """One run's part in a replay."""

    run: RunFolder
    manifest: dict[str, Any]
    facts: dict[str, Any]
    placed: Placed
    sites: Sites
    goals: list[Goal]
    estimate: float


def project_files(folder: Path, script: str) -> dict[str, bytes]:
    """The script and the modules beside it that it imports, by path relative to the project's root."""
    from flor_transform.siblings import read_siblings

    path = folder / script
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from None
    beside = Path(script).parent
    return {script: source} | {(beside / name).as_posix(): text for name, text in read_siblings(path, source).items()}


def check_names(files: dict[str, bytes], names: list[str]) -> None:
    """See to it that today's files log all the names.

    Raises:
        ReplayError: one of them is logged nowhere.
    """
    from flor_transform import backport

    for name in names:
        refusals = [backport(text, text, [name]).refusals for text in files.values()]
        if all(found and found[0].code == "NOT-LOGGED" for found in refusals):
            raise ReplayError(f"{next(iter(files))} logs no {name!r}: add flor.log({name!r}, ...) to it first")


def place(run: RunFolder, old: dict[str, bytes], new: dict[str, bytes], names: list[str], again: bool) -> Placed:
    """Put the statements for `names` of today's files into a version's files.

    Args:
        again: also those whose values an earlier replay has recovered.
    """
    placed = _place(run, old, new, names)
    known = {} if again else _recovered_texts(run)
    placed.recovered = [name for name in placed.names if known.get(name) == placed.texts[name]]
    if placed.recovered:
        rest = _place(run, old, new, [name for name in names if name not in placed.recovered])
        rest.recorded, rest.refused, rest.recovered = placed.recorded, placed.refused, placed.recovered
        return rest
    return placed


def _recovered_texts(run: RunFolder) -> dict[str, list[str]]:
    """The statements whose values were recovered and can be trusted, by name."""
    found: dict[str, list[str]] = {}
    for replay in run.replays():
        if replay.manifest.get("label") != "inexact":
            found |= replay.manifest.get("texts") or {}
    return found


def _place(run: RunFolder, old: dict[str, bytes], new: dict[str, bytes], names: list[str]) -> Placed:
    from flor_transform import backport_project
    from flor_transform.backport.byhand import remembered

    placed = Placed()
    logged = {name for _, name, _ in keyed(read(run.log))}
    placed.recorded = [name for name in names if name in logged]
    wanted = [name for name in names if name not in logged]
    result = backport_project(old, new, wanted)
    manifest = run.manifest()
    if result.refusals and manifest.get("repo"):
        by_hand = {at.name: (at.path, at.line) for at in remembered(manifest["repo"], [manifest["vid"]])}
        places = {r.name: by_hand[r.name] for _, r in result.refusals if r.name in by_hand}
        result = backport_project(old, new, wanted, places) if places else result
    for path, placement in result.placements:
        placed.lines.setdefault(path, []).append(placement.line)
        placed.texts.setdefault(placement.name, []).append(placement.text.strip())
        if placement.name not in placed.names:
            placed.names.append(placement.name)
    placed.patched = result.changed
    for _, refusal in result.refusals:
        if refusal.name not in placed.names:
            placed.refused[refusal.name] = f"{refusal.code}: {refusal.message}"
    return placed


def find_sites(
    script: str,
    sources: dict[str, bytes],
    lines: dict[str, list[int]],
    settings: dict[str, Any],
    recorded: Collection[Key] = (),
) -> Sites:
    """Where the new statements stand in relation to the main loop and its blocks.

    Args:
        settings: that the run was instrumented with.
        recorded: the boundaries that it passed.
    """
    from flor_transform import instrument_project
    from flor_transform.analysis import sites
    from flor_transform.analysis.marked import read_plan
    from flor_transform.settings import Settings

    beside = Path(script).parent
    local = {Path(path).relative_to(beside).as_posix(): text for path, text in sources.items()}
    results = instrument_project(Path(script).name, local, settings=Settings.from_mapping(settings))
    plans = {
        name: read_plan(name, local[name]) if result.plan.instrumented else result.plan
        for name, result in results.items()
    }
    if recorded and not any(not loop.refused for plan in plans.values() for loop in plan.loops):
        # A loop was recorded that nothing in the text tells of: everything has to run.
        return sites.Sites(before=True, turn=True, blocks=frozenset(key.block for key in recorded) - {""}, after=True)
    marks = {Path(path).relative_to(beside).as_posix(): found for path, found in lines.items()}
    return sites.find_sites(local, plans, marks)


class Timing:
    """What the index of a run's checkpoints tells about time, in seconds."""

    def __init__(self, run: RunFolder, reader: Reader) -> None:
        boundaries = {key: e.when for key, e in reader.entries.items() if not key.block}
        self.startup = boundaries.get(Key(0, 0), 0.0)
        last = max(boundaries, key=lambda key: (key.entry, key.turn), default=None)
        end = run.end()
        total = float(end["ended"]) - float(run.manifest()["started"]) if end else 0.0
        self.counts = turn_counts(run, reader)
        turns = sum(self.counts)
        span = boundaries[last] - self.startup if last is not None and last.turn else total - self.startup
        done = last.turn if last is not None and last.turn and len(self.counts) == 1 else turns
        self.turn = max(0.0, span) / done if done else 0.0
        self.rest = max(0.0, total - self.startup - self.turn * turns)
        self.blocks: dict[str, float] = {}  # seconds a turn
        turn = next(
            (k for k in boundaries if any(b.block and (b.entry, b.turn) == (k.entry, k.turn) for b in reader.entries)),
            None,
        )
        if turn is not None:
            at = boundaries[turn]
            inside = [
                (e.when, k.block)
                for k, e in reader.entries.items()
                if k.block and (k.entry, k.turn) == (turn.entry, turn.turn)
            ]
            for when, block in sorted(inside):
                self.blocks[block] = self.blocks.get(block, 0.0) + when - at
                at = when


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
    counts: dict[int, int] = {}
    for key in reader.entries:
        counts[key.entry] = max(counts.get(key.entry, 0), key.turn + bool(key.block))
    for path, _, _ in keyed(read(run.log)):
        if path:
            number = path[0][0].partition("@")[2]
            entry = int(number) if number.isdecimal() and len(number) < 10 else 0
            counts[entry] = max(counts.get(entry, 0), path[0][1])
    if max(counts, default=0) > len(counts) + _MOST_GAPS or sum(counts.values()) >= _MOST_TURNS:
        raise ReplayError(f"{run.path}: its turns can't be counted")
    return [counts.get(entry, 0) for entry in range(max(counts, default=-1) + 1)]


def make_goals(sites: Sites, reader: Reader, timing: Timing, slots: int, cut: bool) -> tuple[list[Goal], float]:
    """Segments for at most `slots` workers, and the estimated seconds until the last one ends.

    Args:
        cut: the run was stopped from outside: its last turn was never completed and nothing came after it, so a replay
            has no values there.
    """
    counts = timing.counts
    if cut and counts:
        counts = [*counts[:-1], max(0, counts[-1] - 1)]
        sites = replace(sites, after=False)
    if not counts:  # no main loop was recorded: there is only the whole program
        return [Goal({}, counts, frozenset(), True, WEAK)], timing.startup + timing.rest
    wanted = {entry: list(range(count)) for entry, count in enumerate(counts)} if sites.turn or sites.blocks else {}
    skipped = sum(seconds for block, seconds in timing.blocks.items() if block not in sites.blocks)
    usable = [e for e in reader.entries.values() if e.usable and e.key.block]
    share = len({(e.key.entry, e.key.turn) for e in usable}) / max(
        1, sum(counts)
    )  # of the turns whose blocks can be skipped
    cost = max(_RESTORE, timing.turn - skipped * min(1.0, share))
    total = cost * sum(map(len, wanted.values()))
    to_end = sites.after
    tail = timing.rest if to_end else 0.0
    parts = 1
    if len(counts) == 1 and wanted:
        parts = max(1, min(slots, math.floor(total / max(0.5, timing.startup))))
    starts = [0]
    for n in range(1, parts):
        ideal = round(counts[0] * n / parts)
        candidates = [
            t for t in range(starts[-1] + 1, counts[0]) if (e := reader.entries.get(Key(0, t))) is not None and e.usable
        ]
        if candidates:
            starts.append(min(candidates, key=lambda t: abs(t - ideal)))
    if len(starts) == 1:
        return [Goal(wanted, counts, sites.blocks, to_end, WEAK)], timing.startup + total + tail
    bounds = [*starts, counts[0]]
    goals = []
    for n, (start, stop) in enumerate(itertools.pairwise(bounds)):
        last = n == len(starts) - 1
        goals.append(Goal({0: list(range(start, stop))}, counts, sites.blocks, to_end and last, WEAK))
    longest = max(len(g.turns[0]) for g in goals)
    return goals, timing.startup + cost * longest + tail


def plan_run(
    run: RunFolder, new: dict[str, bytes], names: list[str], slots: int, scratch: Path, again: bool
) -> RunPlan:
    """Plan the replay of one run.

    Args:
        new: today's files with the statements, by path relative to the project.
        scratch: an empty folder for the version's files.
        again: as for `place`.

    Raises:
        ReplayError: the run's code is not there.
    """
    manifest = run.manifest()
    if not manifest.get("vid") or not manifest.get("repo"):
        raise ReplayError("its code was not kept")
    if manifest.get("processes", 1) != 1:
        raise ReplayError(
            f"it is one of {manifest['processes']} processes that trained together, and can't go on without the others"
        )
    secrets.unmask_arguments(manifest["argv"], manifest.get("masked"), os.environ)
    try:
        versions.export(manifest["repo"], manifest["vid"], scratch)
    except versions.VersionError as error:
        raise ReplayError(str(error)) from None
    old = project_files(scratch, manifest["script"])
    placed = place(run, old, new, names, again)
    reader = Reader(run.ckpt)
    sources = {**old, **placed.patched}
    sites = find_sites(manifest["script"], sources, placed.lines, manifest.get("settings") or {}, reader.entries)
    cut = run.status() in ("interrupted", "killed", "alive")
    goals, estimate = make_goals(sites, reader, Timing(run, reader), slots, cut) if placed.names else ([], 0.0)
    in_turns = (sites.turn or sites.blocks) and not sites.before
    if cut and in_turns and goals and goals[0].counts and not any(turns for g in goals for turns in g.turns.values()):
        raise ReplayError("it was stopped, and nothing that it left tells of a turn that was complete")
    return RunPlan(run, manifest, read_facts(run), placed, sites, goals, estimate)
