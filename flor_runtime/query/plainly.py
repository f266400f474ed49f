"""Logged values as what SQL has: numbers and texts."""

from __future__ import annotations

import json
from typing import Any

from flor_runtime.store.asjson import WRITTEN_OUT, json_value
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
        return "int", value if -(2**63) <= value < 2**63 else digits(value)
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


def digits(number: int) -> str:
    """All digits, however many."""
    return str(number) if number.bit_length() < WRITTEN_OUT else hex(number)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST // 4 else text.encode()[:_LONGEST].decode("utf-8", "ignore")
