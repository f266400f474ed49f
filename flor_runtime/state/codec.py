"""Graphs and random states as bytes: msgpack, a closed set of types, so that reading runs no code."""

from __future__ import annotations

from typing import Any

import msgpack

from flor_runtime.errors import CheckpointError
from flor_runtime.state import wellformed
from flor_runtime.state.graph import Blob, Graph, Step


def pack(data: Any) -> bytes:
    """Plain data (None, bool, int, float, str, bytes, list, dict) as bytes; floats keep their bits."""
    return msgpack.packb(data, use_bin_type=True, unicode_errors="surrogatepass")  # type: ignore[no-any-return]


def unpack(data: bytes) -> Any:
    """What `pack` wrote.

    Raises:
        CheckpointError: the bytes are not a complete message.
    """
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogatepass", use_list=True)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise CheckpointError(f"a checkpoint can't be read: {error}") from None


def pack_graph(graph: Graph) -> bytes:
    """All of a graph but its blobs and paths, which are stored beside: many checkpoints have the same."""
    return pack([graph.roots, graph.nodes, graph.origins, graph.storages, graph.unbound])


def unpack_graph(data: bytes, lengths: list[int], paths: bytes, *, foreign: bool = True) -> Graph:
    """What `pack_graph` wrote; `lengths` are those of the blobs.

    Args:
        foreign: nothing tells that this user wrote it.

    Raises:
        CheckpointError: it does not hold together.
    """
    parts = unpack(data)
    if type(parts) is not list or len(parts) != 5:
        raise CheckpointError("a checkpoint that does not hold together: no graph")
    roots, nodes, origins, storages, unbound = parts
    blobs = [Blob(nbytes) for nbytes in lengths]
    graph = Graph(roots, nodes, blobs, origins, storages, unpack(paths), unbound, len(lengths), foreign=foreign)
    if foreign:
        wellformed.check(graph)
    return graph


def unpack_paths(data: bytes) -> list[tuple[int, Step]]:
    """The paths of a graph alone.

    Raises:
        CheckpointError: they do not hold together.
    """
    paths: list[tuple[int, Step]] = unpack(data)
    wellformed.check_paths(paths)
    return paths
