"""The values that a log record may hold, as bytes: a closed, tagged encoding. Reading it runs no code from the store.

| logged | read back as |
| --- | --- |
| float, int of any size, bool, None, str, bytes, complex | the same, floats by their bits |
| list, tuple, dict, set, frozenset (subclasses too), nested | list, tuple, dict, set, frozenset |
| numpy scalar, array or tensor of no dimension | the Python scalar |
| numpy array, torch tensor, jax and cupy array, of numbers or fixed text | numpy array (bfloat16 as float32) |
| anything else | `Opaque`: its type's name and its `repr`, without memory addresses |
"""

from __future__ import annotations

import re
import struct
import sys
from typing import Any, NamedTuple

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MAX_REPR = 100_000  # characters
_MAX_DEPTH = 60
_ARRAY_KINDS = "biufcSUMm"

_LENGTH = struct.Struct("<Q")
_DOUBLE = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_LONG = struct.Struct("<q")

_SEQUENCES: tuple[tuple[Any, bytes], ...] = (
    (list, b"l"),
    (tuple, b"t"),
    (set, b"s"),
    (frozenset, b"z"),
)


class Opaque(NamedTuple):
    """What is kept of a value that the store has no form for.

    Attributes:
        type_name: module and qualified name of its type.
        text: its `repr`, memory addresses cut.
    """

    type_name: str
    text: str

    def __str__(self) -> str:
        return self.text


def scalar(value: object) -> object:
    """The Python scalar behind a numpy scalar or an array or tensor of no dimension; anything else unchanged.

    Types are recognised by what they have: nothing is imported for it.
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "dtype"):
        item = getattr(value, "item", None)
        if callable(item) and not isinstance(value, type):
            plain = item()
            if plain is not value and not hasattr(plain, "dtype"):
                return plain
            return float(plain)  # numpy's long double is its own item
    return value


def encode(value: object) -> bytes:
    """The bytes of a value. Never raises because of the value: what fails to encode is kept as its `repr`."""
    parts: list[bytes] = []
    try:
        _encode(value, parts, 0)
    except (Exception, RecursionError):
        parts = []
        _encode_opaque(value, parts)
    return b"".join(parts)


def decode(data: bytes) -> object:
    """The value of these bytes.

    Raises:
        ValueError: they are no encoding.
    """
    try:
        value, end = _decode(data, 0, 0)
    except (struct.error, IndexError, UnicodeDecodeError, TypeError, OverflowError) as error:
        raise ValueError(f"not an encoded value: {error}") from error
    if end != len(data):
        raise ValueError("not an encoded value: bytes left over")
    return value


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
    if hasattr(one, "dtype") and hasattr(other, "dtype"):
        return _same_arrays(one, other)
    return bool(one == other)


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


def _encode(value: Any, parts: list[bytes], depth: int) -> None:
    value = scalar(value)
    if value is None:
        parts.append(b"n")
    elif value is True:
        parts.append(b"T")
    elif value is False:
        parts.append(b"F")
    elif isinstance(value, float):
        parts += (b"f", _DOUBLE.pack(value))
    elif isinstance(value, int):
        number = int(value)
        if -(2**63) <= number < 2**63:
            parts += (b"i", _LONG.pack(number))
        else:
            _chunk(b"I", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True), parts)
    elif isinstance(value, str):
        _chunk(b"S", str(value).encode("utf-8", "surrogatepass"), parts)
    elif isinstance(value, (bytes, bytearray)):
        _chunk(b"B", bytes(value), parts)
    elif isinstance(value, complex):
        parts += (b"c", _COMPLEX.pack(value.real, value.imag))
    elif depth >= _MAX_DEPTH or isinstance(value, Opaque):
        _encode_opaque(value, parts)
    elif isinstance(value, dict):
        parts += (b"d", _LENGTH.pack(len(value)))
        for key, item in value.items():
            _encode(key, parts, depth + 1)
            _encode(item, parts, depth + 1)
    else:
        for kind, tag in _SEQUENCES:
            if isinstance(value, kind):
                parts += (tag, _LENGTH.pack(len(value)))
                for item in value:
                    _encode(item, parts, depth + 1)
                return
        array = _as_array(value)
        if array is None:
            _encode_opaque(value, parts)
        else:
            _chunk(b"A", array.dtype.str.encode("ascii"), parts)
            parts += (_LENGTH.pack(array.ndim), *(_LENGTH.pack(length) for length in array.shape))
            _chunk(b"", array.tobytes(), parts)


def _chunk(tag: bytes, data: bytes, parts: list[bytes]) -> None:
    parts += (tag, _LENGTH.pack(len(data)), data)


def _encode_opaque(value: object, parts: list[bytes]) -> None:
    if isinstance(value, Opaque):
        name, text = value
    else:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        try:
            text = _ADDRESS.sub("", repr(value))[:_MAX_REPR]
        except (Exception, RecursionError) as error:
            text = f"<{name}, whose repr raised {type(error).__name__}>"
    _chunk(b"O", name.encode("utf-8", "surrogatepass"), parts)
    _chunk(b"", text.encode("utf-8", "surrogatepass"), parts)


def _as_array(value: Any) -> Any:
    """A numpy array of plain numbers or fixed text, without importing anything; None if it can't be one."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return None
    if not isinstance(value, numpy.ndarray):
        if type(value).__module__.partition(".")[0] not in ("torch", "jaxlib", "jax", "cupy"):
            return None  # a data frame or the like: `__array__` would lose what it is
        detach = getattr(value, "detach", None)
        if callable(detach):
            value = detach().cpu()
            if str(value.dtype) == "torch.bfloat16":
                value = value.float()
            value = value.numpy()
        else:
            value = numpy.asarray(value)
    plain = value.dtype.kind in _ARRAY_KINDS and value.dtype.names is None
    return value if plain else None


