"""What the interpreter calls without any name of the program leading there: its streams, handlers of signals and logs.

The program's own classes and functions among them have state like any other.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes an enum of each answer: slow
import sys
from collections.abc import Iterator
from typing import Any


def called() -> Iterator[tuple[str, Any]]:
    """(name, object) of all there is."""
    yield "sys.stdout", sys.stdout
    yield "sys.stderr", sys.stderr
    for number in _signal.valid_signals():
        handler = _signal.getsignal(number)
        if callable(handler):
            yield f"the handler of signal {number}", handler
    logging = sys.modules.get("logging")
    if logging is not None:
        loggers = {"root": logging.root, **logging.root.manager.loggerDict}
        having = [(name, logger) for name, logger in loggers.items() if vars(logger).get("handlers")]
        for name, logger in having:
            for n, handler in enumerate(logger.handlers):
                yield f"handler {n} of logger {name}", handler
