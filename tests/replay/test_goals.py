"""Segments: each turn that is wanted is in one of them, and each but the first begins where a checkpoint is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flor_runtime.replay.goals import make_goals
from flor_runtime.store.checkpoints import Entry, Key
from flor_transform.analysis.sites import Sites


def _reader(turns: set[int]) -> Any:
    entries = {Key(0, turn): Entry(Key(0, turn), float(turn), "", ["0.bin", 0, 1, ""], [["d", 1]]) for turn in turns}
    return SimpleNamespace(entries=entries)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 40),
    kept=st.sets(st.integers(0, 39)),
    slots=st.integers(1, 8),
    seconds=st.sampled_from([0.1, 1.0, 60.0]),
    cut=st.booleans(),
    after=st.booleans(),
)
def test_every_turn_is_in_one_segment(
    count: int, kept: set[int], slots: int, seconds: float, cut: bool, after: bool
) -> None:
    timing: Any = SimpleNamespace(startup=1.0, turn=seconds, rest=0.5, blocks={"train": seconds}, counts=[count])
    sites = Sites(before=False, turn=True, blocks=frozenset({"train"}), after=after)
    goals, estimate = make_goals(sites, _reader(kept), timing, slots, cut)
    whole = list(range(count - 1 if cut else count))
    assert whole == [turn for goal in goals for turn in goal.turns[0]]
    assert 1 <= len(goals) <= slots
    assert all(goal.turns[0][0] in kept for goal in goals[1:])
    assert [False] * (len(goals) - 1) == [goal.to_end for goal in goals[:-1]]
    assert goals[-1].to_end == (after and not cut)
    assert estimate >= timing.startup
