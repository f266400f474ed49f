"""Where a path leads during a replay: a private mirror of the file system, filled as far as it is needed.

The mirror `upper` is a folder in which `upper/home/u/project` stands for `/home/u/project`. What is real in
it belongs to the replay; everything else is a link to the user's own file or folder (an *outer* link:
absolute, and its target is outside). Reading follows it. Writing breaks it first, at the place where it
stands: a file is copied, or dropped if it is overwritten anyway; a folder becomes a real one, full of links.
So whatever opens a file by itself, in C++ or in another process, finds the data at the same relative paths.

A real folder in the mirror speaks for its user's counterpart: what is missing in it was deleted. Folders that
were too large to fill have the sticky bit set: there, what is missing is looked up at the user's.

This module works below the guard: it calls `posix`, whose functions are never replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import posix
import shutil
import stat
import sysconfig
from collections.abc import Iterator, Sequence

from flor_runtime.replay.reads import Reads

PARTIAL = stat.S_ISVTX
_PASS = ("/dev/", "/proc/", "/sys/")
_MAX_LINKS = 40
_HERE, _RENAME_EXCHANGE = -100, 2


class Overlay:
    """The mirror at `upper`; paths under one of `allowed` are the replay's own and are left alone.

    `protected` are folders in which nothing is allowed, though they lie under an allowed one (a project in
    the temporary folder).
    """

    def __init__(
        self, upper: str, allowed: Sequence[str] = (), protected: Sequence[str] = (), fill: int = 20_000
    ) -> None:
        self.upper = upper
        self._roots = {upper: True} | dict.fromkeys(protected, False) | dict.fromkeys(allowed, True)
        self._fill = fill
        self.reads = Reads(upper, f"{upper}.reads")
        # Libraries are read where they are installed: importing one looks at thousands of paths.
        self._as_they_are = _PASS + tuple({f"{sysconfig.get_path(kind)}/" for kind in ("stdlib", "purelib", "platlib")})

    # -- questions

    def inside(self, path: str) -> bool:
        """Whether the path is in the mirror."""
        return path == self.upper or path.startswith(self.upper + "/")

    def free(self, path: str) -> bool:
        """Whether the replay may write there: the nearest folder that says so decides."""
        if path.startswith(_PASS):
            return True
        at = path
        while at:
            if at in self._roots:
                return self._roots[at]
            at = at.rpartition("/")[0]
        return False

    def outer(self, path: str) -> str | None:
        """The user's file that a link in the mirror stands for; None if the path is no such link."""
        try:
            target = posix.readlink(path)
        except OSError:
            return None
        if target.startswith("/") and self.inside(path) and not self.inside(target) and not self.free(target):
            return target
        return None

    def lower(self, path: str) -> str:
        """The user's counterpart of a path in the mirror."""
        return path[len(self.upper) :] or "/"

    # -- reading

    def for_read(self, path: str) -> str:
        """The path to read from: the replay's own file if there is one, else the path as it is."""
        if path.startswith(self._as_they_are):
            return path
        absolute = path if path.startswith("/") else f"{posix.getcwd()}/{path}"
        if self.inside(absolute):
            if _exists(path):
                return path
            found = self._parent_of(absolute)
            return self.lower(found) if self.inside(found) and self._unknown(found) else path
        real = self._parent_of(absolute)
        if self.free(real):
            return path
        mirrored = self._parent_of(self.upper + real)
        if not self.inside(mirrored) or self.outer(mirrored) == real:
            return path
        if _lexists(mirrored):
            return mirrored
        return path if self._unknown(mirrored) else mirrored

    def note_read(self, path: str) -> None:
        """Take notice of a file that is read."""
        self.reads.content(path, resolve)

    def _unknown(self, mirrored: str) -> bool:
        """Whether the mirror can't tell if the missing path exists."""
        at = mirrored
        while at := at.rpartition("/")[0]:
            try:
                return bool(posix.lstat(at).st_mode & PARTIAL)
            except OSError:
                continue
        return True

    # -- writing

    def for_write(self, path: str, *, keep: bool = True, follow: bool = True) -> str:
        """The path to write to, with everything on the way to it real.

        A file that is written to (`follow`) is copied if its content matters (`keep`). For what acts on the
        name itself (rename, remove, create only), give `follow=False`: the last part is left as it is.
        """
        if path.startswith(_PASS):
            return path
        for _ in range(_MAX_LINKS):
            place = self._place(path)
            if place is None:
                return path
            if not follow or not _islink(place):
                return place
            if (target := self.outer(place)) is not None:
                self._break(place, target, keep)
                return place
            path = _join(place.rpartition("/")[0], posix.readlink(place))
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def for_folder(self, path: str) -> str:
        """The same for a folder as a whole: it becomes a real one, if it is a folder at all."""
        place = self._place(path)
        if place is None:
            return path
        target = self.outer(place)
        if target is not None and _isdir(target):
            self._fill_link(place, target)
        return place

    def _place(self, path: str) -> str | None:
        """Where in the mirror the path is, its folder real; None if the replay may write to it as it is."""
        absolute = _join(posix.getcwd(), path)
        if not self.inside(absolute):
            real = self._parent_of(absolute)
            if self.inside(real):
                absolute = real
            elif self.free(real):
                # the name itself may be a link to somewhere else: for_write looks at it
                return real if _islink(real) else None
            else:
                absolute = self.upper + real
        rest = absolute[len(self.upper) :].split("/")[::-1]
        at = self.upper
        for _ in range(10_000):
            if not rest:
                return at
            name = rest.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = at.rpartition("/")[0] if at != self.upper else at
                continue
            step = f"{at}/{name}"
            if not any(part not in ("", ".") for part in rest):
                return step
            try:
                target = posix.readlink(step)
            except FileNotFoundError:
                self._complete(step)
                at = step
                continue
            except OSError:
                at = step
                continue
            if (outer := self.outer(step)) is not None:
                if not _isdir(outer):
                    return f"{step}/{'/'.join(reversed(rest))}"  # fails as it would have: not a folder
                self._fill_link(step, outer)
                at = step
                continue
            whole = _join(at, target)
            if not self.inside(whole):
                return self._place("/".join([whole, *reversed(rest)]))
            rest += whole[len(self.upper) :].split("/")[::-1]
            at = self.upper
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _complete(self, step: str) -> None:
        """Make a folder that is missing only because its parent wasn't filled."""
        lower = self.lower(step)
        if self._unknown(step) and _isdir(lower):
            with self._alone():
                self.make_folder(step, lower)

    def _break(self, place: str, target: str, keep: bool) -> None:
        if _isdir(target):
            self._fill_link(place, target)
        elif not _exists(target):
            posix.unlink(place)
        else:
            with self._alone():
                if _islink(place):
                    aside = f"{place}.flor-{posix.getpid()}"
                    _copy(target, aside, keep)
                    posix.rename(aside, place)

    def _fill_link(self, place: str, target: str) -> None:
        with self._alone():
            if _islink(place):
                aside = f"{place}.flor-{posix.getpid()}"
                self.make_folder(aside, target)
                _exchange(aside, place)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of the replay at a time changes what a path stands for; readers never see half of it."""
        lock = posix.open(f"{self.upper}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            posix.close(lock)

    def make_folder(self, place: str, lower: str) -> None:
        """Make a real folder for the user's one, with a link an entry."""
        if not _exists(place):
            posix.mkdir(place)
        self.link_entries(place, lower)

    def link_entries(
        self,
        place: str,
        lower: str,
        *,
        leave: Sequence[str] = (),
        fill: int | None = None,
        whole: bool = True,
    ) -> None:
        """Link what the user's folder has and the mirror's has not, if it isn't too much.

        With `whole` false, what is left away (`leave`) is missing in the mirror only, and is still read.
        """
        try:
            names = [name for name in posix.listdir(lower) if name not in leave]
        except OSError:
            names = []
        if len(names) > (self._fill if fill is None else fill):
            names, whole = [], False
        if not whole:
            posix.chmod(place, stat.S_IMODE(posix.stat(place).st_mode) | PARTIAL)
        for name in names:
            link = f"{place}/{name}"
            if not _lexists(link):
                self._link(f"{lower.rstrip('/')}/{name}", link)

    def _link(self, lower: str, link: str) -> None:
        """Link a file or folder; a link of the user's own leads to the mirror of what it leads to."""
        try:
            target = posix.readlink(lower)
        except OSError:
            posix.symlink(lower, link)
            return
        real = self._parent_of(_join(lower.rpartition("/")[0], target))
        if self.inside(real) or self.free(real):
            posix.symlink(real, link)
            return
        if _lexists(real):
            self._anchor(real)
        posix.symlink(self.upper + real if target.startswith("/") else target, link)

    def mirrored(self, path: str) -> str | None:
        """The place in the mirror that an absolute path of the user's has; None for the replay's own."""
        real = self._parent_of(path)
        if self.inside(real) or self.free(real):
            return None
        if _lexists(real):
            self._anchor(real)
        return self.upper + real

    def _anchor(self, real: str) -> None:
        """See to it that the mirror leads to this path, where it has nothing for its folders yet."""
        at = self.upper
        *folders, name = real.strip("/").split("/")
        for part in folders:
            at = f"{at}/{part}"
            if _islink(at):
                return
            if not _exists(at):
                posix.mkdir(at)
                posix.chmod(at, stat.S_IMODE(posix.stat(at).st_mode) | PARTIAL)
        if name and not _lexists(f"{at}/{name}"):
            self._link(real, f"{at}/{name}")

    # -- paths

    def _parent_of(self, path: str) -> str:
        """The path with its folder resolved, its own name kept."""
        folder, _, name = path.rstrip("/").rpartition("/")
        if name in (".", ".."):
            return resolve(path)
        return f"{resolve(folder).rstrip('/')}/{name}"


