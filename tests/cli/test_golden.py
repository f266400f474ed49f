"""Tables as they are, at 80 columns on a terminal and in a pipe.

`TZ=UTC python -m tests.cli.test_golden` writes them anew.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flor_runtime.cli.text import width
from flor_runtime.store.layout import FORMAT, Home, write_json
from tests.cli.running import ANSI, call, on_terminal
from tests.stores import STARTED, add_replay, make_run

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    "runs": ["runs"],
    "runs-columns": ["runs", "--sort", "acc", "-n", "3", "-c", "lr,acc"],
    "show": ["show", "lr", "loss", "acc", "grad_norm", "--by", "epoch"],
    "show-last": ["show", "--last"],
    "diff": ["diff", "baseline", "wide", "--only", "arguments", "--only", "metrics"],
    "log": ["log", "baseline", "-n", "7"],
}


def make_store(root: Path) -> Home:
    """Four runs: names short, wide, long and hostile; values of all sizes; two recovered columns."""
    home = Home(root / "home")
    names = "baseline", "wide", "実験 with a name that goes on and on", "\x1b[31m--help\x07"
    for number, name in enumerate(names):
        lr = 10.0 ** -(number + 1)

        def logging(log, number=number, lr=lr):
            log.append(0, "lr", lr)
            for epoch in (1, 2):
                turn = log.context(0, "epoch", epoch)
                for step in (1, 2):
                    log.append(log.context(turn, "step", step), "loss", 7**number * 1.0e-3 / (epoch + step))
                log.append(turn, "acc", (number + epoch) / 7)
                log.append(turn, "val", {"f1": epoch / 3, "auc": (epoch + number) / 9})
            log.append(0, "note", "a text\nof two lines, and longer than a cell may be: " + "x" * 40)

        arguments = ["--lr", str(lr), "--data", "/a/long/path/to/the/data"]
        run = make_run(home, logging, name=name, argv=arguments, end=None)
        ended = {"ended": STARTED + 60 * number + 90.0, "exit": 0, "error": None}
        write_json(
            run.path / "end.json", {"format": FORMAT, "status": "failed" if number == 1 else "finished", **ended}
        )
        (run.path / "large").write_bytes(b"x" * 24_000)  # so that any file system gives it a size of as many digits

        def recovered(log, number=number):
            for epoch in (1, 2):
                log.append(log.context(0, "epoch", epoch), "grad_norm", epoch / (number + 3))

        if number < 3:
            add_replay(
                run, "r", ["grad_norm"], recovered, label=("exact", "inexact", "verified")[number], ended=STARTED
            )
    return home


def shown(home: Home, name: str, *, terminal: bool) -> str:
    """What a command prints, with what differs from run to run in its place."""
    if terminal:
        text = ANSI.sub("", on_terminal(home, *COMMANDS[name]))
    else:
        done = call(home, *COMMANDS[name])
        text = done.out + done.err
    for number, run in enumerate(home.all_runs()):
        text = text.replace(run.id[:8], str(number) * 8)
    text = re.sub(r"\b\d\d\.\d kB", "30.0 kB", text)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.fixture(autouse=True, scope="module")
def utc() -> Iterator[None]:
    """The tables have local times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_store(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", COMMANDS)
def test_in_a_pipe(home, name):
    assert shown(home, name, terminal=False) == (GOLDEN / f"{name}.pipe.txt").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_at_eighty_columns(home, name):
    text = shown(home, name, terminal=True)
    assert max(map(width, text.splitlines())) <= 80 or name == "log"
    assert text == (GOLDEN / f"{name}.80.txt").read_text()


def write() -> None:
    """Make the golden files of what is printed now."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_store(Path(folder))
        for name in COMMANDS:
            for terminal, ending in ((False, "pipe"), (True, "80")):
                (GOLDEN / f"{name}.{ending}.txt").write_text(shown(home, name, terminal=terminal))


if __name__ == "__main__":
    write()
