"""Wrapping the iterable or the test in a loop's header, with libcst; no rewrite of its own."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from flor_transform.rewrites import Edit, LayoutError
from flor_transform.source import Source

#: (libcst, what stands in the header, whether the keyword touches it) -> what is to stand there
Form = Callable[[Any, Any, bool], Any]


def wrap(source: Source, node: ast.For | ast.AsyncFor | ast.While, function: str, name: str | None) -> Iterator[Edit]:
    """Edits that turn `for x in ITERABLE:` into `for x in FUNCTION("NAME", ITERABLE):`, and `while` likewise."""
    return _edits(source, node, lambda cst, subject, tight: _call(cst, subject, function, name, tight))


def guard(source: Source, node: ast.While, function: str) -> Iterator[Edit]:
    """Edits that turn `while TEST:` into `while FUNCTION() and TEST:`."""
    return _edits(source, node, lambda cst, subject, tight: _and(cst, subject, function, tight))


def _edits(source: Source, node: ast.For | ast.AsyncFor | ast.While, form: Form) -> Iterator[Edit]:
    start = source.start(node)
    end = header_end(source, node)
    original = source.text[start : end + 1]
    header = original.replace("\r\n", "\n").replace("\r", "\n")
    before, inner, after, wrapped = _rewritten(header, form)
    # What libcst made must be the old header with two pieces put in: everything else is refused.
    if len(header) != len(before) + len(inner) + len(after):
        raise LayoutError
    first, last = len(before), len(before) + len(inner)
    opening = wrapped[first : wrapped.index(inner, first)] if inner else ""
    closing = wrapped[len(before) + len(opening) + len(inner) : len(wrapped) - len(after)]
    if header != before + inner + after or wrapped != before + opening + inner + closing + after:
        raise LayoutError
    yield Edit(start + _unfold(original, first), opening)
    yield Edit(start + _unfold(original, last), closing)


def _rewritten(header: str, form: Form) -> tuple[str, str, str, str]:
    """The header's text before, in and after its iterable, and the header with the iterable in its new form."""
    # Imported here: a file that needs no rewrite doesn't pay for it.
    import libcst as cst

    try:
        statement = cst.parse_statement(f"{header} pass\n")
        module = cst.Module([])
        subject: cst.BaseExpression
        if isinstance(statement, cst.While):
            subject, gap = statement.test, statement.whitespace_after_while
        elif isinstance(statement, cst.For):
            subject, gap = statement.iter, statement.whitespace_after_in
        else:
            raise LayoutError
        put = form(cst, subject, not module.code_for_node(gap))
        field = "test" if isinstance(statement, cst.While) else "iter"
        whole = module.code_for_node(statement.with_changes(**{field: put}))
        inner = module.code_for_node(subject)
        marker = "_" * (len(header) + 1)
        parenthesized = cst.Name(marker, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        frame = module.code_for_node(statement.with_changes(**{field: parenthesized}))
    except RecursionError:
        raise LayoutError from None
    except cst.ParserSyntaxError:
        raise LayoutError from None
    before, _, after = frame.partition(f"({marker})")
    tail = " pass\n"
    if not whole.endswith(tail) or not after.endswith(tail):
        raise LayoutError
    return before, inner, after[: -len(tail)], whole[: -len(tail)]


def _call(cst, subject, function: str, name: str | None, tight: bool):  # type: ignore[no-untyped-def]
    """`FUNCTION("NAME", subject)`, in forms that `strip` can tell apart.

    A bare tuple needs parentheses of its own: a comma before the closing one says that they are ours. Where there is
    no space after the keyword (`in(1, 2)`), ours go round the whole call.
    """
    args = (
        []
        if name is None
        else [cst.Arg(cst.SimpleString(f'"{name}"'), comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))]
    )
    if isinstance(subject, cst.Tuple) and not subject.lpar:
        bare = subject.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        args.append(cst.Arg(bare, comma=cst.Comma()))
    else:
        args.append(cst.Arg(subject))
    call = cst.Call(_path(cst, function), args)
    return call.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]) if tight else call


def _and(cst, subject, function: str, tight: bool):  # type: ignore[no-untyped-def]
    """`FUNCTION() and subject`, with parentheses of ours round what binds no tighter than `and`, also if there are any.

    So whether they are ours follows from what stands in them.
    """
    if isinstance(subject, (cst.BooleanOperation, cst.IfExp, cst.Lambda)):
        subject = subject.with_changes(lpar=[cst.LeftParen(), *subject.lpar], rpar=[*subject.rpar, cst.RightParen()])
    both = cst.BooleanOperation(cst.Call(_path(cst, function)), cst.And(), subject)
    return both.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]) if tight else both


def _path(cst, dotted: str):  # type: ignore[no-untyped-def]
    first, *rest = dotted.split(".")
    path = cst.Name(first)
    for part in rest:
        path = cst.Attribute(path, cst.Name(part))
    return path


def header_end(source: Source, node: ast.For | ast.AsyncFor | ast.While) -> int:
    """The offset of the colon that ends a loop's header."""
    text = source.text
    offset = source.stop(node.test if isinstance(node, ast.While) else node.iter)
    while offset < len(text):
        char = text[offset]
        if char == ":":
            return offset
        if char == "#":
            while offset < len(text) and text[offset] not in "\r\n":
                offset += 1
        elif char not in " \t\f\r\n\\),":
            break
        offset += 1
    raise LayoutError


def _unfold(original: str, offset: int) -> int:
    """An offset into text whose newlines were made `\\n`, as an offset into the original."""
    for index, char in enumerate(original):
        if offset <= 0:
            return index
        if not (char == "\r" and original[index + 1 : index + 2] == "\n"):
            offset -= 1
    return len(original)
