"""Files that have to be looked at together: a script and the modules of its project that it imports."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flor_transform.settings import Settings

#: import statements, also those in strings, as a notebook's are: one too many only means that two files are looked at
#: together
_IMPORT = re.compile(
    rb"(?:^|[\r\n;:\"]|\\n)[ \t\f]*(?:from[ \t\f]+(?P<source>\.*[\w.]*)[ \t\f]+import[ \t\f]*"
    rb"(?P<names>\([^)]*\)|(?:[^\r\n\\]|\\\r?\n)*)"
    rb"|import[ \t\f]+(?P<modules>(?:[^\r\n\\;]|\\\r?\n)*))"
)
_WORD = re.compile(rb"[\w.]+")

#: of source text that imports one another; analysis holds about a hundred times as much in memory
_MOST_BYTES = 5_000_000
#: modules that are read because others import them; who imports more has them installed
_MOST_BESIDE = 500


@dataclass(frozen=True)
class Group:
    """Files that are instrumented together. `root` is where imports begin, beside each file's own folder."""

    root: str
    settings: Settings
    #: more than can be looked at together
    is_too_large: bool = False
    #: by the path relative to `root`: the path as it was given
    members: dict[str, str] = field(default_factory=dict)


def groups(given: Mapping[str, bytes], settings: Callable[[str], Settings]) -> list[Group]:
    """The files in groups that are joined by imports, each in the order of `given`; so are the groups.

    `settings` gives those of a folder; files with different ones are not in one group.
    """
    places = {path: os.path.realpath(path) for path in given}
    roots = _roots({os.path.dirname(place) for place in places.values()})
    by_place = {place: path for path, place in places.items()}
    joined = _Union(given)
    for path, data in given.items():
        if len(given) > 1:
            folder = os.path.dirname(places[path])
            for place in _imported(data, folder, roots[folder]):
                if place in by_place:
                    joined.join(path, by_place[place])
    size: Counter[str] = Counter()
    for path, data in given.items():
        size[joined.of(path)] += len(data)
    found: dict[tuple[str, str, int], Group] = {}
    for path, place in places.items():
        folder = os.path.dirname(place)
        own = settings(folder)
        key = (roots[folder], joined.of(path), id(own))
        group = found.setdefault(key, Group(roots[folder], own, size[joined.of(path)] > _MOST_BYTES))
        local = os.path.relpath(place, group.root).replace(os.sep, "/")
        group.members[local] = path
    return list(found.values())


def _roots(folders: set[str]) -> dict[str, str]:
    """For each folder the outermost one that holds it."""
    return {
        folder: next((str(above) for above in reversed(Path(folder).parents) if str(above) in folders), folder)
        for folder in folders
    }


def _imported(data: bytes, folder: str, root: str) -> Iterator[str]:
    """Paths of the files that a file's imports can mean, whether they exist or not."""
    for match in _IMPORT.finditer(data):
        if match["modules"] is not None:
            for name in match["modules"].replace(b"\\", b" ").split(b","):
                yield from _files(name.split()[0] if name.split() else b"", (), folder, root)
        else:
            yield from _files(match["source"], _WORD.findall(match["names"]), folder, root)


def _files(name: bytes, attributes: Sequence[bytes], folder: str, root: str) -> Iterator[str]:
    text = os.fsdecode(name)
    level = len(text) - len(text.lstrip("."))
    parts = [part for part in text.split(".") if part]
    bases = [folder, root]
    if level:
        bases = [os.path.join(folder, *[".."] * (level - 1))]
    for base in bases:
        for tail in (parts, *([*parts, os.fsdecode(attribute)] for attribute in attributes)):
            stem = os.path.normpath(os.path.join(base, *tail))
            yield f"{stem}.py"
            yield os.path.join(stem, "__init__.py")


class _Union:
    """Sets that are joined."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._above = {member: member for member in members}

    def of(self, member: str) -> str:
        while self._above[member] != member:
            self._above[member] = self._above[self._above[member]]
            member = self._above[member]
        return member

    def join(self, one: str, other: str) -> None:
        self._above[self.of(one)] = self.of(other)


class Beside(dict[str, bytes]):
    """The files below a folder, read when they are asked for: only what is imported is ever opened."""

    def __init__(self, folder: str, known: Mapping[str, bytes]) -> None:
        super().__init__(known)
        self.folder = Path(folder)
        self.left = _MOST_BESIDE

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        if not isinstance(name, str) or name.startswith(("/", "..")) or "\0" in name or self.left <= 0:
            return False
        path = self.folder / name
        with contextlib.suppress(OSError):
            if path.is_file():
                self[name] = path.read_bytes()
                self.left -= 1
                return True
        return False
