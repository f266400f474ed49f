"""From records on disk to the pivot: a million and ten million of them, time and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.figures import Figure, interleaved
from flor_runtime.query import full_pivot
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog, read

STEPS, NAMES = 1000, 10
ROUNDS = 3
SECONDS, MEMORY = {100: 0.3, 1000: 3.0}, 1000  # by epochs; MB


def _write(home: Home, epochs: int) -> Path:
    run = home.create_run()
    run.begin({"projid": "bench", "project": "/", "script": "train.py", "name": "bench", "argv": []})
    log = RunLog(run.log)
    names = [f"m{number}" for number in range(NAMES)]
    for epoch in range(1, epochs + 1):
        turn = log.context(0, "epoch", epoch)
        for step in range(1, STEPS + 1):
            place = log.context(turn, "step", step)
            for name in names:
                log.append(place, name, step / epoch)
    log.close()
    return run.log


def run() -> Iterator[Figure]:
    """Ours reads the log and pivots; the floor is pandas' own reshaping of typed columns that are in memory."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        records = read(_write(home, 100))
        epochs = records.index[records.parent[records.ctx]]
        long = pd.DataFrame(
            {
                "epoch": epochs,
                "step": records.index[records.ctx],
                "name": records.name,
                "value": records.raw.view("f8"),
            }
        )

        def unstacked() -> pd.DataFrame:
            wide: pd.DataFrame = long.set_index(["epoch", "step", "name"])["value"].unstack().reset_index()
            return wide

        assert len(full_pivot(runs="all", home=home)) == len(unstacked()) == 100 * STEPS
        ours, floor = interleaved(lambda: full_pivot(runs="all", home=home), unstacked, 5, clock=time.process_time)
        yield Figure("1e6 records: disk to full_pivot, CPU", ours, floor, "unstack of columns in memory")
    for epochs, most in SECONDS.items():
        with tempfile.TemporaryDirectory() as folder:
            with mock.patch("os.fsync"):  # it is the reading that is measured
                _write(Home(folder), epochs)
            found = [_measured(folder) for _ in range(ROUNDS)]
            count = f"{epochs * STEPS * NAMES:.0e}".replace("e+0", "e")
            seconds, plain = min(first for first, *_ in found), min(last for *_, last in found)
            what = "numpy reading its files"
            yield Figure(f"{count} records: disk to full_pivot, a new process, CPU", seconds, plain, what, at_most=most)
            memory, before = min(memory for _, memory, *_ in found), min(before for _, _, before, _ in found)
            yield Figure(f"{count} records: peak memory", memory, before, "before", unit="MB", at_most=MEMORY)


def _measured(folder: str) -> list[float]:
    """CPU seconds, peak MB after and before, of one full_pivot in a new process; seconds that reading alone takes."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.pivot", folder], capture_output=True, check=True)
    return [float(text) for text in done.stdout.split()]


def _child(folder: str) -> None:
    import numpy as np
    import pandas as pd

    assert pd
    home = Home(folder)
    before = _peak()
    began = time.process_time()
    full_pivot(runs="all", home=home)
    seconds = time.process_time() - began
    after = _peak()
    began = time.process_time()
    for path in sorted(Path(folder).glob("runs/*/log/*.bin")):
        np.fromfile(path, np.uint8)
    print(seconds, after, before, time.process_time() - began)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    _child(sys.argv[1])
