"""Notebooks: only the sources of the cells concerned change, and of those only what is put in."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

from flor_transform import instrument, strip
from flor_transform.cli import transform_command
from flor_transform.errors import SourceError
from flor_transform.notebook import decode, mask

from .support import check_laws

TRAIN = "for epoch in range(3):\n    for x in loader:\n        optimizer.step()"


def notebook(*cells: str | tuple[str, str], **fields: Any) -> dict[str, Any]:
    """A notebook of code cells; a pair is a cell of another kind. Sources are lists of lines."""
    made = []
    for cell in cells:
        kind, text = cell if isinstance(cell, tuple) else ("code", cell)
        entry: dict[str, Any] = {"cell_type": kind, "id": f"cell-{len(made)}", "metadata": {}}
        entry["source"] = text.splitlines(keepends=True)
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


# -- golden files -----------------------------------------------------------------------------------------------------

FOLDER = Path(__file__).parents[2] / "fixtures" / "notebooks"


def golden(path: Path) -> Path:
    """Beside a notebook stands what it becomes; nothing does if it is left as it is."""
    return path.with_suffix(".instrumented.ipynb")


def notebooks() -> list[Path]:
    return sorted(path for path in FOLDER.glob("*.ipynb") if not path.name.endswith(".instrumented.ipynb"))


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    """Accept new output, after reading the diff, with `python -m tests.transform.test_notebook`."""
    source = path.read_bytes()
    result = check_laws(source, filename=path.name)
    assert result.code == (golden(path).read_bytes() if golden(path).exists() else source)
    nbformat.validate(nbformat.reads(result.code.decode(), 4))


def test_the_folder_is_found() -> None:
    assert [path.stem for path in notebooks()] == ["digits", "left_alone", "one_line"]


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
            'import flor\n\n\ndef train():\n    for x in flor.SkipBlock.loop("train", loader):\n        optimizer.step()\n'
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


# -- IPython's syntax -------------------------------------------------------------------------------------------------

MASKED = {
    "%matplotlib inline\nx = 1": "~matplotlib,inline\nx = 1",
    "!pip install -U flor torch": "~pip,install, U,     torch",
    "if x:\n    !ls {x} \\\n       -l\n    y": "if x:\n    ~ls, x  \\\n         \n    y",
    "y = !ls": "y = ~ls",
    "a, b = %sql select 1": "a, b = ~sql,select  ",
    "x = %time f(y)": "x =       f(y)",
    "%time x = f(y)": "0    ;x = f(y)",
    "%time for x in y: z": "~time,    x,   y, z",
    "%time import x": "0    ;import x",
    "%run other.py": "exec()       ",
    "%run": "~run",
    "%reset -f": "del flor ",
    "x?": "x ",
    "f(a,\n  b)??": "f(a,\n  b)??",
    "pip install torch\n": "pip,install,torch\n",
    "time x = f(y)": "0   ;x = f(y)",
    "run x.py": "exec()  ",
    "ls -l": "ls -l",
    "pip install torch\nx": "pip install torch\nx",
    "pip = 1": "pip = 1",
    "%store x \\\n  y": "exec()   \\\n   ",
    "?x.y": "~x,y",
    "!": "0",
    "/f x": "~f,x",
    "(a\n% b)": "(a\n% b)",
    "a \\\n% b": "a \\\n% b",
    '"""\n%time x\n"""': '"""\n%time x\n"""',
    "x = '?' # what?": "x = '?' # what?",
    "# what?\n%time": "# what?\n~time",
    "x != y": "x != y",
    "f(a=%time)": "f(a=%time)",
    "%%time\nx = 1\n!ls": "~ time\nx = 1\n~ls",
    "\n\n%%capture out\nx": "\n\n~ capture,out\nx",
    "%%bash\nls $x \\\n  y": "~ bash\n       \n   ",
    "%%sql\nselect {x}\n  from y": "~ sql\nselect, x \n~      y",
    "%%timeit -n 1\nfor x in y:\n    z": "~ timeit, n  \n~   x,   y \n~   z",
    "x = r'\\''\n%a": "x = r'\\''\n~a",
    "@f\ndef g(): ...\n%a": "@f\ndef g(): ...\n~a",
}


@pytest.mark.parametrize(("cell", "expected"), MASKED.items())
def test_masks(cell: str, expected: str) -> None:
    masked, lines = mask(cell)
    assert masked == expected
    changed = {n for n, (a, b) in enumerate(zip(cell.splitlines(), masked.splitlines(), strict=True), 1) if a != b}
    assert changed <= lines


COMMANDS = [
    "%a b.c=1", "!ls -l {x}", "?x", "x??", ",f a b", ";f a", "y = !a 'b'", "%time f(x)", "%run a", "!a \\\n b", "%%a",
]  # fmt: skip
PIECES = [
    "x = 1", "'''a\n%b\n'''", "# c?", "f(\n1,\n)", "x = 'a\\\nb'", "", "if x:\n    {}\n", "class A:\n\tx = 1\n\t{}",
]  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(COMMANDS)), max_size=5), st.sampled_from(["\n", "\r\n"])
)
def test_a_mask_is_python_of_the_same_length(parts: list[tuple[str, str]], newline: str) -> None:
    texts = [piece.format(command) if "{}" in piece else f"{piece}\n{command}" for piece, command in parts]
    cell = "\n".join(texts).replace("\n", newline)
    masked, lines = mask(cell)
    assert len(masked) == len(cell)
    ast.parse(masked)
    pairs = zip(masked.split(newline), cell.split(newline), strict=True)
    assert all(a == b for n, (a, b) in enumerate(pairs, 1) if n not in lines)


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


def test_a_source_may_be_one_string() -> None:
    for text in (TRAIN, TRAIN + "\n", "import torch\n" + TRAIN + "\nx = 'ä'\n"):
        document = notebook("")
        document["cells"][0]["source"] = text
        source = json.dumps(document).encode()
        code = check_laws(source, filename="a.ipynb").code
        document["cells"][0]["source"] = texts(check_laws(written(text), filename="a.ipynb").code)[0]
        assert code == json.dumps(document).encode() != source


def test_large_outputs_are_skipped_over() -> None:
    document = notebook(TRAIN, "x = 'ö'", TRAIN)
    document["cells"][0]["outputs"] = [{"data": {"image/png": "aé\n" * 2_000_000, "x": [1.5] * 500_000}}]
    source = json.dumps(document, indent=1, ensure_ascii=False).encode()
    result = check_laws(source, filename="a.ipynb")
    assert len(result.plan.loops) == 2
    assert without_sources(result.code) == without_sources(source)


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


# -- positions and bad input ------------------------------------------------------------------------------------------


def test_a_diagnostic_names_the_cell() -> None:
    source = written(("markdown", "# A"), "import torch\n\n", "%%time\n" + TRAIN + "\n        os.abort()")
    result = check_laws(source, filename="a.ipynb")
    [note] = result.diagnostics
    assert str(note).startswith("a.ipynb:cell 3:5:9: FT304 'os.abort()' can end the program")
    assert str(note).endswith("so the loop of line 3 of cell 3 gets no block")
    [loop], [block] = result.plan.loops, result.plan.blocks
    assert (loop.cell, loop.start, loop.stop) == (3, 2, 5)
    assert (block.cell, block.start, block.stop, block.line) == (3, 3, 5, 5)


NOTES = {
    "no loop": (["x = 1"], "a.ipynb:cell 1:1:1: FT104"),
    "awaited": (["import torch", TRAIN + "\n    await x"], "a.ipynb:cell 2:4:5: FT202"),
    "async for": (["async for x in y:\n    optimizer.step()"], "a.ipynb:cell 1:1:1: FT202"),
    "names come from elsewhere": ([TRAIN + "\n    %run other.py"], "a.ipynb:cell 1:4:5: FT206 '%run' in the loop"),
    "flor is taken": (["flor = 1", TRAIN], "a.ipynb:cell 1:1:1: FT101"),
    "everything is deleted": (
        ["import torch", "%reset -f\nx = 1", TRAIN],
        "a.ipynb:cell 2:1:5: FT101 '%reset' deletes",
    ),
    "flor is used, and not imported": (["x = 1", TRAIN + "\n    flor.log('x', 1)"], "a.ipynb:cell 1:1:1: FT102"),
    "instrumented": (["import flor", "for x in flor.loop('e', y):\n    optimizer.step()"], "a.ipynb:cell 1:1:1: FT103"),
}


@pytest.mark.parametrize(("cells", "message"), [pytest.param(*row, id=name) for name, row in NOTES.items()])
def test_left_alone_with_a_note(cells: list[str], message: str) -> None:
    result = check_laws(written(*cells), filename="a.ipynb")
    assert not result.changed
    assert message in "\n".join(map(str, result.diagnostics))


def test_pragmas_count_lines_by_cell() -> None:
    cells = ["import torch", "# flor: off", TRAIN, "# flor: on\n# flor: of", TRAIN.replace(":", ":  # flor: skip", 1)]
    result = check_laws(written(*cells), filename="a.ipynb")
    assert not result.changed
    [note] = result.diagnostics
    assert str(note).startswith("a.ipynb:cell 4:2:1: FT502 unknown pragma '# flor: of'")
    [(first, where), (second, _)] = [(loop.cell, loop.reason) for loop in result.plan.loops]
    assert (first, second) == (3, 5)
    assert "'# flor: off' in line 1 of cell 2" in where


def test_a_notebook_that_asks_for_it_is_skipped_even_if_it_does_not_parse() -> None:
    source = written("# flor: skip-file\nx = (", TRAIN)
    assert not instrument(source, filename="a.ipynb").changed


def test_pip_install_flor_is_no_use_of_the_name() -> None:
    source = written("!pip install flor", TRAIN)
    assert check_laws(source, filename="a.ipynb").changed


def test_a_reset_at_the_beginning_deletes_nothing() -> None:
    assert check_laws(written("%load_ext x\n%reset -f", "import torch", TRAIN), filename="a.ipynb").changed


def test_other_languages_are_left_alone() -> None:
    for metadata in ({"language_info": {"name": "R"}}, {"kernelspec": {"language": "julia"}}):
        assert not check_laws(written("x <- 1\n", metadata=metadata), filename="a.ipynb").changed
    document = notebook("x <- 1", TRAIN)
    document["cells"][0]["metadata"] = {"vscode": {"languageId": "r"}}
    assert check_laws(json.dumps(document).encode(), filename="a.ipynb").changed


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "a.ipynb:1:1: FT005 is not a notebook: Expecting an object"),
    "Python": (b"import torch\n", "a.ipynb:1:1: FT005 is not a notebook: Expecting an object"),
    "cut": (written(TRAIN)[:-9], "a.ipynb:26:2: FT005 is not a notebook: Unterminated string"),
    "two documents": (written(TRAIN) * 2, "a.ipynb:28:1: FT005 is not a notebook: Extra data"),
    "a comma too many": (b'{"cells": [\n],}', "a.ipynb:2:3: FT005 is not a notebook: Expecting property name"),
    "no comma": (b'{"cells": []\n"nbformat": 4}', "a.ipynb:2:1: FT005 is not a notebook: Expecting ',' delimiter"),
    "no colon": (b'{"cells" []}', "a.ipynb:1:10: FT005 is not a notebook: Expecting ':' delimiter"),
    "a raw newline": (b'{"cells\n": []}', "a.ipynb:1:8: FT005 is not a notebook: Invalid control character at"),
    "JSON of something else": (b'{"a": 1}\n', "a.ipynb:1:1: FT005 is not a notebook: it has no 'nbformat'"),
    "no cells": (b'{"nbformat": 4}', "a.ipynb:1:1: FT005 is not a notebook: it has no list of cells"),
    "cells that are none": (b'{"cells": 1, "nbformat": 4}', "a.ipynb:1:11: FT005 is not a notebook: 'cells' is not"),
    "a cell that is none": (b'{"cells": [1]}', "a.ipynb:1:12: FT005 is not a notebook: a cell is not an object"),
    "a source that is none": (b'{"cells": [{"source": 1}]}', "a.ipynb:1:23: FT005 is not a notebook: the source of"),
    "format 3": (
        b'{\n "worksheets": [],\n "nbformat": 3}',
        "a.ipynb:3:14: FT005 is a notebook of format 3; format 4 is needed; convert it with `jupyter nbconvert --to",
    ),
    "format 5": (b'{"cells": [], "nbformat": 5}', "a.ipynb:1:27: FT005 is a notebook of format 5; format 4 is needed"),
    "a long number": (b'{"a": ' + b"1" * 5000 + b"}", "a.ipynb:1:1: FT005 can't be read: it holds a number"),
    "latin-1": (written("x = 1") + b"\xe9", "a.ipynb:26:1: FT003 can't be decoded as utf-8"),
    "half of a character": (written("x = '\ud83d'"), "a.ipynb:cell 1:1:1: FT003 half of a character"),
    "deep": (b'{"a": ' + b"[" * 99999, "a.ipynb:1:1: FT004 is nested too deeply"),
    "a cell does not parse": (written(("raw", "("), "x = 1", "y\nx = (\n"), "a.ipynb:cell 3:2:5: FT001 does not parse"),
    "a cell ends too early": (written("x = (", "1)"), "a.ipynb:cell 1:1:5: FT001 does not parse: '(' was never closed"),
    "a cell is Python 2": (written("x = 1", "print 'a'"), "a.ipynb:cell 2:1:1: FT002 is not Python 3"),
    "a cell goes on": (written("if x:\n    y", "else:\n    z"), "a.ipynb:cell 2:1:1: FT001 does not parse"),
    "a null byte": (written("x = 1", "y = '\0'"), "a.ipynb:cell 2:1:1: FT001 does not parse"),
    "a late global": (written("x = 1", "global x"), "a.ipynb:cell 2:1:1: FT001 does not compile"),
}


@pytest.mark.parametrize(("source", "message"), [pytest.param(*row, id=name) for name, row in BAD.items()])
def test_bad_input_is_one_clear_error(source: bytes, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        instrument(source, filename="a.ipynb")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_of_two_keys_the_last_one_counts() -> None:
    cell = json.dumps(notebook("x = 1")["cells"][0])
    twice = cell[:-1] + ', "source": ' + json.dumps(TRAIN) + "}"
    source = f'{{"cells": [{cell}], "cells": [{twice}], "nbformat": 3, "nbformat": 4}}'
    result = check_laws(source.encode(), filename="a.ipynb")
    assert json.loads(result.code)["cells"][0]["source"].startswith("import flor\n\nfor epoch in flor.loop(")
    assert json.loads(result.code)["nbformat"] == 4


def test_a_notebook_is_known_by_what_it_holds() -> None:
    source = written(TRAIN)
    code = instrument(source).code
    assert json.loads(code)["cells"]
    assert strip(code) == source


# -- the command --------------------------------------------------------------------------------------------------------


def run(*args: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(transform_command, [str(arg) for arg in args], input=stdin)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.ipynb"
    path.write_bytes(written(("markdown", "# A"), "import torch", TRAIN + "\n        os._exit(1)", "%run x\n" + TRAIN))
    return path


def test_in_place_and_back(file: Path) -> None:
    source = file.read_bytes()
    assert run("--check", file).exit_code == 1
    assert run(file).exit_code == 0
    assert b'flor.loop(\\"epoch\\", range(3))' in file.read_bytes()
    assert run("--check", file).exit_code == 0
    assert run("--strip", file).exit_code == 0
    assert file.read_bytes() == source


def test_standard_input(file: Path) -> None:
    source = file.read_bytes()
    code = run("-", stdin=source).stdout_bytes
    assert code == run("-", "--stdin-filename", "a/b.ipynb", stdin=source).stdout_bytes
    run(file)
    assert code == file.read_bytes()
    assert run("-", "--strip", stdin=code).stdout_bytes == source


def test_a_folder(file: Path) -> None:
    (file.parent / ".ipynb_checkpoints").mkdir()
    (file.parent / ".ipynb_checkpoints" / "train-checkpoint.ipynb").write_bytes(file.read_bytes())
    result = run(file.parent)
    assert result.stderr.endswith("1 file instrumented (2 main loops, 1 block, 1 loop refused).\n")


def test_a_module_beside_the_notebook(tmp_path: Path) -> None:
    notebook, module = tmp_path / "a.ipynb", tmp_path / "engine.py"
    notebook.write_bytes(written("import torch\nfrom engine import train", "for epoch in range(3):\n    train(model)"))
    module.write_bytes(b"def train(model):\n    for x in loader:\n        optimizer.step()\n")
    result = run(notebook)
    assert f"{module}:2:1: FT401" in result.stderr
    run("--strip", notebook)
    assert run(notebook, module).stderr == "2 files instrumented (1 main loop, 1 block).\n"
    assert run("--check", notebook, module).exit_code == 0


def test_a_patch_for_each_cell(file: Path) -> None:
    source = file.read_bytes()
    text = run("--diff", file).stdout
    assert file.read_bytes() == source
    assert (
        re.findall(r"^(?:---|\+\+\+) .*:(.*)$", text, re.MULTILINE) == ["cell 2"] * 2 + ["cell 3"] * 2 + ["cell 4"] * 2
    )
    assert text.startswith(f"--- {file}:cell 2\n+++ {file}:cell 2\n@@ -1 +1,2 @@\n+import flor\n import torch\n")


def test_explain_counts_lines_by_cell(file: Path) -> None:
    text = run("--explain", file).stdout
    assert "lines 1-4 of cell 3: main loop at module level" in text
    assert "line 2 of cell 3" in text or "lines 2-4 of cell 3" in text


def test_formats(file: Path) -> None:
    file.write_bytes(written(("markdown", "# A"), TRAIN + "\n        !ls\n        os._exit(1)"))
    assert f"{file}:cell 2:5:9: FT304" in run("--diff", file).stderr
    assert (
        "    5 |         os._exit(1)\n      |         ^ block-exit\n"
        in run("--diff", "--output-format", "full", file).stderr
    )
    rows = json.loads(run("--check", "--output-format", "json", file).stdout)
    assert {(row["cell"], row["line"]) for row in rows} == {(2, 1), (2, 5)}
    [result, _] = json.loads(run("--check", "--output-format", "sarif", file).stdout)["runs"][0]["results"][::-1]
    assert "region" not in result["locations"][0]["physicalLocation"]
    assert "line=" not in run("--check", "--output-format", "github", file).stdout


def test_full_shows_what_the_cell_holds(file: Path) -> None:
    file.write_bytes(written(TRAIN + "\n    %run one.py  # again"))
    text = run("--check", "--output-format", "full", file).stderr
    assert "    4 |     %run one.py  # again\n      |     ^ dynamic-names\n" in text


def test_the_main_loop_can_be_named_by_its_cell(file: Path) -> None:
    text = run("--diff", "--main-loop", "cell 3:2", file).stdout
    assert '+    for x in flor.loop("step", loader):' in text
    result = run("--diff", "--main-loop", "2", file)
    assert result.exit_code == 2
    assert f"{file}:cell 3:2: for x in loader" in result.stderr


# -- what it does -----------------------------------------------------------------------------------------------------

HEAD = "from __future__ import annotations\n%load_ext autoreload\n%autoreload 2\nimport random\nrandom.seed(1)"
RUN = [
    "%config InteractiveShell.ast_node_interactivity = 'INTERACTIVITY'",
    "class Optimizer:\n    steps = 0\n    def step(self):\n        self.steps += 1\n        return self.steps\n"
    "optimizer = Optimizer()\nbest = None",
    "def evaluate():\n    total = 0\n    for x in range(3):\n        total += x * random.random()\n    return total",
    "history = !echo a",
    "%%capture captured\nfor epoch in range(2):\n    for x in range(3):\n        print(optimizer.step())",
    "for epoch in range(3):\n    total = 0\n    for x in range(4):\n        total += x * random.random()\n"
    "        optimizer.step()\n    score = evaluate()\n    best = max(best or 0, score)\n    !true {epoch}\n"
    "    print(epoch, total)",
    "total, best",
    "total = 0\nwhile total < 5:\n    optimizer.step()\n    total += 1",
    "import asyncio\nawait asyncio.sleep(0)\nfor x in range(2):\n    optimizer.step()",
    "def train():\n    for x in range(3):\n        optimizer.step()\n        last = x\n    return last\n"
    "for epoch in range(2):\n    result = train()",
    "result;",
    "for epoch in range(3):\n    for x in range(3):\n        optimizer.step()\n    1 / (1 - epoch)",
    "captured.stdout, history, optimizer.steps, epoch, x, random.random()",
]


def executed(source: bytes) -> list[Any]:
    """The outputs of a notebook's cells in a real kernel, errors in it included."""
    document = nbformat.reads(source.decode(), 4)
    NotebookClient(document, kernel_name="python3", allow_errors=True, timeout=120).execute()
    outputs = []
    for cell in document.cells:
        for output in cell.outputs:
            if output.output_type == "error":
                outputs.append((output.ename, output.evalue))
            elif output.output_type == "stream" and outputs and isinstance(outputs[-1], str):
                outputs[-1] += output.text  # a kernel sends it in as many parts as it likes
            elif output.output_type == "stream":
                outputs.append(output.text)
            else:
                outputs.append({key: value for key, value in output.items() if key != "metadata"})
        outputs.append(cell.execution_count)
    return outputs


def test_the_instrumented_notebook_is_the_raw_one() -> None:
    """Also where IPython is told to display more than the value of a last expression."""
    ways = ("last_expr", "all", "last_expr_or_assign")
    source = written(HEAD, *(cell.replace("INTERACTIVITY", way) for way in ways for cell in RUN))
    result = check_laws(source, filename="a.ipynb")
    assert len(result.plan.loops) > 15 and result.code.count(b"flor.SkipBlock.loop(") > 8
    assert executed(result.code) == executed(source)


if __name__ == "__main__":
    for file in notebooks():
        if golden(file).exists():
            golden(file).write_bytes(instrument(file.read_bytes(), filename=file.name).code)
