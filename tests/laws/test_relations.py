"""What the transformer does goes along with what the user does: edits that mean nothing change nothing else.

Relations between the results for a program and for the same program edited (metamorphic tests), over generated programs.
"""

from __future__ import annotations

import re

import pytest

from flor_transform import instrument
from flor_transform.plan import Plan
from tests.programs.grammar import from_seed

SEEDS = range(30)


def plain(seed: int) -> str:
    """The program of a seed with plain ends of lines, as text."""
    return from_seed(seed).decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n") + "\n"


def of(text: str) -> str:
    return instrument(text.encode()).code.decode()


def found(plan: Plan) -> list[tuple[str, ...]]:
    """The loops of a plan, without what hangs on the function that they stand in."""
    loops = [("main", one.name, one.kind, one.code, *one.carry) for one in plan.loops]
    return loops + [("block", one.name.rpartition(".")[2], one.role, one.code, *one.values) for one in plan.blocks]


@pytest.mark.parametrize("seed", SEEDS)
def test_text_that_says_nothing(seed: int) -> None:
    text = plain(seed)
    code = of(text)
    assert of(text + "# the end\n") == code + "# the end\n"
    assert of(text[:-1]) == code[:-1]
    assert of(text.replace("\n", "\r\n")) == code.replace("\n", "\r\n")
    assert of(text + "for unused in range(2):\n    pass\n") == code + "for unused in range(2):\n    pass\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_blank_lines(seed: int) -> None:
    text = plain(seed)
    wide = re.sub(r"^(?=(for|if|class|def|while|try|with|RESULT|model) ?)", "\n\n", text, flags=re.MULTILINE)
    assert wide != text
    assert [s for s in of(wide).split("\n") if s] == [s for s in of(text).split("\n") if s]


@pytest.mark.parametrize("seed", SEEDS)
def test_another_name(seed: int) -> None:
    """Of a variable that says nothing."""
    text = plain(seed)
    for old, new in (("hist", "hisu"), ("n", "nn"), ("acc", "acd"), ("turn", "turo")):
        name = re.compile(rf"\b{old}\b")
        assert of(name.sub(new, text)) == name.sub(new, of(text))


@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_function(seed: int) -> None:
    """The loops of a script are found in `def main()` as well, and get the same names."""
    text = plain(seed)
    head, imports, body = text.partition("import flor\n")
    wrapped = head + imports + "def wrapper():\n" + re.sub(r"^(?=.)", "    ", body, flags=re.MULTILINE) + "wrapper()\n"
    inside, outside = found(instrument(wrapped.encode()).plan), found(instrument(text.encode()).plan)
    assert [one[:4] for one in inside] == [one[:4] for one in outside]
