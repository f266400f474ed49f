"""The proof notices each way in which a result can be wrong."""

from __future__ import annotations

import pytest

from flor_transform.errors import ProofError
from flor_transform.source import Insertion, Source, splice
from flor_transform.verify import verify

SOURCE = """\
import torch

def train(loader):
    total = 0
    for x in loader:
        total += x
    return total
"""

IMPORT = ("", "import flor\n")
WRAP = [("loader:\n", 'flor.SkipBlock.loop("train", '), (":\n        total", ")")]
END = ("    return", '    total = flor.SkipBlock.end(values="total")\n')

WRONG = {
    "does not parse": ("the result parses", [("    total = 0", "(")]),
    "a return outside": ("the result compiles", [("def", "return\n")]),
    "something else is added": ("strip gives the source back", [("    total = 0", "    x = 1\n")]),
    "a wrapper of another form": (
        "strip gives the source back",
        [IMPORT, ("loader:", "flor.loop('train', "), (":\n        total", ")")],
    ),
    "values that are not the targets": (
        "strip gives the source back",
        [IMPORT, *WRAP, ("    return", '    total = flor.SkipBlock.end(values="x")\n')],
    ),
    "a name more": ("no scope has other names than before", [IMPORT, ("    total = 0", "    y = flor.carry(y)\n")]),
}


def _put(pieces: list[tuple[str, str]]) -> tuple[bytes, tuple[Insertion, ...]]:
    found = sorted((SOURCE.index(before), text) for before, text in pieces)
    insertions = tuple(Insertion(offset, text.encode()) for offset, text in found)
    return splice(SOURCE.encode(), insertions), insertions


def _verify(pieces: list[tuple[str, str]]) -> None:
    code, insertions = _put(pieces)
    verify(Source.decode(SOURCE.encode(), "t.py"), code, insertions)


def test_right() -> None:
    _verify([IMPORT, *WRAP, END])


@pytest.mark.parametrize(("rule", "pieces"), [pytest.param(*row, id=name) for name, row in WRONG.items()])
def test_wrong(rule: str, pieces: list[tuple[str, str]]) -> None:
    with pytest.raises(ProofError) as caught:
        _verify(pieces)
    assert caught.value.rule == rule
