"""The first and the last step of a recorded program, called from within its own `__main__`.

`flor run` hands Python a compiled file (see `runner`). Its code is the script's, with a call of `begin` before the
first statement and one of `ended` where an exception leaves it. So no frame of ours lies below the program, and how it
ends (tracebacks, exit codes, a death by SIGINT, threads, `atexit`) is the interpreter's own doing.
"""

from __future__ import annotations

import sys

_PLAIN = frozenset(sys.modules)  # what a plain run has loaded before its first statement

import atexit  # noqa: E402
import marshal  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from importlib.machinery import PathFinder, SourceFileLoader  # noqa: E402
from types import CodeType  # noqa: E402
from typing import Any, TypedDict  # noqa: E402


class Launch(TypedDict):
    """What `flor run` has prepared, as plain data and code objects.

    Attributes:
        script: absolute path, as Python would show it; `typed`: as it was typed.
        path0: what `sys.path` begins with in a plain run.
        options: of the interpreter, for `sys.orig_argv`.
        source: the bytes of the script.
        modules: by path, the bytes of project modules and their instrumented code.
        prepared: see `recording.Prepared`.
        instrumented: the code calls `flor`.
        pinned: we have set PYTHONHASHSEED; `hash_seed` is what it was before.
        talk: a line at the end, on a terminal.
    """

    script: str
    typed: str
    path0: str
    options: list[str]
    source: bytes
    modules: dict[str, tuple[bytes, CodeType]]
    prepared: dict[str, Any]
    instrumented: bool
    pinned: bool
    hash_seed: str | None
    talk: bool


_begun = False
_end: Any = None  # the `End` of the run; None: it is not recorded


def warn(text: str) -> None:
    """One line on stderr, marked as ours; nothing if there is no stderr any more."""
    try:
        print(f"flor: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass


def under_flor_run() -> bool:
    """True in a program that `flor run` has started, also one that couldn't be recorded."""
    return _begun


def begin(packed: bytes, root: str) -> None:
    """Make the process look like `python SCRIPT ARGS`, and start recording.

    Args:
        packed: a `Launch`.
        root: the folder that flor was found in; it stands last in `sys.path`, for the import of this module only.
    """
    global _begun
    _begun = True
    if sys.path[-1:] == [root]:
        sys.path.pop()
    launch: Launch = marshal.loads(packed)
    compiled = sys.argv[0]
    if not sys.flags.safe_path:
        sys.path.pop(0)  # the folder of the compiled file
    _dress(launch)
    try:
        os.unlink(compiled)  # noqa: PTH108
        _record(launch)
    except Exception as error:
        warn(f"this run is not recorded: {error}")
    if not sys.flags.safe_path:
        sys.path.insert(0, launch["path0"])
        forget_shadowed(launch["path0"])


def _dress(launch: Launch) -> None:
    main = sys.modules["__main__"]
    main.__file__ = launch["script"]
    main.__loader__ = SourceFileLoader("__main__", launch["script"])
    sys.argv[0] = launch["typed"]
    sys.orig_argv[:] = [sys.orig_argv[0], *launch["options"], *sys.argv]
    if launch["pinned"]:
        if launch["hash_seed"] is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = launch["hash_seed"]


def _record(launch: Launch) -> None:
    global _end
    from pathlib import Path

    from flor_runtime.importing import Finder, install
    from flor_runtime.recording import Prepared, Recording

    if launch["instrumented"]:
        import flor  # noqa: F401  (now, and not what the name may mean in the program's folder)
    modules = launch["modules"]

    def code_of(path: str, source: bytes) -> CodeType | None:
        known = modules.get(path)
        return known[1] if known is not None and known[0] == source else None

    recording = Recording(Prepared.from_plain(launch["prepared"]), {Path(launch["script"]): launch["source"]})
    install(Finder(recording.project, code_of, recording.add_module))
    _end = End(recording, launch["talk"])
    atexit.register(_end.finish)  # before any of the program's: so it comes after them, and after its threads


def forget_shadowed(folder: str) -> None:
    """Unload what we have loaded and a plain run would find in the program's own folder: its `random.py`."""
    for name in {name.partition(".")[0] for name in sys.modules.keys() - _PLAIN} - {"flor", "flor_runtime"}:
        spec = PathFinder.find_spec(name, [folder])
        if spec is not None and spec.origin is not None:
            for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
                del sys.modules[loaded]


class End:
    """How the program ended, as far as is known."""

    def __init__(self, recording: Any, talk: bool) -> None:
        self._recording = recording
        self._talk = talk
        self.ending: tuple[Any, int, str | None] = ("finished", 0, None)

    def finish(self) -> None:
        if os.getpid() != self._recording.pid:
            return
        self._recording.finish(*self.ending)
        try:
            talk = self._talk and sys.stderr.isatty()
        except (ValueError, AttributeError):  # it is closed, or not a stream
            return
        if talk:
            warn(f"recorded run {self._recording.folder.id[:8]}; `flor show` has its table")


def ended() -> None:
    """An exception is about to leave the program."""
    error = sys.exc_info()[1]
    if _end is not None and error is not None:
        _end.ending = ending_of(error)
        without_our_frames(error)


def ending_of(error: BaseException) -> tuple[Any, int, str | None]:
    """(status, exit code, text) of a program that an exception ended."""
    if isinstance(error, SystemExit):
        code = error.code
        number = code & 0xFF if isinstance(code, int) else 0 if code is None else 1
        text = None if code is None or isinstance(code, int) else str(code)[:500]
        return ("failed" if number else "finished"), number, text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT, None
    try:
        text = f"{type(error).__name__}: {error}"[:500]
    except Exception:
        text = type(error).__name__
    return "failed", 1, text


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep  # noqa: PTH100, PTH120


def without_our_frames(error: BaseException) -> None:
    """Take the frames of this package out of the traceback of an exception, and of those that led to it."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
        traceback = one.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
            traceback = traceback.tb_next
        if traceback is not one.__traceback__:
            one.__traceback__ = traceback
        while traceback is not None:
            following = traceback.tb_next
            while following is not None and following.tb_frame.f_code.co_filename.startswith(_HERE):
                following = following.tb_next
            if following is not traceback.tb_next:
                traceback.tb_next = following
            traceback = following
