"""What a replay leaves out of its turns: the values are those of a whole replay and of training anew."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

from flor_runtime.replay.leaveout import NEVER, WHOLE, Part, guarded, whole_turns
from flor_runtime.state import liveness
from tests.runtime.processes import FLOR, Folder
from tests.scripts import recovered

HEAD = """\
import random
import time

class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += random.randrange(9)

def report(seen):
    time.sleep(0.6)  # longer than a comparison of what the turn leads to is worth
    print("report", seen)

optimizer = Optimizer()
seen = []
best = 0
"""
FOR = """\
for epoch in range(3):
    total = 0
    for batch in range(3):
        optimizer.step()
        total += optimizer.n
    # here
    best = max(best, total)
    seen.append(total)
    report(seen)
    if best > 10**6:
        break
print(best, seen)
"""
WHILE = FOR.replace("for epoch in range(3):", "epoch = 0\nwhile epoch < 3:").replace(
    "    seen.append(total)\n", "    seen.append(total)\n    epoch += 1\n"
)
FUNCTION = (
    "def main(best):\n" + "".join(f"    {line}\n" if line else "\n" for line in FOR.splitlines()) + "\nmain(best)\n"
)


@pytest.mark.parametrize("body", [FOR, WHILE, FUNCTION], ids=["for", "while", "function"])
def test_the_values_are_those_of_a_whole_replay(tmp_path: Path, body: str) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + body)
    folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py"))
    folder.write("train.py", "import flor\n" + HEAD + body.replace("# here", 'flor.log("new", optimizer.n * 2)'))
    values = []
    for options in (["--yes"], ["--yes", "--again", "--no-slice"]):
        ended = folder.end(folder.start(FLOR, "replay", "new", *options))
        assert ended.code == 0, ended
        assert (b"not needed, where a checkpoint follows: line" in ended.err) is ("--no-slice" not in options)
        shown = folder.end(folder.start(FLOR, "show", "new", "--format", "csv")).out.decode()
        values.append([int(row.rpartition(",")[2]) for row in shown.splitlines()[1:]])
    assert len(values[0]) == 3
    assert values[0] == values[1]
    assert [replay.manifest["label"] for replay in folder.run().replays()] == ["exact", "exact"]
    assert [replay.manifest["mode"] for replay in folder.run().replays()] == ["weak", "weak"]


def test_what_comes_after_the_loop_is_as_it_was(tmp_path: Path) -> None:
    """Questions in the turns and behind the loop: the last turn is whole."""
    folder = Folder(tmp_path)
    text = HEAD + FOR.replace("print(best, seen)", 'print(best, seen, file=open("out.txt", "w"))')
    folder.write("train.py", text)
    folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py"))
    expected = (folder.path / "out.txt").read_text().strip()
    text = text.replace("# here", 'flor.log("new", total)') + 'flor.log("final", f"{best} {seen}")\n'
    folder.write("train.py", "import flor\n" + text)
    ended = folder.end(folder.start(FLOR, "replay", "new", "final", "--yes"))
    assert ended.code == 0, ended
    assert [value for key, value in recovered(folder.run()).items() if key[1] == "final"] == [expected]


LOOP = """\
for x in xs:
    a = f(x)
    b = g(a)
    print(b)
use(c)
"""


def test_names_of_a_stretch_are_those_of_the_whole_program() -> None:
    whole = compile(LOOP, "t.py", "exec")
    code = compile(guarded(ast.parse(LOOP), [Part(2, 2, False), Part(4, 4, True)]), "t.py", "exec")
    assert WHOLE in code.co_names and NEVER in code.co_names
    starts = [next(i.offset for i in liveness._instructions(c) if i.opname == "FOR_ITER") for c in (whole, code)]
    assert liveness.live_at(whole, starts[0]) == liveness.live_at(code, starts[1])
    stretches = [liveness.loop_stretch(c, start) for c, start in zip((whole, code), starts, strict=True)]
    assert liveness.names_in(whole, stretches[0]) == liveness.names_in(code, stretches[1])


def test_a_guard_is_in_the_outermost_statement_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = guarded(ast.parse("for x in xs:\n    if x:\n        f()\n    g()\n"), [Part(2, 3, False)])
    assert ast.unparse(tree).count(WHOLE) == 1
    monkeypatch.setitem(vars(builtins), WHOLE, True)
    monkeypatch.setitem(vars(builtins), NEVER, False)
    done: list[str] = []
    names = {"xs": [0, 1], "f": lambda: done.append("f"), "g": lambda: done.append("g")}
    exec(compile(tree, "t.py", "exec"), names)
    whole_turns(False)
    exec(compile(tree, "t.py", "exec"), names)
    assert "".join(done) == "gfggg"


def test_a_block_goes_with_its_marks() -> None:
    source = """\
for e in flor.loop("epoch", es):
    flor.SkipBlock.step_into("train")
    while flor.SkipBlock.runs() and more():
        step()
    a = flor.SkipBlock.end(m, values="a")
    for x in flor.SkipBlock.loop("eval", xs):
        test(x)
    flor.SkipBlock.end(m)
    last()
"""
    tree = guarded(ast.parse(source), [Part(3, 4, False), Part(6, 7, False)])
    [loop] = tree.body
    assert isinstance(loop, ast.For)
    assert [type(stmt).__name__ for stmt in loop.body] == ["If", "If", "Expr"]
    assert ast.unparse(loop.body[0]).count("SkipBlock") == 3
    assert ast.unparse(loop.body[1]).count("SkipBlock") == 2
