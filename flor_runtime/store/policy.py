"""When to take a checkpoint: a running account of what they have cost against the time that has passed."""

from __future__ import annotations

_WEIGHT = 0.3  # of the newest measurement in the running mean
_RESTORE = 1.5  # a restoration, in costs of a checkpoint: a copy and a look at every byte
_RHO = 0.5
_SAVED = 8  # turns' costs: what is saved beyond that lapses


class Policy:
    """Keeps the cost of checkpoints within `epsilon` of the elapsed time.

    Costs are measured anew each time (the paper's rule measures them once: Flor, VLDB 2021, section 5.3). A checkpoint
    has to be worth it, too: restoring it takes at most half the time of computing what lies between it and the one
    before. (How long a replay takes to start is not counted: it starts once, and not for each checkpoint.)
    The first turn is always taken, so that a replay has a place to start; with an epsilon of 1, all are.

    The audit of the first turn is made whatever it costs: that is a debt, paid off with half of what is earned, so that
    short runs have checkpoints, too.

    What is not spent can be spent later, the costs of a few turns at most: a process that was stopped for an hour has
    not earned a checkpoint at each turn of the next.
    """

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._spent = 0.0
        self._audits = 0.0
        self._lapsed = 0.0
        self._turn = 0.0  # seconds that the checkpoints of the turn that was taken last have cost
        self._mean: float | None = None
        self._note = 0.0
        self._last = 0.0

    @property
    def spent(self) -> float:
        """Seconds, up to now."""
        return self._spent + self._audits

    def take(self, elapsed: float) -> bool:
        """Whether the turn that begins now gets its checkpoints; `elapsed`: seconds since the loop began."""
        cost = self._expected()
        if cost is None or self._epsilon >= 1:
            return True
        saved = self._saved(elapsed)
        if saved > _SAVED * cost:
            self._lapsed += saved - _SAVED * cost
        return self._saved(elapsed) >= cost and _RESTORE * cost <= _RHO * (elapsed - self._last)

    def affords_note(self, elapsed: float) -> bool:
        """Whether the digest of the random states can be had."""
        return self._saved(elapsed) >= self._note

    def affords(self, seconds: float, elapsed: float) -> bool:
        """Whether so much can be spent on something rare; what has lapsed counts, too."""
        return self._epsilon * elapsed - self.spent >= seconds

    def audited(self, seconds: float) -> None:
        """Book what is no part of a checkpoint, and rare."""
        self._audits += seconds

    def taken(self, elapsed: float) -> None:
        """Say that the turn which begins now gets its checkpoints."""
        self._mean, self._turn = self._expected(), 0.0
        self._last = elapsed

    def paid(self, seconds: float) -> None:
        """Book what a checkpoint of the turn that was taken last has cost, then or behind."""
        self._spent += seconds
        self._turn += seconds

    def noted(self, seconds: float) -> None:
        """Book a note."""
        self._spent += seconds
        self._note = seconds

    def _expected(self) -> float | None:
        if not self._turn or self._mean is None:
            return self._turn or self._mean
        return self._mean + _WEIGHT * (self._turn - self._mean)

    def _saved(self, elapsed: float) -> float:
        earned = self._epsilon * elapsed
        return earned - min(self._audits, earned / 2) - self._spent - self._lapsed
