"""From a stretch of code in a running frame to the roots of its state, and back into the frame.

What the stretch may have changed is: the names that it binds and that are still needed, and whatever is reachable from the names
that it, or a function that it can call, reads. Function frames are written through `frame.f_locals` where that writes through
(PEP 667, Python 3.13), else by `PyFrame_LocalsToFast`; where neither is there, nothing is skipped.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from flor_runtime.errors import RestoreError
from flor_runtime.state.capture import Capture
from flor_runtime.state.graph import Graph
from flor_runtime.state.liveness import between, inner_loads, live_at
from flor_runtime.state.restore import Restore

IsProject = Callable[[dict[str, Any]], bool]


def is_module(frame: FrameType) -> bool:
    """True for a frame whose names are a module's globals."""
    return frame.f_locals is frame.f_globals


def read_locals(frame: FrameType) -> dict[str, Any]:
    """A copy of the names bound in a frame; no reference stays behind in the frame."""
    if is_module(frame):
        return dict(frame.f_globals)
    view = frame.f_locals
    copy = dict(view)
    if sys.version_info < (3, 13):
        view.clear()  # the interpreter keeps this snapshot with the frame: it would keep the last batch alive
    return copy


def write_locals(frame: FrameType, values: dict[str, Any]) -> None:
    """Bind names in a running frame.

    Raises:
        RestoreError: this interpreter can't do that for a function's frame.
    """
    if is_module(frame):
        frame.f_globals.update(values)
    elif sys.version_info >= (3, 13):
        frame.f_locals.update(values)
    else:
        try:
            to_fast = ctypes.pythonapi.PyFrame_LocalsToFast
        except AttributeError:
            raise RestoreError("this Python can't write the locals of a running function") from None
        view = frame.f_locals
        view.update(values)
        to_fast(ctypes.py_object(frame), ctypes.c_int(0))
        view.clear()


def capture(
    frame: FrameType, start: int, stop: int, point: int, objects: Iterable[Any], is_project: IsProject
) -> Graph:
    """The state that the code at offsets [start, stop) of a frame may have changed, as it is needed at offset `point`.

    Args:
        objects: further roots, given by hand.
        is_project: as for `Capture`.
    """
    code = frame.f_code
    names = between(code, start, stop)
    live = live_at(code, point)
    if is_module(frame):
        live |= inner_loads(code)
    bound = read_locals(frame)
    walk = Capture(is_project)
    module = frame.f_globals.get("__name__", "")
    prefix = f"G:{module}:" if is_module(frame) else "L:"
    for name in sorted(names.loaded | names.stored):
        if name not in bound:
            if name in names.stored and name in live and name in names.deleted:
                walk.graph.problems.append(f"{name}: deleted, and looked for later")
        elif name in names.stored:
            if name in live:
                walk.root(prefix + name, bound[name])
                walk.stored_global(frame.f_globals, name)
        elif type(bound[name]) not in (int, float, str, bytes, bool, type(None)):
            walk.root(prefix + name, bound[name])
    for name in sorted(names.globals):
        if name in frame.f_globals:
            walk.root(f"G:{module}:{name}", frame.f_globals[name])
    for n, obj in enumerate(objects):
        walk.root(f"O:{n}", obj)
    return walk.finish()


def restore(frame: FrameType, graph: Graph, blob: Callable[[int], Any], objects: Iterable[Any]) -> None:
    """Put a captured state back into a frame and all that it reaches.

    Raises:
        RestoreError: the live objects don't fit; nothing has been changed.
    """
    bound = read_locals(frame)
    live: dict[str, Any] = {f"O:{n}": obj for n, obj in enumerate(objects)}
    for key in graph.roots:
        kind, _, rest = key.partition(":")
        if kind == "L" and rest in bound:
            live[key] = bound[rest]
        elif kind == "G":
            namespace, name = _global(frame, rest)
            if name in namespace:
                live[key] = namespace[name]
    result = Restore(graph, blob).run(live)
    new: dict[str, Any] = {}
    for key, obj in result.items():
        kind, _, rest = key.partition(":")
        if kind == "L" and not (rest in bound and bound[rest] is obj):
            new[rest] = obj
        elif kind == "G":
            namespace, name = _global(frame, rest)
            if namespace.get(name) is not obj or name not in namespace:
                namespace[name] = obj
    if new:
        write_locals(frame, new)


def _global(frame: FrameType, rest: str) -> tuple[dict[str, Any], str]:
    module, _, name = rest.rpartition(":")
    if module == frame.f_globals.get("__name__"):
        return frame.f_globals, name
    return vars(sys.modules[module]) if module in sys.modules else {}, name


def tensor_digests(graph: Graph) -> list[str]:
    """The digests of all tensors and arrays that the graph reaches: what makes two states the same trajectory."""
    return sorted({blob.digest for blob in graph.blobs})
