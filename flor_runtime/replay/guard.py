"""A replay writes nothing into the user's files and posts nothing. Installed in a worker, before the user's script.

Four lines, each for what the one before can't see:

1. What Python code calls (`redirect`: `open`, the functions of `os` that take a path) gets its path from the
   overlay: a write lands in the workspace, and a read finds it there.
2. Writers that open files by themselves, in C++, get theirs as they are imported (`writers`).
3. An audit hook refuses, with one line, what would write outside all the same.
4. The kernel (`landlock`), where it can: it holds for C++ and for the processes that the script starts, too.

The audit hook refuses the network as well (`offline`), and trackers are silenced (`silence`).

Nothing of it can be taken back: the process belongs to the replay. Python processes that it starts (loader workers)
join it; other programs get their paths from the overlay (`children`), and the kernel's guard holds for them, too.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import posix
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from flor_runtime.replay import landlock, silence
from flor_runtime.replay.children import Children, write_site
from flor_runtime.replay.imports import Moved
from flor_runtime.replay.offline import OFFLINE, refusal, refuse
from flor_runtime.replay.overlay import Overlay, resolve
from flor_runtime.replay.reads import reads_of
from flor_runtime.replay.redirect import WRITE_FLAGS, Calls, busy, swap, text_of
from flor_runtime.replay.writers import Imports, patches

if TYPE_CHECKING:
    from flor_runtime.replay.workspace import Workspace

_SCRATCH = "flor-replay-"
_JOIN = "FLOR_REPLAY_GUARD"
# So that nothing is changed on the way, and caches that compiled code is loaded from by path.
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "PYTHONDONTWRITEBYTECODE": "1"}
_CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH", "NUMBA_CACHE_DIR")

_REFUSED = "a replay must not write to {path}: it is outside of its workspace"


@dataclass(frozen=True)
class Guard:
    """What is in force: `scratch` is the private temporary folder, `kernel` whether the kernel helps."""

    overlay: Overlay
    scratch: Path
    kernel: bool


def install(
    workspace: Workspace, *, allowed: Sequence[Path] | None = None, kernel: bool = True, network: bool = False
) -> Guard:
    """Redirect all writes of this process into the workspace, for good, and go to its `cwd`.

    `allowed` are further folders that it may write to as they are, for the replay's own records; by default the
    folder that the workspace's folder is in. Everything else outside is mirrored in the workspace, the temporary
    folder included: each worker gets one of its own.
    """
    if allowed is None:
        allowed = [workspace.folder.parent]
    _sweep_scratch()
    free = [str(path.resolve()) for path in (workspace.folder, *allowed)]
    scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-")).resolve()
    drop = functools.partial(_drop_scratch, scratch, os.getpid())
    atexit.register(drop)
    os._exit = functools.partial(_exit, drop)
    system_temp = tempfile.gettempdir()
    _set_environment(workspace, scratch, network)
    free.append(str(scratch))
    os.environ[_JOIN] = json.dumps([str(workspace.upper), free, [str(workspace.user_root)], str(scratch), network])
    os.chdir(workspace.cwd)
    overlay = join()
    held = False
    if kernel and os.environ.get("FLOR_SANDBOX", "1") != "0":
        roots = [*free, "/dev", "/proc", "/sys"]
        if not workspace.user_root.is_relative_to(Path(system_temp).resolve()):
            roots.append(system_temp)
        held = landlock.restrict(roots)
    return Guard(overlay, scratch, held)


_joined: Overlay | None = None


def join() -> Overlay:
    """Put this process under the guard that the environment tells of: the worker's own, or a process started by it."""
    global _joined
    if _joined is not None:
        return _joined
    upper, free, protected, scratch, network = json.loads(os.environ[_JOIN])
    overlay = Overlay(upper, free, protected)
    overlay.reads = reads_of(upper)
    overlay.reads.own = scratch
    sys.dont_write_bytecode = True
    swap(Calls(overlay).swaps())
    children = Children(overlay)
    swap(children.swaps())
    after = [*patches(overlay).items(), *silence.patches().items(), *children.patches().items()]
    todo: dict[str, list[Callable[[ModuleType], None]]] = {}
    for name, patch in after:
        todo.setdefault(name, []).append(patch)
        if name in sys.modules:
            patch(sys.modules[name])
    sys.meta_path.insert(0, Moved(protected[0], f"{upper}{protected[0]}"))
    sys.meta_path.insert(0, Imports(todo))
    sys.addaudithook(_audit(overlay, network))
    _joined = overlay
    return overlay


# -- 3. the audit hook ---------------------------------------------------------------------------------------

# event -> positions of the paths in it, and of the descriptors of the folders that they are relative to
_EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
}
_FOLLOWED = frozenset({"open", "os.truncate", "os.chmod", "os.utime"})


def _audit(overlay: Overlay, network: bool) -> Callable[[str, tuple[Any, ...]], None]:
    def check(path: Any, dir_fd: Any, follow: bool) -> None:
        at = text_of(path, dir_fd if isinstance(dir_fd, int) and dir_fd >= 0 else None)
        if at is None:
            return
        absolute = at if at.startswith("/") else f"{posix.getcwd()}/{at}"
        if absolute.startswith(("/dev/", "/proc/", "/sys/")):
            return
        head, _, name = absolute.rstrip("/").rpartition("/")
        real = resolve(absolute) if follow else f"{resolve(head).rstrip('/')}/{name}"
        if not overlay.free(real):
            raise PermissionError(_REFUSED.format(path=real))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if not (flags & WRITE_FLAGS if isinstance(flags, int) else mode and set(mode) & set("wax+")):
                return
            if not getattr(busy, "on", False):
                check(path, None, True)
        elif event in _EVENTS and not getattr(busy, "on", False):
            for position, folder in _EVENTS[event]:
                check(args[position], None if folder is None else args[folder], event in _FOLLOWED)
        elif not network and event.startswith("socket.") and (where := refusal(event, args)):
            refuse(where, overlay.reads.wanted)

    return hook


# -- surroundings --------------------------------------------------------------------------------------------


def _set_environment(workspace: Workspace, scratch: Path, network: bool) -> None:
    os.environ.update({**_QUIET, **silence.environment(workspace.folder), **({} if network else OFFLINE)})
    for name in _CACHES:
        os.environ.setdefault(name, str(scratch / name.lower()))
    write_site(scratch / "site", __name__)
    paths = [str(scratch / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ[name] = str(scratch)
    tempfile.tempdir = str(scratch)


def _drop_scratch(scratch: Path, owner: int) -> None:
    if posix.getpid() == owner:
        shutil.rmtree(scratch, ignore_errors=True)


def _exit(drop: Callable[[], None], status: int) -> NoReturn:
    """A worker ends by `os._exit`, which calls no exit function."""
    with contextlib.suppress(Exception):
        drop()
    posix._exit(status)


def _sweep_scratch() -> None:
    """Remove what replays that were killed have left behind."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*-*"):
        owner = left.name.removeprefix(_SCRATCH).partition("-")[0]
        with contextlib.suppress(OSError):
            if owner.isdigit() and left.lstat().st_uid == os.getuid() and not _alive(int(owner)):
                shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
