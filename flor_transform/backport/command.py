"""flor-backport: the newest script's log statements, put into every recorded version of it."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from flor_transform.backport import history
from flor_transform.backport.engine import backport, logged
from flor_transform.backport.history import HistoryError, Run, ScriptVersion
from flor_transform.backport.plan import BackportResult
from flor_transform.backport.tree import Version


class Stop(Exception):
    """One line for the user, and exit code 2."""


@dataclass(frozen=True)
class Outcome:
    """One version and what became of it."""

    version: ScriptVersion
    result: BackportResult

    @property
    def short(self) -> str:
        """The version's short id."""
        return self.version.vid[:8]

    @property
    def names(self) -> str:
        """The runs' names (or ids)."""
        return ", ".join(dict.fromkeys(r.name or r.id[:8] for r in self.version.runs))

    @property
    def when(self) -> str:
        """When it ran first."""
        started = self.version.runs[0].started
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(started)) if started else ""


@click.command("flor-backport", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("script", required=False, type=click.Path(path_type=Path))
@click.option("--vars", "names", required=True, metavar="A,B", help="Names that the newest script logs.")
@click.option("--diff", is_flag=True, help="Print the patches.")
@click.option("--check", is_flag=True, help="Exit 1 if a statement was refused or would be placed.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the patched files into a folder.")
@click.option("--replay", is_flag=True, help="Go on and recover the values.")
@click.option("--runs", "chosen", help="Only these runs: ids or names, separated by commas.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="With --replay: workers at a time.")
@click.option("-y", "--yes", is_flag=True, help="With --replay: don't ask.")
@click.option("--trust", is_flag=True, help="With --replay: run also the code of runs that you did not record here.")
@click.option("--output-format", type=click.Choice(["table", "json"]), default="table", show_default=True)
def backport_command(
    script: Path | None,
    names: str,
    diff: bool,
    check: bool,
    out: Path | None,
    replay: bool,
    chosen: str | None,
    jobs: int | None,
    yes: bool,
    trust: bool,
    output_format: str,
) -> None:
    """Put log statements of SCRIPT into every recorded version of it.

    SCRIPT is today's file (default: the script of this project's newest run, as it is in the working tree). Nothing
    of yours is written: the patched versions are printed, written with --out, or replayed from the store.
    """
    try:
        code = _run(script, names, diff, check, out, replay, chosen, jobs, yes, trust, output_format)
    except (Stop, HistoryError) as error:
        click.echo(f"flor-backport: {error}", err=True)
        code = 2
    sys.exit(code)


def _run(
    script: Path | None,
    names: str,
    diff: bool,
    check: bool,
    out: Path | None,
    replay: bool,
    chosen: str | None,
    jobs: int | None,
    yes: bool,
    trust: bool,
    output_format: str,
) -> int:
    wanted = list(dict.fromkeys(n.strip() for n in names.split(",") if n.strip()))
    if not wanted:
        raise Stop("--vars needs at least one name")
    path, known = _choose(script, chosen)
    new = _read(path, wanted)
    found = history.versions(known)
    if not found:
        raise Stop(f"none of the {len(known)} recorded runs of {path.name} kept its code")
    outcomes = [Outcome(version, backport(version.data, new, wanted)) for version in found]
    if output_format == "json":
        click.echo(json.dumps(_json(path, wanted, outcomes), indent=2))
    elif diff:
        for outcome in outcomes:
            click.echo(patch(outcome), nl=False)
    else:
        _table(wanted, outcomes)
    placed = sum(p.how == "placed" for o in outcomes for p in o.result.placements)
    refused = sum(len(o.result.refusals) for o in outcomes)
    _say(_counts(len(outcomes), placed, refused))
    if diff or output_format == "json":
        for outcome in outcomes:
            for refusal in outcome.result.refusals:
                _say(f"{outcome.short} {refusal.name}: refused: {refusal.code}: {refusal.message}")
    if out is not None:
        _write(out, outcomes)
    if replay:
        return _replay(path, wanted, chosen, jobs, yes, trust)
    return 1 if check and (placed or refused) else 0


def _choose(script: Path | None, chosen: str | None) -> tuple[Path, list[Run]]:
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
    if not path.is_file():
        raise Stop(f"{_shown(path)}: no such file")
    target = path.resolve()
    mine = [r for r in project if r.path.resolve() == target]
    if not mine:
        raise Stop(f"no recorded runs of {_shown(path)}: record one with `flor run {path.name}`")
    if chosen:
        keys = [c.strip() for c in chosen.split(",") if c.strip()]
        for key in keys:
            if not any(r.name == key or r.id.startswith(key) for r in mine):
                raise Stop(f"no run {key!r} of {_shown(path)}")
        mine = [r for r in mine if any(r.name == k or r.id.startswith(k) for k in keys)]
    return path, mine


def _read(path: Path, wanted: Sequence[str]) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Stop(f"{_shown(path)}: {error.strerror or error}") from None
    try:
        version = Version(data)
    except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError) as error:
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        what = getattr(error, "msg", None) or str(error)
        raise Stop(f"{_shown(path)}:{line}:{column}: SYNTAX not Python 3: {what}") from None
    have = logged(version)
    missing = [n for n in wanted if n not in have and not any("{}" in h for h in have)]
    if missing:
        raise Stop("; ".join(_unknown(n, have, path) for n in missing))
    return data


def _unknown(name: str, have: Sequence[str], path: Path) -> str:
    near = difflib.get_close_matches(name, have, n=3, cutoff=0.5)
    hint = f" (near: {', '.join(near)})" if near else f" (it logs: {', '.join(have)})" if have else " (it logs nothing)"
    return f"{_shown(path)} logs no {name!r}{hint}"


def _shown(path: Path) -> str:
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)


