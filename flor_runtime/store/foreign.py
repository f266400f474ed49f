"""What values of other libraries become before they are stored: arrays and tables (pictures: see there).

Types are recognised by modules that the program has imported; nothing is imported for it, and no object is changed.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

#: kinds of numpy's types that an array is stored of: numbers, truth values, fixed text, dates
ARRAY_KINDS = "biufcSUMm"
#: bytes of one value; what is larger is described, not kept
LARGEST = 100_000_000

_ARRAYS = ("torch", "jaxlib", "jax", "cupy", "tensorflow", "paddle")


class TooLarge(Exception):
    """A value of more than LARGEST bytes."""

    def __init__(self, size: int | None = None) -> None:
        shown = "" if size is None else f"{size / 1e6:.0f} MB, "
        super().__init__(f"not kept: {shown}more than the {LARGEST // 1_000_000} MB that one value may have")


class Table(NamedTuple):
    """The parts of a data frame or a series.

    Attributes:
        single: it is a series; `labels` is its name, else the names of the columns.
        index: its row labels.
        data: an array or a list for each column.
    """

    single: bool
    labels: Any
    index: Any
    data: list[Any]


def array_of(value: Any) -> Any:
    """A numpy array of numbers or fixed text, nested lists of what else an array can hold; None: it is no array.

    Raises:
        TooLarge: before it is copied.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if type(value).__module__.startswith("PIL.") and hasattr(value, "__array_interface__"):  # no picture is made of it
        value = numpy.asarray(value)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return None
    if isinstance(value, numpy.generic):
        value = numpy.asarray(value)
    if not isinstance(value, numpy.ndarray):
        torch: Any = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            value = _of_tensor(torch, value)
        elif type(value).__module__.partition(".")[0] in _ARRAYS:  # no data frame: `__array__` would lose what it is
            fits(getattr(value, "nbytes", 0))
            value = numpy.asarray(value.numpy() if hasattr(value, "numpy") else value)
        else:
            return None
    fits(value.nbytes)
    if isinstance(value, numpy.ma.MaskedArray):
        return value.tolist()
    if value.dtype.names is not None:
        return {name: array_of(value[name]) for name in value.dtype.names}
    if value.dtype.kind in "OT":
        return value.tolist()
    if value.dtype.kind == "V":  # bfloat16 and its like, which numpy itself doesn't know
        value = value.astype("float32")
    return value if value.dtype.kind in ARRAY_KINDS else None


def _of_tensor(torch: Any, value: Any) -> Any:
    fits(value.numel() * value.element_size())
    value = value.detach()
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    value = value.resolve_conj().resolve_neg().cpu()
    try:
        return value.numpy()
    except TypeError:  # bfloat16, float8, complex32
        return (value.to(torch.complex64) if value.is_complex() else value.float()).numpy()


def fits(size: int) -> None:
    """Raises TooLarge for a value of so many bytes."""
    if size > LARGEST:
        raise TooLarge(size)


def table_of(value: Any) -> Table | None:
    """The parts of a frame or series of pandas; None for anything else."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series)):
        return None
    fits(int(value.memory_usage(deep=False) if value.ndim == 1 else value.memory_usage(deep=False).sum()))
    if value.ndim == 1:
        return Table(True, value.name, _cells(value.index), [_cells(value)])
    data = [_cells(value.iloc[:, number]) for number in range(value.shape[1])]
    return Table(False, _cells(value.columns), _cells(value.index), data)


def _cells(column: Any) -> Any:
    if type(column).__name__ == "RangeIndex":
        return range(column.start, column.stop, column.step)
    if type(column.dtype).__module__.startswith("numpy") and column.dtype.kind in ARRAY_KINDS:
        return column.to_numpy()
    values = column.tolist()
    if column.dtype == "object":
        return values
    return [None if gone else item for item, gone in zip(values, column.isna().tolist(), strict=True)]


def frame_of(table: Table) -> Any:
    """The frame or series again.

    Raises:
        ValueError: the parts don't fit together.
    """
    import pandas

    try:
        index = _index(pandas, table.index)
        columns = [pandas.Series(data, index=index, dtype=_dtype(data)) for data in table.data]
        if table.single:
            return columns[0].rename(table.labels)
        frame = pandas.concat(columns, axis=1) if columns else pandas.DataFrame(index=index)
        frame.columns = _index(pandas, table.labels)
        return frame
    except Exception as error:
        raise ValueError(f"not a table: {error}") from error


def _index(pandas: Any, labels: Any) -> Any:
    if isinstance(labels, range):
        return pandas.RangeIndex(labels.start, labels.stop, labels.step)
    if isinstance(labels, list) and labels and all(isinstance(label, tuple) for label in labels):
        return pandas.MultiIndex.from_tuples(labels)
    return pandas.Index(labels)


def _dtype(data: Any) -> Any:
    return None if hasattr(data, "dtype") else object
