"""Which files the paths of a command line mean: folders are gone through, in one order, and each file comes once."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flor_transform.errors import SettingsError
from flor_transform.settings import Lookup

#: what is taken from a folder; a file that is named itself may be called anything
SUFFIXES = (".py", ".ipynb")

_GIT_SECONDS = 20.0


@dataclass(frozen=True)
class Pattern:
    """A glob: one with a slash is about paths below `base`, any other about names of files and folders."""

    glob: str
    base: str

    def matches(self, path: str) -> bool:
        """Whether an absolute path is meant; the folders above it have been asked about before."""
        glob = self.glob.rstrip("/").removesuffix("/**").removeprefix("./")
        if glob.startswith("**/") and "/" not in glob[3:]:
            glob = glob[3:]
        if "/" not in glob:
            return fnmatch.fnmatchcase(os.path.basename(path), glob)
        inside = os.path.relpath(path, self.base).replace(os.sep, "/")
        return fnmatch.fnmatchcase(inside, glob) or fnmatch.fnmatchcase(f"/{inside}", glob)


@dataclass
class Found:
    """The files of a command line, as they are to be shown, and what was passed over."""

    paths: list[str] = field(default_factory=list)
    #: those of them that were named, not found in a folder
    named: set[str] = field(default_factory=set)
    excluded: list[str] = field(default_factory=list)
    #: folders that can't be read, with the reason
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find(paths: Sequence[str], exclude: Sequence[str], lookup: Lookup, *, force_exclude: bool = False) -> Found:
    """The files that `paths` mean.

    Args:
        exclude: patterns of the command line; those of each folder's configuration count, too.
        force_exclude: they count for files that are named as well.
    """
    return _Search(exclude, lookup, force_exclude).run(paths)


def is_excluded(path: str, exclude: Sequence[str], lookup: Lookup) -> bool:
    """Whether a file that is named would be passed over in its project."""
    return _Search(exclude, lookup, True).excludes_above(os.path.realpath(path))


class _Search:
    def __init__(self, exclude: Sequence[str], lookup: Lookup, force_exclude: bool) -> None:
        self.here = str(Path.cwd())
        self.extra = tuple(Pattern(glob, self.here) for glob in exclude)
        self.lookup = lookup
        self.force_exclude = force_exclude
        self.found = Found()
        self.seen: set[str] = set()
        self.folders: set[str] = set()
        self.patterns: dict[int, tuple[Pattern, ...]] = {}

    def run(self, paths: Sequence[str]) -> Found:
        for path in paths:
            if os.path.isdir(path):
                self.folder(path, os.path.realpath(path), _ignored(path))
            elif self.force_exclude and self.excludes_above(os.path.realpath(path)):
                self.found.excluded.append(path)
            else:
                self.file(path, os.path.realpath(path), named=True)
        return self.found

    def file(self, path: str, real: str, *, named: bool) -> None:
        if real not in self.seen:
            self.seen.add(real)
            self.found.paths.append(path)
            if named:
                self.found.named.add(path)

    def folder(self, path: str, real: str, ignored: frozenset[str]) -> None:
        """Take what is in a folder: its files first, then its folders, both by name."""
        if real in self.folders:
            return
        self.folders.add(real)
        try:
            with os.scandir(path) as entries:
                members = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            self.found.unreadable.append((path, error.strerror or "can't be read"))
            return
        folders: list[tuple[str, str]] = []
        for entry in members:
            name = entry.name
            if name.startswith("."):
                continue
            inner = name if path == "." else os.path.join(path, name)
            target = os.path.realpath(inner) if entry.is_symlink() else os.path.join(real, name)
            if _is_folder(entry):
                if os.path.exists(os.path.join(inner, "pyvenv.cfg")):
                    continue
                folders.append((inner, target))
            elif not name.endswith(SUFFIXES) or not _is_file(entry):
                continue
            elif target in ignored or self.excludes(os.path.abspath(inner), os.path.join(real, name)):
                self.found.excluded.append(inner)
            else:
                self.file(inner, target, named=False)
        for inner, target in folders:
            if target in ignored or self.excludes(os.path.abspath(inner), os.path.join(real, os.path.basename(inner))):
                self.found.excluded.append(inner)
            else:
                nested = os.path.exists(os.path.join(inner, ".git"))
                self.folder(inner, target, _ignored(inner) if nested else ignored)

    def excludes(self, *paths: str) -> bool:
        patterns = (*self.extra, *self.configured(os.path.dirname(paths[-1])))
        return any(pattern.matches(path) for pattern in patterns for path in dict.fromkeys(paths))

    def excludes_above(self, path: str) -> bool:
        """Whether a file or one of the folders that it is in is excluded, as if the project had been gone through."""
        for pattern in (*self.extra, *self.configured(os.path.dirname(path))):
            inside = path.startswith(os.path.join(pattern.base, ""))
            for place in (path, *map(str, Path(path).parents)) if inside else (path,):
                if place == pattern.base:
                    break
                if pattern.matches(place):
                    return True
        return False

    def configured(self, folder: str) -> tuple[Pattern, ...]:
        try:
            configuration = self.lookup.of(folder)
        except SettingsError:  # said where a file of that folder is worked on
            return ()
        if id(configuration) not in self.patterns:
            base = configuration.folder or self.here
            globs = (*configuration.settings.exclude, *configuration.settings.extend_exclude)
            self.patterns[id(configuration)] = tuple(Pattern(glob, base) for glob in globs)
        return self.patterns[id(configuration)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it can be read as a file: opening a pipe or a device would wait, or worse."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _ignored(folder: str) -> frozenset[str]:
    """What git ignores below a folder, by real path; nothing where there is no repository, or no git that answers."""
    real = os.path.realpath(folder)
    if not any(os.path.exists(os.path.join(parent, ".git")) for parent in (real, *map(str, Path(real).parents))):
        return frozenset()
    import subprocess

    # What the repository's own settings could run is switched off.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "ls-files", "-z", "--others"]
    command += ["--ignored", "--exclude-standard", "--directory"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=real,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    names = (os.fsdecode(name).rstrip("/") for name in done.stdout.split(b"\0") if name)
    return frozenset(os.path.join(real, name) for name in names)
