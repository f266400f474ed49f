"""`flor log`: what a run has logged, and what it goes on to log."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flor_runtime.store.layout import Home
from tests.cli.running import FLOR, call, environment
from tests.stores import make_run, training

WRITER = """
import sys, time
from flor_runtime.store.layout import Home
from tests.stores import make_run

def logging(log):
    print("begun", flush=True)
    for number, line in enumerate(sys.stdin, 1):
        log.append(log.context(0, "epoch", number), "loss", number / 10)

make_run(Home(sys.argv[1]), logging, name="live", end=None).finish("finished")
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    make_run(home, training(2, 2), name="done")
    return home


class Live:
    """A run that goes on as far as it is told to, and a `flor log -f` of it."""

    def __init__(self, home: Home, *options: str) -> None:
        env = environment(home)
        self.run = subprocess.Popen([sys.executable, "-c", WRITER, str(home.root)], env=env, text=True,
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert self.run.stdout is not None
        self.run.stdout.readline()
        self.turn()
        self.log = subprocess.Popen([*FLOR, "log", "-f", *options], env=env, text=True, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)  # fmt: skip
        assert self.log.stdout is not None
        self.first = self.log.stdout.readline()

    def turn(self) -> None:
        assert self.run.stdin is not None
        self.run.stdin.write("\n")
        self.run.stdin.flush()

    def close(self) -> None:
        for process in (self.run, self.log):
            process.kill()
            with contextlib.suppress(OSError, ValueError):
                process.communicate()


@pytest.fixture
def live(home: Home) -> Iterator[Live]:
    found = Live(home)
    yield found
    found.close()


class TestWhatIsThere:
    def test_all_in_order(self, home):
        assert call(home, "log").out.splitlines()[:5] == [
            "lr = 0.1",
            "epoch 1 step 1  loss = 0.00909091",
            "epoch 1 step 2  loss = 0.00833333",
            "epoch 1  acc = 0.1",
            "epoch 2 step 1  loss = 0.0047619",
        ]

    def test_names_and_the_last_ones(self, home):
        assert call(home, "log", "done", "acc", "best", "-n", "2").out == "epoch 2  acc = 0.2\nbest = 0.2\n"
        assert call(home, "log", "done", "-n", "0") == (0, "", "")

    def test_lines_of_json_have_values_in_full(self, home):
        lines = [json.loads(line) for line in call(home, "log", "done", "loss", "--json").out.splitlines()]
        assert lines[0] == {"loop": {"epoch": 1, "step": 1}, "name": "loss", "value": 0.1 / 11}
        assert len(lines) == 4

    def test_following_what_has_ended(self, home):
        done = call(home, "log", "done", "acc", "-f")
        assert (done.out.count("\n"), done.err) == (2, "flor: done: finished\n")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["done", "los"], "no run logs 'los': did you mean 'loss'?"),
            (["nobody"], "no run 'nobody' in "),
        ],
    )
    def test_bad_input(self, home, words, said):
        done = call(home, "log", *words)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert done.err.startswith(f"flor: {said}")

    def test_a_name_may_have_an_at(self, tmp_path):
        home = Home(tmp_path / "home")
        make_run(home, lambda log: log.append(0, "mAP@0.5", 0.25), name="r")
        assert call(home, "log", "r", "mAP@0.5").out == "mAP@0.5 = 0.25\n"

    def test_hostile_names_and_values(self, tmp_path):
        home = Home(tmp_path / "hostile")
        make_run(
            home, lambda log: log.append(log.context(0, "\x1b]0;x\x07", 1), "\x1b[2J" + "n" * 300, "a\nb\x9b" * 99)
        )
        (line,) = call(home, "log").out.splitlines()
        assert line.startswith("]0;x 1  [2Jnnn")
        assert len(line) < 330


class TestFollowing:
    def test_until_it_ends(self, live):
        assert live.first == "epoch 1  loss = 0.1\n"
        live.turn()
        live.turn()
        live.run.communicate()
        out, err = live.log.communicate(timeout=60)
        assert (out, err) == ("epoch 2  loss = 0.2\nepoch 3  loss = 0.3\n", "flor: live: finished\n")
        assert live.log.returncode == 0

    def test_until_its_process_is_gone(self, live):
        live.turn()
        time.sleep(0.3)
        live.run.kill()
        live.run.wait()
        out, err = live.log.communicate(timeout=60)
        assert (out, err, live.log.returncode) == ("epoch 2  loss = 0.2\n", "flor: live: killed\n", 0)

    def test_an_interrupt_is_quiet(self, live):
        live.log.send_signal(signal.SIGINT)
        assert live.log.communicate(timeout=60) == ("", "")
        assert live.log.returncode == 130

    def test_a_reader_that_goes_away_is_no_error(self, live):
        live.log.stdout.close()
        live.turn()
        assert live.log.stderr.read() == ""
        assert live.log.wait() == 141
