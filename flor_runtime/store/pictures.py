"""Images and figures as PNG files, made without the help of any library that the program has not imported.

PIL's own writer would import all its formats, and drawing a figure may move its parts: so the file is written here,
and what is drawn is a copy.
"""

from __future__ import annotations

import binascii
import io
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flor_runtime.store.foreign import fits

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: of PIL's modes: bits of a sample, colour type
_MODES = {"1": (1, 0), "L": (8, 0), "LA": (8, 4), "RGB": (8, 2), "RGBA": (8, 6)}
#: those of single numbers that no PNG file holds
_NUMBERS = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}


@dataclass(frozen=True)
class Picture:
    """An image or a drawn figure.

    Attributes:
        png: the bytes of a PNG file.
    """

    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        known = self.png[:8] == _SIGNATURE and len(self.png) >= 24
        return struct.unpack_from(">II", self.png, 16) if known else (0, 0)

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_bytes(self.png)

    def data_uri(self) -> str:
        """As a text that browsers show."""
        return "data:image/png;base64," + binascii.b2a_base64(self.png, newline=False).decode()

    def _repr_png_(self) -> bytes:  # how notebooks show it
        return self.png

    def __str__(self) -> str:
        return f"image {self.size[0]}×{self.size[1]}"

    __repr__ = __str__


def picture_of(value: Any) -> Picture | None:
    """An image of PIL, a figure of matplotlib or pyplot's current one as a picture; None for anything else."""
    image: Any = sys.modules.get("PIL.Image")
    if image is not None and isinstance(value, image.Image) and value.mode not in _NUMBERS:
        fits(value.width * value.height * len(value.getbands()))
        if value.mode not in _MODES:
            value = value.convert("RGBA" if "transparency" in value.info else "RGB")
        return Picture(_png(value.size, _MODES[value.mode], value.tobytes()))
    figure: Any = sys.modules.get("matplotlib.figure")
    agg: Any = sys.modules.get("matplotlib.backends.backend_agg")
    if figure is None or agg is None:
        return None
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None and value is pyplot and pyplot.get_fignums():
        value = pyplot.gcf()
    if isinstance(value, figure.Figure):
        fits(int(value.bbox.width) * int(value.bbox.height) * 4)
        return _drawn(value, agg.FigureCanvasAgg)
    return None


def _drawn(figure: Any, canvas: Callable[[Any], Any]) -> Picture:
    """A figure as its copy draws itself; itself where it can't be copied (a formatter that is a lambda) and draws
    without moving its parts."""
    data = io.BytesIO()
    before = figure.canvas
    try:
        _Copier(data, figure).dump(figure)
        drawing = canvas(pickle.loads(data.getvalue()))  # what this process has just written
    except Exception:
        if figure.get_layout_engine() is not None:
            raise
        drawing = canvas(figure)
    try:
        drawing.draw()
        return Picture(_png(drawing.get_width_height(), _MODES["RGBA"], bytes(drawing.buffer_rgba())))
    finally:
        figure.set_canvas(before)


class _Copier(pickle.Pickler):
    """Writes a figure such that its copy is not one of pyplot's."""

    def __init__(self, data: io.BytesIO, figure: Any) -> None:
        super().__init__(data)
        self._figure = figure

    def reducer_override(self, value: Any) -> Any:
        if value is not self._figure:
            return NotImplemented
        state = value.__getstate__()
        state.pop("_restore_to_pylab", None)
        return object.__new__, (type(value),), state


def _png(size: tuple[int, int], mode: tuple[int, int], pixels: bytes) -> bytes:
    """The bytes of a PNG file."""
    height = size[1]
    stride = len(pixels) // height if height else 0
    lines = b"".join(b"\0" + pixels[at : at + stride] for at in range(0, len(pixels), stride or 1))
    header = struct.pack(">IIBBBBB", *size, *mode, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts
    ]
    return _SIGNATURE + b"".join(chunks)
