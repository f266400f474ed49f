"""What a shell is told when it asks how a word may go on, and `flor completion SHELL`, which sets it up.

A completion has to be quick and says nothing: it reads the index, or a few manifests and lists of names, loads neither
numpy nor pandas, and gives nothing where something is wrong.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

_MOST = 200  # runs whose own files are read, newest first
_SAFE = re.compile(r"[\w@%+=:,./][\w@%+=:,./-]*")  # what a shell takes as it is, and no program for an option
_LOGGED = re.compile(rb"\blog\(\s*[\"']([^\"'\\]{1,200})[\"']")
_LARGEST = 4 << 20  # bytes of a script
_SHELLS = ("bash", "zsh", "fish")
_PROGRAMS = ("flor", "flor-transform", "flor-backport")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print what makes SHELL complete flor, flor-transform and flor-backport: commands, options, runs, names.

    \b
      eval "$(flor completion bash)"                        in ~/.bashrc
      eval "$(flor completion zsh)"                         in ~/.zshrc, after compinit
      flor completion fish > ~/.config/fish/completions/flor.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    for program in _PROGRAMS:
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
        made = kind(click.Command(program), {}, program, variable)
        click.echo(made.source_template % made.source_vars())


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names and ids of runs; behind commas, for options that take several."""
    before, comma, word = incomplete.rpartition(",")
    names, ids = _found(_runs)
    given = set(before.split(","))
    found = [name for name in dict.fromkeys(names) if name.startswith(word) and name not in given]
    if not found or len(word) > 1:
        found += [run[:8] for run in ids if run.startswith(word) and run[:8] not in given]
    if isinstance(param, click.Argument):
        given |= {str(each) for each in ctx.params.get(param.name or "") or ()}
        found = [each for each in found if each not in given]
    return [CompletionItem(before + comma + each) for each in found]


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What was logged."""
    given = set(ctx.params.get(param.name or "") or ())
    names = _found(_names)[0]
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in given]


def _found(read: Callable[[Path], tuple[list[str], ...]]) -> tuple[list[str], ...]:
    """What was read of the store, without what a shell would take for something else."""
    root = Path(os.environ.get("FLOR_HOME") or "~/.flor").expanduser()
    try:
        found = read(root)
    except (OSError, ValueError, RecursionError, sqlite3.Error, RuntimeError):
        return [], []
    return tuple([text for text in texts if _SAFE.fullmatch(text)] for texts in found)


def _runs(root: Path) -> tuple[list[str], ...]:
    """Names and ids of runs, newest first."""
    names: list[tuple[float, str]] = []
    folders = {path.name for path in (root / "runs").iterdir()}
    unknown = set(folders)
    for run, name, started in _rows(root, "SELECT run, name, started FROM runs"):
        if run in folders:
            unknown.discard(run)
            names.append((float(started or 0), str(name or "")))
    for folder in _newest(root, unknown):
        manifest = _json(folder / "run.json")
        names.append((float(manifest.get("started") or 0), str(manifest.get("name") or "")))
    return [name for _, name in sorted(names, reverse=True) if name], sorted(folders)


def _names(root: Path) -> tuple[list[str], ...]:
    """Names that were logged, or are parameters."""
    found: dict[str, None] = {}
    for table in ("names", "parameters"):
        for (name,) in _rows(root, f"SELECT DISTINCT name FROM {table}"):
            found[str(name)] = None
    if not found:
        for folder in _newest(root, {path.name for path in (root / "runs").iterdir()}):
            for log in ("log", "captured"):
                path = folder / log / "names.jsonl"
                for line in path.read_bytes().splitlines() if path.is_file() else ():
                    match json.loads(line.partition(b"\t")[0]):
                        case [int(), str(name)] if "@" not in name:
                            found[name] = None
    return (sorted(found.keys() - {"epoch", "step", ""}),)


def _newest(root: Path, runs: set[str]) -> list[Path]:
    folders = [root / "runs" / run for run in runs]
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)[:_MOST]


def _rows(root: Path, statement: str) -> Iterator[tuple[Any, ...]]:
    """Of the index, which is only read; nothing if there is none."""
    if not (root / "main.db").is_file():
        return
    db = sqlite3.connect(f"{(root / 'main.db').absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)
    try:
        yield from db.execute(statement)
    except sqlite3.Error:
        return
    finally:
        db.close()


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def complete_script_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names that scripts here log: what a replay may be asked for. What was recorded comes behind."""
    given = set(ctx.params.get(param.name or "") or ())
    found: dict[str, None] = {}
    script = ctx.params.get("script")
    try:
        for path in [Path(str(script))] if script else sorted(Path.cwd().glob("*.py"))[:_MOST]:
            if path.is_file() and path.stat().st_size < _LARGEST:
                found |= dict.fromkeys(match.decode("utf-8", "replace") for match in _LOGGED.findall(path.read_bytes()))
    except OSError:
        pass
    names = [*found, *(name for name in _found(_names)[0] if name not in found)]
    meant = [name for name in names if name.startswith(incomplete) and name not in given and _SAFE.fullmatch(name)]
    return [CompletionItem(name) for name in meant]
