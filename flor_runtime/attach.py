"""`python train.py --flor NAME`: an instrumented script records by itself, from its `import flor` on."""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from types import TracebackType

from flor_runtime import session as sessions
from flor_runtime.errors import FlorError


def attach() -> None:
    """Take `--flor NAME [EPSILON]` out of `sys.argv` and begin recording. Never fails for the script."""
    from flor_runtime.recording import Recording, warn

    name, epsilon = _take_option(sys.argv)
    file = getattr(sys.modules["__main__"], "__file__", None)
    if sessions.current is not None or file is None:
        return
    script = Path(file).absolute()
    try:
        compiled = {script: script.read_bytes()}
        recording = Recording.begin(
            script, sys.argv[1:], compiled, name=name, epsilon=epsilon, typed=sys.argv[0], hooked=False
        )
    except (FlorError, OSError) as error:
        warn(f"this run is not recorded: {error}")
        return
    failure: list[BaseException] = []
    shown = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        from flor_runtime.runner import without_our_frames

        failure.append(error)
        without_our_frames(error)
        shown(kind, error, error.__traceback__)

    def end() -> None:
        error = failure[0] if failure else None
        if error is None:
            recording.finish("finished", 0)
        elif isinstance(error, KeyboardInterrupt):
            recording.finish("interrupted", 130)
        else:
            recording.finish("failed", 1, f"{type(error).__name__}: {error}"[:500])

    sys.excepthook = excepthook
    atexit.register(end)


def _take_option(argv: list[str]) -> tuple[str | None, float | None]:
    position = next(n for n, item in enumerate(argv) if n and item.partition("=")[0] == "--flor")
    _, equals, name = argv.pop(position).partition("=")
    if not equals and position < len(argv) and not argv[position].startswith("-"):
        name = argv.pop(position)
    epsilon = None
    if position < len(argv) and argv[position].startswith("0."):
        try:
            epsilon = float(argv[position])
            del argv[position]
        except ValueError:
            pass
    return name or None, epsilon
