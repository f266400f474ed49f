"""Histories in which a script went from one of FlorDB's styles to another: its statements find their places in each."""

from __future__ import annotations

import pytest

from flor_transform import backport

STYLES = {
    "2.x": """\
from flor import MTK as Flor
import flor
opt = make()
Flor.checkpoints(opt)
for epoch in Flor.loop(range(3)):
    for x in Flor.loop(iter([1, 2])):
        opt.step(x)
    flor.log("n", opt.n)
print(opt.n)
""",
    "4.x": """\
import flordb as flor
opt = make()
with flor.checkpointing(opt=opt):
    for epoch in flor.loop("epoch", range(3)):
        for x in flor.loop("step", [1, 2]):
            opt.step(x)
        flor.log("n", opt.n)
print(opt.n)
flor.commit()
""",
    "pyflor": """\
import flor
opt = make()
for epoch in flor.it(range(3)):
    if flor.SkipBlock.step_into("train"):
        for x in [1, 2]:
            opt.step(x)
    flor.SkipBlock.end(opt)
    flor.log("n", opt.n)
print(opt.n)
""",
    "raw": """\
opt = make()
for epoch in range(3):
    for x in [1, 2]:
        opt.step(x)
print(opt.n)
""",
}
NAMES = ["deep", "wide", "last"]


def with_statements(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(line)
        if "opt.step(x)" in line:
            lines.append(f"{indent}flor.log('deep', opt.n * 10)\n")
        elif 'flor.log("n"' in line:
            lines.append(f"{indent}flor.log('wide', opt.n * 100)\n")
        elif "print(" in line:
            lines.append("flor.log('last', opt.n)\n")
    return "".join(lines)


@pytest.mark.parametrize("old", STYLES)
@pytest.mark.parametrize("new", ["2.x", "4.x", "pyflor"])
def test_from_style_to_style(old: str, new: str) -> None:
    result = backport(STYLES[old].encode(), with_statements(STYLES[new]).encode(), NAMES)
    assert result.refusals == ()
    code = result.code.decode()
    if old != "raw":
        assert code == with_statements(STYLES[old])
    else:  # it gets an import, in the newer one's words, and the loop has no statement that "wide" could follow
        assert (
            "        opt.step(x)\n        flor.log('deep', opt.n * 10)\n    flor.log('wide', opt.n * 100)\nprint"
            in code
        )
        assert code.endswith("print(opt.n)\nflor.log('last', opt.n)\n")
        compile(code, "t.py", "exec")
