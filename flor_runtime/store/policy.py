"""When to take a checkpoint: a running account of what they have cost against the time that has passed."""

from __future__ import annotations

_WEIGHT = 0.3  # of the newest measurement in the running mean


class Policy:
    """Keeps the cost of checkpoints within `epsilon` of the elapsed time.

    Costs are measured anew each time (the paper's rule measures them once: Flor, VLDB 2021, section 5.3).
    The first turn is always taken, so that a replay has a place to start.
    """

    def __init__(self, epsilon: float, budget: int) -> None:
        self._epsilon = epsilon
        self._budget = budget  # bytes
        self._spent = 0.0
        self._turn = 0.0  # seconds that the current turn's checkpoints have cost
        self._mean: float | None = None
        self._note = 0.0

    def take(self, elapsed: float, nbytes: int) -> bool:
        """Whether the turn that begins now gets its checkpoints. Args: seconds since the loop began; bytes stored so
        far."""
        if self._turn:
            self._mean = self._turn if self._mean is None else self._mean + _WEIGHT * (self._turn - self._mean)
            self._turn = 0.0
        if self._mean is None:
            return True
        return self._spent + self._mean <= self._epsilon * elapsed and nbytes < self._budget

    def affords_note(self, elapsed: float) -> bool:
        """Whether the digest of the random states can be had."""
        return self._spent + self._note <= self._epsilon * elapsed

    def paid(self, seconds: float) -> None:
        """Book a checkpoint of this turn."""
        self._spent += seconds
        self._turn += seconds

    def noted(self, seconds: float) -> None:
        """Book a note."""
        self._spent += seconds
        self._note = seconds
