"""flor-backport: the newest script's log statements, put into every older version of it."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from flor_transform.backport import byhand, history, kept, report
from flor_transform.backport.engine import logged
from flor_transform.backport.history import HistoryError, Run, ScriptVersion
from flor_transform.backport.plan import Refusal
from flor_transform.backport.project import ProjectResult, backport_project
from flor_transform.backport.report import At, Outcome
from flor_transform.backport.tree import Version
from flor_transform.parallel import run_all
from flor_transform.siblings import read_siblings

#: versions that are done before processes are worth their start
_FEW = 12


class Stop(Exception):
    """One line for the user, and exit code 2."""


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
    replay: bool
    jobs: int | None
    yes: bool
    trust: bool
    on_ambiguous: str
    output_format: str


@click.command("flor-backport", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("script", required=False, type=click.Path(path_type=Path))
@click.option("--vars", "names", required=True, metavar="A,B", help="Names that the newest script logs.")
@click.option("--revs", metavar="RANGE", help="Versions of git's history (HEAD, v1..main), not those of recorded runs.")
@click.option("--from", "origin", metavar="REV", help="Take the statements from SCRIPT as it is in this revision.")
@click.option("--runs", metavar="A,B", help="Only these runs: ids or names.")
@click.option("--at", multiple=True, metavar="REV:LINE", help="Place it by hand: before this line of this version.")
@click.option("--on-ambiguous", type=click.Choice(["skip", "fail", "ask"]), default="skip", show_default=True,
              help="What to do about a statement whose place is not certain.")  # fmt: skip
@click.option("--diff", is_flag=True, help="Print the patches.")
@click.option("--check", is_flag=True, help="Exit 1 if a statement was refused or would be placed; keep nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done with each statement, and why; keep nothing.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the patched files into a folder.")
@click.option("--replay", is_flag=True, help="Go on and recover the values.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes at a time (default: one a core).")
@click.option("-y", "--yes", is_flag=True, help="With --replay: don't ask.")
@click.option("--trust", is_flag=True, help="With --replay: run also the code of runs that you did not record here.")
@click.option("--output-format", type=click.Choice(["table", "json", "github"]), default="table", show_default=True)
def backport_command(names: str, **given: object) -> None:
    """Put log statements of SCRIPT into every older version of it.

    SCRIPT is today's file (default: the script of this project's newest run, as it is in the working tree). Its
    versions are those that recorded runs have kept, or, with --revs, those of its git history. No file of yours is
    written: the results are printed, kept in git on references under refs/flor/backport, written with --out, replayed.
    """
    wanted = tuple(dict.fromkeys(n.strip() for n in names.split(",") if n.strip()))
    try:
        code = _run(Options(names=wanted, **given))  # type: ignore[arg-type]
    except (Stop, HistoryError) as error:
        click.echo(f"flor-backport: {error}", err=True)
        code = 2
    sys.exit(code)


def _run(options: Options) -> int:
    if not options.names:
        raise Stop("--vars needs at least one name")
    if options.revs and (options.runs or options.replay):
        raise Stop("--revs takes versions that no run has recorded: --runs and --replay are for recorded ones")
    path, versions = _versions(options)
    new = _today(path, options)
    asked = _asked(options, versions)
    before = [
        byhand.remembered(repo, {v.vid for v in versions if v.repo == repo}) for repo in {v.repo for v in versions}
    ]
    outcomes = byhand.apply(_all(versions, new, options), new, options.names, asked.union(*before))
    if options.on_ambiguous == "ask" and sys.stdin.isatty():
        outcomes = byhand.apply(outcomes, new, options.names, _ask(outcomes))
    _print(path, options, outcomes)
    for at in asked:
        _check_place(at, outcomes)
    if not (options.check or options.diff or options.dry_run):
        kept.keep(outcomes, options.names)
    if options.out is not None:
        _write(options.out, outcomes)
    if options.replay:
        return _replay(path, options)
    ambiguous = any(r.code == "AMBIGUOUS" for o in outcomes for _, r in o.result.refusals)
    found = any(o.placed or o.result.refusals for o in outcomes)
    return 1 if (options.check and found) or (options.on_ambiguous == "fail" and ambiguous) else 0


# -- which versions


def _versions(options: Options) -> tuple[Path, list[ScriptVersion]]:
    """Today's script and its older versions, oldest first."""
    if options.revs:
        if options.script is None:
            raise Stop("--revs needs the script's path, too")
        path = _file(options.script)
        return path, history.revisions(*_in_repository(path), options.revs)
    path, known = _recorded(options.script, options.runs)
    found = history.versions(known)
    if not found:
        raise Stop(f"none of the {len(known)} recorded runs of {path.name} kept its code")
    return path, found


