"""Dictionaries become columns in tables, and stay what they are in the records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import flor_runtime.query as query
from flor_runtime.cli import main
from flor_runtime.errors import FlorError
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog
from tests.stores import make_run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path))
    return Home(tmp_path)


def logged(home: Home, *values: object, name: str = "val") -> None:
    def logging(log: RunLog) -> None:
        log.append(0, "lr", 0.5)
        for turn, value in enumerate(values, 1):
            log.append(log.context(0, "epoch", turn), name, value)
            log.append(log.context(0, "epoch", turn), "last", turn)

    make_run(home, logging)


def test_a_dictionary_has_a_column_for_each_of_its_parts(home: Home) -> None:
    logged(home, {"loss": 0.5, "top": {"1": 3, 5: 4}}, {"loss": 0.25, "top": {"1": None}, "note": "ok"})
    frame = query.full_pivot(runs="all", home=home)
    assert list(frame.columns[6:]) == ["lr", "val/loss", "val/top/1", "val/top/5", "val/note", "last"]
    assert frame["val/loss"].tolist() == [0.5, 0.25]
    assert frame["val/loss"].dtype == np.float64
    assert frame["val/top/1"].tolist()[0] == 3
    assert frame["val/note"].tolist() == [None, "ok"]


def test_a_name_of_a_dictionary_means_its_parts(home: Home) -> None:
    logged(home, {"loss": 0.5, "acc": 1}, {"loss": 0.25, "acc": 2})
    assert list(query.dataframe("val", runs="all", home=home).columns[6:]) == ["val/loss", "val/acc"]
    assert list(query.dataframe("val/acc", runs="all", home=home).columns[6:]) == ["val/acc"]
    assert list(query.dataframe("val/acc", "val", runs="all", home=home).columns[6:]) == ["val/acc", "val/loss"]
    with pytest.raises(FlorError, match="did you mean 'val/acc'"):
        query.dataframe("val/ac", runs="all", home=home)


def test_records_hold_what_was_logged(home: Home) -> None:
    value = {"loss": 0.5, "deep": {"a": [1]}}
    logged(home, value)
    records = query.log_records("all", home=home)
    assert records["value"].tolist() == [0.5, value, 1]
    frame = query.full_pivot(records)
    assert list(frame.columns[6:]) == ["lr", "val/loss", "val/deep/a", "last"]
    assert frame["val/deep/a"].tolist() == [[1]]


@pytest.mark.parametrize("value", [{}, {1.5: 2}, {(1, 2): 3}, {str(n): n for n in range(201)}, {"a": {}}])
def test_others_stay_values(home: Home, value: dict[object, object]) -> None:
    logged(home, value)
    frame = query.full_pivot(runs="all", home=home)
    name, expected = ("val/a", {}) if "a" in value else ("val", value)
    assert frame[name].tolist() == [expected]


def test_sometimes_a_dictionary_and_sometimes_not(home: Home) -> None:
    logged(home, {"loss": 0.5}, 3.0)
    frame = query.dataframe("val", runs="all", home=home)
    assert list(frame.columns[6:]) == ["val", "val/loss"]
    assert frame["val"].tolist()[1] == 3.0
    assert frame["val/loss"].tolist()[0] == 0.5


def test_what_the_table_shows(home: Home) -> None:
    import pandas as pd
    from PIL import Image

    value = {
        "image": Image.new("RGB", (4, 3)), "array": np.zeros((2, 3), "f4"), "table": pd.DataFrame({"a": [1, 2]}),
        "bytes": b"x" * 2000, "list": list(range(1000)), "when": np.datetime64("2026-01-02T03:04:05.000000006"),
    }  # fmt: skip
    logged(home, value)
    shown = CliRunner().invoke(main, ["show", "val", "--runs", "all"]).output
    for text in ("image 4×3", "array 2×3 float32", "table 2×1", "2.0 kB of bytes", "[0, 1, 2, 3", "05.000000006"):
        assert text in shown
    row = json.loads(CliRunner().invoke(main, ["show", "val", "--runs", "all", "--format", "json"]).output)[0]
    assert row["val/array"] == [[0, 0, 0], [0, 0, 0]]
    assert row["val/table"] == {"a": [1, 2]}
    assert row["val/list"] == list(range(1000))
    assert row["val/image"].startswith("data:image/png;base64,")
    cells = CliRunner().invoke(main, ["show", "val/list", "--runs", "all", "--format", "csv"]).output
    assert cells.splitlines()[1].endswith('997, 998, 999]"')
