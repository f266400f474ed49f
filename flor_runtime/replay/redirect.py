"""What Python code calls to reach files, with its paths put through the overlay.

Each replacement has the signature and the errors of what it stands for, takes the same kinds of path (text, bytes,
path-like, descriptors) and leaves alone what isn't a path. A link of the overlay looks like the file that it stands
for: `lstat`, `scandir` and what is built on them see the user's file, not our link.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import io
import os
import posix
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from types import ModuleType
from typing import Any, cast

from flor_runtime.replay.overlay import Overlay

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TEMPFILE = getattr(os, "O_TMPFILE", 0)

#: `on` while the guard itself acts, in this thread; `tree` while a tree is removed.
busy = threading.local()


@contextlib.contextmanager
def known(on: bool = True) -> Iterator[None]:
    """While the guard itself acts on a path that it has chosen, the audit hook has nothing to say."""
    before = getattr(busy, "on", False)
    busy.on = on
    try:
        yield
    finally:
        busy.on = before


class _Call:
    """A function put in the place of a built-in one. Like that, it doesn't bind when it is a class attribute."""

    def __init__(self, original: Callable[..., Any], does: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self._does = does

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._does(*args, **kwargs)

    def __reduce__(self) -> str:
        return cast(str, self.__name__)  # type: ignore[attr-defined]


#: Of `os`: what starts other programs (`children`).
STARTING = ("system", "execv", "execve", "posix_spawn", "posix_spawnp")

_FOLLOWING = ("truncate", "chmod", "chown", "utime", "setxattr", "removexattr")
_LOOKING = ("listxattr", "getxattr", "statvfs", "pathconf")
_NOT_FOLLOWING = ("lchown", "mkfifo", "mknod")


class Calls:
    """The replacements, by the name of what they replace."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay

    def swaps(self) -> dict[tuple[str, str], _Call]:
        """(module, name) -> replacement."""
        made = {("builtins", "open"): _Call(open, self.open)}
        made["os", "open"] = _Call(posix.open, self.open_fd)
        for name in ("stat", "lstat", "access", "listdir", "scandir", "readlink", "chdir", "mkdir"):
            made["os", name] = _Call(getattr(posix, name), getattr(self, name))
        for name in ("rename", "replace", "link", "symlink", "remove", "unlink", "rmdir"):
            made["os", name] = _Call(getattr(posix, name), getattr(self, name))
        for name in (*_FOLLOWING, *_NOT_FOLLOWING):
            if original := getattr(posix, name, None):
                does = functools.partial(self.by_path, original, name in _FOLLOWING)
                made["os", name] = _Call(original, does)
        for name in _LOOKING:
            if original := getattr(posix, name, None):
                made["os", name] = _Call(original, functools.partial(self.by_look, original))
        made["shutil", "rmtree"] = _Call(shutil.rmtree, functools.partial(self.rmtree, shutil.rmtree))
        return made

    # every function below has the signature of the one that it stands for

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        rest = (mode, buffering, encoding, errors, newline, closefd)
        path = text_of(file)
        if path is None or not isinstance(mode, str):
            return _open(file, *rest, opener)
        if opener is not None:  # what it opens is its own affair, and may be looked at

            def opens(name: Any, flags: int) -> int:
                with known(False):
                    return int(opener(name, flags))

            with known():
                return _open(file, *rest, opens)
        target = self._target(path, mode)
        if target == path:
            return _open(file, *rest, opener)

        def there(_: Any, flags: int) -> int:
            with _as_given(file):
                return posix.open(target, flags, 0o666)

        with known():  # the file keeps the name that it was opened by
            return _open(file, *rest, there)

    def _target(self, path: str, mode: str) -> str:
        with _as_given(path):
            if not set(mode).isdisjoint("wax+"):
                target = self.overlay.for_write(path, keep="w" not in mode, follow="x" not in mode)
                if "w" in mode or "x" in mode:
                    self.overlay.reads.begun(target)
                elif "+" in mode:
                    self.overlay.note_read(target)
                return target
            return self._read(path)

    def _read(self, path: str) -> str:
        target = self.overlay.for_read(path)
        self.overlay.note_read(target)
        return target

    def os_open(self, path: str, flags: int) -> str:
        """Where `os.open` with these flags goes."""
        if _TEMPFILE and flags & _TEMPFILE == _TEMPFILE:
            return self.overlay.for_folder(path)
        if flags & WRITE_FLAGS:
            only_new = flags & os.O_CREAT and flags & os.O_EXCL
            target = self.overlay.for_write(path, keep=not flags & os.O_TRUNC, follow=not only_new)
            if only_new or flags & os.O_TRUNC:
                self.overlay.reads.begun(target)
            elif flags & os.O_RDWR:
                self.overlay.note_read(target)
            return target
        target = self._read(path)
        if flags & os.O_NOFOLLOW:
            return self.overlay.outer(self._whole(target)) or target
        return target

    def open_fd(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        at = text_of(path, dir_fd)
        if at is None:
            return posix.open(path, flags, mode, dir_fd=dir_fd)
        with _as_given(path):
            target = self.os_open(at, flags)
            with known():
                return posix.open(target, flags, mode)

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        at = text_of(path)
        if at is None or dir_fd is not None:
            return posix.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        with _as_given(path):
            target = self.overlay.for_read(at)
            if not follow_symlinks:
                target = self.overlay.outer(self._whole(target)) or target
            try:
                found = posix.stat(target, follow_symlinks=follow_symlinks)
            except OSError:
                self.overlay.reads.look(target, False)
                raise
            self.overlay.reads.look(target, True)
            return found

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def access(
        self,
        path: Any,
        mode: int,
        *,
        dir_fd: int | None = None,
        effective_ids: bool = False,
        follow_symlinks: bool = True,
    ) -> bool:
        at = text_of(path)
        target = path if at is None or dir_fd is not None else self.overlay.for_read(at)
        can = posix.access(target, mode, dir_fd=dir_fd, effective_ids=effective_ids, follow_symlinks=follow_symlinks)
        if isinstance(target, str):
            self.overlay.reads.look(target, can)
        return can

    def listdir(self, path: Any = None) -> Any:
        at = text_of(path)
        if at is None:
            return posix.listdir(path)
        with _as_given(path):
            target = self.overlay.for_read(at)
            self.overlay.reads.look(target, True, listed=True)
            return posix.listdir(os.fsencode(target) if isinstance(path, bytes) else target)

    def scandir(self, path: Any = None) -> Any:
        at = "." if path is None else text_of(path)
        if at is None:
            return posix.scandir(path)
        with _as_given(at if path is None else path):
            target = self.overlay.for_read(at)
            self.overlay.reads.look(target, True, listed=True)
            plain = posix.scandir(os.fsencode(target) if isinstance(path, bytes) else target)
        whole = self._whole(target)
        if target == at and not self.overlay.inside(whole):
            return plain
        return _Scan(plain, self.overlay, whole, None if target == at else at)

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        at = text_of(path)
        if at is None or dir_fd is not None:
            return posix.readlink(path, dir_fd=dir_fd)
        with _as_given(path):
            target = self.overlay.for_read(at)
            target = posix.readlink(self.overlay.outer(self._whole(target)) or target)
            target = self.overlay.lower(target) if self.overlay.inside(target) else target
            return os.fsencode(target) if isinstance(path, bytes) else target

    def chdir(self, path: Any) -> None:
        at = text_of(path)
        if at is None:
            posix.chdir(path)
            return
        with _as_given(path):
            posix.chdir(self.overlay.for_folder(at))

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self.by_path(posix.mkdir, False, path, mode, dir_fd=dir_fd)

    def by_path(
        self,
        original: Callable[..., Any],
        follow: bool,
        path: Any,
        *args: Any,
        dir_fd: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """A function that changes what its first argument names."""
        at = text_of(path, dir_fd)
        if at is None:
            return original(path, *args, **kwargs, **({} if dir_fd is None else {"dir_fd": dir_fd}))
        with _as_given(path):
            follow = follow and kwargs.get("follow_symlinks", True)
            target = self.overlay.for_write(at, follow=follow)
            with known():
                return original(target, *args, **kwargs)

    def by_look(self, original: Callable[..., Any], path: Any, *args: Any, **kwargs: Any) -> Any:
        """A function that asks about what its first argument names."""
        at = text_of(path)
        if at is None:
            return original(path, *args, **kwargs)
        with _as_given(path):
            return original(self.overlay.for_read(at), *args, **kwargs)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        at = text_of(path, dir_fd)
        if at is None:
            posix.unlink(path, dir_fd=dir_fd)
            return
        with _as_given(path):
            target = self.overlay.for_write(at, follow=False)
            outer = self.overlay.outer(target)
            if outer is not None and _is_folder(outer) and not getattr(busy, "tree", False):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            with known():
                posix.unlink(target)

    remove = unlink

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        at = text_of(path, dir_fd)
        if at is None:
            posix.rmdir(path, dir_fd=dir_fd)
            return
        with _as_given(path), known():
            posix.rmdir(self.overlay.for_folder(at))

    def rmtree(self, original: Callable[..., None], path: Any, *args: Any, **kwargs: Any) -> None:
        at = text_of(path, kwargs.get("dir_fd"))
        if at is None:
            original(path, *args, **kwargs)
            return
        kwargs.pop("dir_fd", None)
        with contextlib.suppress(OSError):  # what is wrong with the path, rmtree finds out by itself
            at = self.overlay.for_folder(at)
        busy.tree = True  # it sees our links as links
        try:
            original(at, *args, **kwargs)
        finally:
            busy.tree = False

    def rename(self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        source, target = text_of(src, src_dir_fd), text_of(dst, dst_dir_fd)
        if source is None or target is None:
            posix.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return
        with _as_given(src, dst), known():
            source, target = self._movable(source), self._movable(target)
            if self.overlay.outer(source) is not None and not self.overlay.inside(target):
                source = self.overlay.for_write(source)
            try:
                posix.rename(source, target)
            except OSError as error:
                # the workspace may be on another disk than the temporary folder, where these were on one
                if error.errno != errno.EXDEV or _is_folder(source):
                    raise
                aside = f"{target}.flor-{posix.getpid()}"
                shutil.copy2(source, aside)
                posix.rename(aside, target)
                posix.unlink(source)
            self.overlay.reads.moved(source, target)

    replace = rename

    def _movable(self, path: str) -> str:
        place = self.overlay.for_write(path, follow=False)
        outer = self.overlay.outer(place)
        return self.overlay.for_folder(place) if outer is not None and _is_folder(outer) else place

    def link(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        source, target = text_of(src, src_dir_fd), text_of(dst, dst_dir_fd)
        if source is None or target is None:
            posix.link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
            return
        with _as_given(src, dst), known():
            source = self.overlay.for_write(source)
            posix.link(source, self.overlay.for_write(target, follow=False), follow_symlinks=follow_symlinks)

    def symlink(self, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
        target = text_of(dst, dir_fd)
        if target is None:
            posix.symlink(src, dst, target_is_directory, dir_fd=dir_fd)
            return
        with _as_given(src, dst), known():
            place = self.overlay.for_write(target, follow=False)
            posix.symlink(self._led_to(text_of(src), place) or src, place, target_is_directory)

    def _led_to(self, target: str | None, place: str) -> str | None:
        """Where a link in the mirror leads instead of an absolute path of the user's."""
        if target is None or not target.startswith("/") or not self.overlay.inside(place):
            return None
        return self.overlay.mirrored(target)

    @staticmethod
    def _whole(path: str) -> str:
        return path if path.startswith("/") else f"{posix.getcwd()}/{path}"


class _Scan:
    """What `os.scandir` gives, with the overlay's links shown as what they stand for."""

    def __init__(self, plain: Any, overlay: Overlay, folder: str, given: str | None) -> None:
        self._plain, self._overlay, self._folder, self._given = plain, overlay, folder, given

    def __iter__(self) -> _Scan:
        return self

    def __next__(self) -> Any:
        entry = next(self._plain)
        name = os.fsdecode(entry.name)
        outer = self._overlay.outer(f"{self._folder}/{name}") if entry.is_symlink() else None
        if outer is None and self._given is None:
            return entry
        path = entry.path
        if self._given is not None:
            path = f"{self._given.rstrip('/')}/{name}"
            path = os.fsencode(path) if isinstance(entry.name, bytes) else path
        return _Entry(entry.name, path, outer or f"{self._folder}/{name}")

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._plain.close()


class _Entry:
    """An `os.DirEntry` whose file is elsewhere than its path says."""

    def __init__(self, name: Any, path: Any, real: str) -> None:
        self.name, self.path, self._real = name, path, real

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return posix.stat(self._real, follow_symlinks=follow_symlinks)

    def _is(self, kind: Callable[[int], bool], follow: bool) -> bool:
        try:
            return kind(self.stat(follow_symlinks=follow).st_mode)
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(stat.S_ISLNK, False)

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino


_open = io.open


def text_of(path: Any, dir_fd: int | None = None) -> str | None:
    """The path as text; None for what isn't one (a descriptor, nonsense): the original knows what to say."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    text = os.fsdecode(path)
    if not text or "\0" in text:
        return None
    if dir_fd is not None and not text.startswith("/"):
        return f"{posix.readlink(f'/proc/self/fd/{dir_fd}')}/{text}"
    return text


@contextlib.contextmanager
def _as_given(name: Any, other: Any = None) -> Iterator[None]:
    """An error names the path that the script gave."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not isinstance(name, int):
            error.filename = name if isinstance(name, (str, bytes)) else os.fspath(name)
            if error.filename2 is not None and other is not None:
                error.filename2 = other if isinstance(other, (str, bytes)) else os.fspath(other)
        raise


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(posix.lstat(path).st_mode)
    except OSError:
        return False


def swap(swaps: Mapping[tuple[str, str], Callable[..., Any]]) -> None:
    """Put the replacements in, also where a module that is loaded already has its own name for an original."""
    originals: dict[int, _Call] = {}
    for (module, name), given in swaps.items():
        call = given if isinstance(given, _Call) else _Call(getattr(sys.modules[module], name), given)
        originals[id(getattr(sys.modules[module], name))] = call
        for group in ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids"):
            members = getattr(os, group)
            if getattr(sys.modules[module], name) in members:
                members.add(call)
    for module_name, loaded in list(sys.modules.items()):
        known = _surveyed.get(module_name)
        names, owners = known[1:] if known and known[0] is loaded else _holders(module_name, loaded, originals)
        for name in names:
            if (replacement := originals.get(id(vars(loaded).get(name)))) is not None:
                setattr(loaded, name, replacement)
        for owner in owners:
            _swap_members(owner, originals)
    openers = getattr(sys.modules.get("numpy.lib._datasource"), "_file_openers", None)
    table = getattr(openers, "_file_openers", None)
    if isinstance(table, dict) and None in table:
        table[None] = builtins.open


_surveyed: dict[str, tuple[Any, list[str], list[type]]] = {}


def survey() -> None:
    """Look through the modules that are loaded by now, for the forks of this process: `swap` takes as long for the
    others only."""
    swapped = [*Calls(Overlay("/nowhere")).swaps(), *(("os", name) for name in STARTING)]
    originals = {id(getattr(sys.modules[module], name)) for module, name in swapped}
    for name, loaded in list(sys.modules.items()):
        _surveyed[name] = loaded, *_holders(name, loaded, originals)


def _holders(module_name: str, loaded: Any, originals: Container[int]) -> tuple[list[str], list[type]]:
    """The names in a module that stand for originals, and the classes of the standard library that hold some."""
    if module_name in ("posix", __name__, Overlay.__module__) or module_name.startswith("importlib"):
        return [], []
    if not isinstance(loaded, ModuleType) or module_name == "_frozen_importlib_external":
        return [], []
    standard = module_name.partition(".")[0] in sys.stdlib_module_names
    names, owners = [], []
    for name, value in list(vars(loaded).items()):
        if id(value) in originals:
            names.append(name)
        elif standard and issubclass(type(value), type):
            held = [member.__func__ for member in list(vars(value).values()) if isinstance(member, staticmethod)]
            if any(id(function) in originals for function in held):
                owners.append(value)
    return names, owners


def _swap_members(owner: type, originals: Mapping[int, _Call]) -> None:
    """The same for functions that a class holds, as `glob` of Python 3.13 does."""
    for name, held in list(vars(owner).items()):
        if isinstance(held, staticmethod) and (replacement := originals.get(id(held.__func__))) is not None:
            with contextlib.suppress(TypeError):
                setattr(owner, name, staticmethod(replacement))
