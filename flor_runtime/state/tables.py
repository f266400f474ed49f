"""Small tables of pandas, such as the history of a metric: to bytes and back.

What pandas says a table is made of (as it does for `pickle`) is taken apart down to plain data: arrays of plain values,
their labels, and the names of the few parts of pandas that put them together. No pickle is written or read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from flor_runtime.errors import RestoreError
from flor_runtime.state import codec
from flor_runtime.state.graph import ATOMS, INT_BOUND

#: Elements; a larger table is input rather than a list of results.
LARGEST = 2000
#: What tables are made by, and where pandas has it.
_MAKERS = {
    "_new_Index": "pandas.core.indexes.base",
    "_unpickle_block": "pandas._libs.internals",
    "__pyx_unpickle_NDArrayBacked": "pandas._libs.arrays",
    "BlockManager": "pandas.core.internals.managers",
    "StringDtype": "pandas",
}
_CLASSES = {
    "DataFrame": "pandas",
    "Series": "pandas",
    "Index": "pandas",
    "RangeIndex": "pandas",
    "SingleBlockManager": "pandas.core.internals.managers",
    "StringArray": "pandas.arrays",
}
#: Texts as pandas keeps them where pyarrow is installed: taken apart to the texts, as pyarrow's parts are many.
_ARROW = "ArrowStringArray"
_CELLS = ATOMS | {int}
_KINDS = "biufcSUMm"  # of dtypes: plain values
_MAX_DEPTH = 30


def is_table(kind: type) -> bool:
    """True for the types that can be restored."""
    pandas: Any = sys.modules.get("pandas")
    return pandas is not None and kind in (getattr(pandas, "DataFrame", None), getattr(pandas, "Series", None))


def dump(table: Any) -> bytes | None:
    """A table as bytes; None if it is large, or holds what could not be made again."""
    try:
        if table.size > LARGEST or table.attrs or not all(map(_is_plain, arrays_of(table))):
            return None
        return codec.pack(_taken_apart(table, 0))
    except Exception:
        return None


def load(data: bytes) -> Any:
    """The table; calls nothing but the parts of pandas that are named above.

    Raises:
        RestoreError: the bytes name something else, or make no table.
    """
    try:
        table = _put_together(codec.unpack(data), 0)
    except RestoreError:
        raise
    except Exception as error:
        raise RestoreError(f"a table can't be made: {error}") from None
    if not is_table(type(table)):
        raise RestoreError("a table that is none")
    return table


def put(table: Any, data: bytes) -> None:
    """Give a table that is there the stored values; its memory stays its own where they fit into it."""
    new = load(data)
    if _layout(table) == _layout(new) and all(a.identical(b) for a, b in zip(table.axes, new.axes, strict=True)):
        for array, other in zip(arrays_of(table), arrays_of(new), strict=True):
            array[...] = other
        return
    table.__setstate__(new.__getstate__())
    getattr(table, "_item_cache", {}).clear()


def arrays_of(table: Any) -> Iterator[Any]:
    """The arrays that hold the cells."""
    return (block.values for block in table._mgr.blocks)


def _layout(table: Any) -> list[Any]:
    """What two tables have in common whose cells can be copied from one to the other."""
    numpy: Any = sys.modules["numpy"]
    parts: list[Any] = [(key, value) for key, value in table.__getstate__().items() if key != "_mgr"]
    for block in table._mgr.blocks:
        array = block.values
        fixed = type(array) is not numpy.ndarray or not array.flags.writeable
        parts.append(object() if fixed else (array.dtype, array.shape, list(block.mgr_locs)))  # equal to no other
    return parts


def _is_plain(array: Any) -> bool:
    """True if no cell is an object of its own, which something else may hold as well."""
    return array.dtype != object or all(type(cell) in _CELLS for cell in array.reshape(-1).tolist())


def _taken_apart(obj: Any, depth: int) -> Any:
    """A part of a table as plain data: an atom, or a list that begins with what it is.

    Raises:
        TypeError: there is something in it that could not be made again.
    """
    numpy: Any = sys.modules["numpy"]
    kind = type(obj)
    if depth > _MAX_DEPTH:
        raise TypeError("too deep")
    if kind in ATOMS:
        return obj
    if kind is int:
        return obj if -INT_BOUND <= obj < INT_BOUND else ["int", hex(obj)]
    if kind in (list, tuple):
        return [kind.__name__, [_taken_apart(item, depth + 1) for item in obj]]
    if kind is dict:
        return ["dict", [_taken_apart(item, depth + 1) for pair in obj.items() for item in pair]]
    if kind is slice:
        return ["slice", [_taken_apart(part, depth + 1) for part in (obj.start, obj.stop, obj.step)]]
    if kind is numpy.ndarray:
        shape, fortran = list(obj.shape), bool(obj.flags.f_contiguous and not obj.flags.c_contiguous)
        if obj.dtype == object:
            return ["cells", shape, fortran, [_taken_apart(cell, depth + 1) for cell in obj.reshape(-1).tolist()]]
        return ["array", _dtype_name(obj.dtype), shape, fortran, obj.tobytes()]
    if isinstance(obj, numpy.generic):
        return ["array", _dtype_name(obj.dtype), None, False, obj.tobytes()]
    if kind.__name__ == "NAType" and obj is _part({"NA": "pandas"}, "NA"):
        return ["NA"]
    if kind.__name__ == _ARROW and kind is _part({_ARROW: "pandas.arrays"}, _ARROW):
        return ["texts", _taken_apart(obj.dtype, depth + 1), obj.to_numpy(object, na_value=None).tolist()]
    if isinstance(obj, type):
        if obj is not _part(_CLASSES, obj.__name__):
            raise TypeError(obj.__name__)
        return ["class", obj.__name__]
    make, arguments, *rest = obj.__reduce_ex__(4)
    if any(part is not None for part in rest[1:]):
        raise TypeError(kind.__name__)
    name = "" if make.__name__ == "__newobj__" else make.__name__
    if name and make is not _part(_MAKERS, name):
        raise TypeError(name)
    state = rest[0] if rest else None
    return ["made", name, _taken_apart(arguments, depth + 1), _taken_apart(state, depth + 1)]


def _put_together(data: Any, depth: int) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if type(data) is not list:
        return data
    if depth > _MAX_DEPTH:
        raise RestoreError("a table that is too deep")
    match data:
        case ["int", str(text)]:
            return int(text, 16)
        case ["list" | "tuple" as kind, list(items)]:
            values = [_put_together(item, depth + 1) for item in items]
            return values if kind == "list" else tuple(values)
        case ["dict", list(items)]:
            values = [_put_together(item, depth + 1) for item in items]
            return dict(zip(values[::2], values[1::2], strict=True))
        case ["slice", [start, stop, step]]:
            return slice(*(_put_together(part, depth + 1) for part in (start, stop, step)))
        case ["cells", list(shape), fortran, list(items)]:
            cells = numpy.empty(len(items), object)
            for n, item in enumerate(items):
                cells[n] = _put_together(item, depth + 1)
            return _ordered(cells.reshape(shape), fortran)
        case ["array", str(name), shape, fortran, bytes(content)]:
            dtype = numpy.dtype(name)
            _dtype_name(dtype)
            array = numpy.frombuffer(content, dtype)
            return array[0] if shape is None else _ordered(array.reshape(shape).copy(), fortran)
        case ["NA"]:
            return _part({"NA": "pandas"}, "NA")
        case ["texts", dtype, list(texts)]:
            return _part({_ARROW: "pandas.arrays"}, _ARROW)._from_sequence(texts, dtype=_put_together(dtype, depth + 1))
        case ["class", str(name)]:
            return _part(_CLASSES, name)
        case ["made", str(name), arguments, state]:
            values = _put_together(arguments, depth + 1)
            obj = values[0].__new__(*values) if not name else _part(_MAKERS, name)(*values)
            if state is not None:
                obj.__setstate__(_put_together(state, depth + 1))
            return obj
    raise RestoreError(f"a table with {str(data[:1])[:40]} in it")


def _ordered(array: Any, fortran: bool) -> Any:
    return array.copy("F") if fortran else array


def _dtype_name(dtype: Any) -> str:
    if dtype.kind not in _KINDS or dtype.names is not None or dtype.subdtype is not None:
        raise TypeError(f"an array of {dtype}")
    return str(dtype.str)


def _part(table: dict[str, str], name: str) -> Any:
    if name not in table:
        raise RestoreError(f"a table that names {name[:40]}")
    part: Any = sys.modules.get(table[name])
    if part is None:
        raise RestoreError("a table, and pandas is not loaded")
    return getattr(part, name)
