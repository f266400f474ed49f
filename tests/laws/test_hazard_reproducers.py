"""Laws 3, 4 and 5 on the table of hazards: raw, off, recorded, and replayed with and without skipping."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flor_runtime.replay.replayer import WEAK
from tests.laws.further import CASES as FURTHER
from tests.laws.reproducers import CASES, PROCESSES, UNPARSED, Case
from tests.laws.ways import Way, Ways, goals, same, same_parts
from tests.transform.support import check_laws
from tests.transform.test_hazards import CASES as STATIC


def parameters(cases: dict[str, Case]) -> list[object]:
    return [pytest.param(case, id=name) for name, case in cases.items()]


def replay(ways: Ways, recorded: Way) -> tuple[list[str], int, list[str]]:
    """Differences that no replay may have; how many blocks one with all blocks skipped has skipped; and which starts in
    mid-run said that they are not exact, so that the next way is gone."""
    wrong: list[str] = []
    unsure: list[str] = []
    skipped = 0
    for which, goal in goals(recorded.entries).items():
        found = ways.replay(which, goal)
        if goal.mode == WEAK and (found.trouble or found.outcome.different):
            unsure.append(which)
            continue
        wrong += same_parts(recorded, found, which, goal)
        skipped += found.outcome.blocks_skipped
    return wrong, skipped, unsure


@pytest.mark.parametrize("case", parameters(CASES | FURTHER))
def test_hazard(case: Case, tmp_path: Path) -> None:
    result = check_laws(case.code)
    blocks = [block for block in result.plan.blocks if not block.refused]
    ways = Ways(tmp_path, case.code, result)
    assert same(ways.raw, ways.off, "off") == []
    recorded = ways.record()
    assert same(ways.raw, recorded, "recorded") == []
    wrong, skipped, unsure = replay(ways, recorded)
    assert wrong == []
    assert case.falls_back == bool(unsure), unsure
    if case.must in ("skip", "run", "main"):
        assert [d for d in result.diagnostics if d.severity == "refused"] == []
        assert result.plan.loops
        assert bool(blocks) == (case.must != "main")
        assert bool(skipped) == (case.must == "skip"), ways.problems()
    elif case.must == "none":
        assert not result.changed
    else:
        assert case.must in {d.code for d in result.diagnostics}
        assert blocks == []


@pytest.mark.parametrize("source", [pytest.param(case.code, id=name) for name, case in STATIC.items()])
def test_hazards_of_the_transformer(source: bytes, tmp_path: Path) -> None:
    """The programs of tests/transform/test_hazards.py, in all ways."""
    ways = Ways(tmp_path, source, check_laws(source))
    recorded = ways.record()
    assert same(ways.raw, recorded, "recorded") == []
    wrong, _, unsure = replay(ways, recorded)
    assert wrong == []
    assert unsure == []


def test_the_table_is_whole() -> None:
    """Every known hazard has its place."""
    here = {match.group() for name in CASES if (match := re.match(r"H\d\d", name))}
    assert here | PROCESSES.keys() | UNPARSED.keys() == {f"H{n:02}" for n in range(1, 66)}
