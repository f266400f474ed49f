"""From a million records on disk to the pivot."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.figures import Figure, interleaved
from flor_runtime.query import full_pivot
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog, read

EPOCHS, STEPS, NAMES = 100, 1000, 10


def _write(home: Home) -> Path:
    run = home.create_run()
    run.begin({"projid": "bench", "project": "/", "script": "train.py", "name": "bench", "argv": []})
    log = RunLog(run.log)
    names = [f"m{number}" for number in range(NAMES)]
    for epoch in range(1, EPOCHS + 1):
        turn = log.context(0, "epoch", epoch)
        for step in range(1, STEPS + 1):
            place = log.context(turn, "step", step)
            for name in names:
                log.append(place, name, step / epoch)
    log.close()
    return run.log


def run() -> Iterator[Figure]:
    """Ours reads the log and pivots; the floor is pandas' own reshaping of typed columns that are in memory."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        records = read(_write(home))
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

        assert len(full_pivot(runs="all", home=home)) == len(unstacked()) == EPOCHS * STEPS
        ours, floor = interleaved(lambda: full_pivot(runs="all", home=home), unstacked, 5, clock=time.process_time)
        yield Figure("1e6 records: disk to full_pivot, CPU", ours, floor, "unstack of columns in memory")
