"""How long the parts of a replay take, by the times at which the run passed its boundaries."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flor_runtime.replay.claims import Place
from flor_runtime.replay.cost import Costs, Timing
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.segments import places
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder

_RESTORE = 0.005  # seconds, at least, for a turn whose blocks are all restored


@dataclass(frozen=True)
class Pace:
    """Seconds.

    Attributes:
        startup: until a worker's main loop begins.
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


def pace_of(run: RunFolder, reader: Reader, goals: Sequence[Goal]) -> Pace:
    """The pace of a run with these goals."""
    costs = Costs(Timing(run, reader), reader)
    goal = goals[0]
    wanted = {place for each in goals for place in places(each)}
    turns = [
        [costs.of_turn(goal, entry, turn) if (entry, turn) in wanted else costs.timing.turn for turn in range(count)]
        for entry, count in enumerate(goal.counts)
    ]
    starts = {place for place in wanted if costs.start(*place) is not None or (place[0] and not place[1])}
    begin = costs.course(Goal({}, goal.counts, frozenset(), False, WEAK), ()).seconds
    return Pace(begin, turns, costs.timing.rest, starts)


class Timeline:
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
