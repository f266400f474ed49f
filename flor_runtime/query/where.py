"""`--where "lr > 0.01 and epoch >= 5"`: conditions over the columns of the pivot, in pandas' syntax.

The text is parsed, never evaluated as Python: comparisons, `and`/`or`/`not` (also `&`, `|`, `~`), `in`, arithmetic on
columns and literals. A column whose name is no identifier stands in backquotes: `val/loss`. A missing value is equal to
nothing, so a comparison with it is False, and `!=` is True, as in pandas; `== None` and `.isna()` ask for missing ones.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import re
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flor_runtime.query.evaluation import CALCULATE, COMPARE, SHOWN, Evaluation, WhereError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_LONGEST = 10_000  # characters
_DEEPEST = 100
_LISTS = (ast.List, ast.Tuple, ast.Set)
#: what the table calls a column, and the pivot another way
_ALIASES = {"run": "runid"}

__all__ = ["Where", "WhereError", "unknown_column"]


@dataclass(frozen=True)
class Where:
    """A condition.

    Attributes:
        names: the columns that it asks for, in the order first seen.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr = field(repr=False)
    _quoted: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Where:
        """Read a condition.

        Raises:
            WhereError: it is no condition, or asks for more than comparisons.
        """
        if len(text) > _LONGEST:
            raise WhereError("--where: that is too long")
        plain, quoted = _unquoted(text)
        try:
            tree = ast.parse(plain.strip(), mode="eval").body
            tree = _Methods().visit(tree) if _METHOD.search(plain) else tree
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            hint = ": `==` compares" if _assigns(plain) else ""
            reason = error.msg if isinstance(error, SyntaxError) else "not a condition"
            raise WhereError(f"--where {_short(text)!r}: {reason}{hint}") from None
        names: dict[str, None] = {}
        _check(tree, text, quoted, names, 0)
        return cls(text, tuple(names), tree, quoted)

    def rows(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows of a frame satisfy it.

        Raises:
            WhereError: it asks for a column that is not there, or compares what can't be compared.
        """
        import numpy as np

        missing = self.unknown(list(map(str, frame.columns)))
        if missing:
            raise unknown_column(missing[0], list(map(str, frame.columns)))
        columns = {name: frame[_column(name, frame.columns)] for name in self.names}
        with np.errstate(all="ignore"):
            found: NDArray[np.bool_] = Evaluation(self._quoted, columns, len(frame)).truth(self._tree)
            return found

    def unknown(self, columns: Collection[str]) -> list[str]:
        """The names that are none of these columns."""
        return [name for name in self.names if _column(name, columns) not in columns]


_METHOD = re.compile(r"\.\s*(isna|isnull|notna|notnull|astype)\s*\(")


class _Methods(ast.NodeTransformer):
    """What pandas' methods say, as conditions say it: `x.isna()` is `x == None`, and numbers compare as floats do."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="isna" | "isnull"), args=[], keywords=[]):
                return ast.Compare(value, [ast.Eq()], [ast.Constant(None)])
            case ast.Call(func=ast.Attribute(value=value, attr="notna" | "notnull"), args=[], keywords=[]):
                return ast.Compare(value, [ast.NotEq()], [ast.Constant(None)])
            case ast.Call(
                func=ast.Attribute(value=value, attr="astype"),
                args=[ast.Constant(value="float") | ast.Name(id="float")],
                keywords=[],
            ):
                return value
        return node


@contextlib.contextmanager
def called_where() -> Iterator[None]:
    """Errors call the condition what it is called in Python: an argument, no option."""
    try:
        yield
    except WhereError as error:
        raise WhereError(str(error).removeprefix("--")) from None


def _short(text: str) -> str:
    """A condition as an error repeats it."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def unknown_column(name: str, columns: Sequence[str]) -> WhereError:
    """The error for a column that is not there: it says which names are near."""
    near = difflib.get_close_matches(name, columns, n=3) or [c for c in columns if name in c.split("/")][:3]
    shown = [each if each.isidentifier() else f"`{each}`" for each in near]
    if shown:
        return WhereError(f"--where: no column {_short(name)!r}: did you mean {' or '.join(shown)}?")
    some = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
    return WhereError(f"--where: no column {_short(name)!r}: there are {some}")


def _column(name: str, columns: Collection[str]) -> str:
    return name if name in columns else _ALIASES.get(name, name)


def _assigns(text: str) -> bool:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    return any(token.string == "=" for token in tokens)


def _unquoted(text: str) -> tuple[str, dict[str, str]]:
    """The text with an identifier for each name in backquotes, and what these stand for."""
    parts: list[str] = []
    found: dict[str, str] = {}
    at, string = 0, ""
    while at < len(text):
        char = text[at]
        if string:
            if char == "\\":
                parts.append(text[at : at + 2])
                at += 2
                continue
            string = "" if char == string else string
        elif char in "'\"":
            string = char
        elif char == "`":
            end = text.find("`", at + 1)
            if end <= at + 1:
                raise WhereError(f"--where {_short(text)!r}: a backquote that is not closed, or nothing in it")
            name = text[at + 1 : end]
            mark = next((mark for mark, known in found.items() if known == name), f"_quoted_{len(found)}_")
            found[mark] = name
            parts.append(f" {mark} ")
            at = end + 1
            continue
        parts.append(char)
        at += 1
    return "".join(parts), found


def _check(node: ast.AST, text: str, quoted: Mapping[str, str], names: dict[str, None], depth: int) -> None:
    """See to it that nothing else is asked for than what can be given."""
    match node:
        case ast.Name(id=name):
            names.setdefault(quoted.get(name, name))
            return
        case ast.Constant(value=value):
            if value is None or isinstance(value, (bool, float, str)):
                return
            if isinstance(value, int) and abs(value) < 2**63:
                return
        case ast.Compare(ops=ops, left=left, comparators=others):
            lists = [isinstance(op, (ast.In, ast.NotIn)) for op in ops]
            known = all(is_in or type(op) in COMPARE for op, is_in in zip(ops, lists, strict=True))
            if known and all(isinstance(o, _LISTS) for o, is_in in zip(others, lists, strict=True) if is_in):
                for part in (left, *others):
                    _check(part, text, quoted, names, _deeper(depth, text))
                return
        case ast.BoolOp():
            for part in node.values:
                _check(part, text, quoted, names, _deeper(depth, text))
            return
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, text, quoted, names, _deeper(depth, text))
            return
        case ast.BinOp(op=op, left=left, right=right):
            if type(op) in CALCULATE or isinstance(op, (ast.BitAnd, ast.BitOr)):
                _check(left, text, quoted, names, _deeper(depth, text))
                _check(right, text, quoted, names, _deeper(depth, text))
                return
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            if all(_is_literal(element) for element in elements):
                return
            raise WhereError(f"--where {_short(text)!r}: a list for `in` may hold numbers and texts only")
    what = type(node).__name__.lower()
    said = ast.unparse(node) if isinstance(node, ast.expr) else what
    for mark, name in quoted.items():
        said = said.replace(mark, f"`{name}`")
    raise WhereError(
        f"--where {_short(text)!r}: {said[:60]!r} is more than a condition may hold: columns, numbers, texts,"
        " comparisons, and, or, not, in, arithmetic"
    )


def _deeper(depth: int, text: str) -> int:
    if depth > _DEEPEST:
        raise WhereError(f"--where {_short(text)!r}: that is nested too deeply")
    return depth + 1


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, (int, float))
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (bool, int, float, str)))
