"""Capture what named roots reach, and put it back: without frames, loops and files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from flor_runtime.state.anchors import Anchors, settle
from flor_runtime.state.capture import Capture
from flor_runtime.state.codec import pack, pack_graph, unpack_graph
from flor_runtime.state.graph import Graph
from flor_runtime.state.restore import Restore, locate

Roots = dict[str, Any]


def is_project(namespace: dict[str, Any]) -> bool:
    return str(namespace.get("__name__", "")).startswith("tests.")


def survey(roots: Roots) -> Anchors:
    walk = Capture(is_project, memory=False)
    for name in roots:  # a variable for the object would count as another holder
        walk.root(f"L:{name}", roots[name])
    walk.finish()
    return Anchors(walk, ())


def capture(roots: Roots, anchors: Anchors) -> Graph:
    walk = Capture(is_project)
    for name, obj in roots.items():
        walk.root(f"L:{name}", obj)
    return settle(walk, anchors)


def stored(graph: Graph) -> tuple[Graph, list[bytes]]:
    """What a file gives back of a graph; its bytes are copied, as the live memory goes on."""
    blobs = [bytes(blob.data) for blob in graph.blobs]
    return unpack_graph(pack_graph(graph), [b.nbytes for b in graph.blobs], pack(graph.paths)), blobs


def restore(graph: Graph, blobs: list[bytes], roots: Roots) -> Roots:
    found = {f"L:{name}": obj for name, obj in roots.items()}
    for parent, key in graph.paths:
        if parent < 0 and key.startswith("G:"):
            module, _, name = key[2:].rpartition(":")
            found[key] = vars(sys.modules[module])[name]
    located = locate(graph.paths, found)
    result = Restore(graph, blobs.__getitem__, located).run()
    for key, obj in result.items():
        if key.startswith("G:"):
            module, _, name = key[2:].rpartition(":")
            vars(sys.modules[module])[name] = obj
    return {key[2:]: obj for key, obj in result.items() if key.startswith("L:")}


def replayed(make: Callable[[], Roots], block: Callable[[Roots], None]) -> tuple[Roots, Roots, Graph]:
    """(roots after the block in the recorded run, roots of a second run where it was skipped, the graph).

    `make` builds the state before the block, twice; `block` changes it.
    """
    recorded = make()
    anchors = survey(recorded)
    block(recorded)
    graph, blobs = stored(full := capture(recorded, anchors))
    graph.problems = full.problems
    again = make()
    again.update(restore(graph, blobs, again))
    return recorded, again, graph


def problems(roots: Roots, block: Callable[[Roots], None] = lambda roots: None) -> list[str]:
    anchors = survey(roots)
    block(roots)
    return capture(roots, anchors).problems


__all__ = ["problems", "replayed", "restore", "stored", "survey"]
