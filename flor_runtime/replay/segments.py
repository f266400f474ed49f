"""Segments: goals cut into pieces, put together, and less what is done already."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from flor_runtime.replay.claims import Place
from flor_runtime.replay.replayer import WEAK, Goal


def places(goal: Goal) -> list[Place]:
    """The turns that a goal wants, in the order in which they run."""
    return [(entry, turn) for entry, turns in sorted(goal.turns.items()) for turn in turns]


def before(goal: Goal, place: Place) -> Goal:
    """What of a goal comes before a turn."""
    return replace(goal, turns=_only(goal, (p for p in places(goal) if p < place)), to_end=False)


def beyond(goal: Goal, place: Place) -> Goal:
    """What of a goal comes from a turn on."""
    return replace(goal, turns=_only(goal, (p for p in places(goal) if p >= place)))


def without(goal: Goal, done: Collection[Place], ended: bool) -> Goal | None:
    """What is left of a goal; None: nothing.

    Args:
        ended: what comes after the main loops is done, too.
    """
    left = [place for place in places(goal) if place not in done]
    to_end = goal.to_end and not ended
    if not left and not to_end:
        return None
    return replace(goal, turns=_only(goal, left), to_end=to_end)


def merged(goals: Iterable[Goal], mode: str) -> Goal:
    """One goal for all that several want."""
    first, *others = goals
    wanted = {place for goal in (first, *others) for place in places(goal)}
    turns = {entry: sorted(turn for e, turn in wanted if e == entry) for entry in sorted({e for e, _ in wanted})}
    to_end = any(goal.to_end for goal in (first, *others))
    return replace(first, turns=turns, to_end=to_end, mode=mode, partial=first.partial and mode == WEAK)


def _only(goal: Goal, left: Iterable[Place]) -> dict[int, list[int]]:
    turns: dict[int, list[int]] = {entry: [] for entry in goal.turns}
    for entry, turn in left:
        turns[entry].append(turn)
    return turns
