"""Logged values as what SQL and JSON have: numbers and texts."""

from __future__ import annotations

import json
from typing import Any

from flor_runtime.store.index import sql_text

_LONGEST = 1_000_000  # bytes of a text


def sql_cell(value: Any) -> tuple[str, object]:
    """(kind, value) of a value in the view `logs`: what has no form in SQL is a text that says what it is."""
    if value is None:
        return "none", None
    if isinstance(value, bool):
        return "bool", int(value)
    if isinstance(value, float):
        return "float", value
    if isinstance(value, int):
        return "int", value if -(2**63) <= value < 2**63 else _digits(value)
    if isinstance(value, str):
        return "text", _cut(sql_text(value))
    if isinstance(value, bytes):
        return "bytes", value[:_LONGEST]
    if hasattr(value, "type_name"):
        return "other", _cut(sql_text(value))
    if isinstance(value, (dict, list, tuple, set, frozenset, range)):
        kind = "dict" if isinstance(value, dict) else "list"
        text = json.dumps(json_value(value))
        return kind, text if len(text) <= _LONGEST else f"{kind} of {len(value)}"
    if hasattr(value, "isoformat"):
        return "time", value.isoformat()
    if hasattr(value, "png"):
        return "image", str(value)
    shape = "×".join(map(str, getattr(value, "shape", ())))
    if hasattr(value, "columns") or hasattr(value, "index"):
        return "table", f"table {shape}"
    if hasattr(value, "dtype"):
        return "array", f"array {shape} {value.dtype}" if shape else str(value)
    return "other", _cut(sql_text(value))


def _digits(number: int) -> str:
    """All digits, however many: Python itself writes out 4,300."""
    return str(number) if number.bit_length() < 10_000 else hex(number)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST // 4 else text.encode()[:_LONGEST].decode("utf-8", "ignore")


def json_value(value: Any) -> Any:
    """A value as JSON has it: what it has no form for is text."""
    if value is None or isinstance(value, (bool, int)):
        return value
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
