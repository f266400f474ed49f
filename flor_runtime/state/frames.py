"""From a stretch of code in a running frame to the roots of its state, and back into the frame.

What the stretch may have changed is: the names that it binds and that are still needed, and whatever is reachable from
the names that it, or a function that it can call, reads. Function frames are written through `frame.f_locals` where
that writes through (PEP 667, Python 3.13), else by `PyFrame_LocalsToFast`; where neither is there, nothing is skipped.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from io import StringIO
from types import FrameType
from typing import Any

from flor_runtime.errors import RestoreError
from flor_runtime.frame_locals import is_module, kept, put_back, read_locals
from flor_runtime.state import process
from flor_runtime.state.anchors import Anchors, settle
from flor_runtime.state.audit import Audit
from flor_runtime.state.capture import Capture
from flor_runtime.state.graph import Graph, Step
from flor_runtime.state.liveness import Stretch, handed_back, inner_loads, live_at, names_in
from flor_runtime.state.restore import Restore, locate

IsProject = Callable[[dict[str, Any]], bool]


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
        before = kept(frame)
        view = frame.f_locals
        view.update(values)
        to_fast(ctypes.py_object(frame), ctypes.c_int(0))
        put_back(view, before)


def survey(
    frame: FrameType, stretch: Stretch, objects: Iterable[Any], is_project: IsProject, audit: Audit | None = None
) -> Anchors:
    """Where everything is that a stretch of code may change, before it runs. The arguments are those of `capture`."""
    walk = Capture(is_project, memory=False, opened=audit.opened if audit else ())
    code = frame.f_code
    _roots(walk, frame, stretch, stretch.entry, objects, (), entering=True)
    walk.finish()
    looks = audit.look(walk, frame, stretch) if audit else None
    hidden = set(code.co_cellvars) | set(code.co_freevars)
    return Anchors(walk, {f"L:{name}" for name in hidden}, looks)


def capture(
    frame: FrameType,
    stretch: Stretch,
    anchors: Anchors,
    objects: Iterable[Any],
    is_project: IsProject,
    values: Iterable[str] = (),
    *,
    pickles: bool = False,
    beside: tuple[Any, ...] = (),
    audit: Audit | None = None,
) -> Graph:
    """The state that a stretch of code may have changed, as it is needed where that ends.

    Args:
        anchors: what `survey` found before it ran.
        objects: further roots, given by hand.
        is_project: as for `Capture`.
        values: names that are needed whatever the code says.
        pickles: objects of compiled code may be kept as pickles.
        beside: objects that the session holds as well, and gets anew when they are replaced.
        audit: looks at what is not captured.
    """
    walk = Capture(is_project, opened=audit.opened if audit else ())
    try:
        _roots(walk, frame, stretch, stretch.exit, objects, values, entering=False)
        graph = settle(walk, anchors, pickles=pickles, beside=beside)
        if audit is not None and anchors.looks is not None:
            graph.problems += audit.compare(anchors.looks, walk, frame, stretch)
        return graph
    except RecursionError:
        return Graph(problems=["objects are nested too deeply"])


def _needed(frame: FrameType, point: int) -> frozenset[str]:
    """Names that may be looked for after a point of a frame, by it or by functions that see its names."""
    live = live_at(frame.f_code, point) | handed_back(frame.f_code, point)
    return live | inner_loads(frame.f_code) if is_module(frame) else live


def _prefix(frame: FrameType) -> str:
    return f"G:{frame.f_globals.get('__name__', '')}:" if is_module(frame) else "L:"


def _roots(
    walk: Capture,
    frame: FrameType,
    stretch: Stretch,
    point: int,
    objects: Iterable[Any],
    values: Iterable[str],
    *,
    entering: bool,
) -> None:
    """Walk what a stretch of code may reach (`entering`), or may have changed."""
    names = names_in(frame.f_code, stretch)
    needed = _needed(frame, point).union(values)
    bound = read_locals(frame)
    prefix = _prefix(frame)
    try:
        for name in sorted(names.loaded | names.stored):
            stored = name in names.stored
            if name not in bound:
                if stored and name in needed and not entering:
                    walk.graph.unbound.append(name)
                    if name in names.deleted:
                        walk.graph.problems.append(f"{name}: deleted, and looked for later")
            elif stored and (name in needed or (not entering and type(bound[name]) in _PLAIN)):
                walk.root(prefix + name, bound[name])
                walk.stored_global(frame.f_globals, name)
            elif not stored and type(bound[name]) not in _PLAIN:
                walk.root(prefix + name, bound[name])
            elif walk.is_finalized(type(bound[name])):
                walk.root(prefix + name, bound[name])  # it is needed: it is dropped when its name is bound again
            elif not entering and not stored:
                walk.root("C:" + prefix + name, bound[name])
        for name in sorted(names.globals):
            if name in frame.f_globals:
                walk.root(f"G:{frame.f_globals.get('__name__', '')}:{name}", frame.f_globals[name])
                if name in names.bound_globals:
                    walk.stored_global(frame.f_globals, name)
        for n, obj in enumerate(objects):
            walk.root(f"O:{n}", obj)
        walk.root("P:os.environ", os.environ)
        for name, obj in process.called():
            if walk.is_own(obj) or type(obj) in (list, StringIO):
                walk.root(f"P:{name}", obj)
        walk.use_attributes(frame.f_code, frame.f_globals)
    finally:
        bound.clear()  # it would count as a holder of everything


_PLAIN = (int, float, str, bytes, bool, type(None))


def find(frame: FrameType, paths: list[tuple[int, Step]], objects: Iterable[Any]) -> list[Any]:
    """The live objects that the paths of a checkpoint lead to, where its stretch of code begins."""
    bound = read_locals(frame)
    roots: dict[str, Any] = {f"O:{n}": obj for n, obj in enumerate(objects)}
    roots["P:os.environ"] = os.environ
    if any(parent < 0 and key.startswith("P:") and key not in roots for parent, key in paths):
        roots |= {f"P:{name}": obj for name, obj in process.called()}
    for parent, key in paths:
        if parent < 0:
            kind, _, rest = key.partition(":")
            if kind == "L" and rest in bound:
                roots[key] = bound[rest]
            elif kind == "G":
                namespace, name = _global(frame, rest)
                if name in namespace:
                    roots[key] = namespace[name]
            elif kind == "M" and rest in sys.modules:
                roots[key] = sys.modules[rest]
    return locate(paths, roots)


def restore(
    frame: FrameType, stretch: Stretch, graph: Graph, blob: Callable[[int], Any], located: list[Any]
) -> Callable[[], list[tuple[Any, Any]]]:
    """Get ready to put a captured state back into a frame and all that it reaches; the function that is returned does
    it.

    Args:
        stretch: of the code that runs now; it may need names that the code that was recorded did not.
        located: what `find` found for the paths of the graph.

    Raises:
        RestoreError: the live objects don't fit. (The function raises ReplayError, if anything. It gives the objects
            that others have taken the place of, with those.)
    """
    bound = read_locals(frame)
    prefix = _prefix(frame)
    for name in names_in(frame.f_code, stretch).stored & _needed(frame, stretch.exit):
        if name in graph.unbound:
            if name in bound:
                raise RestoreError(f"{name} should not be bound yet")
        elif prefix + name not in graph.roots:
            raise RestoreError(f"{name} is needed, and was not kept")
    if not is_module(frame) and sys.version_info < (3, 13) and not hasattr(ctypes.pythonapi, "PyFrame_LocalsToFast"):
        raise RestoreError("this Python can't write the locals of a running function")
    restoration = Restore(graph, blob, located)
    return partial(_write, frame, bound, restoration)


def _write(frame: FrameType, bound: dict[str, Any], restoration: Restore) -> list[tuple[Any, Any]]:
    result = restoration.run()
    new: dict[str, Any] = {}
    for key, obj in result.items():
        kind, _, rest = key.partition(":")
        if kind == "L" and not (rest in bound and bound[rest] is obj):
            new[rest] = obj
        elif kind == "G":
            namespace, name = _global(frame, rest)
            if name not in namespace or namespace[name] is not obj:
                namespace[name] = obj
    if new:
        write_locals(frame, new)
    return restoration.replaced


def _global(frame: FrameType, rest: str) -> tuple[dict[str, Any], str]:
    module, _, name = rest.rpartition(":")
    if module == frame.f_globals.get("__name__"):
        return frame.f_globals, name
    return vars(sys.modules[module]) if module in sys.modules else {}, name


def digests(
    frame: FrameType,
    stretch: Stretch,
    objects: Iterable[Any],
    is_project: IsProject,
    values: Iterable[str] = (),
    *,
    whole: bool = False,
) -> set[str]:
    """The digests of all tensors and arrays of the state at the end of a stretch: what `Entry.tensors` of a checkpoint
    has. `whole`: of those in data sets, too."""
    return {blob.digest() for blob in view(frame, stretch, objects, is_project, values, whole=whole).blobs}


def view(
    frame: FrameType,
    stretch: Stretch,
    objects: Iterable[Any],
    is_project: IsProject,
    values: Iterable[str] = (),
    *,
    whole: bool = False,
) -> Graph:
    """The state at the end of a stretch, to compare it: `capture` without a beginning. `whole`: data sets, too."""
    walk = Capture(is_project, whole=whole)
    _roots(walk, frame, stretch, stretch.exit, objects, values, entering=False)
    return walk.finish()