def _file(path: Path) -> Path:
    if not path.is_file():
        raise Stop(f"{_shown(path)}: no such file")
    return path


def _in_repository(path: Path) -> tuple[str, str]:
    """The git directory that a file belongs to, and its path in there."""
    real = path.resolve()
    return history.git_dir(real.parent), real.relative_to(history.top(real.parent)).as_posix()


def _recorded(script: Path | None, chosen: str | None) -> tuple[Path, list[Run]]:
    """Today's script and the recorded runs of it."""
    every = history.runs()
    here = script.absolute().parent if script is not None else Path.cwd()
    project = history.of_project(every, here)
    if script is None:
        if not project:
            raise Stop("no recorded runs of this project: record one with `flor run SCRIPT`, or name the script")
        path = project[-1].path
        _say(f"statements from {_shown(path)} (the script of the newest run)")
    else:
        path = script
    target = _file(path).resolve()
    mine = [r for r in project if r.path.resolve() == target]
    if not mine:
        raise Stop(
            f"no recorded runs of {_shown(path)}: record one with `flor run {path.name}`, "
            "or take the versions of its git history: --revs HEAD"
        )
    if chosen:
        keys = [c.strip() for c in chosen.split(",") if c.strip()]
        for key in keys:
            if not any(r.name == key or r.id.startswith(key) for r in mine):
                raise Stop(f"no run {key!r} of {_shown(path)}")
        mine = [r for r in mine if any(r.name == k or r.id.startswith(k) for k in keys)]
    return path, mine


def _today(path: Path, options: Options) -> dict[str, bytes]:
    """The newer version: the script, first, and the modules beside it that it imports."""
    if options.origin:
        repo, inside = _in_repository(path)
        files = history.at_revision(repo, inside, options.origin).files
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Stop(f"{_shown(path)}: {error.strerror or error}") from None
        inside = _path_in_project(path)
        beside = Path(inside).parent
        files = {inside: data}
        files |= {(beside / name).as_posix(): text for name, text in read_siblings(path, data).items()}
    try:
        Version(files[inside])
    except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError) as error:
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        what = getattr(error, "msg", None) or str(error)
        raise Stop(f"{_shown(path)}:{line}:{column}: SYNTAX not Python 3: {what}") from None
    have = [name for data in files.values() for name in _logged(data)]
    missing = [n for n in options.names if n not in have and not any("{}" in h for h in have)]
    if missing:
        raise Stop("; ".join(_unknown(n, have, path) for n in missing))
    return files


def _path_in_project(path: Path) -> str:
    """The script's path as versions have it: below the repository's top, or the project's of its newest run."""
    real = path.resolve()
    for run in reversed(history.of_project(history.runs(), real.parent)):
        if run.path.resolve() == real:
            return run.script
    try:
        return _in_repository(path)[1]
    except HistoryError:
        return path.name


def _logged(data: bytes) -> list[str]:
    try:
        return logged(Version(data))
    except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError):
        return []


def _unknown(name: str, have: Sequence[str], path: Path) -> str:
    near = difflib.get_close_matches(name, have, n=3, cutoff=0.5)
    hint = f" (near: {', '.join(near)})" if near else f" (it logs: {', '.join(have)})" if have else " (it logs nothing)"
    return f"{_shown(path)} logs no {name!r}{hint}"


def _shown(path: Path) -> str:
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)


# -- the work


def _all(versions: Sequence[ScriptVersion], new: dict[str, bytes], options: Options) -> list[Outcome]:
    """What becomes of the statements in each version; the modules of one are read where they can matter."""
    script = next(iter(new))
    alone = set(options.names) <= set(_logged(new[script]))
    if not alone:
        return _each(history.with_siblings(versions), new, options)
    outcomes = _each(versions, new, options)
    again = [i for i, outcome in enumerate(outcomes) if _wants_modules(outcome)]
    beside = history.with_siblings([versions[i] for i in again])
    for i, outcome in zip(again, _each(beside, new, options), strict=True):
        outcomes[i] = outcome
    return outcomes


