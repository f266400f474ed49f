"""Small tables of pandas, such as the history of a metric: to bytes and back.

The bytes are a pickle that is read with a closed list of names: arrays of plain values, their labels, and nothing else.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterator
from typing import Any

from flor_runtime.errors import RestoreError
from flor_runtime.state.graph import ATOMS

#: Elements; a larger table is input rather than a list of results.
LARGEST = 2000
_PANDAS = frozenset(
    {
        "DataFrame", "Series", "Index", "RangeIndex", "BlockManager", "SingleBlockManager", "StringArray",
        "StringDtype", "_new_Index", "_unpickle_block", "__pyx_unpickle_NDArrayBacked",
    }
)  # fmt: skip
_PARTS = frozenset(
    {"NumpyBlock", "NumericBlock", "ObjectBlock", "ExtensionBlock", "BlockPlacement"}
)  # reduced to those
_NUMPY = frozenset({"dtype", "ndarray", "_reconstruct", "scalar"})
_CELLS = ATOMS | {int}


def is_table(kind: type) -> bool:
    """True for the types that can be restored."""
    pandas: Any = sys.modules.get("pandas")
    return pandas is not None and kind in (getattr(pandas, "DataFrame", None), getattr(pandas, "Series", None))


def dump(table: Any) -> bytes | None:
    """A table as bytes; None if it is large, or holds what could not be made again."""
    try:
        if table.size > LARGEST or table.attrs or not all(map(_is_plain, arrays_of(table))):
            return None
        data = io.BytesIO()
        _Writer(data, protocol=4).dump(table)
    except Exception:
        return None
    return data.getvalue()


def load(data: bytes) -> Any:
    """The table; runs no code but that of the names above.

    Raises:
        RestoreError: the bytes name something else.
    """
    return _Reader(io.BytesIO(data)).load()


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


def _dtype() -> Any:
    return sys.modules["numpy"].dtype


def _is_plain(array: Any) -> bool:
    """True if no cell is an object of its own, which something else may hold as well."""
    return array.dtype != object or all(type(cell) in _CELLS for cell in array.reshape(-1).tolist())


class _Writer(pickle.Pickler):
    """Refuses what the reader would: reading it to see would change the filters of warnings, which shows."""

    def persistent_id(self, obj: Any) -> None:
        kind = type(obj)
        if kind in _CELLS or kind in (tuple, list, dict, slice):
            return
        named = obj if callable(obj) and hasattr(obj, "__qualname__") else kind
        if kind.__name__ in _PARTS or isinstance(obj, _dtype()) or _allowed(named.__module__, named.__qualname__):
            return
        raise pickle.PicklingError(named.__qualname__)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if not _allowed(module, name):
            raise RestoreError(f"a table that names {module}.{name}")
        return super().find_class(module, name)


def _allowed(module: str, name: str) -> bool:
    package = module.partition(".")[0]
    if package == "builtins":
        return name == "slice"
    return (package == "pandas" and name in _PANDAS) or (package == "numpy" and name in _NUMPY)
