"""What is said about a run of flor-transform: counts, wording and the exit status."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from flor_transform import diagnostics
from flor_transform.diagnostics import Diagnostic, Severity
from flor_transform.plan import Plan
from flor_transform.source import Source
from flor_transform.work import Outcome

#: said about a file that was named; of files that were found in a folder most have no training loop
_EXPECTED_IN_FOLDERS = frozenset({"no-main-loop", "instrumented"})


@dataclass
class Report:
    """Gathers what became of files."""

    check: bool = False
    dry: bool = False  #: nothing is written
    stripping: bool = False
    quiet: bool = False
    verbose: bool = False
    keep_lines: bool = False  #: the format shows lines of the files
    changed: int = 0
    same: int = 0
    failures: int = 0
    loops: int = 0
    blocks: int = 0
    left: int = 0
    found: list[Diagnostic] = field(default_factory=list)
    sources: dict[tuple[str, int, int], str] = field(default_factory=dict)  #: see formats.Sources
    details: list[str] = field(default_factory=list)  #: for --verbose

    def done(self, outcome: Outcome, *, named: bool) -> None:
        """Count a file that was worked on, or note why it was not."""
        if outcome.result is None:
            if outcome.failure is not None:
                self.failed(outcome.failure)
            return
        plan, changes = outcome.result.plan, outcome.result.code != outcome.data
        self.changed += changes
        self.same += not changes
        self.loops += sum(not loop.refused for loop in plan.loops)
        self.blocks += sum(not block.refused for block in plan.blocks)
        self.left += sum(entry.refused for entry in plan)
        what = f"{self.verb}{_counts(plan)}"
        notes = [note for note in outcome.result.diagnostics if self._is_shown(note, named)]
        if self.check and changes:
            first = next((entry for entry in plan if not entry.refused), None)
            cell, line = (first.cell, first.start) if first is not None else (0, 1)
            note = diagnostics.make("not-instrumented", outcome.path, line, 1, what=what)
            notes.append(dataclasses.replace(note, cell=cell))
        self.found += sorted(notes)
        self.details.append(f"{outcome.path}: {what if changes else 'left as it was'}")
        if notes and self.keep_lines:
            wanted = {(note.cell, note.line) for note in notes}
            source = Source.decode(outcome.data, outcome.path)
            for number in range(1, source.lines + 1):
                place = source.place(number)
                if place in wanted:
                    self.sources[(outcome.path, *place)] = source.shown(number)

    def _is_shown(self, note: Diagnostic, named: bool) -> bool:
        if self.quiet:
            return note.severity is Severity.ERROR
        asked = named and not self.check  # a check is about what would change
        return asked or self.verbose or note.slug not in _EXPECTED_IN_FOLDERS

    def failed(self, failure: Diagnostic) -> None:
        self.failures += 1
        self.found.append(failure)

    @property
    def verb(self) -> str:
        return "stripped" if self.stripping else "instrumented"

    def summary(self) -> str:
        parts = []
        if self.changed:
            parts.append(f"{counted(self.changed, 'file')} {'would be ' if self.dry else ''}{self.verb}")
        if self.same:
            parts.append(f"{counted(self.same, 'file')} left as {'it was' if self.same == 1 else 'they were'}")
        if self.failures:
            parts.append(f"{counted(self.failures, 'file')} failed")
        text = ", ".join(parts) or "no files to work on"
        if self.loops or self.blocks or self.left:
            text += f" ({counted(self.loops, 'main loop')}, {counted(self.blocks, 'block')}"
            text += f", {counted(self.left, 'loop')} refused)" if self.left else ")"
        return f"{text}."

    def status(self) -> int:
        """0 done, 1 a check found something, 2 something could not be done."""
        if self.failures:
            return 2
        return 1 if self.check and self.changed else 0


def _counts(plan: Plan) -> str:
    loops = sum(not loop.refused for loop in plan.loops)
    blocks = sum(not block.refused for block in plan.blocks)
    return f" ({counted(loops, 'main loop')}, {counted(blocks, 'block')})" if loops or blocks else ""


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
