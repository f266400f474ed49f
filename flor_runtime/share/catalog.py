"""Trees and blobs of a repository, from one `git cat-file --batch`. What is read may be anybody's: it is checked."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from flor_runtime.gitcalls import GitFailed, start
from flor_runtime.gitobjects import FOLDER, Entry

_MOST_TREE = 64 << 20  # bytes of one folder
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Found(NamedTuple):
    """An object: its kind and id, and its bytes, None if there are more than were asked for."""

    kind: str
    oid: str
    size: int
    data: bytes | None


class Catalog:
    """Reads objects by id or by `<commit>:<path>`. Use as a context manager."""

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._begin()

    def _begin(self) -> None:
        self._process = start(["cat-file", "--batch"], git_dir=self._repo, stdin=True)

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.stdout.close()
        self._process.stderr.close()
        self._process.wait()

    def get(self, name: str, most: int) -> Found | None:
        """The object; None if there is none.

        Args:
            most: a larger one is passed over, with its size.

        Raises:
            GitFailed: git went away.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if "\n" in name:
            return None
        try:
            self._process.stdin.write(name.encode("utf-8", "surrogateescape") + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise GitFailed(f"git cat-file: {error}") from error
        head = self._process.stdout.readline()
        parts = head.decode("utf-8", "replace").split()
        if head.rstrip().endswith((b" missing", b" ambiguous")) or len(parts) != 3:
            if not head:  # in a partial clone git would fetch it, is not allowed to, and gives up
                self._end()
                self._begin()
            return None
        size = int(parts[2])
        if size <= most:
            data = self._process.stdout.read(size + 1)
            if len(data) != size + 1:
                raise GitFailed(f"object {parts[0]} is cut short")
            return Found(parts[1], parts[0], size, data[:-1])
        left = size + 1
        while left:
            left -= len(self._process.stdout.read(min(left, 1 << 20)) or b"x" * left)
        return Found(parts[1], parts[0], size, None)

    def folder(self, name: str) -> dict[str, Entry] | None:
        """The entries of a tree, by name; None if there is none."""
        found = self.get(name, _MOST_TREE)
        if found is None or found.kind != "tree" or found.data is None:
            return None
        return dict(_entries(found.data, len(found.oid) // 2))

    def walk(self, tree: str, depth: int = 40) -> Iterator[tuple[str, Entry]]:
        """All files below a tree, with their paths."""
        for name, entry in (self.folder(tree) or {}).items():
            if entry.mode != FOLDER:
                yield name, entry
            elif depth:
                for path, below in self.walk(entry.oid, depth - 1):
                    yield f"{name}/{path}", below


def _entries(data: bytes, width: int) -> Iterator[tuple[str, Entry]]:
    position = 0
    while position < len(data):
        space, zero = data.find(b" ", position), data.find(b"\0", position)
        if space < 0 or not space < zero or zero + 1 + width > len(data):
            raise GitFailed("a folder that can't be read")
        name = data[space + 1 : zero].decode("utf-8", "surrogateescape")
        yield name, Entry(data[position:space].decode("ascii", "replace"), data[zero + 1 : zero + 1 + width].hex())
        position = zero + 1 + width
