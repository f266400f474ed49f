"""Laws 1 and 2 with the real command, over folders: the fixtures, and in `make proof` the standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from tests.laws.idempotent import check
from tests.transform.commands import transform

FIXTURES = Path(__file__).parents[2] / "fixtures"
MARK = b"# output\n"


def test_the_fixtures() -> None:
    outcome = check(FIXTURES / "scripts")
    assert outcome.problems == []
    assert outcome.changed >= 8


def test_the_golden_files(tmp_path: Path) -> None:
    """What goes in comes out as the golden files say, and nothing is left to do for what came out."""
    expected = {}
    for path in sorted((FIXTURES / "transform").glob("*.py")):
        before, mark, after = path.read_bytes().partition(MARK)
        # Each in a folder of its own: they are no project.
        copy = tmp_path / path.stem / path.name
        copy.parent.mkdir()
        copy.write_bytes(before)
        expected[copy] = after if mark else before
    assert transform("-j", "2", "-q", ".", cwd=tmp_path).code == 0
    assert {path: path.read_bytes() for path in expected} == expected
    assert transform("--check", ".", cwd=tmp_path).code == 0
    assert transform("--check", "--diff", ".", cwd=tmp_path).out == ""


@pytest.mark.proof
def test_the_standard_library() -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    # Its tests are gone through in this process, by test_law1_law2.
    left = {"site-packages", "test"}
    folders = [path for path in sorted(stdlib.iterdir()) if path.is_dir() and path.name not in left]
    outcomes = {folder.name: check(folder) for folder in folders}
    assert [problem for outcome in outcomes.values() for problem in outcome.problems] == []
    assert sum(outcome.files for outcome in outcomes.values()) > 500
