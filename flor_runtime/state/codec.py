"""Graphs and random states as bytes: msgpack, a closed set of types, so that reading runs no code."""

from __future__ import annotations

from typing import Any

import msgpack

from flor_runtime.errors import CheckpointError
from flor_runtime.state.graph import Graph


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
    """Roots and nodes; the blobs are stored beside."""
    return pack([graph.roots, graph.nodes])


def unpack_graph(data: bytes) -> Graph:
    """What `pack_graph` wrote, without its blobs."""
    roots, nodes = unpack(data)
    return Graph(roots=roots, nodes=nodes)
