"""The values that a log record may hold, as bytes: a closed, tagged encoding. Reading it runs no code from the store.

docs/logging.md has the table of what comes back for what was logged.
"""

from __future__ import annotations

import enum
import math
import re
import struct
from collections import deque
from collections.abc import Callable, ItemsView, KeysView, Mapping, ValuesView
from datetime import date, datetime, time, timedelta
from pathlib import PurePath
from typing import Any, NamedTuple

from flor_runtime.store.foreign import ARRAY_KINDS, LARGEST, Table, TooLarge, array_of, fits, frame_of, table_of
from flor_runtime.store.pictures import Picture, picture_of

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MAX_REPR = 100_000  # characters
_MAX_DEPTH = 60
_MAX_NDIM = 64
_MAX_EMPTY = 1_000_000
_PACKED = 8  # elements: from so many on, a list of nothing but floats or integers is packed

_LENGTH = struct.Struct("<Q")
_DOUBLE = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_LONG = struct.Struct("<q")
_DAYS = struct.Struct("<iii")

_SEQUENCES: tuple[tuple[Any, bytes], ...] = (
    (list, b"l"),
    (tuple, b"t"),
    (set, b"s"),
    (frozenset, b"z"),
)
_PACKS: dict[object, bytes] = {float: b"d", int: b"q"}
#: what has a text that it can be made of again
_TEXTS: tuple[tuple[Any, bytes], ...] = ((datetime, b"D"), (date, b"Y"), (time, b"H"))

Part = bytes | memoryview


class Opaque(NamedTuple):
    """What is kept of a value that the store has no form for.

    Attributes:
        type_name: module and qualified name of its type.
        text: its `repr`, memory addresses cut, or why it was not kept.
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
        if callable(item) and not isinstance(value, type) and getattr(value.dtype, "kind", "") not in ("M", "m"):
            plain = item()
            if plain is not value and not hasattr(plain, "dtype"):
                return plain
            return float(plain)  # numpy's long double is its own item
    return value


def encode(value: object) -> bytes:
    """The bytes of a value. Never raises because of the value: what fails to encode is kept as its `repr`."""
    return b"".join(encode_parts(value))


def encode_parts(value: object) -> list[Part]:
    """The same in pieces: those of arrays are views of their memory, not copies."""
    try:
        writer = _Writer()
        writer.add(value, 0)
        return writer.parts
    except TooLarge as error:
        value = Opaque(_type_name(value), str(error))
    except (Exception, RecursionError):
        pass
    writer = _Writer()
    writer.opaque(value)
    return writer.parts


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


class _Writer:
    """Collects the parts of one value."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._size = 0

    def put(self, *parts: Part) -> None:
        for part in parts:
            self._size += len(part) if isinstance(part, bytes) else part.nbytes
        if self._size > LARGEST:
            raise TooLarge
        self.parts += parts

    def chunk(self, tag: bytes, data: Part) -> None:
        self.put(tag, _LENGTH.pack(len(data) if isinstance(data, bytes) else data.nbytes), data)

    def add(self, value: Any, depth: int) -> None:
        value = scalar(value)
        if value is None:
            self.put(b"n")
        elif value is True or value is False:
            self.put(b"T" if value else b"F")
        elif isinstance(value, float):
            self.put(b"f", _DOUBLE.pack(value))
        elif isinstance(value, int):
            self._integer(int(value))
        elif isinstance(value, str):
            fits(len(value))
            self.chunk(b"S", str(value).encode("utf-8", "surrogatepass"))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            fits(len(value))
            self.chunk(b"B", bytes(value))
        elif isinstance(value, complex):
            self.put(b"c", _COMPLEX.pack(value.real, value.imag))
        elif depth >= _MAX_DEPTH or isinstance(value, Opaque):
            self.opaque(value)
        elif isinstance(value, dict):
            self.put(b"d", _LENGTH.pack(len(value)))
            for key, item in value.items():
                self.add(key, depth + 1)
                self.add(item, depth + 1)
        elif isinstance(value, (list, tuple, set, frozenset)):
            self._sequence(value, depth)
        else:
            self._other(value, depth)

    def _integer(self, number: int) -> None:
        if -(2**63) <= number < 2**63:
            self.put(b"i", _LONG.pack(number))
        else:
            fits(number.bit_length() // 8)
            self.chunk(b"I", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))

    def _sequence(self, value: Any, depth: int) -> None:
        tag = next(tag for kind, tag in _SEQUENCES if isinstance(value, kind))
        if len(value) >= _PACKED and tag in (b"l", b"t"):
            kinds = set(map(type, value))
            code = _PACKS.get(next(iter(kinds))) if len(kinds) == 1 else None
            if code is not None:
                fits(8 * len(value))
                try:
                    self.chunk(b"p" + tag + code, struct.pack(f"<{len(value)}{code.decode()}", *value))
                    return
                except struct.error:  # an integer that is too large for it
                    pass
        self.put(tag, _LENGTH.pack(len(value)))
        for item in value:
            self.add(item, depth + 1)

    def _other(self, value: Any, depth: int) -> None:
        if isinstance(value, enum.Enum):
            self.add(f"{type(value).__name__}.{value.name}" if value.name else str(value), depth)
            return
        if isinstance(value, PurePath):
            self.add(str(value), depth)
            return
        if isinstance(value, Mapping):
            self.add(dict(value), depth)
            return
        if isinstance(value, (deque, KeysView, ValuesView, ItemsView)):
            self.add(list(value), depth)
            return
        if isinstance(value, timedelta):
            self.put(b"E", _DAYS.pack(value.days, value.seconds, value.microseconds))
            return
        if isinstance(value, range):
            self.put(b"r")
            for number in (value.start, value.stop, value.step):
                self._integer(number)
            return
        for kind, tag in _TEXTS:
            if isinstance(value, kind):
                if value != value:  # pandas' NaT
                    self.put(b"n")
                else:
                    self.chunk(tag, value.isoformat().encode("ascii"))
                return
        picture = value if isinstance(value, Picture) else picture_of(value)
        if picture is not None:
            self.chunk(b"P", picture.png)
            return
        array = array_of(value)
        if hasattr(array, "dtype"):
            self._array(array)
        elif array is not None:
            self.add(array, depth + 1)
        elif (table := table_of(value)) is not None:
            self.put(b"W")
            for part in table:
                self.add(part, depth + 1)
        else:
            self.opaque(value)

    def _array(self, array: Any) -> None:
        self.chunk(b"A", array.dtype.str.encode("ascii"))
        self.put(_LENGTH.pack(array.ndim), *(_LENGTH.pack(length) for length in array.shape))
        whole = array if array.flags.c_contiguous else array.copy(order="C")
        self.chunk(b"", memoryview(whole.reshape(-1).view("u1")) if whole.nbytes else b"")

    def opaque(self, value: object) -> None:
        if isinstance(value, Opaque):
            name, text = value
        else:
            name = _type_name(value)
            try:
                text = _ADDRESS.sub("", repr(value))[:_MAX_REPR]
            except (Exception, RecursionError) as error:
                text = f"<{name}, whose repr raised {type(error).__name__}>"
        self.chunk(b"O", name.encode("utf-8", "surrogatepass"))
        self.chunk(b"", text.encode("utf-8", "surrogatepass"))


