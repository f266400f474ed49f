"""What a replay was asked for, and what it does for it: turns, conditions, where it may end."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flor_runtime.errors import ReplayError
from flor_runtime.replay.choice import Epochs, both
from flor_runtime.replay.remarks import Remarks, ranges
from flor_runtime.replay.replayer import WEAK, Goal, Replayer
from flor_runtime.stopping import with_stops
from flor_runtime.store.checkpoints import Entry, Key
from tests.scripts import Project, recovered


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("3,5-7", [2, 4, 5, 6]),
        ("all", list(range(8))),
        ("last", [7]),
        ("1, last", [0, 7]),
        ("7-", [6, 7]),
        ("2-2,2", [1]),
        ("9", []),
        ("6-100", [5, 6, 7]),
    ],
)
def test_epochs(text: str, turns: list[int]) -> None:
    assert {0: turns, 1: []} == Epochs.parse(text).of([8, 0])


@pytest.mark.parametrize("text", ["", "x", "0", "3-2", "-1", "1..3", "1-2-3", "1,,2", "9999999999"])
def test_epochs_that_are_none(text: str) -> None:
    with pytest.raises(ReplayError, match="--epochs"):
        Epochs.parse(text)


def test_two_choices() -> None:
    assert {0: [2]} == both({0: [1, 2]}, {0: [2, 3]})
    assert {0: [1]} == both(None, {0: [1]})
    assert both(None, None) is None


def test_ranges() -> None:
    assert "1-3, 7, 9-10" == ranges([1, 2, 3, 7, 9, 10])
    assert "1, 3, 5, 7, 9, 11, …, 19" == ranges(range(1, 20, 2))


def test_a_line_for_each_name() -> None:
    lines: list[str] = []
    remarks = Remarks(lines)
    remarks.differs("before turn", 3, "stamp: 1 then, 2 now")
    remarks.say("no start at turn 2")
    for turn in (4, 5, 5, 9):
        remarks.differs("before turn", turn, f"stamp: {turn} then, 0 now")
    remarks.differs("after train of turn", 9, "stamp: 1 then, 2 now")
    assert lines == [
        "before turn 3 (and 4-5, 9): stamp: 1 then, 2 now",
        "no start at turn 2",
        "after train of turn 9: stamp: 1 then, 2 now",
    ]


STOPPED = """
if x:
    a = 1; b = 2
for y in z:
    c = 1
d = flor.SkipBlock.end(values='y')
e = 1
"""


@pytest.mark.parametrize(("lines", "before"), [((3, 3), None), ((2, 3), "For"), ((4, 5), "e"), ((7, 7), None)])
def test_a_stop_stands_behind_its_statement(lines: tuple[int, int], before: str | None) -> None:
    tree = with_stops(ast.parse(STOPPED), [lines])
    suites = [tree.body, tree.body[0].body]  # type: ignore[attr-defined]
    ((suite, n),) = [(s, n) for s in suites for n, node in enumerate(s) if "passed" in ast.unparse(node)[:60]]
    follows = suite[n + 1] if n + 1 < len(suite) else None
    name = type(follows).__name__ if follows is not None else None
    assert before == (ast.unparse(follows)[0] if isinstance(follows, ast.Assign) else name)
    compile(tree, "x", "exec")


#: The goal's turns, whether it goes to the end and which entries must begin; where it is; seconds ahead, recorded states,
#: states compared in this turn; whether it ends.
PASSED: dict[str, tuple[dict[str, Any], tuple[int, int] | None, float, set[Key], int, bool]] = {
    "the last turn": ({"turns": {0: [1, 3]}}, (0, 4), 9.0, set(), 0, True),
    "another turn is wanted": ({"turns": {0: [1, 3]}}, (0, 2), 9.0, set(), 0, False),
    "another entry is wanted": ({"turns": {0: [3], 1: [0]}}, (0, 4), 9.0, set(), 0, False),
    "another entry has to begin": ({"turns": {0: [3]}, "reach": 2}, (0, 4), 9.0, set(), 0, False),
    "the end is wanted": ({"turns": {0: [3]}, "to_end": True}, (0, 4), 9.0, set(), 0, False),
    "a state is near": ({"turns": {0: [3]}}, (0, 4), 0.5, {Key(0, 4)}, 0, False),
    "a state is far": ({"turns": {0: [3]}}, (0, 4), 9.0, {Key(0, 4)}, 0, True),
    "a state is near, and one was compared": ({"turns": {0: [3]}}, (0, 4), 0.5, {Key(0, 4)}, 1, True),
    "before the loop": ({"turns": {}}, None, 9.0, {Key(0, 0)}, 0, True),
    "before the loop, near": ({"turns": {}}, None, 0.5, {Key(0, 0)}, 0, False),
    "before the loop, turns wanted": ({"turns": {0: [0]}}, None, 9.0, set(), 0, False),
    "before the loop, its end wanted": ({"turns": {}, "to_end": True}, None, 9.0, set(), 0, False),
}


@pytest.mark.parametrize("name", PASSED)
def test_where_a_worker_ends(name: str) -> None:
    wanted, place, ahead, states, compared, ends = PASSED[name]
    ended: list[bool] = []
    loop = None if place is None else SimpleNamespace(entry=place[0], turn=place[1])
    session: Any = SimpleNamespace(main=loop, entries=[] if place is None else [place[1]], objects=())
    reader: Any = SimpleNamespace(entries={key: Entry(key, 0.0, "") for key in states}, prepare=lambda entry: None)
    goal = Goal(**{"counts": [4, 4], "probed": frozenset(), "to_end": False, "mode": WEAK, "ahead": [ahead, ahead],
                   "patience": [1.0, 1.0]} | wanted)  # fmt: skip
    replayer = Replayer(session, reader, goal, lambda namespace: True, lambda: ended.append(True))
    replayer.outcome.same += compared
    replayer.passed()
    assert ends == bool(ended)
    assert replayer.outcome.stopped == (ends and not compared)


SCRIPT = """
import sys
import flor


