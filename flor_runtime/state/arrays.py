"""numpy arrays as plain data, and a look at bulk data that costs the same however large it is."""

from __future__ import annotations

import ast
import ctypes
import sys
from typing import Any

import xxhash

_SAMPLES = 64


def descr(dtype: Any) -> str:
    """A dtype as text; `dtype_of` reads it."""
    return str(dtype.str) if dtype.names is None else repr(dtype.descr)


def dtype_of(text: str) -> Any:
    """What `descr` wrote."""
    numpy: Any = sys.modules["numpy"]
    return numpy.dtype(ast.literal_eval(text) if text.startswith("[") else text)


def byte_bounds(array: Any) -> tuple[int, int]:
    """The first address that an array uses and the one behind the last."""
    low = high = int(array.__array_interface__["data"][0])
    if not array.size:
        return low, low
    for size, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high + int(array.itemsize)


def digest_at(address: int, nbytes: int) -> bytes:
    """Of bytes in the memory of the process."""
    return xxhash.xxh3_64_digest((ctypes.c_char * nbytes).from_address(address)) if nbytes else b""


def plain(state: Any) -> Any:
    """The state dictionary of a numpy generator as plain data."""
    if isinstance(state, dict):
        return [True, [[str(key), plain(item)] for key, item in state.items()]]
    if hasattr(state, "tobytes") and getattr(state, "shape", None):
        return [descr(state.dtype), list(state.shape), state.tobytes()]
    if isinstance(state, str):
        return state
    if isinstance(state, float):
        return float(state)
    return [False, hex(int(state))]


def from_plain(data: Any) -> Any:
    """What `plain` read."""
    if not isinstance(data, list):
        return data
    if data[0] is True:
        return {key: from_plain(item) for key, item in data[1]}
    if data[0] is False:
        return int(data[1], 16)
    return sys.modules["numpy"].frombuffer(data[2], dtype=dtype_of(data[0])).reshape(data[1]).copy()


def fingerprint(obj: Any) -> str:
    """A digest of the size of something large and of a few places in it."""
    return str(xxhash.xxh3_64_hexdigest(repr(_look(obj)).encode()))


def _look(obj: Any) -> Any:
    torch: Any = sys.modules.get("torch")
    numpy: Any = sys.modules.get("numpy")
    if torch is not None and isinstance(obj, torch.Tensor):
        return tuple(obj.shape), obj._version, _samples(obj.detach(), obj.is_contiguous())
    if numpy is not None and isinstance(obj, numpy.ndarray):
        return obj.shape, str(obj.dtype), _samples(obj, obj.flags.c_contiguous)
    if hasattr(obj, "iloc") and hasattr(obj, "shape"):
        return obj.shape, list(getattr(obj, "columns", ()))[:1000], obj.iloc[:5].to_dict(), obj.iloc[-5:].to_dict()
    if isinstance(obj, list | tuple):
        step = max(1, len(obj) // _SAMPLES)
        return len(obj), [_mark(item) for item in obj[::step]], _mark(obj[-1]) if obj else None
    try:
        return len(obj)
    except TypeError:
        return None


def _samples(array: Any, contiguous: bool) -> Any:
    flat = array.reshape(-1) if contiguous else array[:_SAMPLES]
    return flat[:: max(1, flat.shape[0] // _SAMPLES)].tolist()[: 2 * _SAMPLES]


def _mark(item: Any) -> Any:
    return item if isinstance(item, int | float | str | bytes | None) else id(item)


def hooks(tensor: Any) -> list[Any]:
    """The functions that `backward` calls with the gradient of a tensor."""
    held = tensor._backward_hooks, tensor._post_accumulate_grad_hooks
    return [hook for found in held if found for hook in found.values()]
