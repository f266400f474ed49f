"""Images and figures are kept as they look, and stay as they were."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flor_runtime.store.pictures import Picture
from flor_runtime.store.sameness import same_bits
from flor_runtime.store.values import Opaque, decode, encode

SHAPE = (5, 13)  # rows of a bilevel image then don't fill their last byte


def image(mode: str) -> Image.Image:
    numbers = np.random.default_rng(0).integers(0, 255, (*SHAPE, 4), np.uint8)
    return Image.fromarray(numbers, "RGBA").convert("RGB").convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_images(mode: str) -> None:
    value = image(mode)
    kept = decode(encode(value))
    assert isinstance(kept, Picture)
    assert kept.size == (13, 5)
    assert str(kept) == "image 13×5"
    assert kept._repr_png_() == kept.png
    back = Image.open(io.BytesIO(kept.png))
    expected = value if mode in ("1", "L", "LA", "RGB", "RGBA") else value.convert("RGB")
    assert (back.mode, back.tobytes()) == (expected.mode, expected.tobytes())


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_images_of_single_numbers_are_arrays(mode: str) -> None:
    value = image("L").convert("I" if mode == "I;16" else mode).convert(mode)
    kept: Any = decode(encode(value))
    assert (kept == np.asarray(value)).all()


def test_a_picture_can_be_logged_again_and_saved(tmp_path: Any) -> None:
    kept = decode(encode(image("RGB")))
    assert isinstance(kept, Picture)
    assert decode(encode(kept)) == kept
    assert not same_bits(kept, decode(encode(image("L"))))
    kept.save(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == kept.png
    assert kept.data_uri().startswith("data:image/png;base64,iVBOR")


def test_what_is_no_image_any_more() -> None:
    gone = Image.new("RGB", (2, 2))
    gone.close()
    assert isinstance(decode(encode(gone)), (Opaque, Picture))


#: draws a figure twice, with and without our looking at it in between, and compares what becomes of it
FIGURES = """
import io, sys
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
from flor_runtime.store.values import encode, decode

def make(layout):
    figure, axes = plt.subplots(2, layout=layout)
    axes[0].plot([1, 3, 2], label="a")
    axes[0].legend()
    axes[1].hist([1, 2, 2], bins=3)
    axes[1].set_title("t" * 30)
    return figure, axes

def saved(figure):
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()

for layout in (None, "tight", "constrained"):
    plain, _ = make(layout)
    looked_at, axes = make(layout)
    numbers, canvas, current = plt.get_fignums(), looked_at.canvas, plt.gcf()
    modules = set(sys.modules)
    kept = decode(encode(looked_at))
    assert not {name for name in set(sys.modules) - modules if not name.startswith("flor")}
    assert kept.size == (640, 480) and decode(encode(plt)).png == kept.png
    assert (numbers, canvas, current) == (plt.get_fignums(), looked_at.canvas, plt.gcf())
    first, second = saved(plain), saved(looked_at)
    assert first == second, layout
    assert decode(encode(plain)).size == kept.size
    if layout is None:
        axes[0].xaxis.set_major_formatter(lambda x, at: "q")  # can't be copied
        with_lambda = decode(encode(looked_at))
        assert with_lambda.png != kept.png and looked_at.canvas is canvas
    plt.close("all")
print("fine")
"""


def test_figures_are_drawn_and_stay_as_they_were() -> None:
    done = subprocess.run([sys.executable, "-c", FIGURES], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr
