"""A store for exports: a run with everything that a format may stumble over, and what a replay recovered of it."""

from __future__ import annotations

import math
from pathlib import Path

from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.runlog import RunLog
from tests.stores import add_replay, make_run, training

ODD = "odd name? ü/\n"
NUMBERS = {"third": 1 / 3, "tiny": 5e-324, "huge": 1e300, "inf": math.inf, "zero": -0.0}


def odd(log: RunLog) -> None:
    """Two epochs of three steps, and values of all kinds beside them."""
    training(2, 3, 0.1 / 3)(log)
    for name, value in NUMBERS.items():
        log.append(0, name, value)
    log.append(0, "nan", math.nan)
    log.append(0, "note", "first <b>try</b>")
    log.append(0, ODD, 3)
    log.append(0, "odd name_ ü_", 4)  # what another name may become
    log.append(0, "val", {"loss": 0.5, "acc": 1})
    log.append(0, "sizes", [1, 2])
    log.append(0, "big", 2**62 + 1)


def recovered(log: RunLog) -> None:
    """A gradient norm an epoch."""
    for epoch in (1, 2):
        log.append(log.context(0, "epoch", epoch), "grad_norm", epoch / 7)


def parameters(run: RunFolder) -> None:
    """What was captured: parameters, and a metric of a tracker's."""
    log = RunLog(run.captured)
    log.append(0, "lr", 0.1)
    log.append(0, "optimizer", "adam")
    log.append(0, "shuffle", True)
    log.append(log.context(0, "epoch", 1), "tracked", 9.5)
    log.close()


def store(root: Path) -> tuple[Home, RunFolder, RunFolder]:
    """A store with two runs."""
    home = Home(root)
    first = make_run(home, odd, name="base", argv=["--lr", "0.1"])
    parameters(first)
    add_replay(first, "20250615-1", ["grad_norm"], recovered, label="verified")
    second = make_run(home, training(1, 2, 0.2), end="failed")
    return home, first, second
