"""Whether two values are the same, to the bit: what a replay's values are judged by."""

from __future__ import annotations

import struct
from typing import Any

from flor_runtime.store.foreign import table_of
from flor_runtime.store.values import encode

_DOUBLE = struct.Struct("<d")


def same_bits(one: object, other: object) -> bool:
    """True if two values are the same to the bit. Types must match; any NaN equals any NaN; 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return _DOUBLE.pack(one) == _DOUBLE.pack(other) or (one != one and other != other)
    if isinstance(one, complex) and isinstance(other, complex):
        return same_bits(one.real, other.real) and same_bits(one.imag, other.imag)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_bits, one, other))
    if isinstance(one, (set, frozenset)) and isinstance(other, (set, frozenset)):
        return _members(one) == _members(other)
    if isinstance(one, dict) and isinstance(other, dict):
        mine = {encode(key): value for key, value in one.items()}
        yours = {encode(key): value for key, value in other.items()}
        return mine.keys() == yours.keys() and all(same_bits(mine[key], yours[key]) for key in mine)
    mine_table, your_table = table_of(one), table_of(other)
    if mine_table is not None and your_table is not None:
        return same_bits(tuple(mine_table), tuple(your_table))
    if hasattr(one, "dtype") and hasattr(other, "dtype"):
        return _same_arrays(one, other)
    return encode(one) == encode(other)


def _members(values: set[object] | frozenset[object]) -> set[bytes]:
    return {encode(float("nan") if value != value else value) for value in values}


def _same_arrays(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.tobytes() == other.tobytes():
        return True
    if one.dtype.kind == "c":
        return _same_arrays(one.real, other.real) and _same_arrays(one.imag, other.imag)
    if one.dtype.kind != "f":
        return False
    width = one.dtype.itemsize
    numbers = {2: "<u2", 4: "<u4", 8: "<u8"}.get(width)
    if numbers is None:
        return False
    equal = (one.copy().view(numbers) == other.copy().view(numbers)) | ((one != one) & (other != other))
    return bool(equal.all())
