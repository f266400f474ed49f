"""Pictures in tables: shown by notebooks, and nothing that was logged is taken for markup."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import flor_runtime.query as query
from flor_runtime.query import display
from flor_runtime.store import index
from flor_runtime.store.layout import Home
from flor_runtime.store.pictures import Picture
from flor_runtime.store.runlog import RunLog
from tests.stores import make_run, training

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(index, "_SETTLED", -1)
    home = Home(tmp_path)

    def logging(log: RunLog) -> None:
        for epoch in (1, 2, 3):
            turn = log.context(0, "epoch", epoch)
            log.append(turn, "sample", Image.new("RGB", (8, 4), (epoch, 0, 0)))
            log.append(turn, HOSTILE, HOSTILE)
            log.append(turn, "weights", np.full((2, 2), epoch))
            log.append(turn, "text", f"epoch <b>{epoch}</b>")

    make_run(home, logging, name=HOSTILE)
    return home


def images(html: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r'<img src="data:image/png;base64,([^"]+)"', html)]


def test_a_table_of_images_shows_them(home: Home) -> None:
    frame = query.dataframe("sample", home=home)
    html = frame._repr_html_()
    assert images(html) == [picture.png for picture in frame["sample"]]
    assert "image 8×4" in html
    assert len(images(frame.head(1)._repr_html_())) == 1  # what is taken from it does the same
    assert len(images(query.log_records(home=home)._repr_html_())) == 3


def test_nothing_logged_is_markup(home: Home) -> None:
    for frame in (query.full_pivot(home=home), query.log_records(home=home)):
        html = frame._repr_html_()
        assert "<script" not in html
        assert "<b>" not in html
        assert len(re.findall("<img", html)) == len(images(html)) == 3
        assert "&lt;script&gt;" in html
        assert "array" in html or "[[" in html


def test_it_is_a_frame_like_others(home: Home) -> None:
    frame = query.full_pivot(home=home, provenance=True)
    assert isinstance(frame, pd.DataFrame)
    assert isinstance(frame["sample"].iloc[0], Picture)
    assert isinstance(frame["weights"].iloc[0], np.ndarray)
    assert "image 8×4" in repr(frame["sample"])
    assert frame.groupby("epoch")["text"].count().tolist() == [1, 1, 1]
    assert type(query.dataframe("text", home=home)) is pd.DataFrame
    make_run(home, training(1, 1), name="plain")
    assert type(query.dataframe("loss", home=home)) is pd.DataFrame


def test_pandas_own_options_hold(home: Home) -> None:
    frame = query.dataframe("sample", home=home)
    with pd.option_context("display.notebook_repr_html", False):
        assert frame._repr_html_() is None
    with pd.option_context("display.max_rows", 2, "display.min_rows", 2):
        assert len(images(frame._repr_html_())) == 2


def test_large_pictures_are_named_only(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = query.dataframe("sample", home=home)
    size = len(frame["sample"].iloc[0].png)
    monkeypatch.setattr(display, "_MOST", 2 * size + 1)
    html = frame._repr_html_()
    assert len(images(html)) == 2
    assert html.count("image 8×4") == 3
    monkeypatch.setattr(display, "_LARGEST", size - 1)
    assert images(frame._repr_html_()) == []


def test_what_ipython_makes_of_it(home: Home) -> None:
    from IPython.core.formatters import DisplayFormatter

    frame = query.dataframe("sample", home=home)
    table, _ = DisplayFormatter().format(frame)
    assert len(images(table["text/html"])) == 3
    one, _ = DisplayFormatter().format(frame["sample"].iloc[0])
    assert one["image/png"] == frame["sample"].iloc[0].png
