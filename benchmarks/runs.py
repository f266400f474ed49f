"""CPU time of `flor runs` and `flor show` over many small runs, with the index and without it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.figures import Figure
from flor_runtime.store import index
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog

#: runs, and epochs and steps of each with two values a step: 106 and some 10,000 records
RUNS = ((1000, 5, 20), (5000, 5, 20), (1000, 10, 500))
STARTED = 1_750_000_000.0


def _fill(home: Home, count: int, epochs: int, steps: int) -> None:
    for number in range(count):
        run = home.create_run()
        run.begin({"projid": "digits", "project": "/p", "script": "train.py", "argv": [], "started": STARTED + number})
        log = RunLog(run.log)
        log.append(0, "lr", 0.1 * (number % 7))
        for epoch in range(1, epochs + 1):
            turn = log.context(0, "epoch", epoch)
            for step in range(1, steps + 1):
                place = log.context(turn, "step", step)
                log.append(place, "loss", 1 / (epoch * step))
                if steps > 20:
                    log.append(place, "norm", 2 / (epoch * step))
            log.append(turn, "acc", epoch / 10)
        log.close()
        run.finish("finished")


def _cost(home: Home, *arguments: str) -> float:
    code = "import sys; from flor_runtime.cli import main; sys.argv[0] = 'flor'; main()"
    return _spent([sys.executable, "-c", code, *arguments], {**os.environ, "FLOR_HOME": str(home.root)})


def _spent(command: list[str], environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run() -> Iterator[Figure]:
    """Each command with the index that it finds, against the same with one that it can't use."""
    pandas = min(_spent([sys.executable, "-c", "import pandas"], {**os.environ}) for _ in range(3))
    for count, epochs, steps in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder) / "home")
            with mock.patch("os.fsync"):  # it is the reading that is measured
                _fill(home, count, epochs, steps)
            time.sleep(0.3)  # what has just been written is not put into the index
            commands = (("runs", "--all"), ("show", "acc", "--runs", "all"), ("show", "--runs", "all"))
            first = _cost(home, *commands[0])
            known = [min(_cost(home, *command) for _ in range(3)) for command in commands]
            index.discard(home)
            (home.root / "main.db").mkdir()
            plain = [min(_cost(home, *command) for _ in range(2)) for command in commands]
            what = f"{count} runs of {1 + epochs * (1 + steps * (1 + (steps > 20)))} records"
            yield Figure(
                f"flor runs, {what}, which fills the index",
                first,
                plain[0],
                "without an index",
                at_most=1.5 if count < 5000 else None,
            )
            for command, ours, floor in zip(commands, known, plain, strict=True):
                least = pandas + 0.5 if steps > 20 else None
                yield Figure(f"flor {' '.join(command)}, {what}", ours, floor, "without an index", at_most=least)
