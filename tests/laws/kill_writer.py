"""A run that logs as fast as it can until it is killed, and says in a shared file what was acknowledged.

The n-th record and its place follow from n, so that the test can say what must be in the log.
"""

from __future__ import annotations

import mmap
import struct
import sys
from pathlib import Path

from flor_runtime.store.layout import RunFolder
from flor_runtime.store.runlog import RunLog

STEPS = 7  # records a turn of the loop


def value(number: int) -> object:
    """The value of the n-th record."""
    kind = number % 11
    if kind == 3:
        return f"text {number}"
    if kind == 5:
        return [number, {"n": number / 3}, None]
    if kind == 7:
        return number % 2 == 0
    if kind == 9:
        return number
    return number / 7


def name(number: int) -> str:
    """The name of the n-th record: a new one now and then."""
    return f"name {number // 5000}" if number % 100 == 0 else f"m{number % 11}"


def main(folder: Path, acknowledged: Path) -> None:
    run = RunFolder(folder)
    run.begin({"projid": "law7", "project": str(folder), "script": "x.py", "argv": [], "name": None})
    log = RunLog(run.log)
    with open(acknowledged, "r+b") as file:
        count = mmap.mmap(file.fileno(), 8)
    number = 0
    print("ready", flush=True)
    while True:
        if number % STEPS == 0:
            turn = log.context(0, "step", number // STEPS + 1)
        log.append(turn, name(number), value(number))
        number += 1
        struct.pack_into("<Q", count, 0, number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
