"""Each fault of the table applies, and the tests that it names fail with it."""

from __future__ import annotations

import pytest

from tests.seeded.faults import FAULTS
from tests.seeded.planting import Fault, missing, run

#: Tried in `make test`; the others, which take longer, in `make proof`.
QUICK = {
    "flor.loop looks one element ahead",
    "a forked child writes into the log of its parent",
    "the line of the index comes before the data is flushed",
    "a segment begins one turn late",
    "values that differ are called exact",
}


def cases(*, quick: bool) -> list[object]:
    return [pytest.param(fault, id=fault.name) for fault in FAULTS if (fault.name in QUICK) == quick]


@pytest.mark.parametrize("fault", cases(quick=True) + cases(quick=False))
def test_it_applies(fault: Fault) -> None:
    """Where code has changed, so has its fault; one that nobody could make any more is taken out of the table."""
    compile(fault.text(), fault.file, "exec")
    assert fault.tests
    assert [] == [reason for test in fault.tests if (reason := missing(test))]


def test_the_table() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 30
    assert set(names) >= QUICK


@pytest.mark.parametrize("fault", cases(quick=True))
def test_a_quick_one_is_caught(fault: Fault) -> None:
    outcome = run(fault)
    assert outcome.verdict == "caught", outcome.output


@pytest.mark.proof
@pytest.mark.parametrize("fault", cases(quick=False))
def test_it_is_caught(fault: Fault) -> None:
    outcome = run(fault)
    assert outcome.verdict == "caught", outcome.output


@pytest.mark.proof
def test_without_a_fault_the_named_tests_pass() -> None:
    """Else they would say nothing of the faults."""
    outcome = run(None, sorted({test for fault in FAULTS for test in fault.tests}), arguments=())
    assert outcome.verdict == "survived", outcome.output
