"""Whether a graph that was read holds together: every number in it leads to something that is there.

What its nodes say is looked at by who uses them (`state/restore.py`), where the live objects are at hand.
"""

from __future__ import annotations

import math
from typing import Any

from flor_runtime.errors import CheckpointError
from flor_runtime.state.graph import Graph, edges


def check(graph: Graph) -> None:
    """See to it that a graph can be walked.

    Raises:
        CheckpointError: it can't.
    """
    try:
        check_paths(graph.paths)
        _check(graph)
    except CheckpointError:
        raise
    except Exception as error:  # a number where there should be a list, and the like
        raise CheckpointError(f"a checkpoint that does not hold together: {error}") from None


def check_paths(paths: Any) -> None:
    """See to it that each path continues one that is before it.

    Raises:
        CheckpointError: it does not.
    """
    _demand(type(paths) is list, "paths")
    for n, path in enumerate(paths):
        _demand(type(path) is list and len(path) == 2, "a path")
        parent, step = path
        _demand(type(parent) is int and -1 <= parent < n, "a path from nowhere")
        if parent < 0:
            _demand(type(step) is str, "a root")
        elif type(step) is list:
            _demand(len(step) == 2 and type(step[0]) is str and type(step[1]) is not list, "a step")
        else:
            _demand(type(step) in (int, str), "a step")


def _check(graph: Graph) -> None:
    count, places = len(graph.nodes), len(graph.paths)
    _demand(type(graph.nodes) is list and type(graph.roots) is dict and type(graph.unbound) is list, "a graph")
    _demand(all(type(name) is str for name in (*graph.roots, *graph.unbound)), "a name")
    for numbers, length in ((graph.origins, count), (graph.storages, len(graph.blobs))):
        _demand(type(numbers) is list and len(numbers) == length, "a list")
        _demand(all(type(place) is int and -1 <= place < places for place in numbers), "a place")
    for value in graph.roots.values():
        _demand(type(value) is not list or (len(value) == 1 and _within(value[0], count)), "a root")
    for node in graph.nodes:
        _demand(type(node) is list and bool(node) and type(node[0]) is str, "a node")
        _demand(all(_within(child, count) for _, child in edges(node)), "a node")
        if node[0] in ("tensor", "array", "jax"):
            _demand(_within(node[1], len(graph.blobs)), "a blob")
        elif node[0] == "objects":
            _demand(is_shape(node[2]) and math.prod(node[2]) == len(node[1]), "a shape")


def is_shape(value: Any) -> bool:
    """True for a list of lengths, as many as an array may have."""
    return type(value) is list and len(value) <= 64 and all(_within(length, 1 << 62) for length in value)


def fits(shape: Any, steps: Any, start: Any, nbytes: int) -> bool:
    """True if an array lies within its memory.

    Args:
        steps: from one element to the next, in bytes, for each dimension, and last the length of an element.
    """
    numbers = (*steps, start) if type(steps) is list and len(steps) == len(shape) + 1 else (None,)
    if not is_shape(shape) or not all(type(number) is int for number in numbers) or start < 0:
        return False
    if not math.prod(shape):
        return True
    spans = [(length - 1) * step for length, step in zip(shape, steps[:-1], strict=True)]
    low, high = sum(span for span in spans if span < 0), sum(span for span in spans if span > 0)
    return bool(start + low >= 0 and start + high + steps[-1] <= nbytes)


def _within(number: Any, count: int) -> bool:
    return type(number) is int and 0 <= number < count


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise CheckpointError(f"a checkpoint that does not hold together: {what}")
