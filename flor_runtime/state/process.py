"""What the interpreter calls without any name of the program leading there: its streams, handlers of signals and logs.

The program's own classes and functions among them have state like any other.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes an enum of each answer: slow
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

_SIGNALS = tuple(_signal.valid_signals())


def called() -> Iterator[tuple[str, Any]]:
    """(name, object) of all there is."""
    yield "sys.stdout", sys.stdout
    yield "sys.stderr", sys.stderr
    for number in _SIGNALS:
        handler = _signal.getsignal(number)
        if callable(handler):
            yield f"the handler of signal {number}", handler
    logging = sys.modules.get("logging")
    if logging is not None:
        loggers = [("root", logging.root), *logging.root.manager.loggerDict.items()]
        for name, logger in [pair for pair in loggers if vars(pair[1]).get("handlers")]:
            for n, handler in enumerate(logger.handlers):
                yield f"handler {n} of logger {name}", handler


def settings() -> dict[str, object]:
    """Settings of the process that a program may change and that no state holds, in the words of a message."""
    found: dict[str, object] = {
        "the current folder": _folder(),
        "the recursion limit": sys.getrecursionlimit(),
        "the garbage collector's settings": (gc.isenabled(), gc.get_threshold()),
    }
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "get_printoptions"):
        found["numpy's print options"] = repr(numpy.get_printoptions())
    return found


def changed(before: dict[str, object]) -> list[str]:
    """Which settings are no longer what they were, each as a reason not to restore."""
    now = settings()
    return [f"{what} was changed" for what, value in before.items() if now[what] != value]


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it is gone
        return None


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """The garbage collector would be called by what a walk makes, look at all of that, and run finalizers of the
    program's in the middle of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
