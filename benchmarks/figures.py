"""What a benchmark gives back, and how times are taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A ratio measured within one run.

    Attributes:
        name: what was measured.
        ours, floor: seconds (or what `unit` says); the ratio is ours / floor.
        against: what the floor is.
        target: what the ratio should be at most.
        at_most: the same for `ours`, where its unit tells more than the ratio.
    """

    name: str
    ours: float
    floor: float
    against: str
    unit: str = "s"
    target: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        ratio = self.ours / self.floor if self.floor else float("inf")
        times = f"{self.ours:.4g} {self.unit} against {self.floor:.4g} {self.unit}"
        target = "" if self.target is None else f", target {self.target:g}{'' if ratio <= self.target else ': missed'}"
        if self.at_most is not None:
            target += f", target {self.at_most:.3g} {self.unit}{'' if self.ours <= self.at_most else ': missed'}"
        return f"{self.name:<52} {ratio:8.3f} x{target}  ({times}: {self.against})"


def interleaved(
    ours: Callable[[], object], floor: Callable[[], object], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Median seconds of both, taken in turn, so that a busy machine is busy for both."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for function, times in ((ours, mine), (floor, theirs)):
            began = clock()
            function()
            times.append(clock() - began)
    return statistics.median(mine), statistics.median(theirs)
