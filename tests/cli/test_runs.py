"""`flor runs`: which runs, in which order, and what they are doing."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path

import pytest

from flor_runtime.cli.text import width
from flor_runtime.store import cleaning
from flor_runtime.store.layout import Home, host_name, process_place
from tests.cli.running import ANSI, call, on_terminal
from tests.stores import make_run, training


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for name, lr, epochs in (("a", 0.1, 3), ("b", 0.01, 1), ("c", 0.5, 2)):
        run = make_run(home, training(epochs, 1, lr=lr), name=name, argv=["--lr", str(lr)], end=None)
        run.finish("failed" if name == "b" else "finished")
    return home


def names(home: Home, *options: str) -> list[str]:
    done = call(home, "runs", "--json", *options)
    assert done.code == 0, done.err
    return [facts["name"] for facts in json.loads(done.out)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "abc"),
        (["--where", "lr > 0.05"], "ac"),
        (["--where", "status == 'failed'"], "b"),
        (["--where", "acc > 0.15 and name != 'c'"], "a"),  # a logged name stands for its last value
        (["--where", "started > '2030-01-01' or took >= 0"], "abc"),
        (["--sort", "lr"], "bac"),
        (["--sort", "acc", "-r"], "acb"),
        (["-n", "2"], "bc"),
        (["--sort", "lr", "-n", "1"], "c"),
        (["-r"], "cba"),
        (["a", "c"], "ac"),
        (["last:2"], "bc"),
    ],
)
def test_chosen_and_sorted(home, options, expected):
    assert names(home, *options) == list(expected)


def test_columns_that_are_asked_for(home):
    rows = [line.split() for line in call(home, "runs", "-c", "lr,acc").out.splitlines()]
    assert rows[0] == ["run", "name", "status", "started", "took", "size", "lr", "acc", "records", "arguments"]
    assert [row[-5:-3] for row in rows[1:]] == [["0.1", "0.3"], ["0.01", "0.1"], ["0.5", "0.2"]]
    rows = list(csv.DictReader(io.StringIO(call(home, "runs", "--format", "csv", "-c", "lr").out)))
    assert [(row["name"], row["lr"], row["status"]) for row in rows][1] == ("b", "0.01", "failed")
    assert call(home, "runs", "--format", "markdown").out.startswith("| run | name | status |")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sort", "lrr"], "--sort: no column 'lrr': did you mean lr?"),
        (["-c", "lrr"], "--columns: no column 'lrr': did you mean lr?"),
        (["--where", "statsu == 1"], "--where: no column 'statsu': did you mean status"),
        (["--where", "lr >"], "--where 'lr >':"),
        (["--where", "__import__('os')"], "--where"),
        (["zzz"], "no run 'zzz' in "),
        (["--json", "--format", "csv"], "--json and --format csv exclude one another"),
    ],
)
def test_bad_input(home, options, said):
    done = call(home, "runs", *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"flor: {said}")
    assert done.err.count("\n") == 1


def test_where_nothing_matches_a_line_says_so(home):
    assert call(home, "runs", "--where", "lr > 9") == (0, "", "flor: no run for which that is true\n")


class TestStatus:
    def test_a_number_that_is_used_again_is_another_process(self, tmp_path):
        home = Home(tmp_path / "home")
        make_run(home, training(), end=None, process=f"{process_place().partition(' ')[0]}:1")
        assert names(home, "--where", "status == 'killed'") == [None]

    @pytest.mark.parametrize(
        ("host", "place", "expected"),
        [
            ("gpu7", "another-boot pid:[1]", "elsewhere"),  # another machine
            (host_name(), f"{process_place().partition(' ')[0]} pid:[1]", "elsewhere"),  # a container
            (host_name(), "another-boot pid:[1]", "killed"),  # this machine, before it was started anew
        ],
    )
    def test_processes_that_cannot_be_seen(self, tmp_path, host, place, expected):
        home = Home(tmp_path / "home")
        run = make_run(home, training(), end=None, name="r", host=host, process_place=place, process="other:1", pid=1)
        assert json.loads(call(home, "runs", "r", "--json").out)["status"] == expected
        if expected == "elsewhere":
            assert "status     elsewhere: on " in call(home, "runs", "r").out
            (run.ckpt / "index.jsonl").parent.mkdir()
            (run.ckpt / "index.jsonl").touch()
            assert cleaning.clean(run, None).reason.startswith("may be alive")

    def test_a_week_without_a_sign_is_the_end(self, tmp_path):
        home = Home(tmp_path / "home")
        run = make_run(home, training(), end=None, host="gpu7", process_place="another-boot")
        week = time.time() - 8 * 86400
        for path in (run.path / "run.json", *run.path.glob("log/*")):
            os.utime(path, (week, week))
        assert run.status() == "killed"


def test_what_cannot_be_skipped_is_counted(tmp_path):
    home = Home(tmp_path / "home")
    plan = {"file": "train.py", "loops": [{"name": "x", "start": 7, "code": "FT301", "reason": "it returns"}]}
    make_run(home, training(), name="a", plans={"train.py": plan})
    make_run(home, training(), name="b")
    done = call(home, "runs")
    assert done.out.splitlines()[0].split()[-1] == "unskippable"
    assert [line.split()[-1] for line in done.out.splitlines()[1:]] == ["1", "10"]  # of the other one: its records
    assert json.loads(call(home, "runs", "--json").out)[0]["unskippable"] == ["train.py:7"]
    assert done.err == "flor: 1 run has loops that a replay can't skip: `flor runs RUN --explain` says why\n"
    assert "can't skip train.py:7: --explain says why" in call(home, "runs", "a").out


def test_eighty_columns_are_enough(tmp_path):
    home = Home(tmp_path / "home")
    for number in range(12):
        name = ["実験" * 20, "x" * 300, "--help", "\x1b[31mred\x07", "short", None][number % 6]
        make_run(home, training(), name=name, argv=["--data", "/a/long/path/" + "d" * 60])
    lines = ANSI.sub("", on_terminal(home, "runs")).splitlines()
    assert len(lines) == 14
    assert max(map(width, lines)) <= 80
    assert lines[0].split() == ["run", "name", "status", "started", "took", "size", "records", "arguments"]
    assert "\x07" not in "".join(lines)


def test_a_terminal_that_can_do_nothing_gets_nothing_special(home):
    shown = on_terminal(home, "runs", columns=200, TERM="dumb")
    assert "\x1b" not in shown
    assert shown.splitlines()[0].split()[-1] == "arguments"


def test_gc_as_json(home):
    (found,) = json.loads(call(home, "gc", "a", "--json").out)
    assert (found["name"], found["turns"], found["left_alone"]) == ("a", 0, "no checkpoints")
