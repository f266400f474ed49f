"""Writing to the standard streams: the product, the talk, and colours where somebody can see them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from flor_transform.errors import TransformError

_COLOURS = {b"+++": b"1", b"---": b"1", b"@@": b"36", b"+": b"32", b"-": b"31"}


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def has_colours(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that wants colours (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write(product: str | bytes) -> None:
    """Write to standard output, what its encoding can't hold as escapes; BrokenPipeError if nobody reads it."""
    if sys.stdout is None:  # closed
        return
    if isinstance(product, str):
        product = product.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(product)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TransformError(f"the output can't be written: {error.strerror}") from None


def say(text: str, end: str = "\n") -> None:
    """Write to standard error."""
    if sys.stderr is not None and text + end:
        sys.stderr.write(text + end)
        sys.stderr.flush()


def coloured_patch(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The lines of a patch, on a terminal in its colours."""
    if not has_colours(sys.stdout):
        return lines
    return [_coloured(line) for line in lines]


def _coloured(line: bytes) -> bytes:
    for start, colour in _COLOURS.items():
        if line.startswith(start):
            return b"\x1b[" + colour + b"m" + line.rstrip(b"\r\n") + b"\x1b[0m\n"
    return line
