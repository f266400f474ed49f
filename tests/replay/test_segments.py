"""Dividing segments: each turn has one worker, whoever is faster; and where a cut pays."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flor_runtime.replay.claims import Claims
from flor_runtime.replay.pace import Pace, Timeline
from flor_runtime.replay.replayer import STRONG, WEAK, Goal
from flor_runtime.replay.segments import before, beyond, merged, places, without
from flor_runtime.replay.slots import slot_env, visible_gpus, workers_for

turns = st.dictionaries(st.integers(0, 2), st.lists(st.integers(0, 9), unique=True).map(sorted), max_size=3)
goals = st.builds(
    lambda turns, to_end: Goal(turns, [10, 10, 10], frozenset({"train"}), to_end, WEAK), turns, st.booleans()
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(goals, st.tuples(st.integers(0, 2), st.integers(0, 9)))
def test_both_halves_are_the_whole(goal: Goal, place: tuple[int, int]) -> None:
    head, tail = before(goal, place), beyond(goal, place)
    assert places(goal) == places(head) + places(tail)
    assert (False, goal.to_end) == (head.to_end, tail.to_end)
    assert merged([tail, head], WEAK) == merged([goal], WEAK)
    left = without(goal, set(places(head)), ended=False)
    assert (places(tail), goal.to_end) == ((places(left), left.to_end) if left is not None else ([], False))
    assert STRONG == merged([goal], STRONG).mode


def test_what_is_claimed_is_not_given_away_and_what_is_given_is_not_claimed(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        scheduler, worker = Claims(folder, make=True), Claims(folder)
        run: list[int] = []
        work = threading.Thread(target=lambda: run.extend(t for t in range(200) if worker.claim((0, t))))  # noqa: B023
        work.start()
        given = next((t for t in range(5, 200, 3) if scheduler.cut((0, t))), 200)
        work.join()
        assert list(range(given)) == run
        assert (0, run[-1]) == scheduler.claimed()
        assert given == 200 or scheduler.limit() == (0, given)
        scheduler.close()
        worker.close()


def test_a_second_cut_is_nearer() -> None:
    pace = Pace(1.0, [[1.0] * 8], 0.0, {(0, turn) for turn in range(8)})
    goal = Goal({0: list(range(8))}, [8], frozenset(), False, WEAK)
    found = Timeline(goal, pace).best_cut((0, 0), 0.5)
    assert found == ((0, 5), 4.5)
    found = Timeline(before(goal, (0, 5)), pace).best_cut((0, 2), 0.0)
    assert found is not None and found[0] == (0, 4)


def test_a_cut_goes_by_the_time_of_each_turn_and_to_where_one_can_begin() -> None:
    uneven = Pace(0.1, [[0.1] * 6 + [5.0, 5.0]], 0.0, {(0, turn) for turn in range(8)})
    goal = Goal({0: list(range(8))}, [8], frozenset(), False, WEAK)
    assert (0, 7) == (Timeline(goal, uneven).best_cut((0, 0), 0.0) or ((0, 0), 0))[0]
    kept = Pace(0.1, [[1.0] * 6 + [5.0, 5.0]], 0.0, {(0, 6)})
    assert (0, 6) == (Timeline(goal, kept).best_cut((0, 0), 0.0) or ((0, 0), 0))[0]
    assert None is Timeline(goal, Pace(0.1, uneven.turns, 0.0, frozenset())).best_cut((0, 0), 0.0)
    assert None is Timeline(goal, uneven).best_cut((0, 7), 0.0)
    assert Timeline(goal, uneven).remaining((0, 6), 2.0) == 8.0


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([0.1, 1.0, 7.0]), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.integers(-1, 11),
    st.sampled_from([0.0, 2.0]),
)
def test_no_other_cut_is_better(seconds: list[float], kept: set[int], at: int, startup: float) -> None:
    pace = Pace(startup, [seconds], 0.5, {(0, turn) for turn in kept})
    goal = Goal({0: list(range(len(seconds)))}, [len(seconds)], frozenset(), True, WEAK)
    claimed = None if at < 0 else (0, at)
    timeline = Timeline(goal, pace)
    whole = timeline.remaining(claimed, 0.0)
    cuts = [turn for turn in kept if max(at, 0) < turn < len(seconds)]
    both = [max(whole - sum(seconds[turn:]) - 0.5, startup + sum(seconds[turn:]) + 0.5) for turn in cuts]
    found = timeline.best_cut(claimed, 0.0)
    if found is None:
        assert min(both, default=whole) > min(0.9 * whole, whole - 0.2) - 1e-6
    else:
        assert found[0][1] in cuts and abs(found[1] - min(both)) < 1e-6
    assert len(seconds) - max(0, at) == timeline.turns_after(claimed) or at >= len(seconds)


def test_a_cut_that_does_not_pay_is_not_made() -> None:
    slow_to_start = Pace(10.0, [[1.0] * 8], 0.0, {(0, turn) for turn in range(8)})
    goal = Goal({0: list(range(8))}, [8], frozenset(), False, WEAK)
    assert None is Timeline(goal, slow_to_start).best_cut((0, 0), 0.0)


def test_gpus_are_dealt_out() -> None:
    gpus = visible_gpus({"CUDA_VISIBLE_DEVICES": "2, 3,5,-1,7"})
    assert ["2", "3", "5"] == gpus
    one = {"torch": "2", "gpus": 1, "cuda": "12"}
    assert ["2", "3", "5", "2"] == [slot_env(slot, one, gpus)["CUDA_VISIBLE_DEVICES"] for slot in range(4)]
    assert "5,2" == slot_env(1, {**one, "gpus": 2}, gpus)["CUDA_VISIBLE_DEVICES"]
    assert "-1" == slot_env(0, {**one, "gpus": 0, "cuda": None}, gpus)["CUDA_VISIBLE_DEVICES"]
    assert {} == slot_env(0, {}, gpus) == slot_env(0, one, [])
    assert [3, 1, 8, 8] == [workers_for(n, given, 1, 8) for n, given in ((1, gpus), (2, gpus), (0, gpus), (1, []))]