class Optimizer:
    def __init__(self): self.total = 0.0
    def step(self, x): self.total += x


rate = flor.arg("rate", float(sys.argv[1]))
optimizer = Optimizer()
# probe: flor.log("before", optimizer.total)
for epoch in range(5):
    # probe: flor.log("top", optimizer.total)
    for batch in range(3):
        optimizer.step(rate)
    flor.log("loss", optimizer.total)
print(optimizer.total)
# probe: flor.log("after", optimizer.total)
"""


def test_what_was_asked_for(tmp_path: Path) -> None:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    user.commit("the script")
    for rate in ("0.5", "1.0"):
        assert user.run("flor", "run", "--epsilon", "1", user.script, rate).code == 0
    user.add_probes()
    first, second = user.runs()

    dry = user.run("flor", "replay", "top", "--dry-run", "--epochs", "2,4-")
    assert (0, "", 0) == (dry.code, dry.out, len(first.replays())), dry.err
    for text in (
        "runs turns 2, 4-5 of 5, from the checkpoints before turns 2, 4\n",
        "train 3 times",
        "2 runs to replay",
    ):
        assert text in dry.err

    assert user.run("flor", "replay", "top", "--yes", "--where", "rate > 0.7 and epoch >= 4 and loss < 14").code == 0
    assert [] == list(first.replays())
    assert [((("epoch", 4),), 9.0)] == [(path, value) for (path, _, _), value in recovered(second).items()]

    # Some turns are not all: the rest can be asked for later.
    assert user.run("flor", "replay", "top", "--yes", "--runs", second.id[:8], "--epochs", "last,1").code == 0
    assert {1: 0.0, 4: 9.0, 5: 12.0} == {path[0][1]: value for (path, _, _), value in recovered(second).items()}
    assert user.run("flor", "replay", "top", "before", "after", "--yes").code == 0
    assert ["exact", "exact"] == [run.replays()[-1].manifest["label"] for run in user.runs()]
    found = {(path[0][1] if path else 0, name): value for (path, name, _), value in recovered(first).items()}
    assert found == {(n + 1, "top"): 1.5 * n for n in range(5)} | {(0, "before"): 0.0, (0, "after"): 7.5}

    for words, said in [
        (("--where", "rat > 1"), "did you mean rate?"),
        (("--where", "rate > 7"), "no run of train.py for which rate > 7"),
        (("--epochs", "x"), "none of 3, 5-7"),
    ]:
        wrong = user.run("flor", "replay", "top", "--again", *words)
        assert (2, "", 1) == (wrong.code, wrong.out, wrong.err.count("\n")), wrong.err
        assert said in wrong.err
