"""The inverse of every rewrite: take exactly out what `instrument` puts in.

Only the forms that `instrument` writes are recognised, character by character. What was written by hand in another
way (`flor.log`, `flor.arg`, `if flor.SkipBlock.step_into(...)`) stays.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from flor_transform.analysis.names import dotted
from flor_transform.rewrites.import_flor import LINE, anchor, is_import, uses_flor
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
_OPEN = re.compile(r'flor\.(?:loop|SkipBlock\.loop)\("[\w.]+", |flor\.it\(')
_WRAPPERS = frozenset({"flor.loop", "flor.SkipBlock.loop", "flor.it"})
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
    text = strip_text(decoded)
    return decoded.bom + text.encode(decoded.encoding)


def strip_text(source: Source) -> str:
    tree = source.parse()
    spans = sorted(_spans(source, tree))
    if not spans:
        return source.text
    parts: list[str] = []
    last = 0
    for start, stop in spans:
        parts.append(source.text[last:start])
        last = max(last, stop)
    parts.append(source.text[last:])
    return _without_import("".join(parts), source.name)


def is_instrumented(tree: ast.Module) -> bool:
    """Whether a file holds instrumentation, by whatever hand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and dotted(node) in _WORDS:
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "flor"
            and any(f"flor.{a.name}" in _WORDS for a in node.names)
        ):
            return True
    return False


def _spans(source: Source, tree: ast.Module) -> Iterator[Span]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.AsyncFor)):
            yield from _wrapper(source, node.iter)
        elif isinstance(node, ast.While):
            yield from _wrapper(source, node.test)
        elif isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Call):
            yield from _line(source, node)


def _wrapper(source: Source, node: ast.expr) -> Iterator[Span]:
    if not isinstance(node, ast.Call) or dotted(node.func) not in _WRAPPERS or node.keywords:
        return
    text, start, stop = source.text, source.start(node), source.stop(node)
    opening = _OPEN.match(text, start, stop)
    if opening is None or len(node.args) != (1 if dotted(node.func) == "flor.it" else 2):
        return
    first, last = opening.end(), stop - 1
    if text[last - 2 : last] == "),":
        # Our parentheses round a bare tuple.
        first, last = first + 1, last - 2
    if text[start - 1] == "(" and re.search(r"(^|[^\w.])(in|while)$", text[max(0, start - 7) : start - 1]):
        # Our parentheses round the call, for want of a space.
        start, stop = start - 1, stop + 1
    yield start, first
    yield last, stop


def _line(source: Source, node: ast.Expr | ast.Assign) -> Iterator[Span]:
    text, start, stop = source.text, source.start(node), source.stop(node)
    written = text[start:stop]
    carried = _CARRY.fullmatch(written)
    ours = bool(_CHECKPOINTS.fullmatch(written)) or (carried is not None and carried[1] == carried[2])
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


def _without_import(text: str, name: str) -> str:
    """Take out our `import flor`: there is one exactly if nothing else uses the name."""
    import symtable

    if "flor" not in text:
        return text
    rest = Source(name, b"", "utf-8", b"", text)
    if uses_flor(symtable.symtable(text, name, "exec")):
        return text
    tree = rest.parse()
    first = anchor(tree)
    if not isinstance(first, ast.Import):
        return text
    start = rest.start(first)
    line = rest.line_of(start)
    if rest.line(line) == LINE:
        after = tree.body[tree.body.index(first) + 1 :]
        alone = bool(after) and not is_import(after[0])
        return text[: rest.line_start(line)] + text[rest.next_line(line + 1 if alone else line) :]
    if text.startswith(f"{LINE}; ", start):
        return text[:start] + text[start + len(LINE) + 2 :]
    return text
