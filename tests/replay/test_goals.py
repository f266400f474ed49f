"""Segments: each turn that is wanted is in one of them, and each but the first begins where a checkpoint is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flor_runtime.replay.cost import Costs, until_all_are_done
from flor_runtime.replay.goals import make_goals
from flor_runtime.store.checkpoints import Entry, Key
from flor_transform.analysis.sites import Sites


def _costs(kept: set[int], count: int, seconds: float) -> Costs:
    entries = {Key(0, turn): Entry(Key(0, turn), float(turn), "", ["0.bin", 0, 1, ""], [["d", 1]]) for turn in kept}
    timing: Any = SimpleNamespace(
        startup=1.0, imports=0.5, turn=seconds, rest=0.5, total=100.0, blocks={"train": seconds}, counts=[count],
        turn_seconds=lambda entry, turn: seconds, block_seconds=lambda key: seconds,
    )  # fmt: skip
    return Costs(timing, SimpleNamespace(entries=entries))  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 40),
    kept=st.sets(st.integers(0, 39)),
    slots=st.integers(1, 8),
    seconds=st.sampled_from([0.1, 1.0, 60.0]),
    cut=st.booleans(),
    after=st.booleans(),
    chosen=st.none() | st.sets(st.integers(0, 39)),
)
def test_every_turn_is_in_one_segment(
    count: int, kept: set[int], slots: int, seconds: float, cut: bool, after: bool, chosen: set[int] | None
) -> None:
    costs = _costs(kept, count, seconds)
    sites = Sites(before=False, turn=True, blocks=frozenset({"train"}), after=after)
    asked = None if chosen is None else {0: sorted(chosen)}
    goals = make_goals(sites, costs, slots, cut, asked)
    whole = [turn for turn in range(count - 1 if cut else count) if chosen is None or turn in chosen]
    assert whole == [turn for goal in goals for turn in goal.turns[0]]
    assert 1 <= len(goals) <= slots
    assert all(goal.turns[0][0] in kept for goal in goals[1:])
    assert [False] * (len(goals) - 1) == [goal.to_end for goal in goals[:-1]]
    assert goals[-1].to_end == (after and not cut)
    courses = [costs.course(goal, ["train"]) for goal in goals]
    assert all(course.seconds >= 0.5 for course in courses)
    assert sum(course.runs - course.stepped for course in courses) >= len(whole)
    if kept >= set(range(count)):  # each turn can begin where it begins
        assert not any(course.stepped for course in courses)


def test_what_comes_before_each_entry() -> None:
    costs = _costs({0}, 3, 1.0)
    costs.timing.counts = [3, 3]
    (goal,) = make_goals(Sites(before=True), costs, 4, False)
    assert (2, {}, False) == (goal.reach, goal.turns, goal.to_end)


def test_longest_jobs_first() -> None:
    assert 6.0 == until_all_are_done([1.0, 2.0, 3.0, 6.0], 2)
    assert 0.0 == until_all_are_done([], 2)
