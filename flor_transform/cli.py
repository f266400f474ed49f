"""The commands flor-transform and flor-backport."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from flor_transform import diagnostics
from flor_transform.diagnostics import Diagnostic, Severity
from flor_transform.errors import ProofError, SettingsError, SourceError, TransformError
from flor_transform.pipeline import Result, instrument, instrument_files
from flor_transform.settings import Settings
from flor_transform.source import Source, read, replace
from flor_transform.strip import strip


@click.command("flor-transform", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("paths", nargs=-1, metavar="[PATHS or -]")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.option("--strip", "strip_", is_flag=True, help="Take the instrumentation out instead of putting it in.")
@click.option("--explain", is_flag=True, help="Write nothing; say what each loop is and what is done with it.")
@click.option(
    "--output-format",
    type=click.Choice(sorted(diagnostics.FORMATS)),
    default="concise",
    show_default=True,
    help="How diagnostics are printed.",
)
@click.option("--stdin-filename", default="<stdin>", help="The name of what is read from '-', for messages.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def transform_command(
    paths: tuple[str, ...],
    check: bool,
    diff: bool,
    strip_: bool,
    explain: bool,
    output_format: str,
    stdin_filename: str,
    quiet: bool,
) -> None:
    """Put flor's loop wrappers and blocks into training scripts, in place.

    Several files are looked at together, and so are the modules beside them that they import: name a module, too, to
    have its loops wrapped. '-' reads a script from standard input and writes to standard output.

    Exit status: 0 done, 1 --check found something to change, 2 something could not be done.
    """
    product = diff or explain or "-" in paths
    report = Report(check or diff or explain, quiet, strip_, output_format, product)
    if not paths:
        raise click.UsageError("no files given; name a training script, or '-' for standard input")
    if "-" in paths and len(paths) > 1:
        raise click.UsageError("'-' can't be mixed with files")
    try:
        settings = Settings.find(Path.cwd() if paths[0] == "-" else Path(paths[0]).parent)
    except SettingsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    jobs = _strip_jobs if strip_ else _instrument_jobs
    for path, data, result in jobs(paths, stdin_filename, settings, report):
        report.done(path, data, result)
        if explain:
            click.echo(explained(path, data, result), nl=False)
        elif diff:
            _write_out(_diff(path, data, result.code))
        elif path == "-" or path == stdin_filename:
            if not check:
                _write_out(result.code)
        elif result.code != data and not check:
            try:
                replace(Path(path), result.code)
            except OSError as error:
                report.failed(SourceError(path, 1, 1, "FT006", f"can't be written: {error.strerror}"))
    report.finish()
    sys.exit(report.status(check))


Job = tuple[str, bytes, Result]


def _strip_jobs(paths: tuple[str, ...], stdin_name: str, settings: Settings, report: Report) -> Iterator[Job]:
    from flor_transform.plan import Plan

    for path in dict.fromkeys(paths):
        try:
            data = sys.stdin.buffer.read() if path == "-" else read(Path(path))
            name = stdin_name if path == "-" else path
            _ = Source.decode(data, name).tree
            code = strip(data)
            yield name, data, Result(code, Plan(name))
        except TransformError as error:
            report.failed(error)


def _instrument_jobs(paths: tuple[str, ...], stdin_name: str, settings: Settings, report: Report) -> Iterator[Job]:
    if paths == ("-",):
        data = sys.stdin.buffer.read()
        with report.catching():
            yield stdin_name, data, instrument(data, filename=stdin_name, settings=settings)
        return
    given: dict[str, bytes] = {}
    for path in dict.fromkeys(paths):
        try:
            data = read(Path(path))
            # A file that is unusable must not keep the others from being worked on.
            _ = Source.decode(data, path).tree
            given[path] = data
        except SourceError as error:
            report.failed(error)
    # One project a folder: imports are resolved from the script's folder, as Python does.
    folders: dict[Path, list[str]] = {}
    for path in given:
        folders.setdefault(_root(Path(path), given), []).append(path)
    for folder, members in folders.items():
        with report.catching():
            yield from _project(folder, members, given, settings)


def _root(path: Path, given: Mapping[str, bytes]) -> Path:
    """The folder of the outermost given file whose folder holds this one."""
    folder = Path(path).resolve().parent
    others = {Path(other).resolve().parent for other in given}
    for parent in reversed(folder.parents):
        if parent in others:
            return parent
    return folder


def _project(folder: Path, members: list[str], given: Mapping[str, bytes], settings: Settings) -> Iterator[Job]:
    local = {Path(path).resolve().relative_to(folder).as_posix(): path for path in members}
    sources = _Beside(folder, {name: given[path] for name, path in local.items()})
    results = instrument_files(list(local), sources, settings=settings)
    missing: list[Diagnostic] = []
    for name, result in results.items():
        if name not in local:
            missing += [
                diagnostics.make(
                    "sibling", _shown(folder, name, members), b.start, 1, b.stop, what=b.function or b.name
                )
                for b in result.plan.blocks
                if not b.refused and result.changed
            ]
    for index, (name, path) in enumerate(local.items()):
        result = results[name]
        notes = [dataclasses.replace(note, path=path) for note in result.diagnostics]
        extra = missing if index == 0 else []
        yield path, given[path], dataclasses.replace(result, diagnostics=(*notes, *extra))


def _shown(folder: Path, name: str, members: list[str]) -> str:
    """A path for messages, spelled relative as the user's own are."""
    path = folder / name
    if Path(members[0]).is_absolute():
        return str(path)
    return os.path.relpath(path)


