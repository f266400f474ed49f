"""Logged values as JSON has them."""

from __future__ import annotations

from typing import Any

#: bits of an integer that Python writes out: it refuses more than 4,300 digits
WRITTEN_OUT = 10_000


def json_value(value: Any) -> Any:
    """A value as JSON has it: what it has no form for is text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < WRITTEN_OUT else hex(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)) and not hasattr(value, "type_name"):
        return [json_value(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "data_uri"):
        return value.data_uri()
    if hasattr(value, "columns"):
        return {str(name): json_value(value[name].tolist()) for name in value.columns.unique()}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return json_value((value.astype(str) if value.dtype.kind in "Mm" else value).tolist())
    return str(value)
