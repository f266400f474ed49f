"""flor-backport: the newest script's log statements, put into every older version of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from flor_transform.backport import byhand, kept, patches, report, written
from flor_transform.backport.complete import complete_names, complete_runs
from flor_transform.backport.history import HistoryError
from flor_transform.backport.order import order
from flor_transform.backport.project import ProjectResult
from flor_transform.backport.report import At, Outcome
from flor_transform.backport.survey import Question, Stop, Survey, shown_path, survey
from flor_transform.progress import Progress


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    script: Path | None
    names: tuple[str, ...]
    revs: str | None
    origin: str | None
    runs: str | None
    at: tuple[str, ...]
    diff: bool
    check: bool
    dry_run: bool
    out: Path | None
    form: str
    replay: bool
    jobs: int | None
    yes: bool
    trust: bool
    on_ambiguous: str
    output_format: str
    argv: tuple[str, ...] | None = None


class _Command(click.Command):
    """What stands behind `--` are the arguments of the user's script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_ARGV] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS]"]


_ARGV = "flor.argv"


@click.command("flor-backport", cls=_Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("scripts", nargs=-1, metavar="[SCRIPT]", type=click.Path(path_type=Path))
@click.option("--vars", "names", required=True, metavar="A,B", shell_complete=complete_names,
              help="Names that the newest script logs.")  # fmt: skip
@click.option("--revs", metavar="RANGE", help="Versions of git's history (HEAD, v1..main), not those of recorded runs.")
@click.option("--from", "origin", metavar="REV", help="Take the statements from SCRIPT as it is in this revision.")
@click.option("--runs", metavar="A,B", shell_complete=complete_runs, help="Only these runs: ids or names.")
@click.option("--at", multiple=True, metavar="REV:LINE", help="Place it by hand: before this line of this version.")
@click.option("--on-ambiguous", type=click.Choice(["skip", "fail", "ask"]), default="skip", show_default=True,
              help="What to do about a statement whose place is not certain.")  # fmt: skip
@click.option("--diff", is_flag=True, help="Print the patches.")
@click.option("--check", is_flag=True, help="Exit 1 if a statement was refused or would be placed; keep nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done with each statement, and why; keep nothing.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the patched files into a folder.")
@click.option("--as", "form", type=click.Choice(written.FORMS), default="files", show_default=True,
              help="With --out: whole files, or patches for `git apply`.")  # fmt: skip
@click.option("--replay", is_flag=True, help="Go on and recover the values; run versions that no run has recorded.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes at a time (default: one a core).")
@click.option("-y", "--yes", is_flag=True, help="With --replay: don't ask.")
@click.option("--trust", is_flag=True, help="With --replay: run also the code of runs that you did not record here.")
@click.option("--output-format", type=click.Choice(["table", "json", "github"]), default="table", show_default=True)
@click.pass_context
def backport_command(context: click.Context, /, names: str, scripts: tuple[Path, ...], **given: object) -> None:
    """Put log statements of SCRIPT into every older version of it.

    SCRIPT is today's file (default: the script of this project's newest run, as it is in the working tree). Its
    versions are those that recorded runs have kept, or, with --revs, those of its git history. No file of yours is
    written: the results are printed, kept in git on references under refs/flor/backport, written with --out, replayed.
    With --revs and --replay, ARGS are the arguments that the versions are run with.

    \b
      flor-backport --vars grad_norm --diff
      flor-backport --vars grad_norm,acc --replay
      flor-backport --vars acc train.py --revs v1..main
    """
    wanted = tuple(dict.fromkeys(n.strip() for n in names.split(",") if n.strip()))
    try:
        if len(scripts) > 1:
            raise Stop("one script at a time: the modules that it imports are looked at with it")
        script = scripts[0] if scripts else None
        code = _run(Options(names=wanted, script=script, argv=context.meta.get(_ARGV), **given))  # type: ignore[arg-type]
    except (Stop, HistoryError) as error:
        click.echo(f"flor-backport: {error}", err=True)
        code = 2
    except KeyboardInterrupt:
        click.echo("interrupted.", err=True)
        code = 128 + signal.SIGINT
    sys.exit(code)


def _run(options: Options) -> int:
    _check(options)
    found = survey(_question(options), _shown if sys.stderr.isatty() else None)
    outcomes = found.outcomes
    if options.script is None:
        _say(f"statements from {shown_path(found.path)} (the script of the newest run)")
    if options.on_ambiguous == "ask" and sys.stdin.isatty():
        outcomes = byhand.apply(outcomes, found.new, options.names, _ask(outcomes))
        found = replace(found, outcomes=outcomes)
    if options.out is not None and not options.dry_run:
        wrote = written.write(options.out, outcomes, options.form)
        _say(f"{wrote} {'file' if wrote == 1 else 'files'} written to {options.out}")
    if not (options.check or options.diff or options.dry_run):
        kept.keep(outcomes, options.names)
    _print(found.path, options, outcomes)
    if options.replay:
        return _replay(found, options)
    ambiguous = any(r.code == "AMBIGUOUS" for o in outcomes for _, r in o.result.refusals)
    anything = any(o.placed or o.result.refusals for o in outcomes)
    return 1 if (options.check and anything) or (options.on_ambiguous == "fail" and ambiguous) else 0


def _check(options: Options) -> None:
    """See to it that the options make sense together."""
    if options.check and (options.replay or options.out is not None):
        raise Stop("--check writes and runs nothing: it can't be combined with --out or --replay")
    if options.dry_run and options.out is not None:
        raise Stop("--dry-run writes nothing: it can't be combined with --out")
    if options.form != "files" and options.out is None:
        raise Stop("--as says what --out DIR gets: give that, too (--diff prints the patches)")
    if options.argv is not None and not (options.replay and options.revs is not None):
        raise Stop("arguments behind -- are the script's, for --revs RANGE --replay: recorded runs have their own")


def _question(options: Options) -> Question:
    return Question(options.names, options.script, options.revs, options.origin, options.runs, options.at, options.jobs)


def _shown(results: Iterable[ProjectResult], total: int) -> Iterator[ProjectResult]:
    with Progress(total, shown=True, what="versions") as progress:
        for result in results:
            yield result
            progress.advance()


def _ask(outcomes: Sequence[Outcome]) -> set[At]:
    """Ask on the terminal for the line of each statement whose place is not certain."""
    found: set[At] = set()
    for outcome in outcomes:
        for _, refusal in outcome.result.refusals:
            if refusal.code != "AMBIGUOUS":
                continue
            _say(f"{outcome.short} {outcome.names}: {refusal.name}: {refusal.message}")
            lines = outcome.version.data.decode("utf-8", "replace").splitlines()
            first, last = min(refusal.candidates, default=1), max(refusal.candidates, default=len(lines))
            for number in range(max(1, first - 3), min(len(lines), last + 3) + 1):
                _say(f"{number:6} {lines[number - 1]}")
            line = click.prompt(
                "before line (0: leave it out)", type=click.IntRange(0, len(lines) + 1), default=0, err=True
            )
            if line:
                found.add(At(refusal.name, outcome.version.vid, outcome.version.path, line))
    return found


# -- what comes of it


def _print(path: Path, options: Options, outcomes: Sequence[Outcome]) -> None:
    if options.output_format == "json":
        click.echo(report.as_json(shown_path(path), options.names, outcomes))
    elif options.output_format == "github":
        for line in report.github(outcomes):
            click.echo(line)
    elif options.diff:
        for outcome in outcomes:
            click.echo(patches.patch(outcome), nl=False)
    elif options.dry_run:
        report.rows(options.names, outcomes)
    else:
        report.table(options.names, outcomes)
    _say(report.counts(outcomes))
    if options.diff or options.output_format == "json":
        for outcome in outcomes:
            for _, refusal in outcome.result.refusals:
                _say(f"{outcome.short} {refusal.name}: refused: {refusal.code}: {refusal.message}")


def _replay(found: Survey, options: Options) -> int:
    given = [("--yes", options.yes), ("--trust", options.trust), ("--dry-run", options.dry_run)]
    words = ["-j", str(options.jobs)] if options.jobs else []
    words += [word for word, is_given in given if is_given]
    sys.stdout.flush()
    if options.revs is None:
        command = ["-m", "flor", "replay", *options.names, "--script", str(found.path)]
        command += ["--runs", options.runs] if options.runs else []
        return _start([sys.executable, *command, *words])
    refused = any(outcome.result.refusals for outcome in found.outcomes)
    plain = order(found, options.names, options.argv)
    if not plain["versions"]:
        _say("nothing to run: no version has a statement")
        return 1
    with tempfile.NamedTemporaryFile("w", prefix="flor-", suffix=".json") as file:
        json.dump(plain, file)
        file.flush()
        code = _start([sys.executable, "-P", "-m", "flor_runtime.cli.commits", file.name, *words])
    return code or int(refused)


def _start(command: list[str]) -> int:
    """Run a command to its end; Ctrl-C is its to handle."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def _say(text: str) -> None:
    click.echo(text, err=True)
