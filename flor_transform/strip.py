"""The inverse of every rewrite: take exactly out what `instrument` puts in.

Only the forms that `instrument` writes are recognised, character by character. What was written by hand in another
way (`flor.log`, `flor.arg`, `if flor.SkipBlock.step_into(...)`) stays.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from flor_transform.analysis.marked import meaning, names_of_flor
from flor_transform.analysis.names import dotted
from flor_transform.rewrites.import_flor import LINE, anchor, blank_lines, uses_flor
from flor_transform.source import Source

Span = tuple[int, int]

_NAME = r"[^\W\d]\w*"
_NAMES = rf"{_NAME}(?:, {_NAME})*"
_CHECKPOINTS = re.compile(rf"flor\.checkpoints\({_NAMES}\)")
_CARRY = re.compile(rf"({_NAMES}) = flor\.carry\(({_NAMES})\)")
_END = re.compile(
    rf"(?:(?P<targets>{_NAMES}) = )?flor\.SkipBlock\.end\((?:{_NAMES})?"
    rf'(?:(?:(?<=\()|, )values=(?P<values>"{_NAME}"|\("{_NAME}"(?:, "{_NAME}")+\)))?\)'
)
_STEP_INTO = re.compile(r'flor\.SkipBlock\.step_into\("[\w.]+"\)')
_GUARD = "flor.SkipBlock.runs() and "
_OPEN = re.compile(r'flor\.(?:loop|SkipBlock\.loop)\("[\w.]+", |flor\.it\(')
_ROUND_ITERABLES = frozenset({"flor.loop", "flor.SkipBlock.loop"})
_ROUND_TESTS = frozenset({"flor.it"})
_WORDS = frozenset(
    {"flor.loop", "flor.it", "flor.carry", "flor.checkpoints", "flor.SkipBlock", "flor.MTK", "flor.Flor"}
)


def strip(source: bytes) -> bytes:
    """Take the instrumentation out of a file's bytes; a file without any comes back as it was.

    Raises SourceError for what does not parse.
    """
    decoded = Source.decode(source)
    if "flor" not in decoded.text:
        return source
    return strip_source(decoded)


def strip_source(source: Source) -> bytes:
    return source.cut(spans(source))


def strip_text(source: Source) -> str:
    return _without(source.text, spans(source))


def spans(source: Source) -> list[Span]:
    """What of a file's text is instrumentation: ascending, and apart from each other."""
    found = _apart(_spans(source))
    return _apart([*found, *_import(source, found)]) if found else found


def _apart(found: Iterable[Span]) -> list[Span]:
    """A line of ours that ends a file takes the newline before it along, which may be that of another one."""
    result: list[Span] = []
    for start, stop in sorted(found):
        result.append((max(start, result[-1][1] if result else 0), stop))
    return result


def _without(text: str, found: list[Span]) -> str:
    parts: list[str] = []
    last = 0
    for start, stop in found:
        parts.append(text[last:start])
        last = stop
    return "".join([*parts, text[last:]])


def is_instrumented(source: Source) -> bool:
    """Whether a file holds instrumentation, by whatever hand."""
    if not source.says_flor:
        return False
    kinds = source.survey.kinds
    known = names_of_flor(source.tree)
    if not _WORDS.isdisjoint(known.values()):
        return True
    return any(meaning(dotted(node), known) in _WORDS for node in kinds[ast.Attribute])


def _spans(source: Source) -> Iterator[Span]:
    kinds = source.survey.kinds
    for node in (*kinds[ast.For], *kinds[ast.AsyncFor], *kinds[ast.While]):
        if isinstance(node, ast.While):
            yield from _wrapper(source, node.test, _ROUND_TESTS)
            yield from _guard(source, node.test)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            yield from _wrapper(source, node.iter, _ROUND_ITERABLES)
    for node in (*kinds[ast.Expr], *kinds[ast.Assign]):
        if isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Call):
            yield from _line(source, node)


