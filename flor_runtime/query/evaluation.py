"""What a condition gives for the rows of a frame: each node of its tree, over whole columns."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import FlorError

if TYPE_CHECKING:
    import pandas as pd

COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
CALCULATE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
SHOWN = 80  # characters of a condition in an error
_ORDERS = (operator.lt, operator.le, operator.gt, operator.ge)


class WhereError(FlorError):
    """A condition that can't be read, or that asks for a column which is not there."""


class Evaluation:
    """One evaluation over columns; values are pandas series, or Python's own for literals."""

    def __init__(self, quoted: Mapping[str, str], columns: Mapping[str, pd.Series], size: int) -> None:
        self._quoted, self._columns, self._size = quoted, columns, size

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
        compare, values = COMPARE[type(op)], (self._value(left), self._value(right))
        if compare in _ORDERS:
            self._see_to_order((left, right), values)
        return self._one_by_one(compare, *values)

    def _see_to_order(self, nodes: Sequence[ast.expr], values: Sequence[Any]) -> None:
        """Refuse to order what has no order in any row: numbers and texts."""
        if all(_numbers(value) is not None for value in values) or any(_is_time(value) for value in values):
            return
        kinds = [{_kind(item) for item in self._items(value) if not _is_missing(item)} for value in values]
        if all(kinds) and not kinds[0] & kinds[1]:
            said = [
                f"{self._text(node)} {'holds' if hasattr(value, 'dtype') else 'is'} {' and '.join(sorted(found))}"
                for node, value, found in zip(nodes, values, kinds, strict=True)
            ]
            raise WhereError(f"--where: {said[0]}, {said[1]}: these have no order")

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
                return self._columns[self._quoted.get(name, name)]
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                number = self._number(operand)
                return -number if isinstance(op, ast.USub) else number
            case ast.BinOp(op=op, left=left, right=right) if type(op) in CALCULATE:
                try:
                    # As floats: integers of any size would take any time.
                    return CALCULATE[type(op)](self._number(left), self._number(right))
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
        return WhereError(f"--where: {self._text(node)!r} {what}")

    def _text(self, node: ast.expr) -> str:
        part = ast.unparse(node)
        for mark, name in self._quoted.items():
            part = part.replace(mark, f"`{name}`")
        return part if len(part) <= SHOWN else f"{part[: SHOWN - 1]}…"


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


def _is_time(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "M"


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if _is_number(value):
        return "numbers"
    return "text" if isinstance(value, str) else f"values of type {type(value).__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