def _decode(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH + 1:
        raise ValueError("not an encoded value: too deep")
    tag = data[at : at + 1]
    at += 1
    if tag == b"n":
        return None, at
    if tag in (b"T", b"F"):
        return tag == b"T", at
    if tag == b"f":
        return _DOUBLE.unpack_from(data, at)[0], at + 8
    if tag == b"i":
        return _LONG.unpack_from(data, at)[0], at + 8
    if tag == b"c":
        return complex(*_COMPLEX.unpack_from(data, at)), at + 16
    if tag in (b"I", b"S", b"B"):
        raw, at = _read_chunk(data, at)
        if tag == b"I":
            return int.from_bytes(raw, "little", signed=True), at
        return (raw.decode("utf-8", "surrogatepass") if tag == b"S" else raw), at
    if tag == b"O":
        name, at = _read_chunk(data, at)
        text, at = _read_chunk(data, at)
        return Opaque(name.decode("utf-8", "surrogatepass"), text.decode("utf-8", "surrogatepass")), at
    if tag == b"A":
        return _decode_array(data, at)
    return _decode_container(tag, data, at, depth)


def _decode_container(tag: bytes, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    (count,) = _LENGTH.unpack_from(data, at)
    at += 8
    if count > len(data) - at:  # each element takes a byte at least
        raise ValueError("not an encoded value: a length that doesn't fit")
    if tag == b"d":
        pairs = {}
        for _ in range(count):
            key, at = _decode(data, at, depth + 1)
            pairs[key], at = _decode(data, at, depth + 1)
        return pairs, at
    for kind, known in _SEQUENCES:
        if tag == known:
            items = []
            for _ in range(count):
                item, at = _decode(data, at, depth + 1)
                items.append(item)
            return kind(items), at
    raise ValueError(f"not an encoded value: tag {tag!r}")


def _decode_array(data: bytes, at: int) -> tuple[Any, int]:
    import numpy

    name, at = _read_chunk(data, at)
    dtype = numpy.dtype(name.decode("ascii"))
    if dtype.kind not in _ARRAY_KINDS or dtype.names is not None:
        raise ValueError("not an encoded value: an array of objects")
    (ndim,) = _LENGTH.unpack_from(data, at)
    if ndim > 64:
        raise ValueError("not an encoded value: too many dimensions")
    shape = struct.unpack_from(f"<{ndim}Q", data, at + 8)
    raw, at = _read_chunk(data, at + 8 + 8 * ndim)
    return numpy.frombuffer(raw, dtype=dtype).reshape(shape).copy(), at


def _read_chunk(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += 8
    if length > len(data) - at:
        raise ValueError("not an encoded value: a length that doesn't fit")
    return data[at : at + length], at + length
