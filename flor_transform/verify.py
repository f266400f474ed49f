"""The proof, run on every file before anything is handed out: laws 1 and 2, and that nothing but wrappers was added."""

from __future__ import annotations

import ast
import symtable
import warnings
from itertools import pairwise

from flor_transform.analysis.names import dotted
from flor_transform.errors import ProofError, SourceError
from flor_transform.rewrites.import_flor import tables
from flor_transform.source import Insertion, Source, splice
from flor_transform.strip import is_instrumented, strip_source
from flor_transform.syntax import survey

_WRAPPERS = {"flor.loop": 1, "flor.SkipBlock.loop": 1, "flor.it": 0}
_LINES = frozenset({"flor.checkpoints", "flor.carry", "flor.SkipBlock.step_into", "flor.SkipBlock.end"})


def verify(source: Source, code: bytes, insertions: tuple[Insertion, ...]) -> None:
    """Raise ProofError unless `code` is `source` instrumented, by every rule that can be checked without running it."""
    path = source.name

    def prove(rule: str, holds: bool, detail: str = "") -> None:
        if not holds:
            raise ProofError(path, rule, detail)

    ascending = all(a.offset <= b.offset for a, b in pairwise(insertions))
    prove("insertions only", ascending and splice(source.data, insertions) == code)
    try:
        result = Source.decode(code, path)
        tree = result.tree
        # What compiled before must compile now; what did not (a `return` outside a function) is not our doing.
        prove("the result compiles", _compiles(tree, path) or not _compiles(source.tree, path))
        prove("strip gives the source back", strip_source(result) == source.data)
        # A file that is instrumented, and can be read, is left alone: law 2.
        prove("instrumenting again changes nothing", is_instrumented(result))
        imports = _flor_imports(tree)
        more = len(imports) - len(_flor_imports(source.tree))
        same = survey(tree, lambda node: _original(node, imports[:more])).prints == source.survey.prints
        prove("unwrapped, the syntax tree is that of the source", same and 0 <= more <= 1)
        prove("no scope has other names than before", _names(result.table) == _names(source.table))
    except SourceError as error:
        raise ProofError(path, "the result parses", str(error)) from None
    except RecursionError:
        raise SourceError(path, 1, 1, "FT004", "an expression is nested too deeply to be checked") from None


def _compiles(tree: ast.Module, path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's code, and not ours to pass on
            compile(tree, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _original(node: ast.AST, added: list[ast.stmt]) -> ast.AST | None:
    """What stood in a node's place before, None if it is new; written apart from `strip`, which works on text."""
    if isinstance(node, ast.Call):
        name = dotted(node.func)
        return node.args[_WRAPPERS[name]] if name in _WRAPPERS else node
    if isinstance(node, ast.BoolOp):
        first = node.values[0]
        guarded = isinstance(first, ast.Call) and dotted(first.func) == "flor.SkipBlock.runs"
        return node.values[1] if guarded and len(node.values) == 2 else node
    if isinstance(node, (ast.Expr, ast.Assign)):
        return None if isinstance(node.value, ast.Call) and dotted(node.value.func) in _LINES else node
    return None if node in added else node


def _flor_imports(tree: ast.Module) -> list[ast.stmt]:
    return [n for n in tree.body if isinstance(n, ast.Import) and [alias.name for alias in n.names] == ["flor"]]


def _names(table: symtable.SymbolTable) -> list[object]:
    """Every scope with its names and what they are, but for our own."""
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
