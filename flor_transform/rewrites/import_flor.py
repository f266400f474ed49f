"""`import flor`, after the docstring and the `__future__` imports. Once a file, so not one of the registered rewrites.

Law 1 needs a rule by which `strip` can tell our import from the user's: ours is put in exactly if nothing else in the
file uses the name `flor`. So a file that logs keeps its own import and gets none; and where nothing but an import is
left after stripping, the first one is ours.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Sequence

from flor_transform.rewrites import Edit
from flor_transform.rewrites.lines import first_offset
from flor_transform.source import Source

LINE = "import flor"


def import_flor(source: Source, tree: ast.Module) -> Edit:
    """The edit that puts the import in; the file has at least one statement after its docstring."""
    first = anchor(tree.body)
    if first is None:
        raise ValueError("nothing to import for")
    offset = first_offset(source, first)
    start = source.line_start(source.line_of(offset))
    if source.text[start:offset].strip(" \t\f"):
        return Edit(offset, f"{LINE}; ", rank=1)
    return Edit(start, LINE + source.newline * (1 if is_import(first) else 2), rank=1)


def is_import(node: ast.stmt) -> bool:
    """Whether our import joins other imports; before anything else a blank line sets it off."""
    return isinstance(node, (ast.Import, ast.ImportFrom))


def anchor(body: Sequence[ast.stmt]) -> ast.stmt | None:
    """The first statement that is neither the docstring nor a `__future__` import."""
    index = 0
    if (
        body
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    ):
        index = 1
    while index < len(body):
        statement = body[index]
        if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__" and not statement.level):
            return statement
        index += 1
    return None


def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from tables(child)


def uses_flor(table: symtable.SymbolTable) -> bool:
    """Whether code refers to the module's name `flor` in any way but binding it."""
    for each in tables(table):
        try:
            symbol = each.lookup("flor")
        except KeyError:
            continue
        if symbol.is_referenced() and (each.get_type() == "module" or symbol.is_global()):
            return True
    return False
