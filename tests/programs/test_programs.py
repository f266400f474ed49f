"""Generated programs: raw, off, recorded, and replayed with blocks skipped and from the middle; all come out the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.programs.__main__ import check_seed, smallest
from tests.programs.grammar import programs
from tests.programs.oracle import Checked, check

QUICK, PROOF = range(750), range(750, 100_750)


def hold(seeds: range) -> Checked:
    """Check the programs of some seeds; the first one that fails is made small."""
    total = Checked()
    for seed in seeds:
        checked = check_seed(seed)
        assert not checked.wrong, f"{checked.wrong[0]}\n{smallest(seed).decode()}"
        total += checked
    assert total.inexact == total.needless == 0
    assert total.found > 0.9 * total.programs, "few have a main loop: this proves little"
    assert total.blocked > 0.6 * total.programs, "few have blocks: this proves little"
    assert total.skipped > 0.65 * (total.skipped + total.run), "blocks were not skipped: this proves little"
    assert total.jumped > 0.3 * total.starts, "few starts in mid-run were made: this proves little"
    return total


@pytest.mark.parametrize("part", range(10))
def test_programs(part: int) -> None:
    size = len(QUICK) // 10
    hold(QUICK[part * size : (part + 1) * size])


@pytest.mark.proof
@pytest.mark.parametrize("part", range(200))
def test_many_programs(part: int) -> None:
    size = len(PROOF) // 200
    hold(PROOF[part * size : (part + 1) * size])


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs(), st.integers(0, 99))
def test_a_strategy(source: bytes, seed: int) -> None:
    """The same from hypothesis, which shrinks what fails."""
    assert [] == check(source, seed).wrong