def resolve(path: str) -> str:
    """An absolute path without links, by the untouched system calls; missing parts stay as they are."""
    rest = path.split("/")[::-1]
    at = ""
    links = 0
    while rest:
        name = rest.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = at.rpartition("/")[0]
            continue
        step = f"{at}/{name}"
        try:
            target = posix.readlink(step)
        except OSError:
            at = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            at = ""
        rest += target.split("/")[::-1]
    return at or "/"


def _copy(source: str, to: str, content: bool) -> None:
    with open(posix.open(source, os.O_RDONLY | os.O_CLOEXEC), "rb") as old:
        mode = stat.S_IMODE(posix.fstat(old.fileno()).st_mode) | stat.S_IWUSR
        made = posix.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(made, "wb") as new:
            if content:
                shutil.copyfileobj(old, new, 1 << 20)


def _exchange(made: str, link: str) -> None:
    """Put a folder in the place of a link, in one step where the system can, and drop the link."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2") and not libc.renameat2(
        _HERE, os.fsencode(made), _HERE, os.fsencode(link), _RENAME_EXCHANGE
    ):
        posix.unlink(made)
        return
    posix.unlink(link)
    posix.rename(made, link)


def _join(folder: str, path: str) -> str:
    return path if path.startswith("/") else f"{folder.rstrip('/')}/{path}"


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _lexists(path: str) -> bool:
    try:
        posix.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def _islink(path: str) -> bool:
    try:
        return stat.S_ISLNK(posix.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _isdir(path: str) -> bool:
    try:
        return stat.S_ISDIR(posix.stat(path).st_mode)
    except (OSError, ValueError):
        return False
