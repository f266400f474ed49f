"""The names bound in a running function, read without leaving a trace.

Before Python 3.13 `frame.f_locals` is one dictionary a frame, which the interpreter fills anew on each access and
keeps: it would keep the last batch alive, and it is the very one that the program got from an earlier `locals()`. So
what was in it is put back.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

_SHARED = sys.version_info < (3, 13)
#: offset of f_locals in CPython's internal frame, and of the pointer to that in a frame object
_OFFSETS = {(3, 11): 24, (3, 12): 40}
_POINTER = 24
OPTIMIZED = 1  # inspect.COOPTIMIZED: a function; the body of a module or a class has its names in a dictionary
_ASKING = frozenset({"locals", "vars", "dir", "eval", "exec", "f_locals", "_getframe", "currentframe", "stack"})


def is_module(frame: FrameType) -> bool:
    """True for a frame whose names are a module's globals."""
    return not frame.f_code.co_flags & OPTIMIZED and frame.f_locals is frame.f_globals


def read_locals(frame: FrameType) -> dict[str, Any]:
    """A copy of the names bound in a frame; no reference stays behind in the frame."""
    if not frame.f_code.co_flags & OPTIMIZED:
        return dict(frame.f_locals)
    before = kept(frame)
    view = frame.f_locals
    copy = dict(view)
    put_back(view, before)
    return copy


def put_back(view: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Give the dictionary of a function's frame the content that it had."""
    if _SHARED:
        view.clear()
        if before:
            view.update(before)


def kept(frame: FrameType) -> dict[str, Any] | None:
    """What the frame's dictionary holds now, as far as the program may have got hold of it."""
    if not _SHARED or not _asks(frame.f_code):
        return None
    offset = _OFFSETS.get(sys.version_info[:2])
    if offset is None or sys.implementation.name != "cpython" or hasattr(sys, "gettotalrefcount"):
        return None
    import ctypes

    inner = ctypes.c_void_p.from_address(id(frame) + _POINTER).value
    found = ctypes.c_void_p.from_address(inner + offset).value if inner else None
    if not found:
        return None
    return dict(ctypes.cast(found, ctypes.py_object).value)


def _asks(code: CodeType) -> bool:
    return not _ASKING.isdisjoint(code.co_names)
