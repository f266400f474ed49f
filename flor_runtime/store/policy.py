"""When to take a checkpoint: a running account of what they have cost against the time that has passed."""

from __future__ import annotations

_WEIGHT = 0.3  # of the newest measurement in the running mean
_RESTORE = 1.5  # a restoration, in costs of a checkpoint: a copy and a look at every byte
_RHO = 0.5


class Policy:
    """Keeps the cost of checkpoints within `epsilon` of the elapsed time.

    Costs are measured anew each time (the paper's rule measures them once: Flor, VLDB 2021, section 5.3). A checkpoint
    has to be worth it, too: restoring it takes at most half the time of computing what lies between it and the one
    before. (How long a replay takes to start is not counted: it starts once, and not for each checkpoint.)
    The first turn is always taken, so that a replay has a place to start; with an epsilon of 1, all are.
    """

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._spent = 0.0
        self._turn = 0.0  # seconds that the current turn's checkpoints have cost
        self._mean: float | None = None
        self._note = 0.0
        self._last = 0.0

    @property
    def spent(self) -> float:
        """Seconds, up to now."""
        return self._spent

    def take(self, elapsed: float) -> bool:
        """Whether the turn that begins now gets its checkpoints; `elapsed`: seconds since the loop began."""
        if self._turn:
            self._mean = self._turn if self._mean is None else self._mean + _WEIGHT * (self._turn - self._mean)
            self._turn = 0.0
        if self._mean is None or self._epsilon >= 1:
            return True
        return self._spent + self._mean <= self._epsilon * elapsed and _RESTORE * self._mean <= _RHO * (
            elapsed - self._last
        )

    def affords_note(self, elapsed: float) -> bool:
        """Whether the digest of the random states can be had."""
        return self._spent + self._note <= self._epsilon * elapsed

    def taken(self, elapsed: float) -> None:
        """Say that the turn which begins now has got its checkpoint."""
        self._last = elapsed

    def paid(self, seconds: float) -> None:
        """Book a checkpoint of this turn."""
        self._spent += seconds
        self._turn += seconds

    def noted(self, seconds: float) -> None:
        """Book a note."""
        self._spent += seconds
        self._note = seconds
