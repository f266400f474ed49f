"""What the screens show, as plain data: the table of runs, curves, coverage, code."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from flor_runtime.errors import FlorError
from flor_runtime.store.layout import Home
from flor_runtime.ui import curves, frames, markup, names, report, runs, versions
from tests.screens import scenes
from tests.stores import add_replay, make_run, training


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def column(table: runs.RunTable, title: str) -> runs.Column:
    return next(each for each in table.columns if each.title == title)


def test_a_run_is_a_row_with_the_last_value_of_each_name(home):
    make_run(home, training(2, 2, lr=0.1), name="a")
    make_run(home, lambda log: log.append(0, "val", {"loss": 0.5, "top": {"1": 0.9}}), name="b")
    make_run(home, lambda log: (log.append(0, "loss", math.nan), log.append(0, "m", [1])), end="failed")
    table = runs.read("all", home)
    assert [each.title for each in table.columns] == [
        "run", "status", "started", "took", "script", "loss", "m", "val/loss", "val/top/1", "lr", "acc", "best",
    ]  # fmt: skip
    assert table.titles[1:] == ["b", "a"]
    assert column(table, "status").values == ["failed", "finished", "finished"]
    loss = column(table, "loss")
    assert math.isnan(loss.values[0])
    assert loss.values[1:] == [None, pytest.approx(0.1 / 22)]
    assert loss.there == [True, False, True]
    assert column(table, "m").there == [True, False, False]
    assert column(table, "m").values == [None, None, None]
    assert column(table, "val/top/1").values == [None, 0.9, None]


def test_recovered_values_are_known_and_recorded_ones_are_not_called_so(home):
    run = make_run(home, training(2, 2), name="a")
    add_replay(run, "0" * 32, ["norm", "acc"], lambda log: (log.append(0, "norm", 1.0), log.append(0, "acc", 7.0)))
    table = runs.read("all", home)
    assert column(table, "norm").labels == ["exact"]
    assert column(table, "norm").values == [1.0]
    assert column(table, "acc").labels == [None]
    assert column(table, "acc").values == [0.2]
    found = {each.name: each for each in names.coverage(table)}
    assert found["norm"] == names.Coverage("norm", 0, {"exact": 1}, [])
    assert found["acc"].recorded == 1


def test_runs_of_one_name_have_titles_of_their_own(home):
    for _ in range(2):
        make_run(home, training(1, 1), name="same")
    titles = runs.read("all", home).titles
    assert len(set(titles)) == 2
    assert all(title.startswith("same (") for title in titles)


def test_a_name_that_is_also_a_column_of_every_run(home):
    make_run(home, lambda log: log.append(0, "status", 3))
    table = runs.read("all", home)
    assert [each.values for each in table.columns if "status" in each.title] == [["finished"], [3]]


def test_a_number_that_no_float_can_stand_for_is_a_text(home):
    make_run(home, lambda log: log.append(0, "val", {"big": 10**400}), name="a")
    assert frames.of_runs(runs.read("all", home)).frame["val/big"].tolist()[0].startswith("1000")


def test_what_the_index_says_is_what_the_runs_say(home, monkeypatch):
    scenes.project(home, 6)
    monkeypatch.setattr("flor_runtime.store.index._SETTLED", -10.0)
    first, second = runs.read("all", home), runs.read("all", home)
    assert repr(first.columns) == repr(second.columns)
    home.indexed = False
    assert repr(runs.read("all", home).columns) == repr(first.columns)


def test_steps_lie_between_epochs(home):
    run = make_run(home, training(epochs=2, steps=4))
    by_name = {panel.name: panel for panel in curves.panels([run], ["a"])}
    assert by_name.keys() == {"loss", "acc"}  # one value a run is no curve
    assert by_name["loss"].curves[0].x.tolist() == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert by_name["acc"].curves[0].x.tolist() == [1.0, 2.0]
    assert by_name["acc"].axis == "epoch"


def test_a_loop_outside_of_the_epochs_has_curves_of_its_own(home):
    def logging(log):
        for fold in (1, 2):
            outer = log.context(0, "fold", fold)
            for epoch in (1, 2):
                log.append(log.context(outer, "epoch", epoch), "acc", fold + epoch / 10)

    (panel,) = curves.panels([make_run(home, logging)], ["a"])
    assert [(curve.part, curve.y.tolist()) for curve in panel.curves] == [
        ("fold 1", [1.1, 1.2]),
        ("fold 2", [2.1, 2.2]),
    ]


def test_of_several_values_at_one_place_the_last_is_drawn(home):
    def logging(log):
        turn = log.context(0, "epoch", 1)
        log.append(turn, "acc", 1)
        log.append(turn, "acc", 2)

    (panel,) = curves.panels([make_run(home, logging)], ["a"])
    assert panel.curves[0].y.tolist() == [2.0]


def test_what_is_not_finite_is_said(home):
    def logging(log):
        for epoch, value in enumerate((1.0, math.nan, math.inf, "text", True), 1):
            log.append(log.context(0, "epoch", epoch), "acc", value)

    (panel,) = curves.panels([make_run(home, logging)], ["a"])
    assert panel.curves[0].y.tolist() == [1.0, 1.0]
    assert curves.remarks(panel) == ["a: 2 values are NaN or infinite"]


def test_thinning_keeps_ends_and_peaks():
    y = np.sin(np.arange(100_000) / 300)
    y[77_777] = 50.0
    y[33_333] = -50.0
    kept = curves.thinned(y, 200)
    assert len(kept) <= 200
    assert {0, 33_333, 77_777, 99_999} <= set(kept.tolist())
    assert curves.thinned(y[:50], 200).tolist() == list(range(50))


def test_a_curve_that_was_recovered_in_part_has_no_gap():
    curve = curves.Curve("a", "", np.arange(4.0), np.arange(4.0), ["recorded", "recorded", "exact", "exact"])
    assert [(label, x.tolist()) for label, x, _ in curves.pieces(curve)] == [("recorded", [0, 1]), ("exact", [1, 2, 3])]


def test_a_thinned_curve_says_so(home):
    run = make_run(home, training(epochs=20, steps=20))
    panel = next(each for each in curves.panels([run], ["a"], ["loss"], 100))
    assert panel.points == 400
    assert panel.drawn == len(panel.curves[0].x) <= 100
    assert curves.remarks(panel)[0].startswith(f"{panel.drawn} of 400 points are drawn")


def test_unknown_name_is_an_error(home):
    run = make_run(home, training())
    with pytest.raises(FlorError, match="no run logs 'los': did you mean 'loss'"):
        frames.of_values([run], ["a"], ["los"])


def test_values_have_their_marks_and_long_tables_say_what_is_missing(home):
    run = make_run(home, training(3, 10), name="a")
    add_replay(
        run, "1" * 32, ["norm"], lambda log: log.append(log.context(0, "epoch", 2), "norm", 1.5), label="verified"
    )
    grid = frames.of_values([run], ["a"], most=15)
    assert grid.frame["epoch"].tolist() == [2] * 5 + [3] * 10
    assert grid.notes == ["15 of 30 rows, the last ones of each run: `flor show --format csv` has all"]
    assert [grid.label(str(row), "norm") for row in (0, 4, 5)] == ["verified", "verified", None]
    assert grid.style("0", "norm", 1.5)["backgroundColor"]
    assert grid.style("9", "norm", None) == {}
    assert "verified" in grid.hover("0", "norm", 1.5)


def test_columns_whose_names_a_browser_would_take_for_its_own(home):
    make_run(home, lambda log: [log.append(0, name, 1.0) for name in ("__proto__", "constructor", "", " ")])
    grid = frames.of_runs(runs.read("all", home))
    titles = [title for title in grid.frame.columns if title not in runs.KEYS]
    assert not {"__proto__", "constructor"} & set(titles)
    assert [title.strip() for title in titles[:3]] == ["__proto__", "constructor", "(no name)"]
    assert len(set(titles)) == 4


def test_addresses_are_texts():
    assert frames.inert("https://outside.invalid/a.png") != "https://outside.invalid/a.png"
    assert frames.inert("loss: 3") == "loss: 3"


def test_only_runs_and_rows_that_fit_are_in_a_report(home):
    for number, lr in enumerate((0.1, 0.2, 0.3)):
        make_run(home, training(3, 2, lr=lr), name=f"run-{number}")
    from flor_runtime.query.where import Where

    found = report.gather(["loss"], "all", Where.parse("lr > 0.1 and epoch >= 2"), home)
    assert found.table.titles == ["run-2", "run-1"]
    assert found.grid is not None
    assert set(found.grid.frame["epoch"]) == {2, 3}
    assert found.notes == ["only what fits: lr > 0.1 and epoch >= 2"]
    with pytest.raises(FlorError, match="no run of 3 has a row"):
        report.gather([], "all", Where.parse("lr > 9"), home)


def committed(folder: Path, files: dict[str, bytes | None]) -> str:
    """Write files, or take them away, and commit that."""
    for name, data in files.items():
        (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, "add", "-A"], check=True)
    subprocess.run(["git", "-C", folder, *who, "commit", "-qm", "x"], check=True)
    return subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()


def test_code_of_two_runs(tmp_path):
    repo = str(tmp_path / ".git")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    first = committed(tmp_path, {"a.py": b"x = 1\n", "same.py": b"\n", "b.bin": b"\0"})
    second = committed(tmp_path, {"a.py": b"x = 2\n", "b.bin": None})
    found = versions.difference({"repo": repo, "vid": first}, {"repo": repo, "vid": second})
    assert [(each.path, each.kind, each.note) for each in found] == [
        ("a.py", "changed", ""),
        ("b.bin", "removed", "binary"),
    ]
    shown = markup.difference(found)
    assert '<span class="del">-x = 1</span><span class="add">+x = 2</span>' in shown
    assert "The code is the same" in markup.difference(
        versions.difference({"repo": repo, "vid": first}, {"repo": repo, "vid": first})
    )
    with pytest.raises(FlorError, match="was not kept"):
        versions.difference({"repo": repo, "vid": first}, {"run": "ab", "vid": None})
