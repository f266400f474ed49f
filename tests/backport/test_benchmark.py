"""The benchmark beside the peers: its cases, what counts as right, and how the programs are asked."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from benchmarks.backport import cases, driver
from benchmarks.backport.judge import CRASHED, NOTHING, REFUSED, RIGHT, WRONG, judge

OLD = "import flor\nfor x in data:\n    loss = f(x)\n    print(1)\n    optimizer.step()\n    g(loss)\nend()\n"
LOG = '    flor.log("loss", loss)\n'
CASE = cases.Case("a", "plain", 1, ("loss",), OLD, "", OLD.replace("    print", LOG + "    print"))


@pytest.mark.parametrize(
    ("before", "outcome"),
    [
        ("    print", RIGHT),  # the truth
        ("    optimizer", RIGHT),  # behind what makes no difference
        ("    g(loss)", WRONG),  # behind a step
        ("end()", WRONG),  # in the loop's block, behind what may change it
    ],
)
def test_what_is_right(before: str, outcome: str) -> None:
    found = judge(CASE, "ok", OLD.replace(before, LOG + before), 0.0)
    assert (found.outcome, found.kept, found.unbound) == (outcome, True, False)
    assert found.same_text == (before == "    print")


def test_what_else_there_is() -> None:
    assert judge(CASE, "ok", OLD, 0.0).outcome == NOTHING
    assert judge(CASE, "refused", "", 0.0).outcome == REFUSED and judge(CASE, "crashed", "", 0.0).outcome == CRASHED
    assert judge(CASE, "ok", "print 'x'", 0.0).outcome == WRONG
    assert judge(replace(CASE, truth=None), "ok", CASE.truth or "", 0.0).outcome == WRONG
    assert judge(replace(CASE, truth=OLD), "ok", OLD, 0.0).outcome == RIGHT  # it had the statement already
    other = judge(CASE, "ok", ast.unparse(ast.parse((CASE.truth or "").replace("loss)", "losses)"))), 0.0)
    assert (other.outcome, other.unbound) == (WRONG, True)
    assert not judge(CASE, "ok", (CASE.truth or "").replace("print(1)", "print(2)"), 0.0).kept


OWN = cases.own()


def test_the_newer_version_without_its_statements() -> None:
    for case in (case for case in OWN[::3] if case.kind == "history"):
        call = f'flor.log("{case.names[0]}"'
        lines = [number for number, line in enumerate(case.new.splitlines(), 1) if line.lstrip().startswith(call)]
        assert [node.lineno for node in driver.statements(ast.parse(case.new), list(case.names))] == lines
        rest = case.new.splitlines(keepends=True)
        del rest[lines[0] - 1]
        assert len(lines) == 1 and driver.without(case.new, list(case.names)) == "".join(rest)
    nested = 'if a:\n    flor.log("x", f(1))\nprint(flor.log("x",\n  y), 2)\n'
    assert driver.without(nested, ["x"]) == "print(y, 2)\n"


def test_own_cases() -> None:
    found = OWN
    assert len({case.id for case in found}) == len(found) > 300
    assert cases.sampled(found, 20) == cases.sampled(list(reversed(found)), 20)
    ours, merge = driver.PROGRAMS["flor"](), driver.PROGRAMS["git merge-file"]()
    for case in cases.sampled(found, 20):
        for program in (ours, merge):
            out = program(case.old, case.new, list(case.names))
            verdict = judge(case, "refused" if out is None else "ok", out or "", 0.0)
            assert program is merge or verdict.outcome == (REFUSED if case.truth is None else RIGHT), case.id
