"""`flor diff RUN [RUN]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli import forms, marks
from flor_runtime.cli.completion import complete_runs
from flor_runtime.cli.text import Column, aligned, cell, plain, print_table, say, visible

if TYPE_CHECKING:
    from flor_runtime.codediff import FileChange
    from flor_runtime.query.difference import Ends, Side
    from flor_runtime.store.layout import RunFolder
    from flor_runtime.trees import Tree

_SECTIONS = ("arguments", "environment", "code", "metrics")
_TREE = "working tree"


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN [RUN]]", shell_complete=complete_runs)
@click.option("--only", "sections", type=click.Choice(_SECTIONS), multiple=True, help="Only this part. Repeatable.")
@click.option("-U", "--unified", "context", type=click.IntRange(0, 10_000), default=3, metavar="N",
              help="Lines of code round each change.  [default: 3]")  # fmt: skip
@click.option("--check", is_flag=True, help="Exit 1 if anything differs, 2 if something could not be compared.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def command(
    ctx: click.Context, runs: tuple[str, ...], sections: tuple[str, ...], context: int, check: bool, as_json: bool
) -> None:
    """What differs between two runs: arguments, environment, code, and what they logged.

    With one RUN (default: the newest), how its code differs from the files that are there now: what a run would keep
    that began this moment. Of binary files, and of very long ones, only the names are said. Of what was logged, the
    last value, the least and the largest stand side by side; recovered values are marked as `flor show` marks them.

    \b
      flor diff baseline wide
      flor diff baseline --only code          the run against the working tree
      flor diff last:2 --check
    """
    from flor_runtime.errors import FlorError
    from flor_runtime.query.catalog import select
    from flor_runtime.store.layout import Home

    home = Home()
    folders = _folders(runs, home)
    for note in home.notes:
        say(note)
    if len(runs) > 2 or len(folders) > 2:
        raise FlorError("two runs at a time, or one against the working tree")
    if not folders:
        folders = select(None, home)[-1:]
    if not folders:
        raise FlorError(f"no runs in {home.root}: `flor run train.py` records one")
    found, failed = _compared(folders, sections or _SECTIONS, context)
    if failed is not None:
        say(f"the code can't be compared: {failed}")
    if as_json:
        click.echo(json.dumps(_plain(found), indent=1))
    else:
        _print(found)
    differs = any(found[section] for section in _SECTIONS if section in found)
    if not differs and failed is None:
        say("no difference")
    ctx.exit(0 if not check else 2 if failed is not None else int(differs))


def _folders(runs: Sequence[str], home: Any) -> list[RunFolder]:
    """The runs as they are named, in that order."""
    from flor_runtime.query.catalog import select

    return [folder for run in runs for folder in select([run], home)]


def _compared(folders: Sequence[RunFolder], sections: Sequence[str], context: int) -> tuple[dict[str, Any], str | None]:
    """What differs, by section, with the two sides under `sides`; and why the code could not be compared."""
    from flor_runtime.errors import FlorError
    from flor_runtime.query.difference import differing, side

    a = side(folders[0])
    found: dict[str, Any] = {"sides": [a]}
    if len(folders) == 2:
        b = side(folders[1])
        found["sides"] = [a, b]
        if "arguments" in sections:
            commands = {} if a.command == b.command else {"command": {"a": a.command, "b": b.command}}
            found["arguments"] = commands | differing(a.parameters, b.parameters)
        if "environment" in sections:
            found["environment"] = differing(a.environment, b.environment)
        if "metrics" in sections:
            found["metrics"] = differing(a.metrics, b.metrics)
    failed = None
    if "code" in sections:
        found["code"] = []
        try:
            found["code"] = _code(folders, context)
        except FlorError as error:
            failed = str(error)
    return found, failed


def _code(folders: Sequence[RunFolder], context: int) -> list[FileChange]:
    from flor_runtime.codediff import changes
    from flor_runtime.coderules import Rules
    from flor_runtime.trees import of_working_tree

    old = _tree(folders[0])
    if len(folders) == 2:
        new = _tree(folders[1])
    else:
        manifest = folders[0].manifest()
        rules = Rules.from_settings(manifest.get("settings") or {})
        new = of_working_tree(Path(str(manifest.get("project"))), str(manifest.get("script")), old.entries, rules)
    return changes(old, new, context)


def _tree(folder: RunFolder) -> Tree:
    from flor_runtime.errors import FlorError
    from flor_runtime.trees import of_version

    manifest = folder.manifest()
    if not manifest.get("vid") or not manifest.get("repo"):
        raise FlorError(f"that of run {folder.id[:8]} was not kept")
    return of_version(str(manifest["repo"]), str(manifest["vid"]))


# -- printing


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """The same for JSON."""
    sides: list[Side] = found["sides"]
    data: dict[str, Any] = {"runs": [{"run": side.run, "name": side.name} for side in sides]}
    for section in ("arguments", "environment"):
        if section in found:
            data[section] = {name: _each(both, forms.json_value) for name, both in found[section].items()}
    if "code" in found:
        data["code"] = [
            {**change._asdict(), "diff": "".join(f"{line}\n" for line in change.diff)} for change in found["code"]
        ]
    if "metrics" in found:
        data["metrics"] = {name: _each(both, _ends) for name, both in found["metrics"].items()}
    return data


def _each(both: Mapping[str, Any], form: Callable[[Any], Any]) -> dict[str, Any]:
    return {key: form(value) for key, value in both.items()}


def _ends(ends: Ends) -> dict[str, Any]:
    return {
        "records": ends.records,
        "last": forms.json_value(ends.last),
        "min": forms.json_value(ends.least),
        "max": forms.json_value(ends.most),
        "recovered": ends.label,
    }


def _print(found: dict[str, Any]) -> None:
    labels = _labels(found["sides"])
    blocks: list[str] = []

    def title(text: str) -> None:
        if blocks:
            click.echo()
        blocks.append(text)
        click.secho(text, bold=True)

    for section in ("arguments", "environment"):
        if found.get(section):
            title(section)
            print_table(_pairs(found[section], labels))
    if found.get("code"):
        title(f"code: {_counted(found['code'])}, from {labels[0]} to {labels[1]}")
        _print_code(found["code"])
    if found.get("metrics"):
        title("metrics")
        print_table(_metrics(found["metrics"], labels))
        for mark in marks.used(ends.label for both in found["metrics"].values() for ends in both.values()):
            click.echo(mark, err=True)


def _labels(sides: Sequence[Side]) -> list[str]:
    names = [plain(side.name or side.run[:8], 24) for side in sides] + [_TREE] * (len(sides) < 2)
    return (
        names if names[0] != names[1] else [f"{name} {side.run[:8]}" for name, side in zip(names, sides, strict=True)]
    )


def _pairs(both: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> list[Column]:
    sides = [["" if key not in pair else cell(pair[key], 200) for pair in both.values()] for key in ("a", "b")]
    return [
        Column("", [plain(name, 40) for name in both], key=True, least=12),
        *(Column(label, texts, least=16) for label, texts in zip(labels, sides, strict=True)),
    ]


def _metrics(both: Mapping[str, Mapping[str, Ends]], labels: Sequence[str]) -> list[Column]:
    """A row for the last value of each name; for the least and the largest where they are others."""
    names, kinds, difference = [], [], []
    sides: dict[str, list[str]] = {"a": [], "b": []}
    for name, pair in both.items():
        for field, kind in (("last", "last"), ("least", "min"), ("most", "max"), ("records", "records")):
            if not _worth(field, pair):
                continue
            names.append(plain(name, 40) if kind == "last" else "")
            kinds.append(kind)
            for key, texts in sides.items():
                ends = pair.get(key)
                mark = marks.of(ends.label) if ends is not None and field != "records" else ""
                value = None if ends is None else getattr(ends, field)
                texts.append("" if ends is None else ("…" if value is None else cell(value)) + mark)
            difference.append(_minus(*(getattr(pair[key], field) if key in pair else None for key in ("a", "b"))))
    columns = [Column("", names, key=True, least=12), Column("", kinds)]
    for label, texts in zip(labels, sides.values(), strict=True):
        columns.append(Column(label, aligned(texts), right=True, least=8))
    return [*columns, Column("difference", aligned(difference), right=True)]


def _worth(field: str, pair: Mapping[str, Ends]) -> bool:
    """Whether this row says something that the one of the last value doesn't."""
    if field == "last":
        return True
    if field == "records":
        return len({ends.records for ends in pair.values()}) > 1
    return any(getattr(ends, field) is not None and ends.least != ends.most for ends in pair.values())


