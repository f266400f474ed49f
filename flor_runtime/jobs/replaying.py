"""The process of a replay that a server does: `python -m flor_runtime.jobs.replaying FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flor_runtime.errors import FlorError
from flor_runtime.jobs.replays import planned
from flor_runtime.replay.campaign import RunResult, default_slots
from flor_runtime.replay.execute import Progress, carry_out
from flor_runtime.replay.told import Lines
from flor_runtime.store.jobs import JobFolder
from flor_runtime.store.layout import Home

_PACE = 2.0  # seconds between lines on how far it is


class _Log(Lines):
    """Writes now and then how far it is: `flor jobs` shows the last line."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PACE

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PACE
            self.say(f"{progress.turns_done} of {progress.turns} turns, about {progress.until:.0f} s left")


def main(folder: Path) -> int:
    """Do the job; gives the exit code of the process: 0, 1 if nothing was recovered, 130 if it was interrupted."""
    home, told = Home(folder.parent.parent), _Log()
    try:
        job = JobFolder(folder).manifest()
        slots = job.get("jobs") or default_slots([home.run(str(job["replays"]))])
        plan = planned(home, job, slots)
    except FlorError as error:
        told.say(str(error))
        return 1
    if not plan.placed.names:  # by an earlier job, or there is no place for it any more
        placed = plan.placed
        told.ended(
            RunResult(
                plan.run, plan.manifest, recorded=placed.recorded, recovered=placed.recovered, refused=placed.refused
            )
        )
        return 1 if placed.refused else 0
    (result,) = carry_out([plan], slots, told)
    if result.stopped:
        return 130
    return 1 if result.error or result.refused or result.lost else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
