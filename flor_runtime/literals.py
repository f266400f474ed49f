"""Sets of constants in code that is written to a file and read again, or compiled where much else has been.

The compiler makes one constant of `{"a", "b", "c"}`, and programs see its order: where hashes collide, it hangs on the
order in which the elements went in. `marshal` writes them in one of its own; and the compiler puts them in once more if
one of them is a string that the process knows already. So an interpreter that has done nothing else is asked, and such
a set is made when the code runs.
"""

from __future__ import annotations

import ast
import marshal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

#: By what is in a set: its elements in an order which, put in one after the other, gives the set that Python makes.
Orders = Mapping[str, tuple[Any, ...]]

_SECONDS = 10
_ASK = """
code = compile(__import__("sys").stdin.buffer.read(), "", "exec", dont_inherit=True)
import itertools, marshal, random, sys
found, todo = [], [code]
for code in todo:
    for item in code.co_consts:
        if isinstance(item, type(code)):
            todo.append(item)
        elif type(item) is frozenset:
            tries = [list(item)]
            for _ in range(3):
                tries.append(list(frozenset(tries[-1])))
            shuffled = (random.sample(tries[0], len(item)) for _ in range(20_000))
            for order in itertools.chain(tries, shuffled):
                if [*map(id, frozenset(order))] == [*map(id, item)]:
                    found.append(tuple(order))
                    break
sys.stdout.buffer.write(marshal.dumps(found))
"""


def orders_of(source: bytes, python: Sequence[str], env: Mapping[str, str]) -> Orders:
    """Ask an interpreter for the orders of the sets in a script; empty if there are none, or it does not say.

    Args:
        python: the interpreter and its options. env: with the seed of hashes that the script will have.
    """
    try:
        if b"{" not in source or not any(_visible(ast.parse(source))):
            return {}
        asked = subprocess.run(
            [*python, "-c", _ASK], input=source, env=dict(env), capture_output=True, timeout=_SECONDS
        )
        return {_key(order): order for order in marshal.loads(asked.stdout)} if asked.returncode == 0 else {}
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, RecursionError, subprocess.SubprocessError):
        return {}


def _key(elements: Iterable[Any]) -> str:
    """What tells sets of constants apart: 1, 1.0 and True are equal, and are not the same."""
    return "\n".join(sorted(map(repr, elements)))


def keep_order(tree: ast.Module, orders: Orders) -> ast.Module:
    """Have the sets of a script made when it runs, in these orders."""
    if orders:
        for node, over in list(_visible(tree)):
            elements = orders.get(_key(_folded(node)))
            if elements is not None:
                _replace(node, elements, over)
    return tree


def _visible(tree: ast.Module) -> Iterator[tuple[ast.Set, Any]]:
    """The sets that are constants, with what goes over them, if anything does; in `x in {1, 2, 3}` no order is seen."""
    hidden: set[int] = set()
    over: dict[int, Any] = {}
    for node in ast.walk(tree):  # from the outside to the inside
        if isinstance(node, ast.Compare):
            pairs = zip(node.ops, node.comparators, strict=True)
            hidden |= {id(right) for op, right in pairs if isinstance(op, ast.In | ast.NotIn)}
        elif isinstance(node, ast.For | ast.comprehension):
            over[id(node.iter)] = node
        elif isinstance(node, ast.Set):
            seen = id(node) not in hidden and (id(node) in over or len(node.elts) > 2)
            if seen and _folded(node) is not None:
                yield node, over.get(id(node))


def _folded(node: ast.Set) -> Any:
    """The constant that the compiler makes of it; None if it doesn't."""
    test = ast.Compare(ast.Constant(0), [ast.In()], [node])
    code = compile(ast.fix_missing_locations(ast.Expression(test)), "", "eval", dont_inherit=True)
    return next((item for item in code.co_consts if type(item) is frozenset), None) if not code.co_names else None


def _replace(node: ast.Set, elements: tuple[Any, ...], over: Any) -> None:
    # By way of a constant: the name may mean anything in the script.
    constant: Any = ast.Constant  # of more types than typeshed knows
    kind = ast.Attribute(constant(frozenset()), "__class__", ast.Load())
    made: ast.expr = ast.Call(kind, [constant(elements)], [])
    if over is not None:
        over.iter = made
    else:
        made = ast.Starred(made, ast.Load())
        node.elts = [made]
    for each in ast.walk(made):
        if isinstance(each, ast.expr):
            ast.copy_location(each, node)
