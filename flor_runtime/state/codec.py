"""Graphs and random states as bytes: msgpack, a closed set of types, so that reading runs no code."""

from __future__ import annotations

from typing import Any

import msgpack

from flor_runtime.errors import CheckpointError
from flor_runtime.state.graph import Blob, Graph


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
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise CheckpointError(f"a checkpoint can't be read: {error}") from None


def pack_graph(graph: Graph) -> bytes:
    """All of a graph but its blobs and paths, which are stored beside: many checkpoints have the same."""
    return pack([graph.roots, graph.nodes, graph.origins, graph.storages, graph.unbound])


def unpack_graph(data: bytes, lengths: list[int], paths: bytes) -> Graph:
    """What `pack_graph` wrote; `lengths` are those of the blobs."""
    roots, nodes, origins, storages, unbound = unpack(data)
    return Graph(
        roots,
        nodes,
        [Blob(nbytes) for nbytes in lengths],
        origins,
        storages,
        unpack(paths),
        unbound,
        len(lengths),
    )
