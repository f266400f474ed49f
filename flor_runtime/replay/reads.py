"""What was read in another state than the run read it in: a value that comes of it may be wrong.

Three things are noted, in a file beside the mirror, so that processes which the script starts note them, too:

- CHANGED: a file of the user's has changed since the run began.
- SKIPPED: a file of the replay's own was read, and turns or blocks that were skipped may have written to it.
- LOOKED: the same of a name that was looked for, a size, a folder that was listed.
"""

from __future__ import annotations

import json
import os
import posix
import stat
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path

CHANGED, SKIPPED, LOOKED = "changed", "skipped", "looked"
NETWORK = "network"

# Read by libraries for themselves; nobody's data.
_SYSTEM = ("/dev/", "/proc/", "/sys/", "/etc/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/run/")
_CACHES = ("matplotlib", "fontconfig")
_INSTALLED = frozenset({"site-packages", "dist-packages"})


class Reads:
    """Judges each read of one process.

    Args:
        upper: the mirror (`overlay`). file: where notes go.
        changed: absolute paths of the user's files that are known to have changed; `known`, of those that have not.
        later: of files and folders that the run did not find, and the mirror doesn't show.
        since: when the run began; `settled`: when its main loop did; both in ns since 1970, 0: unknown.
        store: what is read in there is nobody's data.
    """

    def __init__(
        self,
        upper: str,
        file: str,
        changed: Iterable[str] = (),
        known: Iterable[str] = (),
        later: Iterable[str] = (),
        since: int = 0,
        settled: int = 0,
        store: str = "",
    ) -> None:
        self._upper, self._file = upper, file
        self._changed, self._known, self._later = frozenset(changed), frozenset(known), frozenset(later)
        self._folders = {path.rpartition("/")[0] for path in self._later}
        self._since, self._settled = since, settled
        self._began = time.time_ns()
        self.own = ""  # the private folder for temporary files
        self._skips = 0
        self._anew: dict[str, int] = {}  # files that were written from their beginning: behind how many skips
        self._judged: dict[str, bool] = {}
        self._at = 0
        self._modules: set[str] = set()  # that were looked at
        prefixes = {sys.prefix, sys.base_prefix, *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib"))}
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
        flor = Path(__file__).parent.parent
        ours = (f"{flor}/", f"{flor.with_name('flor_transform')}/", f"{flor.with_name('flor.py')}")
        caches = (f"{home}/{name}/" for name in _CACHES)
        self._foreign = (*ours, *_SYSTEM, *(f"{prefix}/" for prefix in prefixes), *caches, f"{config}/")
        self._foreign += (f"{store}/",) if store else ()

    # -- what the guard tells

    def skipped(self) -> None:
        """Turns or a block have been skipped: what they write has not been written."""
        self._skips += 1

    def begun(self, path: str) -> None:
        """A file is written from its beginning."""
        self._anew[_whole(path)] = self._skips

    def moved(self, source: str, target: str) -> None:
        """A file has got another name."""
        when = self._anew.pop(_whole(source), None)
        self._anew.pop(_whole(target), None)
        if when is not None:
            self._anew[_whole(target)] = when

    def content(self, path: str, real: Callable[[str], str]) -> None:
        """A file is read; `real` gives its path without links."""
        whole = _whole(path)
        if whole.endswith(".pyc") or (whole.startswith(self._foreign) and not self._mine(whole)):
            return
        place = real(whole)
        if self._mine(place):
            lower = self._lower(place)
            if self._skips and self._anew.get(place) != self._skips and self._written(place):
                self._note(SKIPPED, lower)
            elif place not in self._anew and not self._hidden(lower) and self._written(place, 0):
                place = lower  # a copy of the user's, gone on with
                self._judged[place] = self._has_changed(place)
        elif place not in self._judged:
            self._judged[place] = self._has_changed(place)
        if self._judged.get(place):
            self._note(CHANGED, place)

    def look(self, path: str, found: bool, *, listed: bool = False) -> None:
        """A name was looked for, and is there or is not; or a folder was listed."""
        if not self._skips:
            return
        whole = _whole(path)
        lower = self._lower(whole)
        if listed:
            if lower in self._folders or self._hidden(lower):
                self._note(LOOKED, lower)
        elif not found:
            if self._hidden(lower):
                self._note(LOOKED, lower)
        elif self._mine(whole) and self._anew.get(whole) != self._skips and self._written(whole):
            self._note(LOOKED, lower)

    def wanted(self, where: str) -> None:
        """The network was wanted, and refused."""
        self._note(NETWORK, where)

    # -- what the worker asks

    def taken(self) -> dict[str, set[str]]:
        """What was noted since the last call, by any process."""
        self._modules_too()
        found: dict[str, set[str]] = {kind: set() for kind in (CHANGED, SKIPPED, LOOKED, NETWORK)}
        try:
            descriptor = posix.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return found
        try:
            text = b"".join(iter(lambda: posix.read(descriptor, 1 << 16), b""))
        finally:
            posix.close(descriptor)
        whole = text.rfind(b"\n") + 1
        for line in text[self._at : whole].splitlines():
            kind, path = json.loads(line)
            found[kind].add(path)
        self._at = whole
        return found

    # -- how it is decided

    def _note(self, kind: str, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = posix.open(self._file, flags, 0o600)
        try:
            posix.write(descriptor, json.dumps([kind, path]).encode() + b"\n")
        finally:
            posix.close(descriptor)

    def _mine(self, path: str) -> bool:
        return path.startswith(self._upper + "/") or bool(self.own and path.startswith(self.own + "/"))

    def _written(self, path: str, settled: int | None = None) -> bool:
        """Whether the replay has written this file, and the run did not leave it alone once its main loop had begun."""
        try:
            status = posix.lstat(path)
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_ctime_ns < self._began:
            return False
        try:
            then = posix.stat(self._lower(path))
        except OSError:
            return True
        return not 0 < then.st_ctime_ns <= (self._settled if settled is None else settled)

    def _has_changed(self, real: str) -> bool:
        if real in self._changed:
            return True
        if not self._since or real in self._known or _INSTALLED.intersection(real.split("/")):
            return False
        try:
            status = posix.stat(real)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_ctime_ns > self._since

    def _hidden(self, lower: str) -> bool:
        while lower:
            if lower in self._later:
                return True
            lower = lower.rpartition("/")[0]
        return False

    def _lower(self, path: str) -> str:
        return path[len(self._upper) :] if path.startswith(self._upper + "/") else path

    def _modules_too(self) -> None:
        """Modules are read by the interpreter itself."""
        new = sys.modules.keys() - self._modules
        self._modules |= new
        for name in new:
            file = getattr(sys.modules.get(name), "__file__", None)
            if not isinstance(file, str) or not file.endswith(".py") or not file.startswith("/"):
                continue
            if "/site-packages/" in file or "/dist-packages/" in file or file.startswith(self._foreign):
                continue
            real = str(Path(file).resolve())
            if not self._mine(real) and not real.startswith(self._foreign) and self._has_changed(real):
                self._note(CHANGED, real)


def write_then(upper: str, *then: object) -> None:
    """Keep beside a mirror what its processes have to know of the run: the arguments of `Reads`, behind its `file`."""
    data = [sorted(item) if isinstance(item, (set, frozenset)) else item for item in then]
    Path(f"{upper}.then").write_text(json.dumps(data))


def reads_of(upper: str) -> Reads:
    """What `write_then` kept; of a mirror without it nothing is known."""
    try:
        then = json.loads(Path(f"{upper}.then").read_text())
    except OSError:
        then = []
    return Reads(upper, f"{upper}.reads", *then)


def _whole(path: str) -> str:
    return path if path.startswith("/") else f"{posix.getcwd()}/{path}"
