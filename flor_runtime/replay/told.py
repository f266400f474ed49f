"""What became of a replay, in lines for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from flor_runtime.replay.campaign import RunResult
from flor_runtime.replay.execute import Progress
from flor_runtime.replay.verify import EXACT, INEXACT, LABELS


def certainty(result: RunResult) -> str:
    """The label of a run's values, and of which of them it isn't true; where there are several, how many have which."""
    found = [f"{result.labels[label]} {label}" for label in LABELS if result.labels.get(label)]
    label = ", ".join(found) if len(found) > 1 else result.label
    if not result.outside or label == INEXACT:
        return label
    return f"{label} but for {', '.join(result.outside)}"


def lines_of(result: RunResult) -> Iterator[str]:
    """One line for a run, more where something is to be known."""
    name = result.manifest.get("name")
    label = result.run.id[:8] + (f" {name}" if name else "")
    if result.error:
        for line in result.error.splitlines():
            yield f"{label}  not replayed: {line}"
    elif result.label:
        logged = [one for one in result.names if one not in result.without] or result.names
        of = f" of {', '.join(logged)}" if logged else ""
        text = f"{result.values} value{'s' * (result.values != 1)}{of}: {certainty(result)}, {result.seconds:.1f} s"
        if result.stopped:
            text += f"; stopped, {result.turns_done} of {result.turns} turns are kept"
        yield f"{label}  {text}"
        if result.without and not result.stopped:
            yield f"{label}  {', '.join(result.without)}: no value: nothing that was replayed came to the statement"
    for line in result.lost:
        yield f"{label}  {line}"
    for one in result.recorded:
        yield f"{label}  {one}: recorded by the run itself"
    for one in result.recovered:
        yield f"{label}  {one}: recovered before, by the same statement (--again does it once more)"
    for one, why in result.refused.items():
        yield f"{label}  {one}: refused: {why}"
    if result.label and certainty(result) != EXACT:
        for note in result.notes:
            yield f"{label}  {note}"


class Lines:
    """A watcher of a replay that writes lines to stderr, and none on how far it is."""

    def ended(self, result: RunResult) -> None:
        """A run is through."""
        for line in lines_of(result):
            self.say(line)

    def progress(self, progress: Progress) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Something that is to be known."""
        sys.stderr.write(f"flor: {text}\n")
        sys.stderr.flush()
