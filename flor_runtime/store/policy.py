"""When to take a checkpoint: a running account of what they have cost against the time that has passed."""

from __future__ import annotations

_WEIGHT = 0.3  # of the newest measurement in the running mean
_RESTORE = 1.5  # a restoration, in costs of a checkpoint: a copy and a look at every byte
_RHO = 0.5
_SAVED = 8  # turns' costs: what is saved beyond that lapses
_PACE = 10  # times epsilon: how fast the allowance may be spent
_GUESS = 0.25  # what telling a state costs, in costs of a turn's checkpoints, before it is known
_LAST = 0.02  # seconds for telling the last state, in any case
_TOLD = 0.25  # of what is earned: for telling states, where it is not enough for all checkpoints


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

    Args:
        epsilon: share of the elapsed time.
        allowance: seconds that a run may spend in any case, at ten times epsilon at most: where epsilon of the elapsed
            time is more, this adds nothing.
    """

    def __init__(self, epsilon: float, allowance: float = 0.0) -> None:
        self._epsilon = epsilon
        self._allowance = allowance
        self._spent = 0.0
        self._audits = 0.0
        self._lapsed = 0.0
        self._turn = 0.0  # seconds that the checkpoints of the turn that was taken last have cost
        self._mean: float | None = None
        self._note = 0.0
        self._tell: float | None = None  # what telling a state costs
        self._told = 0.0  # all of them
        self._overdrawn = False
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

    def affords_telling(self, elapsed: float, *, last: bool = False) -> bool:
        """Whether it can be told what the state is, so that a replay can compare it. Checkpoints go first: where they
        take all that is earned, this gets a quarter of it.

        Args:
            last: nothing follows. That state proves what led to it: it is told, once, whatever was spent, if that
                alone is within what is earned, or takes a moment only.
        """
        cost = self._tell if self._tell is not None else _GUESS * (self._expected() or 0.0)
        if last and not self._overdrawn and self._epsilon and cost <= max(_LAST, self._earned(elapsed)):
            self._overdrawn = True
            return True
        saved = self._saved(elapsed)
        plenty = saved >= cost + (self._expected() or 0.0)
        return saved >= cost and (plenty or self._told + cost <= _TOLD * self._earned(elapsed))

    def told(self, seconds: float) -> None:
        """Book what telling a state has cost."""
        self._spent += seconds
        self._told += seconds
        self._tell = seconds if self._tell is None else self._tell + _WEIGHT * (seconds - self._tell)

    def affords_note(self, elapsed: float) -> bool:
        """Whether the digest of the random states can be had."""
        return self._saved(elapsed) >= self._note

    def affords(self, seconds: float, elapsed: float) -> bool:
        """Whether so much can be spent on something rare; what has lapsed counts, too."""
        return self._earned(elapsed) - self.spent >= seconds

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
        earned = self._earned(elapsed)
        return earned - min(self._audits, earned / 2) - self._spent - self._lapsed

    def _earned(self, elapsed: float) -> float:
        share = self._epsilon * elapsed
        return max(share, min(self._allowance, _PACE * share))