def _type_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _decode(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH + 2:
        raise ValueError("not an encoded value: too deep")
    tag = data[at : at + 1]
    at += 1
    fixed = _FIXED.get(tag)
    if fixed is not None:
        form, make = fixed
        return make(*form.unpack_from(data, at)), at + form.size
    text = _CHUNKED.get(tag)
    if text is not None:
        raw, at = _read_chunk(data, at)
        return text(raw), at
    if tag == b"O":
        name, at = _read_chunk(data, at)
        shown, at = _read_chunk(data, at)
        return Opaque(_text(name), _text(shown)), at
    if tag == b"A":
        return _decode_array(data, at)
    if tag == b"p":
        raw, end = _read_chunk(data, at + 2)
        kinds = {tag: kind for kind, tag in _SEQUENCES[:2]}
        code = data[at + 1 : at + 2]
        if code not in _PACKS.values() or data[at : at + 1] not in kinds or len(raw) % 8:
            raise ValueError("not an encoded value: a packed list of something else")
        return kinds[data[at : at + 1]](struct.unpack(f"<{len(raw) // 8}{code.decode()}", raw)), end
    if tag == b"r":
        return _decode_several(range, 3, data, at, depth)
    if tag == b"W":
        table, at = _decode_several(Table, 4, data, at, depth)
        return frame_of(table), at
    return _decode_container(tag, data, at, depth)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


#: by their tag, values of a fixed size and of one chunk
_FIXED: dict[bytes, tuple[struct.Struct, Callable[..., Any]]] = {
    b"n": (struct.Struct(""), lambda: None),
    b"T": (struct.Struct(""), lambda: True),
    b"F": (struct.Struct(""), lambda: False),
    b"f": (_DOUBLE, float),
    b"i": (_LONG, int),
    b"c": (_COMPLEX, complex),
    b"E": (_DAYS, timedelta),
}
_CHUNKED: dict[bytes, Callable[[bytes], Any]] = {
    b"I": lambda raw: int.from_bytes(raw, "little", signed=True),
    b"S": _text,
    b"B": bytes,
    b"P": Picture,
    b"D": lambda raw: datetime.fromisoformat(raw.decode("ascii")),
    b"Y": lambda raw: date.fromisoformat(raw.decode("ascii")),
    b"H": lambda raw: time.fromisoformat(raw.decode("ascii")),
}


def _decode_several(make: Callable[..., Any], count: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    parts = []
    for _ in range(count):
        part, at = _decode(data, at, depth + 1)
        parts.append(part)
    return make(*parts), at


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
            items, at = _decode_several(lambda *items: items, count, data, at, depth)
            return (items if kind is tuple else kind(items)), at
    raise ValueError(f"not an encoded value: tag {tag!r}")


def _decode_array(data: bytes, at: int) -> tuple[Any, int]:
    import numpy

    name, at = _read_chunk(data, at)
    dtype = numpy.dtype(name.decode("ascii"))
    if dtype.kind not in ARRAY_KINDS or dtype.names is not None:
        raise ValueError("not an encoded value: an array of objects")
    (ndim,) = _LENGTH.unpack_from(data, at)
    if ndim > _MAX_NDIM:
        raise ValueError("not an encoded value: too many dimensions")
    shape = struct.unpack_from(f"<{ndim}Q", data, at + 8)
    raw, at = _read_chunk(data, at + 8 + 8 * ndim)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError("not an encoded value: an array of another size")
    if dtype.itemsize == 0 and math.prod(shape) > _MAX_EMPTY:
        raise ValueError("not an encoded value: an array of too many empty texts")
    array = numpy.frombuffer(raw, dtype).reshape(shape).copy() if raw else numpy.zeros(shape, dtype)
    return (array if ndim else array[()]), at


def _read_chunk(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += 8
    if length > len(data) - at:
        raise ValueError("not an encoded value: a length that doesn't fit")
    return data[at : at + length], at + length
