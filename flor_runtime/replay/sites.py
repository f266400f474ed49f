"""Where new statements stand in relation to the main loop of a version and its blocks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.store.checkpoints import Key

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites


def find_sites(
    script: str,
    sources: dict[str, bytes],
    lines: dict[str, list[int]],
    settings: dict[str, Any],
    recorded: Collection[Key] = (),
) -> Sites:
    """Where the new statements stand in relation to the main loop and its blocks.

    Args:
        settings: that the run was instrumented with.
        recorded: the boundaries that it passed.
    """
    from flor_transform import instrument_project
    from flor_transform.analysis import sites
    from flor_transform.analysis.marked import read_plan
    from flor_transform.settings import Settings

    beside = Path(script).parent
    local = {Path(path).relative_to(beside).as_posix(): text for path, text in sources.items()}
    results = instrument_project(Path(script).name, local, settings=Settings.from_mapping(settings))
    plans = {
        name: read_plan(name, local[name]) if result.plan.instrumented else result.plan
        for name, result in results.items()
    }
    if recorded and not any(not loop.refused for plan in plans.values() for loop in plan.loops):
        # A loop was recorded that nothing in the text tells of: everything has to run.
        return sites.Sites(before=True, turn=True, blocks=frozenset(key.block for key in recorded) - {""}, after=True)
    marks = {Path(path).relative_to(beside).as_posix(): found for path, found in lines.items()}
    return sites.find_sites(local, plans, marks)
