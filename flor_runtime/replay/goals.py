"""Segments: which worker re-executes which turns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from flor_runtime.replay.cost import Costs
from flor_runtime.replay.replayer import WEAK, Goal

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites

#: how long a worker may go on behind the last statement that is wanted, to come to a state that can be compared
_LEAST, _SHARE_OF_RUN, _SHARE_OF_TURN = (3.0, 0.5), 0.02, 0.1
_WORTH = 0.5  # seconds of work, at least, for another worker


def make_goals(
    sites: Sites, costs: Costs, slots: int, cut: bool, chosen: Mapping[int, Collection[int]] | None = None
) -> list[Goal]:
    """Segments for at most `slots` workers.

    Args:
        cut: the run was stopped from outside: its last turn was never completed and nothing came after it, so a replay
            has no values there.
        chosen: the turns that were asked for, by entry into a main loop; None: all.
    """
    timing = costs.timing
    counts = timing.counts
    if cut and counts:
        counts = [*counts[:-1], max(0, counts[-1] - 1)]
        sites = replace(sites, after=False)
    stops = [list(stop) for stop in sites.stops]
    if not counts:  # no main loop was recorded: there is only the whole program
        return [Goal({}, counts, frozenset(), True, WEAK, stops=stops)]
    wanted = {}
    if sites.turn or sites.blocks:
        wanted = {entry: list(range(count)) for entry, count in enumerate(counts)}
        if chosen is not None:
            wanted = {e: [turn for turn in turns if turn in chosen.get(e, ())] for e, turns in wanted.items()}
    skipped = sum(seconds for block, seconds in timing.blocks.items() if block not in sites.blocks)
    ahead = [timing.startup, max(0.0, timing.turn - skipped)]
    patience = [max(_LEAST[0], _SHARE_OF_RUN * timing.total), max(_LEAST[1], _SHARE_OF_TURN * timing.turn)]
    reach = len(counts) if sites.before else 0  # it may stand before each entry
    goal = Goal(
        wanted, counts, sites.blocks, sites.after, WEAK, reach=reach, stops=stops, ahead=ahead, patience=patience
    )
    return _parts(goal, costs, slots)


def _parts(goal: Goal, costs: Costs, slots: int) -> list[Goal]:
    """One goal, or several of about the same size, each of which begins at a checkpoint."""
    turns = goal.turns.get(0, [])
    if len(goal.counts) != 1 or not turns:
        return [goal]
    seconds = [costs.of_turn(goal, 0, turn) for turn in turns]
    total = sum(seconds)
    count = max(1, min(slots, math.floor(total / max(_WORTH, costs.timing.startup - costs.timing.imports))))
    cuts = [0]
    done = list(itertools.accumulate(seconds, initial=0.0))
    for n in range(1, count):
        candidates = [k for k in range(cuts[-1] + 1, len(turns)) if costs.start(0, turns[k])]
        if candidates:
            cuts.append(min(candidates, key=lambda k: abs(done[k] - total * n / count)))
    bounds = [*cuts, len(turns)]
    return [
        replace(goal, turns={0: turns[start:stop]}, to_end=goal.to_end and stop == len(turns))
        for start, stop in itertools.pairwise(bounds)
    ]
