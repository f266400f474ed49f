"""Where new statements stand in relation to the main loop of a version and its blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.store.checkpoints import Key

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites
    from flor_transform.analysis.slicing import LeftOut


class Version:
    """The text of a version with the new statements in it, and what its instrumentation is.

    Args:
        sources: by path relative to the project.
        settings: that the run was instrumented with.
    """

    def __init__(self, script: str, sources: dict[str, bytes], settings: dict[str, Any]) -> None:
        from flor_transform import instrument_project
        from flor_transform.analysis.marked import read_plan
        from flor_transform.settings import Settings

        self._beside = Path(script).parent
        self._script = Path(script).name
        self._settings = Settings.from_mapping(settings)
        self._sources = {self._local(path): text for path, text in sources.items()}
        results = instrument_project(self._script, self._sources, settings=self._settings)
        self._plans = {
            name: read_plan(name, self._sources[name]) if result.plan.instrumented else result.plan
            for name, result in results.items()
        }

    def _local(self, path: str) -> str:
        return Path(path).relative_to(self._beside).as_posix()

    def sites(self, lines: dict[str, list[int]], recorded: Collection[Key] = ()) -> Sites:
        """Where the new statements stand in relation to the main loop and its blocks.

        Args:
            lines: of the new statements, by path relative to the project.
            recorded: the boundaries that the run passed.
        """
        from flor_transform.analysis import sites

        if recorded and not any(not loop.refused for plan in self._plans.values() for loop in plan.loops):
            # A loop was recorded that nothing in the text tells of: everything has to run.
            blocks = frozenset(key.block for key in recorded) - {""}
            return sites.Sites(before=True, turn=True, blocks=blocks, after=True)
        found = sites.find_sites(self._sources, self._plans, self._marks(lines))
        named = {block.name for plan in self._plans.values() for block in plan.blocks}
        known = frozenset(key.block for key in recorded) - {""}
        # Of some the text doesn't tell the name, of others not that they are there.
        other = known if "" in found.blocks else known - named if found.turn or found.blocks else frozenset()
        return replace(found, blocks=(found.blocks | other) - {""}) if other or "" in found.blocks else found

    def left_out(self, lines: dict[str, list[int]]) -> tuple[LeftOut, ...]:
        """What of a turn the new statements don't need.

        Where no block holds the training, a turn trains again: that it leads to the recorded state is the proof that it
        is the same training, and nothing that has a part in it is left out.
        """
        from flor_transform.pipeline import left_out

        found = left_out(self._script, self._sources, self._plans, self._marks(lines), settings=self._settings)
        skips = any(b.role == "train" and not b.refused for plan in self._plans.values() for b in plan.blocks)
        return tuple(part for part in found if skips or part.always)

    def outside(self, names: Collection[str]) -> dict[str, str]:
        """Those of the names whose new values come from outside the program, and what is to be said of each."""
        from flor_transform.pipeline import outside_readings

        found = outside_readings(self._script, self._sources, names)
        return {
            name: f"{name}: {reading.where} {reading.what}, {reading.call}(): the value is today's"
            for name, reading in found.items()
        }

    def _marks(self, lines: dict[str, list[int]]) -> dict[str, list[int]]:
        return {self._local(path): found for path, found in lines.items()}
