"""Git objects as bytes: ids, trees, commits, and the pack stream that carries them to `git unpack-objects`.

Pure functions, no process and no file: what is hashed here is what is written. A tree made from a mapping
needs no index, so there is nothing of the user's to lock, to copy or to leave behind.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

FILE, EXECUTABLE, SYMLINK, GITLINK, FOLDER = "100644", "100755", "120000", "160000", "40000"

_PACK_TYPES = {"commit": 1, "tree": 2, "blob": 3}


class Entry(NamedTuple):
    """One path of a tree: its mode as git writes it, and the object's id in hex."""

    mode: str
    oid: str


class Object(NamedTuple):
    """An object that may have to be written; `kind` is commit, tree or blob."""

    kind: str
    oid: str
    data: bytes


def make(kind: str, data: bytes, algorithm: str) -> Object:
    """The object with its id; `algorithm` is the repository's object format, sha1 or sha256."""
    digest = hashlib.new(algorithm, b"%s %d\0" % (kind.encode(), len(data)), usedforsecurity=False)
    digest.update(data)
    return Object(kind, digest.hexdigest(), data)


def trees(entries: Mapping[str, Entry], algorithm: str) -> list[Object]:
    """All tree objects for these paths, children before parents: the root tree is the last one."""
    folders: dict[str, dict[str, Entry]] = {"": {}}
    for path, entry in entries.items():
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            _open_folder(folder, folders)
        folders[folder][name] = entry
    made = []
    for folder in sorted(folders, key=lambda path: path.count("/") + bool(path), reverse=True):
        tree = make("tree", _tree_bytes(folders[folder]), algorithm)
        made.append(tree)
        if folder:
            parent, _, name = folder.rpartition("/")
            folders[parent][name] = Entry(FOLDER, tree.oid)
    return made


def commit(
    tree: str, parents: Iterable[str], message: str, when: int, algorithm: str, who: str | None = None
) -> Object:
    """A commit under the tool's own name, if no other is given: the user may have none, and has not made this one."""
    signed = f"{who or 'flor <flor@localhost>'} {when} +0000"
    head = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {signed}", f"committer {signed}"]
    text = "\n".join([*head, "", message.rstrip("\n"), ""])
    return make("commit", text.encode("utf-8", "backslashreplace"), algorithm)


def pack(objects: Iterable[Object], algorithm: str) -> Iterator[bytes]:
    """The stream that `git unpack-objects` reads: header, each object deflated, checksum."""
    objects = list(objects)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for piece in _pack_pieces(objects):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _pack_pieces(objects: list[Object]) -> Iterator[bytes]:
    yield b"PACK" + (2).to_bytes(4, "big") + len(objects).to_bytes(4, "big")
    for item in objects:
        size = len(item.data)
        byte = _PACK_TYPES[item.kind] << 4 | size & 15
        size >>= 4
        header = bytearray()
        while size:
            header.append(byte | 128)
            byte = size & 127
            size >>= 7
        header.append(byte)
        yield bytes(header) + zlib.compress(item.data, 1)


def _open_folder(folder: str, folders: dict[str, dict[str, Entry]]) -> None:
    while folder not in folders:
        folders[folder] = {}
        folder = folder.rpartition("/")[0]


def _tree_bytes(names: Mapping[str, Entry]) -> bytes:
    lines = []
    for name, entry in names.items():
        raw = os.fsencode(name)
        # git sorts a folder as if its name ended in a slash
        key = raw + b"/" if entry.mode == FOLDER else raw
        lines.append((key, entry.mode.encode() + b" " + raw + b"\0" + bytes.fromhex(entry.oid)))
    return b"".join(line for _, line in sorted(lines))
