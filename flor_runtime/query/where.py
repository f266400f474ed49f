"""`--where "lr > 0.01 and epoch >= 5"`: conditions over the columns of the pivot, in pandas' syntax.

The text is parsed, never evaluated as Python: comparisons, `and`/`or`/`not` (also `&`, `|`, `~`), `in`, arithmetic on
columns and literals. A column whose name is no identifier stands in backquotes: `val/loss`. A missing value is equal to
nothing, so a comparison with it is False, and `!=` is True, as in pandas; `== None` asks for missing ones.
"""

from __future__ import annotations

import ast
import difflib
import io
import operator
import tokenize
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import FlorError
from flor_runtime.query.catalog import load
from flor_runtime.query.pivot import Pivot, gather, pivot
from flor_runtime.query.records import KEY_COLUMNS, LEVELS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from flor_runtime.store.layout import RunFolder

_LONGEST = 10_000  # characters
_DEEPEST = 100
_SHOWN = 80  # characters of a condition in an error
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_CALCULATE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_LISTS = (ast.List, ast.Tuple, ast.Set)
#: what the table calls a column, and the pivot another way
_ALIASES = {"run": "runid"}


class WhereError(FlorError):
    """A condition that can't be read, or that asks for a column which is not there."""


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
            found: NDArray[np.bool_] = _Evaluation(self, columns, len(frame)).truth(self._tree)
            return found

    def unknown(self, columns: Collection[str]) -> list[str]:
        """The names that are none of these columns."""
        return [name for name in self.names if _column(name, columns) not in columns]


def _short(text: str) -> str:
    """A condition as an error repeats it."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def unknown_column(name: str, columns: Sequence[str]) -> WhereError:
    """The error for a column that is not there: it says which names are near."""
    near = difflib.get_close_matches(name, columns, n=3) or [c for c in columns if name in c.split("/")][:3]
    shown = [each if each.isidentifier() else f"`{each}`" for each in near]
    if shown:
        return WhereError(f"--where: no column {_short(name)!r}: did you mean {' or '.join(shown)}?")
    some = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
    return WhereError(f"--where: no column {_short(name)!r}: there are {some}")


def matching(folders: Sequence[RunFolder], where: Where, names: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of the pivot of the names that a condition asks for (and of further names) which satisfy it.

    Raises:
        WhereError: it asks for a column that is not there.
    """
    asked = asked_for(folders, where)
    facts = gather(folders, [*names, *asked])
    frame = pivot(facts, facts.names).frame
    if not _fine_enough(frame, where):  # the rows of such a level are those of other names
        facts = gather(folders)
        frame = pivot(facts, facts.names).frame
    return frame[where.rows(frame)]


def asked_for(folders: Sequence[RunFolder], where: Where) -> list[str]:
    """The logged names that a condition asks for, and not a loop or what says which run it is.

    Raises:
        WhereError: it asks for a column that is not there.
    """
    asked = where.unknown([*KEY_COLUMNS, *LEVELS])
    if asked:
        asked = [name for name in asked if name not in load(folders, ()).levels()]
    try:
        if asked:
            gather(folders, asked)
    except FlorError:
        known = [*KEY_COLUMNS, *(facts := gather(folders)).levels(), *facts.names]
        lacking = [name for name in asked if name not in known]
        if lacking:
            raise unknown_column(lacking[0], known) from None
        raise
    return asked


def chosen_rows(table: Pivot, folders: Sequence[RunFolder], where: Where) -> NDArray[np.bool_]:
    """The rows of a pivot of some names that a condition over any names is true of, or in a part of."""
    levels = [str(c) for c in table.frame.columns if str(c) not in table.names and str(c) not in KEY_COLUMNS]
    if not where.unknown([*map(str, table.frame.columns)]) and _fine_enough(table.frame, where):
        return where.rows(table.frame)
    return covered(table.frame, matching(folders, where, list(dict.fromkeys(table.names.values()))), levels)


def _fine_enough(frame: pd.DataFrame, where: Where) -> bool:
    """Whether rows are in the loops that a condition asks for."""
    return all(bool(frame[level].notna().any()) for level in LEVELS if level in where.names)


def covered(frame: pd.DataFrame, found: pd.DataFrame, levels: Sequence[str]) -> NDArray[np.bool_]:
    """The rows of a pivot at whose place, or in which, a row of another pivot of the same runs was found.

    Args:
        levels: columns that say where in its run a row is.
    """
    import numpy as np

    run = list(KEY_COLUMNS)
    mask = np.zeros(len(frame), bool)
    inside = [level for level in levels if level in frame.columns and level in found.columns]
    is_open = frame[inside].notna().to_numpy() if inside else np.zeros((len(frame), 0), bool)
    for pattern in np.unique(is_open, axis=0) if len(frame) else ():
        here = (is_open == pattern).all(axis=1)
        columns = [*run, *(level for level, used in zip(inside, pattern, strict=True) if used)]
        keys = set(map(tuple, found[columns].astype(object).itertuples(index=False)))
        places = frame.loc[here, columns].astype(object).itertuples(index=False)
        mask[here] = [tuple(place) in keys for place in places]
    return mask


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
            known = all(is_in or type(op) in _COMPARE for op, is_in in zip(ops, lists, strict=True))
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
            if type(op) in _CALCULATE or isinstance(op, (ast.BitAnd, ast.BitOr)):
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


