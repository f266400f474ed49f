"""Checkpoints cost no more than epsilon of the time that has passed, whatever they cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_runtime.store.policy import Policy

seconds = st.floats(1e-6, 50, allow_nan=False)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(seconds, st.lists(seconds, max_size=4), seconds), max_size=80),
    st.sampled_from([0.001, 0.01, 0.1, 0.99]),
)
def test_overhead_stays_within_epsilon(turns: list[tuple[float, list[float], float]], epsilon: float) -> None:
    """Costs may jump from one turn to the next: then one turn's cost is over, and no other is taken until it is
    earned.
    """
    policy = Policy(epsilon)
    elapsed = spent = earlier = 0.0
    taken = 0
    for work, costs, note in turns:
        if policy.take(elapsed):
            assert taken == 0 or spent <= epsilon * elapsed
            policy.taken(elapsed)
            earlier = spent
            for cost in costs:
                policy.paid(cost)
                spent += cost
                elapsed += cost
            taken += bool(costs)
        elif policy.affords_note(elapsed):
            assert spent <= epsilon * elapsed
            policy.noted(note)
            earlier = spent
            spent += note
            elapsed += note
        elapsed += work
        assert earlier <= epsilon * elapsed or taken <= 1  # all but the newest are paid for


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seconds, st.integers(20, 200), st.sampled_from([0.01, 0.1]))
def test_equal_costs(cost: float, turns: int, epsilon: float) -> None:
    """Where a turn costs what the last one did, the bound holds after every turn once the first has been earned."""
    policy = Policy(epsilon)
    elapsed = spent = 0.0
    for turn in range(turns):
        if policy.take(elapsed):
            policy.taken(elapsed)
            policy.paid(cost)
            spent += cost
            assert turn == 0 or spent <= epsilon * elapsed * (1 + 1e-9)
        elapsed += 10 * cost
    assert spent + 3 * cost >= min(epsilon * elapsed, turns * cost)


def test_the_first_turn_is_taken_and_with_epsilon_1_all() -> None:
    policy = Policy(0.01)
    assert policy.take(0.0)
    policy.paid(1.0)
    assert not policy.take(99.0)
    everything = Policy(1)
    for turn in range(3):
        assert everything.take(float(turn))
        everything.taken(float(turn))
        everything.paid(100.0)


def test_a_checkpoint_must_be_worth_its_restoration() -> None:
    policy = Policy(0.9)
    assert policy.take(0.0)
    policy.taken(0.0)
    policy.paid(1.0)
    assert not policy.take(2.5)
    assert policy.take(3.5)
    policy.taken(100.0)
    policy.paid(1.0)
    assert not policy.take(102.5)
    assert policy.take(103.5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seconds, st.floats(1e-3, 10), st.floats(1e3, 1e6), st.sampled_from([0.01, 0.1]))
def test_a_process_that_was_stopped_has_not_earned_anything(
    cost: float, turn: float, pause: float, epsilon: float
) -> None:
    """Afterwards no more is spent than what a few turns cost, and epsilon of the time that has passed since."""
    policy = Policy(epsilon)
    policy.taken(0.0)
    policy.paid(cost)
    elapsed = began = turn + pause
    spent = 0.0
    for _ in range(100):
        if policy.take(elapsed):
            policy.taken(elapsed)
            policy.paid(cost)
            spent += cost
            elapsed += cost
        elapsed += turn
        assert spent <= epsilon * (elapsed - began) + 9 * cost


def test_what_is_paid_behind_belongs_to_the_turn_that_was_taken() -> None:
    """However late it is booked, it does not make the next one look cheap."""
    policy = Policy(0.01)
    policy.taken(0.0)
    policy.paid(1.0)
    for elapsed in (10.0, 50.0, 99.0):
        assert not policy.take(elapsed)
        policy.paid(0.001)
    assert not policy.take(200.0) and policy.take(201.0)


def test_the_first_audit_is_paid_off_with_half_of_what_is_earned() -> None:
    """Turns of a second at 5 %, checkpoints of 25 ms, 0.3 s for the audit: nearly all turns, where none would be taken
    before the seventh if the audit had to be paid off first."""
    policy = Policy(0.05)
    taken = []
    for turn in range(40):
        if policy.take(float(turn)):
            taken.append(turn)
            policy.taken(float(turn))
            policy.paid(0.025)
        if turn == 0:
            policy.audited(0.3)
        if turn >= 12:
            assert policy.spent <= 0.05 * turn + 0.025 + 1e-9
    assert len([turn for turn in taken if turn < 12]) >= 10
    assert not policy.affords(1.5, 40.0)


def spend(policy: Policy, turns: int, turn: float, cost: float, telling: float) -> tuple[int, int]:
    """(checkpoints, told states) of turns of the same length."""
    taken = told = 0
    for n in range(turns):
        if policy.take(n * turn):
            policy.taken(n * turn)
            policy.paid(cost)
            taken += 1
        elif policy.affords_telling(n * turn):
            policy.told(telling)
            told += 1
    return taken, told


def test_a_short_run_may_spend_its_allowance() -> None:
    """Turns of half a second, checkpoints of 20 ms: at 1 % one in four turns has one, with a quarter of a second ten;
    a long run spends no more than without."""
    assert spend(Policy(0.01), 12, 0.5, 0.02, 0.002)[0] <= 3
    assert spend(Policy(0.01, 0.25), 12, 0.5, 0.02, 0.002)[0] >= 11
    with_it, without = Policy(0.01, 0.25), Policy(0.01)
    for policy in (with_it, without):
        spend(policy, 1000, 0.5, 0.02, 0.002)
        assert policy.spent <= 0.01 * 500 + 0.02
    nothing = Policy(0.0, 0.25)
    assert spend(nothing, 12, 0.5, 0.02, 0.002) == (1, 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(0.01, 30), st.floats(1e-4, 1), st.floats(1e-5, 0.5), st.sampled_from([0.0, 0.25]))
def test_what_telling_states_costs_is_within_epsilon_too(turn: float, cost: float, telling: float, more: float) -> None:
    policy = Policy(0.01, more)
    for n in range(60):
        earned = max(0.01 * n * turn, min(more, 0.1 * n * turn))
        if policy.take(n * turn):
            policy.taken(n * turn)
            policy.paid(cost)
            assert n == 0 or policy.spent <= earned + 1e-9
        elif policy.affords_telling(n * turn):
            policy.told(telling)
            assert policy.spent <= earned + max(0.0, telling - cost / 4) + 1e-9  # the first costs what it costs


def test_checkpoints_go_before_telling_states() -> None:
    """Where both can't be had, a quarter goes into telling."""
    taken, told = spend(Policy(0.01), 4000, 0.1, 0.02, 0.004)
    assert taken * 0.02 >= 0.7 * 4 and told * 0.004 == pytest.approx(1, 0.05)


def test_the_last_state_is_told() -> None:
    policy = Policy(0.01)
    policy.taken(0.0)
    policy.paid(0.12)
    assert not policy.affords_telling(3.0)
    assert not policy.affords_telling(2.0, last=True)
    assert policy.affords_telling(3.0, last=True)
    assert not policy.affords_telling(3.0, last=True)
    short = Policy(0.01)
    short.taken(0.0)
    short.paid(0.04)
    assert short.affords_telling(0.1, last=True)
