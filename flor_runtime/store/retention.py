"""Which checkpoints are kept when they take more room than they may.

What is dropped is a whole turn, with its blocks: the one without which the gap between its neighbours is the smallest.
The first and the last turn stay. A file goes when no checkpoint that is left needs anything in it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flor_runtime import knobs

Turn = tuple[int, int]  # (entry into a main loop, turn)


@dataclass
class _Taken:
    when: float
    files: Counter[str] = field(default_factory=Counter)


class Kept:
    """The turns of a run that have checkpoints.

    Args:
        budget: bytes.

    Attributes:
        nbytes: all files together.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._sizes: dict[str, int] = {}
        self._turns: dict[Turn, _Taken] = {}
        self._users: Counter[str] = Counter()  # turns that need a file

    @property
    def turns(self) -> list[Turn]:
        """In their order."""
        return sorted(self._turns)

    @property
    def files(self) -> set[str]:
        """All that are needed."""
        return set(self._users)

    def add(self, turn: Turn, when: float, files: Iterable[str], sizes: Mapping[str, int]) -> None:
        """Book a checkpoint.

        Args:
            when: seconds since the run began.
            files: it needs. sizes: of those that are new.
        """
        taken = self._turns.setdefault(turn, _Taken(when))
        for name in files:
            if not taken.files[name]:
                self._users[name] += 1
            taken.files[name] += 1
        self._sizes.update(sizes)
        self.nbytes += sum(sizes.values())

    def too_many(self) -> list[Turn]:
        """The turns to drop, so that the rest is within the budget, as far as that can be had."""
        chosen: list[Turn] = []
        left, users = self.nbytes, self._users.copy()
        order = self.turns
        while left > self.budget and len(order) > 2:
            gaps = []
            for n in range(1, len(order) - 1):
                if self._freed(order[n], users):
                    gap = self._turns[order[n + 1]].when - self._turns[order[n - 1]].when
                    gaps.append((gap, n))
            if not gaps:
                break
            turn = order.pop(min(gaps)[1])
            left -= self._freed(turn, users)
            users.subtract(self._turns[turn].files.keys())
            chosen.append(turn)
        return chosen

    def _freed(self, turn: Turn, users: Mapping[str, int]) -> int:
        return sum(self._sizes.get(name, 0) for name in self._turns[turn].files if users[name] == 1)

    def drop(self, turns: Iterable[Turn]) -> set[str]:
        """Forget turns; gives the files that nobody needs any more."""
        gone: set[str] = set()
        for turn in turns:
            for name in self._turns.pop(turn).files:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name]
                    gone.add(name)
        for name in gone:
            self.nbytes -= self._sizes.pop(name, 0)
        return gone


def run_budget(folder: Path) -> int:
    """Bytes that the checkpoints of a new run may take."""
    budget = int(knobs.get("DISK_BUDGET_MB") * 1_000_000)
    try:
        return min(budget, int(knobs.get("DISK_SHARE") * shutil.disk_usage(folder).free))
    except OSError:
        return budget