def _minus(a: Any, b: Any) -> str:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (a, b))
    if not numbers:
        return ""
    try:
        return "=" if a == b else f"{b - a:+.6g}"
    except OverflowError:  # integers that no float can stand for
        return ""


def _counted(changed: Sequence[FileChange]) -> str:
    count = len(changed)
    added, removed = sum(change.added for change in changed), sum(change.removed for change in changed)
    return f"{count} file{'s' * (count != 1)}, +{added} -{removed} line{'s' * (added + removed != 1)}"


def _print_code(changed: Sequence[FileChange]) -> None:
    lines = [line for change in changed for line in _lines(change)]
    if not sys.stdout.isatty():
        for line in lines:
            click.echo(line)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(Text(line, style=_style(line)), soft_wrap=True)


def _lines(change: FileChange) -> Iterator[str]:
    """What is printed of a file: its diff, else one line that says what became of it."""
    path = visible(change.path)
    if change.kind == "renamed":
        yield f"renamed: {visible(change.old or '')} -> {path}"
    elif change.kind == "mode":
        yield f"changed: {path}: whether it can be executed"
    elif change.note or not change.diff:
        yield f"{change.kind}: {path}: {change.note or 'empty'}"
    else:
        yield from map(visible, change.diff)


_COLORS = {"+": "green", "-": "red", "@": "cyan", "\\": "dim"}


def _style(line: str) -> str:
    if line.startswith(("--- ", "+++ ")):
        return "bold"
    return _COLORS.get(line[:1], "")
