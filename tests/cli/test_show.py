"""`flor show`: fewer rows, files, and what other programs read."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog
from tests.cli.running import ANSI, call, on_terminal
from tests.stores import add_replay, make_run, training


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for number in range(3):
        make_run(home, training(2, 2, lr=0.1 + number), name=f"v{number}")
    return home


def recovered(*epochs: int):
    def logging(log):
        for epoch in epochs:
            log.append(log.context(0, "epoch", epoch), "grad_norm", epoch / 7)

    return logging


def columns(done):
    """The rows of a table behind the run and its version."""
    return [" ".join(line.split()[2:]) for line in done.out.splitlines()[1:]]


class TestFewerRows:
    def test_last_has_one_row_a_run(self, home):
        rows = [line.split() for line in call(home, "show", "--last", "lr", "loss", "acc").out.splitlines()]
        assert rows == [
            ["run", "vid", "lr", "loss", "acc"],
            ["v0", "0000000", "0.1", "0.00454545", "0.2"],
            ["v1", "1111111", "1.1", "0.05", "0.2"],
            ["v2", "2222222", "2.1", "0.0954545", "0.2"],
        ]

    def test_by_a_loop_has_the_last_value_in_each_turn(self, home):
        rows = [line.split() for line in call(home, "show", "--by", "epoch", "loss", "--runs", "v0").out.splitlines()]
        assert rows == [
            ["run", "vid", "epoch", "loss"],
            ["v0", "0000000", "1", "0.00833333"],
            ["v0", "0000000", "2", "0.00454545"],
        ]

    def test_a_value_that_only_an_earlier_turn_has_stays(self, home, tmp_path):
        other = Home(tmp_path / "other")
        run = make_run(other, training(3, 1), name="r")
        add_replay(run, "a", ["grad_norm"], recovered(1, 2))
        assert call(other, "show", "--last", "acc", "grad_norm").out.splitlines()[1].split()[2:] == ["0.3", "0.285714*"]

    def test_turns_of_an_outer_loop_stay_apart(self, tmp_path):
        def folds(log):
            for fold in (1, 2):
                for epoch in (1, 2):
                    log.append(log.context(log.context(0, "fold", fold), "epoch", epoch), "acc", 10 * fold + epoch)

        other = Home(tmp_path / "other")
        make_run(other, folds, name="r")
        assert columns(call(other, "show", "--by", "epoch")) == ["1 1 11", "2 1 12", "1 2 21", "2 2 22"]
        assert columns(call(other, "show", "--by", "fold")) == ["1 12", "2 22"]

    def test_entries_into_the_main_loop_stay_apart_in_their_order(self, tmp_path):
        def stopped_early(log):
            for name, epochs in (("epoch", 3), ("epoch@1", 1)):
                for epoch in range(1, epochs + 1):
                    log.append(log.context(0, name, epoch), "acc", f"{name} {epoch}")

        other = Home(tmp_path / "other")
        make_run(other, stopped_early, name="r")
        expected = ["1 1 epoch 1", "2 1 epoch 2", "3 1 epoch 3", "1 2 epoch@1 1"]
        assert columns(call(other, "show")) == columns(call(other, "show", "--by", "epoch")) == expected
        assert columns(call(other, "show", "--last")) == ["epoch@1 1"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--by", "epoc"], "--by: no rows of a loop 'epoc': did you mean 'epoch'?"),
            (["--by", "x"], "--by: no rows of a loop 'x': there are epoch, step, run"),
            (["--by", "epoch", "--last"], "--last is --by run: give one of --last and --by"),
            (["--json", "--format", "csv"], "--json and --format csv exclude one another"),
            (["-o", "table.xyz"], "table.xyz: say --format, or end the name with .csv, .json, .parquet, .md, .txt"),
            (["-o", "/nowhere/x.csv"], "/nowhere/x.csv: can't be written: No such file or directory"),
            (["--runs", "last:0"], "no run 'last:0'"),
        ],
    )
    def test_bad_input(self, home, options, said):
        done = call(home, "show", *options)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"flor: {said}")
        assert done.err.count("\n") == 1

    def test_the_last_runs(self, home):
        assert [row["runid"] for row in json.loads(call(home, "show", "lr", "--runs", "last:2", "--json").out)] == [
            "v1",
            "v2",
        ]
        make_run(home, training(1, 1), name="last:2")
        assert [row["runid"] for row in json.loads(call(home, "show", "lr", "--runs", "last:2", "--json").out)] == [
            "last:2"
        ]


class TestFiles:
    def test_a_file_by_its_name(self, home, tmp_path):
        for name, begins in (
            ("t.csv", b"projid,runid,"),
            ("t.json", b"[\n{"),
            ("t.md", b"| run | vid |"),
            ("t.txt", b"run  vid "),
            ("t.parquet", b"PAR1"),
        ):
            done = call(home, "show", "loss", "-o", tmp_path / name)
            assert (done.code, done.out) == (0, "")
            assert (tmp_path / name).read_bytes().startswith(begins)
        assert len((tmp_path / "t.txt").read_text().splitlines()) == 13
        assert {path.name for path in tmp_path.iterdir()} == {
            *("home", "t.csv", "t.json", "t.md", "t.txt", "t.parquet")
        }

    def test_texts_in_a_file_are_as_they_were_logged(self, tmp_path):
        home, path, text = Home(tmp_path / "home"), tmp_path / "x.csv", 'a\nb, "c"\x1b[31m\u202e'
        make_run(home, lambda log: log.append(0, "text", text))
        assert call(home, "show", "text", "-o", path).code == 0
        [row] = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        assert row["text"] == text
        assert 'a b, ""c""[31m' in call(home, "show", "text", "--format", "csv").out

    def test_a_file_that_is_there_stays_until_the_new_one_is_whole(self, home, tmp_path):
        (tmp_path / "real.csv").write_text("old")
        (tmp_path / "link.csv").symlink_to("real.csv")
        assert call(home, "show", "lossy", "-o", tmp_path / "link.csv").code == 2
        assert (tmp_path / "real.csv").read_text() == "old"
        assert call(home, "show", "loss", "-o", tmp_path / "link.csv").code == 0
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "real.csv").read_text().startswith("projid")

    def test_provenance_in_columns(self, home):
        add_replay(home.find("v1"), "a", ["grad_norm"], recovered(1, 2), label="verified")
        rows = list(csv.DictReader(io.StringIO(call(home, "show", "acc", "grad_norm", "--format", "csv",
                                                    "--provenance").out)))  # fmt: skip
        assert [row["grad_norm label"] for row in rows] == ["", "", "verified", "verified", "", ""]
        assert "acc label" not in rows[0]


class TestParquet:
    def test_types_and_nested_values(self, tmp_path):
        home = Home(tmp_path / "home")

        def logging(log):
            log.append(0, "lr", 0.1)
            log.append(0, "flag", True)
            log.append(0, "text", "x\x1b\ud800")
            log.append(0, "list", [1, 2, 3])
            log.append(0, "rows", [{"a": 1.5, "b": "x"}])
            log.append(0, "mixed", [1, "x"])
            log.append(0, "nothing", None)
            log.append(0, "array", np.arange(4.0).reshape(2, 2))
            log.append(0, "big", 2**70)
            log.append(0, "when", datetime(2026, 1, 2, 3, 4, 5))
            for epoch in (1, 2):
                name, value = ("count", 1) if epoch == 1 else ("nan", float("nan"))
                log.append(log.context(0, "epoch", epoch), name, value)

        make_run(home, logging, name="r")
        path = tmp_path / "t.parquet"
        assert call(home, "show", "-o", path).code == 0
        table = pq.read_table(path)
        kinds = {field.name: str(field.type) for field in table.schema}
        assert {name: kinds[name] for name in ("epoch", "lr", "flag", "text", "count", "nan", "when", "tstamp")} == {
            "epoch": "int64", "lr": "double", "flag": "bool", "text": "string", "count": "int64", "nan": "double",
            "when": "timestamp[us]", "tstamp": "timestamp[us]",
        }  # fmt: skip
        first, second = table.to_pylist()
        assert (first["epoch"], first["count"], first["nan"], second["count"]) == (1, 1, None, None)
        assert second["nan"] != second["nan"]
        assert (first["list"], first["rows"]) == ([1, 2, 3], [{"a": 1.5, "b": "x"}])
        assert first["array"] == [[0.0, 1.0], [2.0, 3.0]]
        assert json.loads(first["mixed"]) == [1, "x"]
        assert json.loads(first["big"]) == 2**70
        assert table.schema.field("mixed").metadata == {b"flor": b"json"}
        assert first["text"] == "x\x1b\\ud800"

    def test_without_pyarrow_one_line_says_what_to_install(self, home, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        done = call(home, "show", "--format", "parquet")
        assert (done.code, done.err) == (2, 'flor: Parquet needs pyarrow: pip install "flor[parquet]"\n')


def test_on_a_terminal_many_names_come_in_a_few_parts(tmp_path):
    home = Home(tmp_path / "home")
    make_run(home, lambda log: [log.append(0, f"layer{n}.weight.grad_norm", n / 7) for n in range(40)], name="r")
    lines = ANSI.sub("", on_terminal(home, "show")).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("run ") for line in lines) == 4
    assert lines[-1] == "29 names more: name those that you want, or --all"


@pytest.mark.parametrize(
    "command",
    [
        ["show"], ["show", "--json"], ["show", "--format", "csv"], ["show", "--format", "markdown"], ["runs"],
        ["runs", "--json"], ["runs", "--columns", "seed"], ["log", "a"], ["log", "a", "--json"], ["diff", "a", "b"],
        ["diff", "a", "b", "--json"], ["sql", "SELECT * FROM logs, pivot, parameters"], ["export", "csv"],
        ["export", "tensorboard"], ["report", "-o", "report.html"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_integers_that_python_does_not_write_out(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path / "home")
    for name, huge in (("a", 10**5000), ("b", -(10**400))):
        run = make_run(home, lambda log, huge=huge: logged(log, huge), name=name)
        given = RunLog(run.captured)
        given.append(0, "seed", huge)
        given.close()
    done = call(home, *command)
    assert (done.code, "Error" in done.err) == (0, False)


def logged(log, huge):
    turn = log.context(0, "epoch", 1)
    for name, value in (("plain", huge), ("inside", {"a": huge, "b": [huge, 1.5]}), ("listed", [huge]), ("x", 1)):
        log.append(turn, name, value)
