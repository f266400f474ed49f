"""Definite assignment: what is bound where. `HERE` marks the place asked about."""

from __future__ import annotations

import ast
import textwrap

import pytest

from flor_transform.analysis.flow import Flow, Scope

CASES = {
    "straight": ("a = 1\nHERE\nb = 2", "a"),
    "one branch": ("if x:\n    a = 1\nHERE", ""),
    "both branches": ("if x:\n    a = 1\nelse:\n    a, b = 2, 3\nHERE", "a"),
    "a branch that leaves": ("def f(x):\n    if x:\n        a = 1\n    else:\n        return\n    HERE", "a x"),
    "a branch that raises": ("if x:\n    a = 1\nelse:\n    raise E\nHERE", "a"),
    "for may not run": ("for i in r:\n    a = 1\nHERE", ""),
    "for else": ("for i in r:\n    pass\nelse:\n    a = 1\nHERE", "a"),
    "for else with a break": ("for i in r:\n    break\nelse:\n    a = 1\nHERE", ""),
    "in the body": ("for i, (j, k) in r:\n    HERE", "i j k"),
    "in the body, a name that goes": ("a = 1\nfor i in r:\n    HERE\n    del a", "i"),
    "while true": ("while True:\n    a = 1\n    if x:\n        break\nHERE", "a"),
    "while": ("while x:\n    a = 1\nHERE", ""),
    "walrus in a test": ("while (a := f()):\n    pass\nHERE", "a"),
    "walrus behind and": ("if x and (a := f()):\n    pass\nHERE", ""),
    "walrus in a comprehension": ("[b := y for y in r]\nHERE", ""),
    "comprehension": ("z = [y for y in r]\nHERE", "z"),
    "del": ("a = b = 1\ndel a\nHERE", "b"),
    "try": ("try:\n    a = f()\nexcept E:\n    pass\nHERE", ""),
    "try, bound in both": ("try:\n    a = f()\nexcept E:\n    a = 1\nHERE", "a"),
    "try, handlers leave": ("for i in r:\n    try:\n        a = f()\n    except E:\n        continue\n    HERE", "a i"),
    "try else": ("try:\n    f()\nexcept E:\n    raise\nelse:\n    a = 1\nHERE", "a"),
    "in a handler": ("try:\n    a = f()\n    b = g()\nexcept E:\n    HERE", ""),
    "finally": ("try:\n    a = f()\nfinally:\n    b = 1\nHERE", "a b"),
    "in finally": ("try:\n    a = f()\nfinally:\n    HERE", ""),
    "break through finally": ("while True:\n    try:\n        break\n    finally:\n        a = 1\nHERE", "a"),
    "the handler's name is gone": ("try:\n    f()\nexcept E as e:\n    pass\nHERE", ""),
    "with": ("with open(p) as f:\n    a = 1\nHERE", "a f"),
    "with that may swallow": ("with guard() as g:\n    a = 1\nHERE", "g"),
    "match": ("match x:\n    case [a]:\n        pass\n    case _:\n        a = 1\nHERE", ""),
    "match, in a case": ("match x:\n    case [a, *b] if a:\n        HERE", "a b"),
    "import, def, class": ("import a.b, c as d\ndef f(): pass\nclass G: pass\nHERE", "G a d f"),
    "annotation only": ("a: int\nb: int = 1\nHERE", "b"),
    "parameters": ("def f(a, /, b, *c, d=1, **e):\n    HERE", "a b c d e"),
    "never reached": ("def f():\n    a = 1\n    return a\n    HERE", ""),
}


def _place(source: str) -> tuple[Scope, ast.stmt]:
    """The mark and the innermost function round it."""
    tree = ast.parse(source.replace("HERE", "HERE()"))
    scope: Scope = tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_is_mark(inner) for inner in ast.walk(node)):
            scope = node
    return scope, next(node for node in ast.walk(tree) if _is_mark(node))


def _is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node) == "HERE()"


@pytest.mark.parametrize(("source", "expected"), [pytest.param(*row, id=name) for name, row in CASES.items()])
def test_bound_before(source: str, expected: str) -> None:
    scope, place = _place(source)
    assert sorted(Flow(scope).bound_before(place)) == expected.split()


def test_after_a_statement() -> None:
    tree = ast.parse("for i in r:\n    a = 1\nelse:\n    b = 1\nc = 1\n")
    flow = Flow(tree)
    assert flow.bound_after(tree.body[0]) == {"b"}
    assert flow.bound_after(tree.body[1]) == {"b", "c"}
    assert flow.bound_at_exit() == {"b", "c"}


@pytest.mark.parametrize("source", [row[0] for row in CASES.values()])
def test_what_is_said_to_be_bound_can_be_read(source: str) -> None:
    """Run every case with names that do something, and look at the frame where the mark is."""
    seen: list[set[str]] = []
    scope, place = _place(source)
    expected = Flow(scope).bound_before(place)

    class E(Exception):
        pass

    class Guard:
        def __enter__(self) -> int:
            return 1

        def __exit__(self, *_: object) -> bool:
            return True

    def here() -> None:
        import sys

        seen.append(set(sys._getframe(1).f_locals))

    for x, r, fails in ((0, [], False), (1, [(1, (2, 3))], True), ([5, 6], [[1, [2, 3]]], False)):
        if "while True" in source and not x:
            continue  # it would never end
        turns = iter([1, 0, 0, 0])

        def f(*_: object, turns=turns, fails=fails, **__: object) -> int:  # type: ignore[no-untyped-def]
            if fails:
                raise E
            return next(turns)

        space = {"x": x, "r": r, "f": f, "g": f, "E": E, "guard": Guard, "p": "/dev/null", "HERE": here, "y": 0}
        text = textwrap.dedent(source.replace("HERE", "HERE()"))
        if "def f(" in text and "HERE()" in text.partition("def f(")[2] and text.startswith("def"):
            text += "\nf(*[1] * 2)" if "b, *c" in text else "\nf(1)" if "def f(x)" in text else "\nf()"
        if "while x" in text:
            text = text.replace("while x", "while f()")
        try:
            exec(compile(text, "<case>", "exec"), space)
        except (E, TypeError, ValueError, NameError, StopIteration, ModuleNotFoundError, RuntimeError):
            pass
    for names in seen:
        assert expected <= names
