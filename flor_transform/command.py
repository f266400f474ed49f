"""One run of flor-transform: find the files, have them worked on, write and say what came out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flor_transform import diagnostics, disk, files, formats, terminal
from flor_transform.diagnostics import Severity
from flor_transform.errors import SettingsError, SourceError, TransformError
from flor_transform.progress import Progress
from flor_transform.projects import Group, groups
from flor_transform.report import Report, counted
from flor_transform.settings import Lookup
from flor_transform.source import is_notebook
from flor_transform.terminal import say, write
from flor_transform.work import Outcome, Task, outcomes

if TYPE_CHECKING:
    from flor_transform.cli import Options

_INTERRUPTED = 130


def run(options: Options) -> int:
    """Do what the options ask for; the exit status."""
    lookup = Lookup(options.config, isolated=options.isolated)
    report = Report(
        check=options.check,
        dry=options.dry,
        stripping=options.strip,
        quiet=options.quiet,
        verbose=options.verbose,
        keep_lines=options.output_format == "full",
    )
    this = _Run(options, lookup, report)
    try:
        if options.from_stdin:
            this.standard_input()
        else:
            this.paths()
    except KeyboardInterrupt:
        say(f"interrupted: {report.summary()}")
        return _INTERRUPTED
    this.finish()
    return report.status()


class _Run:
    def __init__(self, options: Options, lookup: Lookup, report: Report) -> None:
        self.options = options
        self.lookup = lookup
        self.report = report
        self.plans: list[dict[str, Any]] = []  # for --explain --output-format json
        self.has_explained = False

    # -- what to work on ----------------------------------------------------------------------------------------------

    def paths(self) -> None:
        found = files.find(
            self.options.paths, self.options.exclude, self.lookup, force_exclude=self.options.force_exclude
        )
        for folder, reason in found.unreadable:
            self.report.failed(diagnostics.from_error(disk.error(folder, f"can't be read: {reason}")))
        self.report.details += [f"{path}: excluded" for path in found.excluded]
        failed: dict[str, Outcome] = {}
        given = dict(self.read(found.paths, failed))
        tasks = self.tasks(given)
        done = outcomes(tasks, self.options.jobs)
        with Progress(len(given), shown=self.shows_progress()) as progress, contextlib.closing(done):
            # Files that import one another come together; what is said comes in the order of the paths.
            known = dict(failed)
            for path in found.paths:
                while path not in known:
                    outcome = next(done)
                    known[outcome.path] = outcome
                    progress.advance()
                self.take(known.pop(path), named=path in found.named)

    def read(self, paths: list[str], failed: dict[str, Outcome]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            try:
                data = disk.read(path)
                self.lookup.of(os.path.dirname(os.path.realpath(path)))
                yield path, data
            except SourceError as error:
                failed[path] = Outcome(path, b"", None, diagnostics.from_error(error))
            except SettingsError as error:
                failed[path] = Outcome(path, b"", None, diagnostics.make("settings", error.path, 1, 1, what=error.what))

    def tasks(self, given: dict[str, bytes]) -> list[Task]:
        if self.options.strip:
            return [Task(None, {path: data}) for path, data in given.items()]
        marks: dict[str, int] = {}
        if self.options.main_loop is not None:
            marks = _marked(self.options.main_loop, given)
        found = groups(given, lambda folder: self.lookup.of(folder).settings)
        for group in found:
            if group.is_too_large:
                what = counted(len(group.members), "file")
                self.report.found.append(diagnostics.make("large-project", group.root, 1, 1, what=what))
        return [Task(group, {path: given[path] for path in group.members.values()}, marks) for group in found]

    def standard_input(self) -> None:
        if sys.stdin is None:
            raise TransformError("standard input is closed")
        data = sys.stdin.buffer.read()
        name = self.options.stdin_filename
        shown = name or "<stdin>"
        folder = os.path.dirname(os.path.realpath(name)) if name else os.path.realpath(".")
        if name and self.options.force_exclude and files.is_excluded(name, self.options.exclude, self.lookup):
            if not self.options.dry:
                write(data)
            return
        settings = self.lookup.of(folder).settings
        group = Group(folder, settings, members={os.path.basename(shown): shown})
        marks = _marked(self.options.main_loop, {shown: data}) if self.options.main_loop is not None else {}
        [outcome] = outcomes([Task(None if self.options.strip else group, {shown: data}, marks)], 1)
        self.take(outcome, named=True)

    # -- what came out ------------------------------------------------------------------------------------------------

    def take(self, outcome: Outcome, *, named: bool) -> None:
        """Write or print what became of a file, and report it."""
        if outcome.result is not None:
            try:
                self.put_out(outcome)
            except SourceError as error:
                outcome = Outcome(outcome.path, outcome.data, None, diagnostics.from_error(error))
        if outcome.result is None and outcome.failure is not None and self.options.explain:
            self.plans.append({"path": outcome.path, "diagnostics": [formats.row(outcome.failure)]})
        self.report.done(outcome, named=named)

    def put_out(self, outcome: Outcome) -> None:
        options, result = self.options, outcome.result
        assert result is not None
        if options.explain and options.output_format == "json":
            self.plans.append(
                {
                    "path": outcome.path,
                    "changed": result.code != outcome.data,
                    "plan": result.plan.to_data(),
                    "diagnostics": [formats.row(note) for note in result.diagnostics],
                }
            )
        elif options.explain:
            from flor_transform.explain import explained

            write("\n" * self.has_explained + explained(outcome.path, outcome.data, result))
            self.has_explained = True
        elif options.diff:
            write(_diff(outcome.path, outcome.data, result.code))
        elif options.from_stdin:
            if not options.check:
                write(result.code)
        elif result.code != outcome.data and not options.check:
            disk.replace(outcome.path, result.code, expected=outcome.data)

    def finish(self) -> None:
        """Print the diagnostics and, last, the counts: to standard error.

        A machine's format goes to standard output, unless that has something else to hold.
        """
        options, report = self.options, self.report
        machine = options.output_format in formats.MACHINE
        if options.explain and options.output_format == "json":
            write(formats.as_document(self.plans))
        else:
            found = report.found
            if options.explain:  # which shows the rest where it belongs
                found = [item for item in found if item.severity is Severity.ERROR or item.slug == "large-project"]
            text = formats.FORMATS[options.output_format](found, report.sources)
            if machine and not self.has_product():
                write(text)
            else:
                say(text, end="")
        if options.verbose:
            say("".join(f"{formats.printable(line)}\n" for line in report.details), end="")
        if not options.quiet and not (machine and self.has_product() and not options.explain):
            say(report.summary())

    def has_product(self) -> bool:
        """Whether standard output holds code, a patch or an explanation."""
        return self.options.diff or self.options.explain or (self.options.from_stdin and not self.options.check)

    def shows_progress(self) -> bool:
        both = self.has_product() and terminal.is_terminal(sys.stdout)
        return terminal.is_terminal(sys.stderr) and not self.options.quiet and not both


def _marked(wanted: str, given: dict[str, bytes]) -> dict[str, int]:
    """The line of the main loop, by its file."""
    from flor_transform import mainloop

    return dict([mainloop.find(wanted, given)])


def _diff(path: str, old: bytes, new: bytes) -> bytes:
    """A patch, in the bytes of the file; of a notebook one for each cell that changes, in the letters that it shows."""
    if old == new:
        return b""
    name = formats.printable(path)
    if not is_notebook(old, path):
        return _patch(name, old, new)
    from flor_transform.notebook import decode

    pairs = zip(decode(old, path).cells, decode(new, path).cells, strict=True)
    return b"".join(_patch(f"{name}:cell {a.number}", a.text.encode(), b.text.encode()) for a, b in pairs)


def _patch(name: str, old: bytes, new: bytes) -> bytes:
    import difflib

    lines = difflib.diff_bytes(difflib.unified_diff, _lines(old), _lines(new), name.encode(), name.encode())
    patch = [line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines]
    return b"".join(terminal.coloured_patch(patch))


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) if b"\r" not in data.replace(b"\r\n", b"") else data.split(b"\n")
