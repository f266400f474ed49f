"""The levels that a value can be logged at, as the columns that say where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites

#: One value a run: logged before the main loop, or after it.
DATA_PREP = ("projid", "runid", "tstamp", "vid")
#: One value a turn of the main loop.
OUTR_LOOP = (*DATA_PREP, "epoch")
#: One value a step of a loop in a turn.
INNR_LOOP = (*OUTR_LOOP, "step")

NAMES = {DATA_PREP: "DATA_PREP", OUTR_LOOP: "OUTR_LOOP", INNR_LOOP: "INNR_LOOP"}


def level_of(sites: Sites) -> tuple[str, ...]:
    """The level of statements that stand there: the innermost one decides what a replay has to run."""
    if sites.blocks:
        return INNR_LOOP
    return OUTR_LOOP if sites.turn else DATA_PREP
