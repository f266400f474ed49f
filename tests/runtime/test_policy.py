"""Checkpoints cost no more than epsilon of the time that has passed, whatever they cost."""

from __future__ import annotations

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
