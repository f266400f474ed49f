"""How long the parts of a replay take, by the times at which the run passed its boundaries."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection
from dataclasses import dataclass

from flor_runtime.replay.claims import Place
from flor_runtime.replay.cost import Timing
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.segments import places
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder

_RESTORE = 0.005  # seconds, at least, for a turn whose blocks are all restored


@dataclass(frozen=True)
class Pace:
    """Seconds.

    Attributes:
        startup: until the main loop begins.
        turns: of each turn that is wanted, by entry; blocks that are restored don't count.
        tail: after the last main loop.
        starts: the turns at which a segment may begin.
    """

    startup: float
    turns: list[list[float]]
    tail: float
    starts: Collection[Place] = frozenset()

    def of_turn(self, place: Place) -> float:
        """One turn."""
        entry, turn = place
        if entry < len(self.turns) and turn < len(self.turns[entry]):
            return self.turns[entry][turn]
        return _RESTORE

    def of(self, goal: Goal) -> float:
        """A whole segment."""
        seconds = self.startup + sum(map(self.of_turn, places(goal))) + (self.tail if goal.to_end else 0.0)
        if goal.mode != WEAK and places(goal):  # all that comes before is stepped through
            last = places(goal)[-1]
            before = ((e, t) for e, turns in enumerate(self.turns) for t in range(len(turns)))
            seconds += sum(self.of_turn(place) for place in before if place <= last) - sum(
                map(self.of_turn, places(goal))
            )
        return seconds


def pace_of(run: RunFolder, reader: Reader, counts: list[int], probed: Collection[str]) -> Pace:
    """The pace of a run whose blocks are restored, except the probed ones."""
    timing = Timing(run, reader)
    turns = [_turns(reader, entry, count, probed) for entry, count in enumerate(counts)]
    starts = {(k.entry, k.turn) for k, e in reader.entries.items() if not k.block and e.usable}
    starts |= {(entry, 0) for entry in range(1, len(counts))}
    return Pace(timing.startup, turns, timing.rest, frozenset(starts))


def _turns(reader: Reader, entry: int, count: int, probed: Collection[str]) -> list[float]:
    passed = sorted((k.turn, e.when) for k, e in reader.entries.items() if k.entry == entry and not k.block)
    whole: list[float] = []
    for (first, began), (last, ended) in itertools.pairwise(passed):
        whole += [max(0.0, ended - began) / (last - first)] * (last - first)
    mean = sum(whole) / len(whole) if whole else _RESTORE
    start = passed[0][0] if passed else 0
    whole = ([mean] * start + whole + [mean] * count)[:count]
    saved = _saved(reader, entry, probed)
    return [max(_RESTORE, seconds - saved.get(turn, 0.0)) for turn, seconds in enumerate(whole)]


def _saved(reader: Reader, entry: int, probed: Collection[str]) -> dict[int, float]:
    """Seconds that restoring blocks saves, by turn: each ran from the mark before it to its own."""
    marks: dict[int, list[tuple[float, str, bool]]] = {}
    for key, line in reader.entries.items():
        if key.entry == entry:
            marks.setdefault(key.turn, []).append((line.when, key.block, line.usable))
    saved: dict[int, float] = {}
    for turn, found in marks.items():
        for (began, *_), (ended, block, usable) in itertools.pairwise(sorted(found)):
            if block and usable and block not in probed:
                saved[turn] = saved.get(turn, 0.0) + ended - began
    return saved


class Course:
    """A segment with the time that it takes, turn by turn."""

    def __init__(self, goal: Goal, pace: Pace) -> None:
        self._pace = pace
        self._places = places(goal)
        self._sums = [0.0, *itertools.accumulate(map(pace.of_turn, self._places))]  # seconds before each, and of all
        self._tail = pace.tail if goal.to_end else 0.0
        self._starts = [n for n, place in enumerate(self._places) if place in pace.starts]

    def turns_after(self, claimed: Place | None) -> int:
        """How many turns are not done."""
        return len(self._places) - (0 if claimed is None else bisect.bisect_left(self._places, claimed))

    def remaining(self, claimed: Place | None, spent: float) -> float:
        """Seconds that it still takes.

        Args:
            claimed: the turn that its worker is at; None: it has not come that far.
            spent: seconds since it began, or since it claimed that turn.
        """
        return self._now(claimed, spent) + self._sums[-1] - self._sums[self._next(claimed)] + self._tail

    def best_cut(self, claimed: Place | None, spent: float) -> tuple[Place, float] | None:
        """Where a second worker had best begin, and the seconds until both are done; None if that would not help.

        Args:
            claimed, spent: as for `remaining`.
        """
        now, following = self._now(claimed, spent), self._next(claimed)
        done = self._sums[following]
        first = bisect.bisect_left(self._starts, following if claimed is not None else 1)

        def here(n: int) -> float:
            return now + self._sums[self._starts[n]] - done

        def there(n: int) -> float:
            return self._pace.startup + self._sums[-1] - self._sums[self._starts[n]] + self._tail

        # The later the cut, the more is left here, and the less is there: the best is where they meet.
        found = range(first, len(self._starts))
        meet = bisect.bisect_left(found, True, key=lambda n: here(n) >= there(n)) + first
        best = min((n for n in (meet - 1, meet) if n in found), key=lambda n: max(here(n), there(n)), default=None)
        if best is None:
            return None
        until, whole = max(here(best), there(best)), self.remaining(claimed, spent)
        return (self._places[self._starts[best]], until) if until < 0.9 * whole and whole - until > 0.2 else None

    def _next(self, claimed: Place | None) -> int:
        return 0 if claimed is None else bisect.bisect_right(self._places, claimed)

    def _now(self, claimed: Place | None, spent: float) -> float:
        return max(0.0, (self._pace.startup if claimed is None else self._pace.of_turn(claimed)) - spent)
