"""Programs that the script starts: what they write lands in the replay's folder as well.

A shell command or a list of arguments gets its absolute paths from the overlay, and the files that it names are made
writable in the mirror first, so that `cp a b` and `echo x >> log` do what they did. Python programs join the guard as
they start (`SITE`). It is a guess which words are paths: what it misses, the kernel's guard refuses (`landlock`).
"""

from __future__ import annotations

import functools
import os
import posix
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from flor_runtime.replay.overlay import Overlay
from flor_runtime.replay.redirect import STARTING, known, text_of

_LARGE = 64 << 20  # bytes; a larger file is only read by other programs
_LEAVE = ("/dev/", "/proc/", "/sys/", "/usr/", "/bin/", "/sbin/", "/lib", "/etc/", "/opt/")
_WORD = re.compile(r"""[^\s"'`;|&<>()$=,]+""")
_ABSOLUTE = re.compile(r"""(?<![\w.~/:-])/[^\s"'`;|&<>()$*?=,:]+""")

#: `sitecustomize` of Python programs that the script starts; it hands on to the one that there is.
SITE = """import os, sys
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
sys.path.append({root!r})
try:
    from {guard} import join
    join()
except Exception:
    pass
finally:
    sys.path.remove({root!r})
from importlib.machinery import PathFinder
spec = PathFinder.find_spec("sitecustomize", sys.path)
if spec is not None and spec.loader is not None:
    spec.loader.exec_module(sys.modules[__name__])
"""


def write_site(folder: Path, guard: str) -> None:
    """Make the folder that stands first in PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    root = Path(__file__).parent.parent.parent
    (folder / "sitecustomize.py").write_text(SITE.format(root=str(root), guard=guard))


class Children:
    """Prepares commands for an overlay."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def swaps(self) -> dict[tuple[str, str], Callable[..., Any]]:
        """(module, name) -> what is called instead."""

        def system(command: Any) -> int:
            return posix.system(self.shell(command, None) if isinstance(command, str) else command)

        made: dict[tuple[str, str], Callable[..., Any]] = {("os", "system"): system}
        for name in STARTING[1:]:
            made["os", name] = functools.partial(self._started, getattr(posix, name))
        return made

    def _started(self, original: Callable[..., Any], path: Any, argv: Any, *rest: Any, **options: Any) -> Any:
        with known():
            return original(path, self.arguments(argv, None), *rest, **options)

    def patches(self) -> Mapping[str, Callable[[ModuleType], None]]:
        """What to do with which module once it is loaded."""
        return {"subprocess": self._patch_subprocess, "socket": self._patch_socket}

    def _patch_subprocess(self, module: Any) -> None:
        begin = module.Popen.__init__

        @functools.wraps(begin)
        def init(popen: Any, args: Any, *rest: Any, **options: Any) -> None:
            cwd = options.get("cwd", rest[8] if len(rest) > 8 else None)
            by_shell = options.get("shell", rest[7] if len(rest) > 7 else False)
            if isinstance(args, str):
                args = self.shell(args, cwd) if by_shell else args
            elif by_shell and isinstance(args, (list, tuple)) and args and isinstance(args[0], str):
                args = [self.shell(args[0], cwd), *args[1:]]
            elif isinstance(args, (list, tuple)):
                args = self.arguments(args, cwd)
            begin(popen, args, *rest, **options)

        module.Popen.__init__ = init

    def _patch_socket(self, module: Any) -> None:
        """Unix sockets have names among the files."""
        for name, writes in (("bind", True), ("connect", False)):
            original = getattr(module.socket, name)

            def call(self_: Any, address: Any, original: Any = original, writes: bool = writes) -> Any:
                if self_.family != module.AF_UNIX or not (path := text_of(address)):
                    return original(self_, address)
                target = self._overlay.for_write(path, follow=False) if writes else self._overlay.for_read(path)
                if target == path:
                    return original(self_, address)
                folder, _, last = target.rpartition("/")  # longer than the name of a socket may be
                descriptor = posix.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    return original(self_, f"/proc/self/fd/{descriptor}/{last}")
                finally:
                    posix.close(descriptor)

            setattr(module.socket, name, functools.wraps(original)(call))

    # -- commands

    def shell(self, command: str, cwd: Any) -> str:
        """A command line, ready to be run."""
        folder = self._folder(cwd)
        for word in _WORD.findall(command):
            self._make_ready(word, folder)
        return _ABSOLUTE.sub(lambda match: self._moved(match[0]), command)

    def arguments(self, argv: Any, cwd: Any) -> list[Any]:
        """A list of arguments, ready to be given to a program."""
        folder = self._folder(cwd)
        made = []
        for place, argument in enumerate(argv):
            text = text_of(argument) if not isinstance(argument, bytes) else None
            if text is None or (place == 0 and "/" not in text) or "\n" in text:
                made.append(argument)
                continue
            name, mark, value = text.partition("=") if text.startswith("-") or "=/" in text else ("", "", text)
            self._make_ready(value, folder)
            moved = self._moved(value) if place else value
            made.append(argument if moved == value else f"{name}{mark}{moved}")
        return made

    def _folder(self, cwd: Any) -> str:
        path = text_of(cwd) if cwd is not None else None
        return posix.getcwd() if path is None else os.path.join(posix.getcwd(), self._overlay.for_folder(path))  # noqa: PTH118

    def _moved(self, path: str) -> str:
        if not path.startswith("/") or path.startswith(_LEAVE) or self._overlay.inside(path):
            return path
        there = next((str(above) for above in (Path(path), *Path(path).parents) if above.exists()), "/")
        if there == "/":
            return path
        return self._overlay.mirrored(path) or path

    def _make_ready(self, word: str, folder: str) -> None:
        """A program may write to what this word names, if it names anything."""
        if word.startswith(_LEAVE) or word.startswith("-") or word in (".", "..", "/"):
            return
        path = word if word.startswith("/") else f"{folder}/{word}"
        try:
            there = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            if "/" not in word or not Path(path).parent.is_dir():
                return
            there = None
        try:
            with known():
                if there is not None and stat.S_ISDIR(there.st_mode):
                    self._overlay.for_folder(path)
                else:
                    small = there is not None and stat.S_ISREG(there.st_mode) and there.st_size <= _LARGE
                    self._overlay.for_write(path, follow=small)
        except OSError:  # then the program finds it as it is
            pass
