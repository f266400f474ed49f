"""Laws 1 and 2: strip(instrument(s)) == s and instrument(instrument(s)) == instrument(s), byte for byte.

Few files of the standard library train anything, so here every outermost loop is taken for a main loop and every loop
below it for a block: the text that real code comes in is what is tried.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_transform import pipeline
from tests.laws.files import EveryLoop, check, check_files, installed, standard_library


@pytest.mark.parametrize("part", range(10))
def test_standard_library(part: int) -> None:
    paths = random.Random(2).sample(standard_library(), 300)[part::10]
    tally = check_files(path for path in paths if path.stat().st_size < 60_000)
    assert [] == tally.wrong
    assert tally.changed >= 5


@pytest.mark.proof
@pytest.mark.parametrize("part", range(100))
def test_installed_files(part: int) -> None:
    """The standard library and all that is installed beside it: over 10,000 files."""
    paths = installed()
    assert len(paths) > 10_000
    tally = check_files(paths[part::100])
    assert [] == tally.wrong
    assert tally.changed > 0.2 * tally.files


def test_fixtures() -> None:
    for path in sorted(Path(__file__).parents[2].joinpath("fixtures").rglob("*.py")):
        source, _, _ = path.read_bytes().partition(b"# output\n")
        check(source)


# -- generated programs -----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["x", "best", "total", "i", "flag"])
HEADS = ["loader", "range(3)", "enumerate(loader)", "(1, 2)", "[1,\n   2]", "1, 2", "zip(a, b)", "tqdm(loader)"]
IMPORTS = [
    "",
    "import flor\n",
    "import flor\nflor.log('a', 1)\n",
    "'''doc'''\n",
    "from __future__ import annotations\n",
]
IMPORTS += [
    "'''doc'''; import os\n",
    "# note\nimport os\nimport flor\n",
    "import flor; import os\n",
    "@a\ndef f(): pass\n",
]


@st.composite
def statements(draw: st.DrawFn, depth: int, loop: bool) -> list[str]:
    """Lines of a suite, without its indentation."""
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 11 if depth else 5))
        name, other = draw(NAMES), draw(NAMES)
        if kind == 0:
            lines.append(f"{name} = {other}")
        elif kind == 1:
            lines.append(f"{name} += 1  # count")
        elif kind == 2:
            lines.append("optimizer.step()")
        elif kind == 3:
            lines.append(f"print({name}); del {other}" if draw(st.booleans()) else f"print({name})")
        elif kind == 4:
            lines.append("loss.backward()")
        elif kind == 5:
            lines.append(draw(st.sampled_from(["break", "continue", "pass"])) if loop else "pass")
        elif kind <= 8:
            head = draw(st.sampled_from(HEADS))
            gap = "" if head[0] in "([" and draw(st.booleans()) else " "
            if draw(st.booleans()):
                lines.append(f"for {name} in{gap}{head}:")
                lines += indented(draw(statements(depth - 1, True)))
            else:
                lines.append(f"for {name} in{gap}{head}: optimizer.step(); {other} = 1")
            if draw(st.integers(0, 4)) == 0:
                lines += ["else:", *indented(draw(statements(depth - 1, loop)))]
        elif kind == 9:
            lines += [f"while({name}):" if draw(st.booleans()) else f"while {name} < 3:"]
            lines += indented(draw(statements(depth - 1, True)))
        elif kind == 10:
            lines += [f"if {name}:", *indented(draw(statements(depth - 1, loop)))]
        else:
            lines += ["try:", *indented(draw(statements(depth - 1, loop)))]
            lines += [f"except E as {other}:", *indented(draw(statements(depth - 1, loop)))]
    return lines


def indented(lines: list[str]) -> list[str]:
    return ["\n".join(f"    {part}" if n == 0 else part for n, part in enumerate(line.split("\n"))) for line in lines]


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    body = draw(statements(3, False))
    if draw(st.booleans()):
        body = ["def main(best, *loader):", *indented(body), "main()"]
    text = (
        draw(st.sampled_from(IMPORTS)) + "\n".join(body) + draw(st.sampled_from(["\n", "", "\n\n# end\n", "  # end"]))
    )
    if draw(st.booleans()):
        text = text.replace("    ", "\t")
    newline = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    data = text.replace("\n", newline).encode()
    if draw(st.integers(0, 9)) == 0:
        return b"\xef\xbb\xbf" + data
    if draw(st.integers(0, 9)) == 0:
        return b"# coding: latin-1" + newline.encode() + "# \xe9t\xe9".encode("latin-1") + newline.encode() + data
    return data


@settings(max_examples=200, deadline=None, derandomize=True)
@given(programs())
def test_generated(source: bytes) -> None:
    check(source)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(programs())
def test_generated_every_loop(source: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Finder", EveryLoop)
        check(source)
