"""All tunables in one place: each has a default, an environment variable and an override for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_DEFAULTS: dict[str, float] = {
    "EPSILON": 0.01,  # the share of training time that checkpoints may cost
    "ALLOWANCE": 0.25,  # seconds that they may cost in a short run, at ten times that share at most
    "DISK_BUDGET_MB": 10_000,  # of checkpoints, a run; beyond it, turns are thinned out
    "DISK_SHARE": 0.2,  # of the free disk: what a run's checkpoints may take at most, and those of all ended runs
    "STORE_BUDGET_MB": 0,  # of all ended runs' checkpoints; 0: by the share
    "PICKLE": 0,  # 1: objects of compiled code are kept as signed pickles
    "CAPTURE": 1,  # 0: parameters and trackers' metrics are not recorded
    "CODE_LIMIT": 5_000_000,  # bytes of a file that is kept with the code of a run
    "REPLAY_NETWORK": 0,  # 1: a replay may use it
    "REPLAY_JOBS": 0,  # 0: one worker a core
    "JOB_LEASE": 60,  # seconds of silence after which a job's server is given up, where its process can't be looked at
}
_overrides: dict[str, float] = {}


def get(name: str) -> float:
    """The value in force: a test's override, else `FLOR_<name>` if it is a number, else the default."""
    if name in _overrides:
        return _overrides[name]
    try:
        return float(os.environ[f"FLOR_{name}"])
    except (KeyError, ValueError):
        return _DEFAULTS[name]


@contextmanager
def override(name: str, value: float) -> Iterator[None]:
    """Set a tunable for the length of a `with` block."""
    before = dict(_overrides)
    _overrides[name] = value
    try:
        yield
    finally:
        _overrides.clear()
        _overrides.update(before)
