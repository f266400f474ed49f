"""What a state was, to compare it and not to restore it: its graph, and of each tensor the digest; a few kilobytes.

All of a run are in one file, one behind the other; the line of the index says where one is, and is written after it.
The file stays when checkpoints are dropped.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path

import xxhash

from flor_runtime.errors import CheckpointError
from flor_runtime.state import codec
from flor_runtime.state.graph import Graph
from flor_runtime.store import plainfiles
from flor_runtime.store.handles import Handle

NAME = "states"

_LARGEST = 4 << 20  # bytes of one that is kept, packed
_MOST = 64 << 20  # bytes of the file
_DIGEST = 16  # bytes

#: Where one is: [offset, length, digest].
Place = list[object]


class States:
    """Writes the file of a run in progress; the methods are for several threads.

    Raises:
        OSError: the disk is full or gone.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._handle: Handle | None = None
        self._end = 0
        self._lock = threading.Lock()
        self._synced = 0

    def add(self, graph: Graph, digests: list[str]) -> Place | None:
        """Keep a state; None: it is too large, or there are too many.

        Args:
            digests: of the graph's blobs.
        """
        packed = pack(graph, digests)
        data = zlib.compress(packed, 1) if len(packed) <= _LARGEST else b""
        if not data or self._end + len(data) > _MOST:
            return None
        with self._lock:
            if self._handle is None:
                self._handle = Handle(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            at = self._end
            self._end += len(data)
            if os.write(self._handle.fileno(), data) != len(data):
                raise OSError(28, "a state could not be written whole")
        return [at, len(data), xxhash.xxh3_128_hexdigest(data)]

    def sync(self) -> None:
        """Have it on the disk."""
        if self._handle is not None and self._synced < self._end:
            end = self._end
            os.fsync(self._handle.fileno())
            self._synced = end

    def close(self) -> None:
        """Let the file go."""
        if self._handle is not None:
            self._handle.close()


def pack(graph: Graph, digests: list[str]) -> bytes:
    """A state as bytes."""
    nothing = [-1] * len(graph.blobs)
    lengths = [blob.nbytes for blob in graph.blobs]
    parts = [graph.roots, graph.nodes, [-1] * len(graph.nodes), nothing, graph.unbound]
    return codec.pack([codec.pack(parts), lengths, bytes.fromhex("".join(digests))])


def read(folder: Path, place: Place) -> tuple[Graph, list[str]]:
    """(graph without bytes, digest of each of its blobs) of a state.

    Raises:
        CheckpointError: it is damaged or missing.
    """
    offset, length, digest = place
    assert isinstance(offset, int) and isinstance(length, int)
    try:
        with plainfiles.opened(folder / NAME) as file:
            data = os.pread(file.fileno(), min(length, _MOST), offset)
    except OSError as error:
        raise CheckpointError(f"{NAME}: {error.strerror or error}") from None
    if len(data) != length or xxhash.xxh3_128_hexdigest(data) != digest:
        raise CheckpointError(f"{NAME} is damaged")
    whole = codec.unpack(_unpacked(data))
    if type(whole) is not list or list(map(type, whole)) != [bytes, list, bytes]:
        raise CheckpointError("a state that does not hold together")
    packed, lengths, digests = whole
    if len(digests) != _DIGEST * len(lengths) or not all(type(n) is int and n >= 0 for n in lengths):
        raise CheckpointError("a state that does not hold together")
    graph = codec.unpack_graph(packed, lengths, _NO_PATHS)
    return graph, [digests[at : at + _DIGEST].hex() for at in range(0, len(digests), _DIGEST)]


_NO_PATHS = codec.pack([])


def _unpacked(data: bytes) -> bytes:
    """A few bytes may stand for very many: no more than one can have."""
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(data, _LARGEST)
    except zlib.error as error:
        raise CheckpointError(f"a state can't be read: {error}") from None
    if not reader.eof or reader.unused_data:
        raise CheckpointError("a state that does not hold together")
    return found
