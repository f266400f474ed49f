"""The pivot as text or bytes for other programs: CSV, JSON, Parquet, Markdown. Values are in full."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.cli.text import Column, plain
from flor_runtime.errors import FlorError
from flor_runtime.store.asjson import json_value as json_value

if TYPE_CHECKING:
    from flor_runtime.query.pivot import Pivot

#: by the end of a file's name
ENDINGS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown", ".txt": "table"}
_PARQUET = 'Parquet needs pyarrow: pip install "flor[parquet]"'


def form_of(path: Path, chosen: str | None) -> str:
    """The form that a file gets: the chosen one, else by its name.

    Raises:
        FlorError: its name doesn't tell.
    """
    form = chosen or ENDINGS.get(path.suffix.lower())
    if form is None:
        raise FlorError(f"{path}: say --format, or end the name with {', '.join(ENDINGS)}")
    return form


def deliver(data: str | bytes, to: Path | None) -> None:
    """Print it, or write it to a file, which is whole or not there.

    Raises:
        FlorError: the file can't be written, or a terminal would get bytes.
    """
    raw = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    if to is None:
        if isinstance(data, bytes) and sys.stdout.isatty():
            raise FlorError("that is no text for a terminal: give -o FILE")
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        sys.stdout.flush()
        return
    target = to.resolve()  # a link stays one
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if to.exists() and not to.is_file():
            if to.is_dir():
                raise IsADirectoryError(21, os.strerror(21))
            to.write_bytes(raw)  # a pipe, a device
            return
        try:
            temporary.write_bytes(raw)
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise FlorError(f"{to}: can't be written: {error.strerror or error}") from error


def python_value(value: Any) -> Any:
    """The Python value of a cell: what a frame gives back is numpy's, and pandas' own missing value."""
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):
        return value  # finer than what Python has
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def markdown(columns: Sequence[Column]) -> str:
    """A table of GitHub's Markdown."""
    lines = ["| " + " | ".join(_escape(column.title) for column in columns) + " |"]
    lines.append("| " + " | ".join("---:" if column.right else "---" for column in columns) + " |")
    for row in zip(*(column.cells for column in columns), strict=True):
        lines.append("| " + " | ".join(_escape(text.strip()) for text in row) + " |")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return "".join("\\" + char if char in "\\|`*_<>[]" else char for char in text)


def as_csv(table: Pivot, *, provenance: bool = False, in_full: bool = False) -> str:
    """All rows; what was not logged is empty.

    Args:
        in_full: texts with their line ends and control characters, which a terminal would obey.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    labelled = _labelled(table) if provenance else []
    labels = list(map(str, table.frame.columns))
    titles = [[label, f"{label} label"] if label in labelled else [label] for label in labels]
    writer.writerow([plain(title) for both in titles for title in both])
    for row, values in _rows(table):
        cells = []
        for label, value in zip(labels, values, strict=True):
            cells.append(_csv_cell(table, label, row, value, in_full=in_full))
            if label in labelled:
                cells.append(_label(table, label, row) or "")
        writer.writerow(cells)
    return buffer.getvalue()


def _csv_cell(table: Pivot, label: str, row: int, value: Any, *, in_full: bool) -> str:
    if value is None or (label in table.names and not table.present[label][row]):
        return ""
    if isinstance(value, float):
        return repr(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    form = json_value(value)
    if isinstance(form, str):
        return form if in_full else plain(form)
    return str(value) if isinstance(value, (bool, int)) else json.dumps(form)


def as_json(table: Pivot) -> str:
    """A list of objects. Values are as they were logged; what JSON has no form for is text; missing ones are null."""
    labels = list(map(str, table.frame.columns))
    lines = []
    for row, values in _rows(table):
        found: dict[str, Any] = {}
        recovered = {}
        for label, value in zip(labels, values, strict=True):
            logged = label in table.names
            found[label] = None if logged and not table.present[label][row] else json_value(value)
            if logged and table.marks[label][row]:
                recovered[label] = _label(table, label, row)
        if recovered:
            found["_recovered"] = recovered
        lines.append(json.dumps(found))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def as_parquet(table: Pivot, *, provenance: bool = False) -> bytes:
    """All rows, each column of one type: numbers, texts, moments, lists and structures of these.

    Where values of one name have no type in common, or Parquet has none for them, they are JSON texts, and the field's
    metadata has `flor: json`.

    Raises:
        FlorError: there is no pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise FlorError(_PARQUET) from None
    labelled = _labelled(table) if provenance else []
    fields, arrays = [], []
    for column in table.frame.columns:
        label = str(column)
        array, is_json = _array(table, label)
        fields.append(pa.field(_text(label), array.type, metadata={"flor": "json"} if is_json else None))
        arrays.append(array)
        if label in labelled:
            texts = [_label(table, label, row) for row in range(len(table.frame))]
            fields.append(pa.field(_text(f"{label} label"), pa.string()))
            arrays.append(pa.array(texts, pa.string()))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), buffer)
    return buffer.getvalue()


def _array(table: Pivot, label: str) -> tuple[Any, bool]:
    """A column for Arrow, and whether its values had to become JSON."""
    import pandas as pd
    import pyarrow as pa

    series = table.frame[label]
    missing = ~table.present[label] if label in table.names else series.isna().to_numpy()
    if pd.api.types.is_bool_dtype(series.dtype):
        return pa.array(series.to_numpy(bool, na_value=False), mask=missing | series.isna().to_numpy()), False
    if pd.api.types.is_integer_dtype(series.dtype):
        return pa.array(series.to_numpy("int64", na_value=0), mask=missing | series.isna().to_numpy()), False
    if series.dtype.kind in "fM":
        return pa.array(series.to_numpy(), mask=missing), False
    values = [None if gone else python_value(v) for v, gone in zip(series.tolist(), missing.tolist(), strict=True)]
    try:
        array = pa.array([_arrow_value(value) for value in values])
        if all(value is None for value in values):
            return pa.array(values, pa.string()), False
        if _has_type(array.type):
            return array, False
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    return pa.array([None if v is None else _text(json.dumps(json_value(v))) for v in values], pa.string()), True


def _arrow_value(value: Any) -> Any:
    """A value of what Arrow has types for."""
    if value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(str(key)): _arrow_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "type_name"):
        return [_arrow_value(item) for item in value]
    if getattr(getattr(value, "dtype", None), "kind", "") in ("b", "i", "u", "f") and hasattr(value, "tolist"):
        return value.tolist()
    if type(value).__module__ == "datetime":
        return value
    raise TypeError(type(value))


def _has_type(kind: Any) -> bool:
    """Whether Parquet can hold it: a structure of nothing, and nothing at all, it can't."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_has_type(kind.field(n).type) for n in range(kind.num_fields))
    if pa.types.is_list(kind):
        return _has_type(kind.value_type)
    return not pa.types.is_null(kind)


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _labelled(table: Pivot) -> list[str]:
    """The columns of which a replay recovered values."""
    return [label for label, marks in table.marks.items() if marks.any()]


def _label(table: Pivot, label: str, row: int) -> str | None:
    from flor_runtime.query.pivot import LABELS

    return LABELS[table.marks[label][row]] if table.present[label][row] else None


def _rows(table: Pivot) -> Iterator[tuple[int, list[Any]]]:
    columns = [table.frame[label].tolist() for label in table.frame.columns]
    for row, values in enumerate(zip(*columns, strict=True)):
        yield row, [python_value(value) for value in values]
