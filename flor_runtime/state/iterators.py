"""The iterator of a main loop: a replay that starts in mid-run draws from it what the earlier turns drew, and drops it.

That gives the recorded sequence only where what is drawn doesn't hang on what the turns did in between.
"""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

from flor_runtime.frame_locals import read_locals
from flor_runtime.state import library

_CALLS = (map, filter, type(iter(int, 1)))  # and those of itertools that take a function: they hold one
_DEPTH = 30
#: They tell how much is left.
_COUNTED: tuple[Any, ...] = (type(iter(range(0))), type(iter(range(1 << 80))), type(iter([])), type(iter(())))


def sources(iterator: Any, is_project: Callable[[dict[str, Any]], bool]) -> tuple[list[Any], str]:
    """(objects that an iterator draws from, why it can't be wound on to a later turn: "" if it can)."""
    found: list[Any] = []
    try:
        for obj in _leaves(iterator, is_project, 0):
            if not any(obj is other for other in found):
                found.append(obj)
    except LookupError as error:
        return [], str(error)
    return found, ""


def is_drawn(iterator: Any) -> bool:
    """True if an iterator is seen to have nothing left: it draws from a range, a list or a tuple that is at its end,
    itself or by way of others (`enumerate`, a progress bar). False says nothing. Nothing is drawn."""
    seen = 0
    while iterator is not None and seen < _DEPTH:
        if isinstance(iterator, _COUNTED):
            return bool(iterator.__length_hint__() == 0)
        if not isinstance(iterator, (enumerate, GeneratorType)):
            return False
        iterator = next((part for part in gc.get_referents(iterator) if isinstance(part, (*_COUNTED, enumerate))), None)
        seen += 1
    return False


def _leaves(obj: Any, is_project: Callable[[dict[str, Any]], bool], depth: int) -> Iterator[Any]:
    kind = type(obj)
    if depth > _DEPTH:
        raise LookupError("the loop's iterator is nested too deeply")
    if isinstance(obj, GeneratorType):
        if obj.gi_frame is None:
            return
        if is_project(obj.gi_frame.f_globals):
            raise LookupError(f"the loop draws from the generator {obj.__qualname__}, whose state can't be restored")
        parts = list(read_locals(obj.gi_frame).values())
    elif library.type_name(kind).startswith("torch.utils.data.dataloader._"):
        parts = [vars(obj).get(name) for name in ("_dataset", "_sampler_iter", "_index_sampler", "_loader")]
    elif issubclass(kind, library.POSITIONED):
        parts = gc.get_referents(obj)
        if issubclass(kind, _CALLS) or kind.__module__ == "itertools":
            for part in parts:
                namespace = getattr(part, "__globals__", None)
                if callable(part) and (namespace is None or is_project(namespace)) and not isinstance(part, type):
                    raise LookupError("the loop draws what a function of the program gives")
    elif isinstance(obj, io.IOBase) or type(obj).__module__ == "_csv":
        return
    else:
        if kind not in (int, float, str, bytes, bool, type(None), range) and not isinstance(obj, type):
            yield obj
        return
    for part in parts:
        yield from _leaves(part, is_project, depth + 1)
