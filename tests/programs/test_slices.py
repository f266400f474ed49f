"""Questions put to generated programs: what a replay leaves out for them makes no difference to the answers."""

from __future__ import annotations

import pytest

from tests.programs.slices import Sliced, check


def hold(seeds: range) -> None:
    total = Sliced()
    for seed in seeds:
        total += check(seed)
        assert not total.wrong
    assert total.sliced > 0.6 * total.programs, "little was left out: this proves little"
    assert total.partial > total.programs, "few turns were cut: this proves little"


def test_what_is_left_out_makes_no_difference() -> None:
    hold(range(60))


@pytest.mark.proof
@pytest.mark.parametrize("part", range(20))
def test_of_many(part: int) -> None:
    hold(range(60 + 500 * part, 560 + 500 * part))
