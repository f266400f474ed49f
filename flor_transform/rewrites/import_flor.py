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


def import_flor(source: Source, tree: ast.Module, use: int) -> Edit:
    """The edit that puts the import in; the file has at least one statement after its docstring.

    `use` is the offset of the first other edit.
    """
    first = anchor(source, tree.body)
    if source.in_cells and (first is None or source.start(first) > use):
        first = _top_of_cell(source, tree, use)
    if first is None:
        raise ValueError("nothing to import for")
    offset = first_offset(source, first)
    start = source.line_start(source.line_of(offset))
    if source.text[start:offset].strip(" \t\f"):
        return Edit(offset, f"{LINE}; ", rank=1)
    return Edit(start, LINE + source.newline * (1 + blank_lines(first)), rank=1)


def is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def blank_lines(following: ast.stmt) -> int:
    """How many blank lines set our import off from a statement; it joins other imports."""
    if is_import(following):
        return 0
    return 2 if isinstance(following, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else 1


def anchor(source: Source, body: Sequence[ast.stmt]) -> ast.stmt | None:
    """The first statement that is neither the docstring nor a `__future__` import; of a notebook, the first import."""
    for index, statement in enumerate(body):
        if source.in_cells:
            if is_import(statement) and not _is_future(statement) and _starts_its_line(source, statement):
                return statement
        elif not (_is_future(statement) or (index == 0 and is_text(statement))):
            return statement
    return None


def _top_of_cell(source: Source, tree: ast.Module, use: int) -> ast.stmt | None:
    """The first statement of the cell with the first edit that something may be put before."""
    cell, _ = source.place(source.line_of(use))
    for statement in tree.body:
        line = source.line_of(first_offset(source, statement))
        if source.place(line)[0] == cell and not (
            source.is_masked(line) or _is_future(statement) or is_text(statement)
        ):
            return statement
    return None


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a string, as a docstring is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _starts_its_line(source: Source, node: ast.stmt) -> bool:
    return not source.text[source.line_start(node.lineno) : source.start(node)].strip(" \t\f")


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
