"""A recorded program in which the N-th operation on the store fails."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flor_runtime.checks import Look, examine
from flor_runtime.store.runlog import read
from tests.runtime.processes import FLOR, HEAD, Ended, Folder, assert_same

PROGRAM = (
    "import flor, random\n"
    + HEAD
    + """
state = [float(n) for n in range(200)]
for epoch in range(3):
    total = 0.0
    for step in range(2):
        optimizer.zero_grad()
        Loss().backward()
        optimizer.step()
        total += random.random()
        flor.log("total", total)
    state = [s * 0.5 + epoch for s in state]
    flor.log("text", "some text " * (epoch + 1))
    print(epoch, repr(total), flush=True)
with open("result.txt", "w") as file:
    file.write(repr(state))
"""
).replace("state = [float", "random.seed(3)\nstate = [float")
RECORDS = [("total", 2), ("text", 1)]


@dataclass(frozen=True)
class Kind:
    """What fails, and how.

    Attributes:
        number: of `FAULT_KIND`. sticky: all that come later fail as well.
        kills: the process dies of it.
    """

    name: str
    number: int
    sticky: bool = False

    @property
    def kills(self) -> bool:
        return self.number == 3


KINDS = (
    Kind("no space, once", 0),
    Kind("no space from then on", 0, sticky=True),
    Kind("an input/output error, once", 1),
    Kind("input/output errors from then on", 1, sticky=True),
    Kind("a short write", 2),
    Kind("half a write, then death", 3),
)


class Sweep:
    """One program, once a fault.

    Args:
        preload: what puts the faults in: environment variables for the program.
    """

    def __init__(self, path: Path, preload: dict[str, str]) -> None:
        self._path, self._preload = path, preload
        path.mkdir(exist_ok=True)
        folder = Folder(self._new("raw"))
        folder.write("train.py", PROGRAM)
        self._raw = folder.end(folder.start(sys.executable, "train.py"))
        self._result = (folder.path / "result.txt").read_bytes()
        assert self._raw.code == 0

    def _new(self, name: str) -> Path:
        path = self._path / name
        path.mkdir()
        return path

    def run(self, name: str, kind: Kind | None, at: int) -> int:
        """Run it with a fault, and check what became of it; gives the number of operations."""
        folder = Folder(self._new(name))
        folder.write("train.py", PROGRAM)
        count = self._path / f"{name}.count"
        count.write_bytes(bytes(8))
        env = {**self._preload, "FAULT_PREFIX": str(folder.home.root), "FAULT_COUNT": str(count), "FAULT_AT": str(at)}
        if kind is not None:
            env |= {"FAULT_KIND": str(kind.number), "FAULT_STICKY": str(int(kind.sticky))}
        recorded = folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py", env=env))
        where = f"operation {at}: {kind and kind.name}"
        killed = kind is not None and kind.kills and recorded.code == -9
        if not killed:
            assert_same(self._raw, recorded)
            assert (folder.path / "result.txt").read_bytes() == self._result, where
            assert len(recorded.ours) <= 1, (where, recorded.ours)
        if kind is None:
            assert recorded.ours == []
        self._check_store(folder, recorded, killed, where)
        (number,) = struct.unpack("<Q", count.read_bytes())
        subprocess.run(["rm", "-rf", str(self._path / name), str(count)], check=True)
        return int(number)

    def _check_store(self, folder: Folder, recorded: Ended, killed: bool, where: str) -> None:
        if folder.home.root.is_dir():
            damage = [str(finding) for finding in examine(folder.home, Look()) if finding.is_damage]
            assert damage == [], where
        expected = [name for epoch in range(3) for name, times in RECORDS for _ in range(times)]
        for run in folder.home.all_runs():
            records = read(run.log)
            assert records.notes == [], where
            names = [name for _, name, _, _ in records.rows()]
            assert names == expected[: len(names)], where
            if killed:
                assert len(names) >= 3 * recorded.out.count(b"\n"), where
            elif not recorded.ours:
                assert names == expected, where
