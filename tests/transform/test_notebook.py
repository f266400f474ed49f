"""Notebooks: only the sources of the cells concerned change, and of those only what is put in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_transform import strip
from flor_transform.notebook import decode

from .support import check_laws

TRAIN = "for epoch in range(3):\n    for x in loader:\n        optimizer.step()"


def notebook(*cells: str | tuple[str, str], **fields: Any) -> dict[str, Any]:
    """A notebook of code cells; a pair is a cell of another kind. Sources are lists of lines."""
    made = []
    for cell in cells:
        kind, text = cell if isinstance(cell, tuple) else ("code", cell)
        entry: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
        if kind == "code":
            entry |= {"execution_count": 1, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]}
        made.append(entry)
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **fields}


def written(*cells: str | tuple[str, str], **fields: Any) -> bytes:
    return json.dumps(notebook(*cells, **fields), indent=1).encode() + b"\n"


def texts(data: bytes) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(data)["cells"]]


def without_sources(data: bytes) -> Any:
    document = json.loads(data)
    for cell in document["cells"]:
        del cell["source"]
    return document


# -- what goes where --------------------------------------------------------------------------------------------------

#: cells, and what becomes of them; those that are None stay
PLACES: dict[str, tuple[list[str], list[str | None]]] = {
    "the import joins the imports, in their cell": (
        ["%matplotlib inline\nimport torch\n!pip install x", "y = 1", TRAIN],
        [
            "%matplotlib inline\nimport flor\nimport torch\n!pip install x",
            None,
            'for epoch in flor.loop("epoch", range(3)):\n    for x in flor.SkipBlock.loop("train", loader):\n'
            "        optimizer.step()\n    flor.SkipBlock.end()",
        ],
    ),
    "no import: the first cell concerned": (
        ["y = 1", "%%time\n# Training.\nz = 2\nfor x in loader:\n    optimizer.step()\n"],
        [
            None,
            '%%time\n# Training.\nimport flor\n\nz = 2\nfor x in flor.loop("step", loader):\n    optimizer.step()\n',
        ],
    ),
    "the import comes too late": (
        ["for x in loader:\n    optimizer.step()\n", "import torch"],
        ['import flor\n\nfor x in flor.loop("step", loader):\n    optimizer.step()\n', None],
    ),
    "future imports stay first": (
        ['"""Doc."""', "from __future__ import annotations\nfrom __future__ import division\nimport os", TRAIN],
        [
            None,
            "from __future__ import annotations\nfrom __future__ import division\nimport flor\nimport os",
            'for epoch in flor.loop("epoch", range(3)):\n    for x in flor.SkipBlock.loop("train", loader):\n'
            "        optimizer.step()\n    flor.SkipBlock.end()",
        ],
    ),
    "a later cell reads what a block binds": (
        ["import torch", "total = 0\n" + TRAIN + "\n        total = total + x\n", "print(total)"],
        [
            "import flor\nimport torch",
            'total = 0\nfor epoch in flor.loop("epoch", range(3)):\n    total = flor.carry(total)\n'
            '    for x in flor.SkipBlock.loop("train", loader):\n        optimizer.step()\n        total = total + x\n'
            '    total = flor.SkipBlock.end(values="total")\n',
            None,
        ],
    ),
    "a shell command reads it": (
        ["import torch", "n = 0\n" + TRAIN + "\n        n = x", "!echo {n}"],
        [
            "import flor\nimport torch",
            'n = 0\nfor epoch in flor.loop("epoch", range(3)):\n    n = flor.carry(n)\n'
            '    for x in flor.SkipBlock.loop("train", loader):\n        optimizer.step()\n        n = x\n    n = flor.SkipBlock.end(values="n")',
            None,
        ],
    ),
    "a function in one cell, its call in another": (
        ["def train():\n    for x in loader:\n        optimizer.step()", "for epoch in range(3):\n    %time train()\n"],
        [
            'import flor\n\ndef train():\n    for x in flor.SkipBlock.loop("train", loader):\n        optimizer.step()\n'
            "    flor.SkipBlock.end()",
            'for epoch in flor.loop("epoch", range(3)):\n    %time train()\n',
        ],
    ),
    "a magic ends the block": (
        [TRAIN + "\n        !nvidia-smi \\\n            -q"],
        [
            'import flor\n\nfor epoch in flor.loop("epoch", range(3)):\n'
            '    for x in flor.SkipBlock.loop("train", loader):\n'
            "        optimizer.step()\n        !nvidia-smi \\\n            -q\n    flor.SkipBlock.end()"
        ],
    ),
    "quotes and letters": (
        ["größe = 'ä\"😀'", "for x in loader:\n    größe = x + größe # 😀\n    optimizer.step()"],
        [
            None,
            'import flor\n\nfor x in flor.loop("step", loader):\n    größe = flor.carry(größe)\n'
            "    größe = x + größe # 😀\n    optimizer.step()",
        ],
    ),
    "windows newlines": (
        ["for x in loader:\r\n    optimizer.step()"],
        ['import flor\r\n\r\nfor x in flor.loop("step", loader):\r\n    optimizer.step()'],
    ),
    "not Python: left alone": (["%%bash\nfor x in loader; do optimizer.step(); done", "%%html\n<b>"], [None, None]),
    "%%timeit runs it again and again: left alone": (["%%timeit\n" + TRAIN], [None]),
}


@pytest.mark.parametrize(("cells", "after"), [pytest.param(*row, id=name) for name, row in PLACES.items()])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_places(cells: list[str], after: list[str | None], ascii_only: bool) -> None:
    source = json.dumps(notebook(("markdown", "# A"), *cells), ensure_ascii=ascii_only, indent=1).encode()
    result = check_laws(source, filename="a.ipynb")
    expected = [old if new is None else new for old, new in zip(cells, after, strict=True)]
    assert texts(result.code)[1:] == expected
    document = notebook(("markdown", "# A"), *expected)
    for cell in document["cells"]:
        cell["source"] = re.findall(r"[^\n]*\n|[^\n]+", "".join(cell["source"]))
    assert result.code == json.dumps(document, ensure_ascii=ascii_only, indent=1).encode()


# -- the bytes of the document ----------------------------------------------------------------------------------------

PARTS = [
    "import torch",
    "import os; import sys",
    "%matplotlib inline",
    "x = 1  # größe 😀\n",
    "from __future__ import annotations",
    "!ls {x} \\\n  -l",
    "y = !ls",
    "x?",
    "%%bash\nls $x",
    "%%capture out\nx = 2",
    TRAIN,
    TRAIN + "\n",
    "n = 0\n" + TRAIN + "\n        n += x\nprint(n)",
    "def train():\n    for x in loader:\n        optimizer.step()\n        %time y = 1\n",
    "for e in range(2):\n    train()\n    # done\n",
    "%%time\n\nfor x in loader: optimizer.step()",
    "for x in(1, 2):\n\toptimizer.step()\n\n",
    'print("\u2028\\u2028\x7f")',
    "",
    "\n",
]


def layouts(draw: st.DrawFn, text: str) -> Any:
    """A source as one string, as lines, or as any other list of strings that says the same."""
    how = draw(st.sampled_from(["string", "lines", "lines", "lines", "any"]))
    if how == "string":
        return text
    lines = text.splitlines(keepends=True) if "\u2028" not in text else [text]
    if how == "any":
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return lines


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    cells = []
    for text in draw(st.lists(st.sampled_from(PARTS), max_size=6)):
        source = layouts(draw, text.replace("\n", newline))
        fields = [("cell_type", "code"), ("source", source), ("metadata", {"a": "\ud83d"}), ("outputs", ["é", "\\"])]
        cells.append(dict(draw(st.permutations(fields))))
    top = {"cells": cells, "metadata": {"x": [1, {}]}, "nbformat": 4, "nbformat_minor": 5}
    top = dict(draw(st.permutations(list(top.items()))))
    indent = draw(st.sampled_from([None, 0, 1, 4, "\t"]))
    separators = draw(st.sampled_from([None, (",", ":"), (" ,", " : ")]))
    text = json.dumps(top, ensure_ascii=True, indent=indent, separators=separators)
    if draw(st.booleans()):  # raw characters, but for halves of one
        text = re.sub(r"\\u(?!d[89a-f]|00[01]|2028)[0-9a-f]{4}", lambda found: json.loads(f'"{found.group()}"'), text)
        text = text.replace("\\ud83d\\ude00", "😀")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    start, end = draw(st.sampled_from(["", "\ufeff"])), draw(st.sampled_from(["", "\n", " \n\n"]))
    return f"{start}{text}{end}".encode()


@given(documents())
@settings(max_examples=300, deadline=None)
def test_only_what_is_put_in_changes(source: bytes) -> None:
    result = check_laws(source, filename="a.ipynb")
    assert without_sources(source.decode("utf-8-sig").encode()) == without_sources(
        result.code.decode("utf-8-sig").encode()
    )
    assert strip(result.code) == source
    # Every character of the raw text is still there, in its order, and IPython's lines are whole.
    for old, new in zip(decode(source, "a").cells, decode(result.code, "a").cells, strict=True):
        rest = iter(new.text)
        assert all(char in rest for char in old.text)
        for line in old.text.splitlines():
            if line.lstrip()[:1] in ("%", "!"):
                assert line in new.text.splitlines()