def patch(outcome: Outcome) -> str:
    """A version's patch as git writes one; empty if nothing was placed."""
    if not outcome.result.changed:
        return ""
    path = outcome.version.path
    before = _lines(outcome.version.data)
    after = _lines(outcome.result.code)
    out = [f"# {outcome.short} {outcome.names}".rstrip() + "\n", f"diff --git a/{path} b/{path}\n"]
    for line in difflib.unified_diff(before, after, f"a/{path}", f"b/{path}"):
        out.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return "".join(out)


def _lines(data: bytes) -> list[str]:
    # only \n ends a line of a patch: \r stays part of it
    text = data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode("utf-8")
    return [line + "\n" for line in text.split("\n")[:-1]] + ([last] if (last := text.split("\n")[-1]) else [])


def cell(outcome: Outcome, name: str) -> str:
    """What became of a name in a version, for the table."""
    parts: list[str] = []
    for p in outcome.result.placements:
        if p.name == name or "{}" in p.name:
            extra = "".join(f", {a} is {b}" for a, b in p.renames) + "".join(f", with {b}" for b in p.brought)
            parts.append(f"{p.how}: line {p.line}{extra}")
    for r in outcome.result.refusals:
        if r.name == name:
            where = f" (lines {', '.join(map(str, r.candidates))})" if r.candidates else ""
            parts.append(f"refused: {r.message}{where}")
    return "\n".join(parts) or "-"


def _table(wanted: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for head in ("version", "run", "time", *wanted):
        table.add_column(head, no_wrap=head == "version", overflow="fold")
    for outcome in outcomes:
        row = [outcome.short, outcome.names, outcome.when, *(cell(outcome, n) for n in wanted)]
        table.add_row(*(Text(text) for text in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _json(path: Path, wanted: Sequence[str], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "script": _shown(path),
        "vars": list(wanted),
        "versions": [
            {
                "vid": o.version.vid,
                "path": o.version.path,
                "runs": [{"run": r.id, "name": r.name, "started": r.started} for r in o.version.runs],
                **o.result.to_json(),
            }
            for o in outcomes
        ],
    }


def _counts(versions: int, placed: int, refused: int) -> str:
    def plural(n: int, word: str) -> str:
        return f"{n} {word}" + ("" if n == 1 else "s")

    return f"{plural(versions, 'version')}: {plural(placed, 'statement')} placed, {refused} refused"


def _write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.result.changed:
            path = folder / outcome.short / outcome.version.path
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(outcome.result.code)
            except OSError as error:
                raise Stop(f"{path}: {error.strerror or error}") from None
            _say(f"wrote {path}")


def _replay(path: Path, wanted: Sequence[str], chosen: str | None, jobs: int | None, yes: bool, trust: bool) -> int:
    command = [sys.executable, "-m", "flor", "replay", *wanted, "--script", str(path)]
    command += ["--runs", chosen] if chosen else []
    command += ["-j", str(jobs)] if jobs else []
    command += ["--yes"] if yes else []
    command += ["--trust"] if trust else []
    sys.stdout.flush()
    return _run_replay(command).returncode


def _run_replay(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False)


def _say(text: str) -> None:
    click.echo(text, err=True)
