"""Segments: which worker re-executes which turns."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from flor_runtime.replay.cost import Timing
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.store.checkpoints import Key, Reader

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites

_RESTORE = 0.005  # seconds: a first guess at one restore, for the estimate


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
