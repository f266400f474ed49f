"""The commands flor-transform and flor-backport: what is asked for, handed on to who does it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from flor_transform.errors import TransformError

#: kept in step with `formats.FORMATS` by a test: not to be imported for `--help`
_FORMATS = ("concise", "full", "json", "github", "sarif")
_INTERRUPTED = 128 + signal.SIGINT
_NO_READER = 141  # as a program that SIGPIPE ends


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    paths: tuple[str, ...]
    check: bool
    diff: bool
    strip: bool
    explain: bool
    output_format: str
    main_loop: str | None
    exclude: tuple[str, ...]
    force_exclude: bool
    jobs: int | None
    config: Path | None
    isolated: bool
    stdin_filename: str | None
    quiet: bool
    verbose: bool

    @property
    def dry(self) -> bool:
        """Whether nothing is written."""
        return self.check or self.diff or self.explain

    @property
    def from_stdin(self) -> bool:
        return self.paths == ("-",)


def _print_codes(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from flor_transform import manual

        click.echo(manual.listing(), nl=False)
        context.exit()


def _print_code(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and not context.resilient_parsing:
        from flor_transform import manual

        try:
            click.echo(manual.explained(manual.find(value)), nl=False)
        except manual.UnknownCode as error:
            raise click.BadParameter(str(error), context, parameter) from None
        context.exit()


@click.command("flor-transform", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("paths", nargs=-1, metavar="[PATHS or -]", type=click.Path())
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.option("--strip", is_flag=True, help="Take the instrumentation out instead of putting it in.")
@click.option("--explain", is_flag=True, help="Write nothing; say what each loop is and what is done with it.")
@click.option(
    "--output-format",
    type=click.Choice(_FORMATS),
    default="concise",
    show_default=True,
    help="How diagnostics are printed; with --explain, json is the whole plan.",
)
@click.option(
    "--main-loop", metavar="FILE:LINE|LINE|NAME", help="Which loop is the main loop, where another one is taken."
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Pass over these files and folders, too. Repeatable.")
@click.option("--force-exclude", is_flag=True, help="Exclude files that are named, too (for pre-commit).")
@click.option(
    "-j", "--jobs", type=click.IntRange(1), metavar="N", help="Processes. [default: for many files, all CPUs]"
)
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Read [tool.flor] of this file for all files."
)
@click.option("--isolated", is_flag=True, help="Read no configuration.")
@click.option("--stdin-filename", metavar="PATH", help="Where what is read from '-' lies: imports, configuration.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each file, and all notes.")
@click.option(
    "--list-codes", is_flag=True, is_eager=True, expose_value=False, callback=_print_codes, help="List codes."
)
@click.option(
    "--explain-code", is_eager=True, expose_value=False, callback=_print_code, metavar="CODE", help="Explain a code."
)
def transform_command(**given: Any) -> None:
    """Put flor's loop wrappers and blocks into training scripts, in place.

    PATHS are scripts, and folders, whose scripts are taken. Files that import one another are looked at together. '-'
    reads a script from standard input and writes to standard output.

    Exit status: 0 done, 1 --check found something to change, 2 something could not be done.

    \b
      flor-transform --diff train.py
      flor-transform src/ --check --output-format github
      flor-transform --strip train.py
    """
    options = Options(**given)
    if not options.paths:
        raise click.UsageError("no files given; name a training script, a folder, or '-' for standard input")
    if "-" in options.paths and len(options.paths) > 1:
        raise click.UsageError("'-' can't be mixed with files")
    if options.main_loop is not None and options.strip:
        raise click.UsageError("--main-loop means nothing to --strip")
    if options.config is not None and options.isolated:
        raise click.UsageError("--config and --isolated exclude one another")
    with _ends():
        from flor_transform import command

        sys.exit(command.run(options))


@contextlib.contextmanager
def _ends() -> Iterator[None]:
    """Interrupts, a closed pipe and mistakes of the user end the program with one line at most."""
    before = None
    with contextlib.suppress(ValueError):  # not the main thread
        before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            click.echo("interrupted.", err=True)
        _leave(_INTERRUPTED)
    except BrokenPipeError:
        _leave(_NO_READER)
    except (TransformError, OSError) as error:
        with contextlib.suppress(OSError):
            click.echo(f"error: {error}", err=True)
        _leave(2)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _leave(status: int) -> None:
    """Exit without another try to write what nobody reads."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
    sys.exit(status)


def backport_command() -> None:
    """Run flor-backport, which is loaded only when it is used."""
    importlib.import_module("flor_transform.backport.command").backport_command()
