"""The proof, run on every file before anything is handed out: laws 1 and 2, and that nothing but wrappers was added."""

from __future__ import annotations

import ast
import symtable
import warnings
from collections.abc import Callable
from itertools import pairwise

from flor_transform.analysis.names import dotted
from flor_transform.errors import ProofError, SourceError
from flor_transform.rewrites.import_flor import tables, uses_flor
from flor_transform.source import Insertion, Source, splice
from flor_transform.strip import strip

_WRAPPERS = {"flor.loop": 1, "flor.SkipBlock.loop": 1, "flor.it": 0}
_LINES = frozenset({"flor.checkpoints", "flor.carry", "flor.SkipBlock.end"})


def verify(source: Source, code: bytes, insertions: tuple[Insertion, ...], again: Callable[[bytes], bytes]) -> None:
    """Raise ProofError unless `code` is `source` instrumented, by every rule that can be checked without running it."""
    path = source.name

    def prove(rule: str, holds: bool, detail: str = "") -> None:
        if not holds:
            raise ProofError(path, rule, detail)

    ascending = all(a.offset <= b.offset for a, b in pairwise(insertions))
    prove("insertions only", ascending and splice(source.data, insertions) == code)
    try:
        result = Source.decode(code, path)
        tree = result.parse()
        # What compiled before must compile now; what did not (a `return` outside a function) is not our doing.
        if _compiles(source.text, path):
            prove("the result compiles", _compiles(result.text, path))
        prove("strip gives the source back", strip(code) == source.data)
        prove("instrumenting again changes nothing", again(code) == code)
        original = source.parse()
        same = ast.dump(_Unwrap().visit(tree)) == ast.dump(_drop_import(original, False))
        if not same:
            same = ast.dump(_drop_import(tree, True)) == ast.dump(original)
        prove("unwrapped, the syntax tree is that of the source", same)
        prove("no scope has other names than before", _names(result.text, path) == _names(source.text, path))
    except SourceError as error:
        raise ProofError(path, "the result parses", str(error)) from None
    except RecursionError:
        raise SourceError(path, 1, 1, "FT004", "an expression is nested too deeply to be checked") from None


def _compiles(text: str, path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's code, and not ours to pass on
            compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


class _Unwrap(ast.NodeTransformer):
    """Undoes the instrumentation on the tree; written apart from `strip`, which works on text."""

    def _loop(self, node: ast.For | ast.While) -> ast.AST:
        self.generic_visit(node)
        subject = node.test if isinstance(node, ast.While) else node.iter
        if isinstance(subject, ast.Call) and dotted(subject.func) in _WRAPPERS:
            inner = subject.args[_WRAPPERS[dotted(subject.func)]]
            if isinstance(node, ast.While):
                node.test = inner
            else:
                node.iter = inner
        return node

    visit_For = visit_While = _loop

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Call) and dotted(node.value.func) in _LINES else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if isinstance(node.value, ast.Call) and dotted(node.value.func) in _LINES else node


def _drop_import(tree: ast.Module, drop: bool) -> ast.Module:
    """Without the first `import flor`, if `drop`."""
    if drop:
        for index, node in enumerate(tree.body):
            if isinstance(node, ast.Import) and [a.name for a in node.names] == ["flor"]:
                del tree.body[index]
                break
    return tree


def _names(text: str, path: str) -> list[object]:
    """Every scope with its names and what they are, but for our own."""
    table = symtable.symtable(text, path, "exec")
    return [
        (
            each.get_name(),
            each.get_type(),
            sorted(
                (s.get_name(), s.is_local(), s.is_global(), s.is_free(), s.is_parameter())
                for s in each.get_symbols()
                if s.get_name() != "flor"
            ),
        )
        for each in tables(table)
    ]


__all__ = ["uses_flor", "verify"]