class _Beside(dict[str, bytes]):
    """The files below a folder, read when they are asked for: only what is imported is ever opened."""

    def __init__(self, folder: Path, known: dict[str, bytes]) -> None:
        super().__init__(known)
        self.folder = folder

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        if not isinstance(name, str) or name.startswith(("/", "..")) or "\0" in name:
            return False
        path = self.folder / name
        if path.is_file():
            with contextlib.suppress(OSError):
                self[name] = path.read_bytes()
                return True
        return False


def _write_out(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _diff(path: str, old: bytes, new: bytes) -> bytes:
    if old == new:
        return b""
    parts: list[bytes] = []
    name = path.encode(errors="surrogateescape")
    lines = difflib.diff_bytes(difflib.unified_diff, _lines(old), _lines(new), name, name)
    for line in lines:
        parts.append(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n")
    return b"".join(parts)


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) if b"\r" not in data.replace(b"\r\n", b"") else data.split(b"\n")


class Report:
    """Counts, wording and the exit status."""

    def __init__(self, dry: bool, quiet: bool, stripping: bool, output_format: str, product: bool) -> None:
        self.dry = dry
        self.product = product
        self.quiet = quiet
        self.stripping = stripping
        self.format = output_format
        self.changed = 0
        self.same = 0
        self.failures = 0
        self.loops = 0
        self.blocks = 0
        self.left = 0
        self.found: list[Diagnostic] = []
        self.sources: dict[str, list[str]] = {}

    def done(self, path: str, data: bytes, result: Result) -> None:
        if result.code != data:
            self.changed += 1
        else:
            self.same += 1
        self.loops += sum(not loop.refused for loop in result.plan.loops)
        self.blocks += sum(not block.refused for block in result.plan.blocks)
        self.left += sum(entry.refused for entry in result.plan)
        self.found.extend(result.diagnostics)
        if self.format == "full":
            self.sources[path] = Source.decode(data, path).text.splitlines()

    def failed(self, error: TransformError) -> None:
        self.failures += 1
        if isinstance(error, SourceError):
            slug = next((c.slug for c in diagnostics.CODES if c.code == error.code), "syntax")
            item = Diagnostic(
                error.path,
                error.line,
                error.column,
                error.code,
                error.message,
                slug,
                Severity.ERROR,
                error.line,
                error.cell,
            )
        elif isinstance(error, ProofError):
            item = dataclasses.replace(
                diagnostics.make("proof", error.path, 1, 1), message=str(error).partition(": ")[2]
            )
        else:
            item = dataclasses.replace(diagnostics.make("proof", "flor-transform", 1, 1), message=str(error))
        self.found.append(item)

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        try:
            yield
        except TransformError as error:
            self.failed(error)

    def finish(self) -> None:
        """Print the diagnostics and, last, the counts: to standard error.

        A machine format goes to standard output, where that holds nothing else.
        """
        shown: Iterable[Diagnostic] = self.found
        if self.quiet:
            shown = [item for item in self.found if item.severity is Severity.ERROR]
        machine = self.format in ("json", "github") and not self.product
        text = diagnostics.FORMATS[self.format](shown, self.sources)
        click.echo(text, err=not machine, nl=False)
        if not self.quiet:
            click.echo(self.summary(), err=True)

    def summary(self) -> str:
        verb = "stripped" if self.stripping else "instrumented"
        parts = []
        if self.changed:
            parts.append(f"{_count(self.changed, 'file')} {'would be ' if self.dry else ''}{verb}")
        if self.same:
            parts.append(f"{_count(self.same, 'file')} left as {'it was' if self.same == 1 else 'they were'}")
        if self.failures:
            parts.append(f"{_count(self.failures, 'file')} failed")
        text = ", ".join(parts) or "nothing to do"
        if self.loops or self.blocks or self.left:
            text += f" ({_count(self.loops, 'main loop')}, {_count(self.blocks, 'block')}"
            text += f", {_count(self.left, 'loop')} refused)" if self.left else ")"
        return f"{text}."

    def status(self, check: bool) -> int:
        if self.failures:
            return 2
        return 1 if check and self.changed else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def explained(path: str, data: bytes, result: Result) -> str:
    """The plan of a file in words."""
    plan = result.plan
    lines = [f"{path}"]
    if plan.instrumented:
        lines.append("  is instrumented already and is left alone; --strip takes it out")
    roles = {"main": "main loop", "train": "training loop", "evaluate": "evaluation loop"}
    for entry in plan:
        where = f"in {entry.function}()" if entry.function else "at module level"
        lines.append(f"  lines {entry.start}-{entry.stop}: {roles[entry.role]} {where}")
        if entry.refused:
            lines.append(f"    left as it was: {entry.code} {entry.reason}")
            continue
        objects = ", ".join(entry.objects) or "what is found at run time"
        if entry.role == "main":
            header = "flor.it(...)" if getattr(entry, "kind", "") == "while" else f'flor.loop("{entry.name}", ...)'
            lines.append(f"    wrapped in {header}")
            lines.append(f"    checkpoints hold: {objects}")
            if carried := getattr(entry, "carry", ()):
                lines.append(f"    one turn hands to the next: {', '.join(carried)}")
        else:
            lines.append(f'    a block, "{entry.name}": replay may skip it')
            lines.append(f"    may change: {objects}")
            if values := getattr(entry, "values", ()):
                lines.append(f"    handed back: {', '.join(values)}")
        if entry.globals:
            lines.append(f"    rebinds module variables: {', '.join(entry.globals)}")
    if len(lines) == 1:
        lines.append("  no loop here is wrapped")
    return "\n".join(lines) + "\n"


def backport_command() -> None:
    """Run flor-backport, which is loaded only when it is used."""
    importlib.import_module("flor_transform.backport.command").backport_command()
