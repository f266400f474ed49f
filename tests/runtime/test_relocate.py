"""Positions of instrumented code are those of the source: nothing of the source has moved."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import flor_transform
from flor_runtime.relocate import Placed, compile_as_source
from tests.runtime.processes import HEAD, TRAIN

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"
SCRIPTS = sorted((FIXTURES / "scripts").rglob("*.py"))

ODD = HEAD + (
    "def f(ü=1):\n\tfor epoch in range(\n\t\t2 # ä\n\t):  # comment\n\t\tfor i, (x, y) in enumerate([(1, 'é'), (2, 3)]): optimizer.step(); ü += x\n\t\tprint(ü)\n"
    "for epoch in 1, *[2]:\n    for x in(1, 2):\n        optimizer.zero_grad(); Loss().backward(); optimizer.step()\n    else:\n        pass\n    print(x)\n"
    "n = 0\nwhile n < 2:\n    optimizer.step(); n += 1\n"
)  # fmt: skip


def places(tree: ast.AST) -> Counter[tuple[str, int, int, int | None, int | None]]:
    """A statement with a body may end with a line that was put in: its end is not compared."""
    return Counter(
        (type(node).__name__, node.lineno, node.col_offset, *_end(node))
        for node in ast.walk(tree)
        if isinstance(node, Placed)
    )


def _end(node: ast.AST) -> tuple[int | None, int | None]:
    if not isinstance(node, Placed) or (hasattr(node, "body") and isinstance(node, ast.stmt)):
        return None, None
    return node.end_lineno, node.end_col_offset


def check(source: bytes) -> int:
    result = flor_transform.instrument(source, filename="train.py")
    seen: list[ast.Module] = []

    def keep(tree: ast.Module) -> ast.Module:
        seen.append(tree)
        return tree

    code = compile_as_source(result.code, source, result.insertions, "train.py", keep)
    lines = len(source.splitlines()) + 1
    assert all(0 <= line <= lines for *_, line in code.co_lines() if line is not None)
    missing = places(ast.parse(source)) - places(seen[0])
    assert not missing, list(missing)[:5]
    return len(result.insertions)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_fixtures(path: Path) -> None:
    check(path.read_bytes())


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_encodings_and_newlines(encoding: str, newline: str) -> None:
    if newline == "\r" and not encoding.startswith("utf-8"):
        return  # a line of a cookie ends with LF
    cookie = "" if encoding.startswith("utf-8") else f"# coding: {encoding}\n"
    text = cookie + "x = 'äöü'; y = 1\n" + ODD + TRAIN
    assert check(text.replace("\n", newline).encode(encoding)) > 5


def test_nothing_inserted() -> None:
    source = b"x = 1\nprint(x)"
    code = compile_as_source(source, source, (), "a.py")
    assert [line for *_, line in code.co_lines()] == [line for *_, line in compile(source, "a.py", "exec").co_lines()]