class _Evaluation:
    """One evaluation over columns; values are pandas series, or Python's own for literals."""

    def __init__(self, where: Where, columns: Mapping[str, pd.Series], size: int) -> None:
        self._where, self._columns, self._size = where, columns, size

    def truth(self, node: ast.expr) -> Any:
        """A boolean for each row."""
        import numpy as np

        match node:
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return join.reduce([self.truth(part) for part in parts])
            case ast.BinOp(op=ast.BitAnd(), left=left, right=right):
                return self.truth(left) & self.truth(right)
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):
                return self.truth(left) | self.truth(right)
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.truth(operand)
            case ast.Compare(left=left, ops=ops, comparators=others):
                result = np.ones(self._size, bool)
                for one, how, other in zip([left, *others[:-1]], ops, others, strict=True):
                    result &= self._compared(one, how, other)
                return result
        value = self._value(node)
        if isinstance(value, bool):
            return np.full(self._size, value)
        if hasattr(value, "dtype"):
            items = value.tolist()
            if all(isinstance(item, bool) or _is_missing(item) for item in items):
                return np.array([item is True for item in items], bool)
        raise self._error(node, "is no condition: compare it with something")

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        import numpy as np

        if isinstance(op, (ast.In, ast.NotIn)):
            wanted = [ast.literal_eval(each) for each in right.elts]  # type: ignore[attr-defined]
            result = np.zeros(self._size, bool)
            for value in wanted:
                result |= self._one_by_one(operator.eq, self._value(left), value)
            return ~result if isinstance(op, ast.NotIn) else result
        return self._one_by_one(_COMPARE[type(op)], self._value(left), self._value(right))

    def _one_by_one(self, compare: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        """Compare columns and literals. At once where both are numbers; else what can't be ordered is not."""
        import numpy as np

        a, b = _moment(a, b), _moment(b, a)
        both = [_numbers(each) for each in (a, b)]
        if both[0] is not None and both[1] is not None:
            return np.broadcast_to(np.asarray(compare(*both), bool), self._size).copy()
        unequal = compare is operator.ne
        found = np.zeros(self._size, bool)
        for row, (one, other) in enumerate(zip(self._items(a), self._items(b), strict=True)):
            nothing = _is_missing(one), _is_missing(other)
            if any(nothing):  # equal to nothing, unless `None` itself asks for it
                same = all(nothing) and (a is None or b is None)
                found[row] = same if compare is operator.eq else unequal and not same
                continue
            try:
                found[row] = bool(compare(one, other))
            except (TypeError, ValueError):
                found[row] = unequal
        return found

    def _items(self, value: Any) -> list[Any]:
        return value.tolist() if hasattr(value, "dtype") else [value] * self._size

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return self._columns[self._where._quoted.get(name, name)]
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                number = self._number(operand)
                return -number if isinstance(op, ast.USub) else number
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _CALCULATE:
                try:
                    # As floats: integers of any size would take any time.
                    return _CALCULATE[type(op)](self._number(left), self._number(right))
                except (OverflowError, ZeroDivisionError):
                    return float("nan")
        if isinstance(node, (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp)):
            import pandas as pd

            return pd.Series(self.truth(node))
        raise self._error(node, "can't be compared")

    def _number(self, node: ast.expr) -> Any:
        value = self._value(node)
        numbers = _numbers(value)
        if numbers is None and hasattr(value, "dtype"):
            import numpy as np

            items = [float(item) if _is_number(item) else float("nan") for item in value.tolist()]
            if any(_is_number(item) for item in value.tolist()) or not items:
                return np.array(items, float)
        if numbers is None:
            raise self._error(node, "is no number")
        return numbers

    def _error(self, node: ast.expr, what: str) -> WhereError:
        part = ast.unparse(node)
        for mark, name in self._where._quoted.items():
            part = part.replace(mark, f"`{name}`")
        return WhereError(f"--where: {part!r} {what}")


def _numbers(value: Any) -> Any:
    """A column or literal of numbers as floats (integers that floats can't hold stay); None for another."""
    import numpy as np
    import pandas as pd

    if isinstance(value, (bool, int, float)):
        return float(value) if not isinstance(value, int) or abs(value) <= 2**53 else None
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind == "f" else None
    if isinstance(value, pd.Series) and value.dtype.kind in "fiub":
        if value.dtype.kind in "iu" and len(value) and (value.abs() > 2**53).any():
            return None
        return value.to_numpy(float, na_value=np.nan)
    return None


def _moment(value: Any, other: Any) -> Any:
    """A text as a point in time, where it is compared with one."""
    import pandas as pd

    if isinstance(value, str) and getattr(getattr(other, "dtype", None), "kind", "") == "M":
        try:
            return pd.Timestamp(value)
        except ValueError:
            raise WhereError(f"--where: {value!r} is no date") from None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
