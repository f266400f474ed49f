"""The survey of a tree, and what makes two trees differ."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from flor_transform.syntax import children, survey

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "fixtures" / "scripts").glob("*.py")), Path(__file__), Path(ast.__file__)]
MARKS = (ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop)

SAME = {
    "other places": ("a = f(1)\nb", "a = f(\n    1\n)\n\n\nb"),
    "comments": ("x  # one", "x  # two"),
    "quotes": ("x = 'a'", 'x = "a"'),
}
OTHER = {
    "a name": ("a", "b"),
    "a kind": ("a.b", "a[b]"),
    "an operator": ("a + b", "a - b"),
    "a comparison": ("a < b < c", "a < b <= c"),
    "a context": ("[a]", "[a] = b"),
    "a constant's class": ("f(1)", "f(1.0)"),
    "a constant's class, bool": ("f(1)", "f(True)"),
    "bytes": ("f(b'')", "f('')"),
    "a prefix": ("f('')", "f(u'')"),
    "a statement more": ("a", "a\na"),
    "where a suite ends": ("if a:\n    b\n    c", "if a:\n    b\nc"),
    "which suite": ("for a in b:\n    c\n    d", "for a in b:\n    c\nelse:\n    d"),
    "which argument": ("f(a, b=c)", "f(a, d=c)"),
    "a default's place": ("def f(*, a=1, b): pass", "def f(*, a, b=1): pass"),
    "unpacking": ("{**a}", "{a: a}"),
    "an optional part": ("a[b:]", "a[:b]"),
    "names": ("global a, b", "global a, c"),
    "an alias": ("import a as b", "import a"),
    "a level": ("from . import a", "from .. import a"),
    "async": ("async def f():\n    [x async for x in y]", "async def f():\n    [x for x in y]"),
    "an f-string": ("f'{a!r}'", "f'{a!s}'"),
    "a pattern": ("match a:\n    case B(c=1): pass", "match a:\n    case B(d=1): pass"),
    "the rest": ("match a:\n    case {**b}: pass", "match a:\n    case {**c}: pass"),
    "a singleton": ("match a:\n    case None: pass", "match a:\n    case True: pass"),
    "annotated or not": ("a: int", "(a): int"),
}
if sys.version_info >= (3, 12):
    OTHER["an alias's name"] = ("type A = int", "type B = int")
    OTHER["a bound"] = ("type A[T: int] = T", "type A[T: str] = T")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_finds_what_walk_finds(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    found = survey(tree)
    nodes = [node for node in ast.walk(tree) if not isinstance(node, MARKS)]
    assert sum(map(len, found.kinds.values())) == len(nodes)
    for kind, each in found.kinds.items():
        assert each == [node for node in nodes if type(node) is kind]
    for node in nodes:
        assert children(node) == [child for child in ast.iter_child_nodes(node) if not isinstance(child, MARKS)]
    assert found.prints == survey(ast.parse(path.read_bytes())).prints


def test_depth() -> None:
    assert survey(ast.parse("")).depth == 1
    assert survey(ast.parse("a.b.c")).depth == 5


@pytest.mark.parametrize(("one", "other"), [pytest.param(*row, id=name) for name, row in SAME.items()])
def test_same_trees(one: str, other: str) -> None:
    assert ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    assert survey(ast.parse(one)).prints == survey(ast.parse(other)).prints


@pytest.mark.parametrize(("one", "other"), [pytest.param(*row, id=name) for name, row in OTHER.items()])
def test_other_trees(one: str, other: str) -> None:
    assert ast.dump(ast.parse(one)) != ast.dump(ast.parse(other))
    assert survey(ast.parse(one)).prints != survey(ast.parse(other)).prints


def test_instead() -> None:
    """What is replaced is not printed, but still among the kinds."""

    def plain(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Call):
            return node.args[0]
        return None if isinstance(node, ast.Expr) else node

    tree = ast.parse("import a\nnote()\nfor x in w(y):\n    note()\n    f = g(x)\n")
    found = survey(tree, plain)
    assert found.prints == survey(ast.parse("import a\nfor x in y:\n    f = g(x)\n")).prints
    assert len(found.kinds[ast.Expr]) == 2
    assert len(tree.body) == 3