def _wants_modules(outcome: Outcome) -> bool:
    """Whether a statement may be in another file of a version, or brings an import that its files have to know."""
    brought = any(text.startswith(("import ", "from ")) for _, p in outcome.placed for text in p.brought)
    return brought or any(refusal.code == "NO-PLACE" for _, refusal in outcome.result.refusals)


def _each(versions: Sequence[ScriptVersion], new: dict[str, bytes], options: Options) -> list[Outcome]:
    """In several processes where there are many."""
    jobs = options.jobs or os.cpu_count() or 1
    one = partial(_one, new, options.names)
    if jobs == 1 or len(versions) < _FEW:
        results: Iterable[ProjectResult] = (r for version in versions for r in one(version))
    else:
        results = run_all(one, versions, min(jobs, len(versions)), partial(_lost, options.names))
    done: list[ProjectResult] = []
    if sys.stderr.isatty() and len(versions) >= _FEW:
        with click.progressbar(results, length=len(versions), file=sys.stderr, label="versions") as shown:
            done += shown
    else:
        done += results
    return [Outcome(version, result) for version, result in zip(versions, done, strict=True)]


def _one(new: dict[str, bytes], names: tuple[str, ...], version: ScriptVersion) -> list[ProjectResult]:
    return [backport_project(version.files, new, names)]


def _lost(names: tuple[str, ...], version: ScriptVersion, why: str) -> Iterator[ProjectResult]:
    yield ProjectResult({}, tuple((version.path, Refusal(name, "PROOF", why)) for name in names))


def _asked(options: Options, versions: Sequence[ScriptVersion]) -> set[At]:
    """What --at says.

    Raises:
        Stop: it can't be read, or there is no such version.
    """
    found: set[At] = set()
    for text in options.at:
        rev, _, line = text.rpartition(":")
        if not rev or not line.isdecimal() or int(line) < 1:
            raise Stop(f"--at {text}: write REV:LINE, a version as the table shows it and a line of its script")
        if len(options.names) != 1:
            raise Stop("--at places one statement: name it alone with --vars")
        mine = [v for v in versions if v.vid.startswith(rev) or any(rev in (r.name, r.id) for r in v.runs)]
        if len(mine) != 1:
            raise Stop(f"--at {text}: {'no version' if not mine else 'several versions'} {rev!r}")
        found.add(At(options.names[0], mine[0].vid, mine[0].path, int(line)))
    return found


def _check_place(at: At, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        for _, refusal in outcome.result.refusals:
            if outcome.version.vid == at.vid and refusal.name == at.name:
                raise Stop(f"--at {at.vid[:8]}:{at.line}: {refusal.code}: {refusal.message}")


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
        click.echo(report.as_json(_shown(path), options.names, outcomes))
    elif options.output_format == "github":
        for line in report.github(outcomes):
            click.echo(line)
    elif options.diff:
        for outcome in outcomes:
            click.echo(report.patch(outcome), nl=False)
    elif options.dry_run:
        report.rows(options.names, outcomes)
    else:
        report.table(options.names, outcomes)
    _say(report.counts(outcomes))
    if options.diff or options.output_format == "json":
        for outcome in outcomes:
            for _, refusal in outcome.result.refusals:
                _say(f"{outcome.short} {refusal.name}: refused: {refusal.code}: {refusal.message}")


def _write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        for inside, code in outcome.result.changed.items():
            path = folder / outcome.short / inside
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(code)
            except OSError as error:
                raise Stop(f"{path}: {error.strerror or error}") from None
            _say(f"wrote {path}")


def _replay(path: Path, options: Options) -> int:
    command = [sys.executable, "-m", "flor", "replay", *options.names, "--script", str(path)]
    command += ["--runs", options.runs] if options.runs else []
    command += ["-j", str(options.jobs)] if options.jobs else []
    command += ["--yes"] if options.yes else []
    command += ["--trust"] if options.trust else []
    sys.stdout.flush()
    return _run_replay(command).returncode


def _run_replay(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False)


def _say(text: str) -> None:
    click.echo(text, err=True)