def _wrapper(source: Source, node: ast.expr, ours: frozenset[str]) -> Iterator[Span]:
    if not isinstance(node, ast.Call) or dotted(node.func) not in ours or node.keywords:
        return
    text, start, stop = source.text, source.start(node), source.stop(node)
    opening = _OPEN.match(text, start, stop)
    if opening is None or len(node.args) != (1 if dotted(node.func) == "flor.it" else 2):
        return
    first, last = opening.end(), stop - 1
    if text[last - 2 : last] == "),":
        # Our parentheses round a bare tuple.
        first, last = first + 1, last - 2
    if _tight(text, start):
        start, stop = start - 1, stop + 1
    yield start, first
    yield last, stop


def _guard(source: Source, node: ast.expr) -> Iterator[Span]:
    """`flor.SkipBlock.runs() and TEST`."""
    if not isinstance(node, ast.BoolOp):
        return
    text, start, stop = source.text, source.start(node), source.stop(node)
    if not text.startswith(_GUARD, start) or len(node.values) != 2:
        return
    first, last = start + len(_GUARD), stop
    if isinstance(node.values[1], (ast.BoolOp, ast.IfExp, ast.Lambda)):
        first, last = first + 1, last - 1
    if _tight(text, start):
        start, stop = start - 1, stop + 1
    yield start, first
    yield last, stop


def _tight(text: str, start: int) -> bool:
    """Whether parentheses of ours are round what starts here, for want of a space after the keyword."""
    return text[start - 1] == "(" and bool(re.search(r"(^|[^\w.])(in|while)$", text[max(0, start - 7) : start - 1]))


def _line(source: Source, node: ast.Expr | ast.Assign) -> Iterator[Span]:
    text, start, stop = source.text, source.start(node), source.stop(node)
    written = text[start:stop]
    carried = _CARRY.fullmatch(written)
    ours = bool(_CHECKPOINTS.fullmatch(written) or _STEP_INTO.fullmatch(written)) or (
        carried is not None and carried[1] == carried[2]
    )
    ended = _END.fullmatch(written)
    if ended is not None:
        targets = (ended["targets"] or "").split(", ") if ended["targets"] else []
        ours = targets == re.findall(_NAME, ended["values"] or "")
    if not ours:
        return
    line = source.line_of(start)
    begin, end = source.line_start(line), source.line_stop(line)
    if text[begin:start].strip(" \t\f"):
        # A suite on the header's line.
        if carried is not None and text[stop : stop + 2] == "; ":
            yield start, stop + 2
        return
    if stop != end:
        if carried is not None and text[stop : stop + 2] == "; ":
            yield start, stop + 2
        return
    if source.next_line(line) > end:
        yield begin, source.next_line(line)
    elif line > 1:
        # The file ended without a newline: the one before is ours.
        yield source.line_stop(line - 1), end


def _import(source: Source, found: list[Span]) -> Iterator[Span]:
    """Our `import flor`: there is one exactly if nothing else uses the name once these spans are taken out."""
    rest = Source(source.name, b"", "utf-8", b"", _without(source.text, found))
    # What is said once is said by the import, or there is none to take out.
    if not rest.says_flor or (rest.says_flor > 1 and uses_flor(rest.table)):
        return
    kept: list[ast.stmt] = []  # up to the one after the first
    for stmt in source.tree.body:
        if not any(start <= source.start(stmt) < stop for start, stop in found):
            kept.append(stmt)
            if anchor(source, kept[:-1]) is not None:
                break
    first = anchor(source, kept)
    if not isinstance(first, ast.Import):
        return
    start = source.start(first)
    line = source.line_of(start)
    if source.line(line) == LINE:
        after = kept[kept.index(first) + 1 :]
        last = line
        # Fewer than we put in, if a hand was here since.
        while after and last - line < blank_lines(after[0]) and not source.line(last + 1):
            last += 1
        yield source.line_start(line), source.next_line(last)
    elif source.text.startswith(f"{LINE}; ", start):
        yield start, start + len(LINE) + 2
