"""`flor log [RUN [NAME ...]]`."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from flor_runtime.cli import forms
from flor_runtime.cli.completion import complete_names, complete_runs
from flor_runtime.cli.text import cell, plain, say

if TYPE_CHECKING:
    from flor_runtime.store.layout import RunFolder
    from flor_runtime.store.tail import Row, Tail

Show = Callable[[tuple[tuple[str, int], ...], str, object], str]

_LAST = 10  # records that are shown before those that come
_LONGEST = 200  # characters of a value
_PATIENCE = 0.2, 1.0  # seconds between looks: while records come, and when none have come for a while


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    given = ctx.params.get("words") or ()
    return (complete_names if given else complete_runs)(ctx, param, incomplete)


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN [NAME ...]]", shell_complete=_complete)
@click.option("-f", "--follow", is_flag=True, help="Go on as records come, until the run ends.")
@click.option("-n", "--last", type=click.IntRange(0), metavar="N",
              help=f"Only the last N records so far.  [default: all; {_LAST} with -f]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def command(words: tuple[str, ...], follow: bool, last: int | None, as_json: bool) -> None:
    """Print what RUN has logged, in that order: all names, or NAME ...

    The default is the run that is alive, else the newest. With -f it goes on until the run ends, or its process is
    gone.

    \b
      flor log -f
      flor log baseline loss -n 20
      flor log baseline --json | jq .value
    """
    from flor_runtime.query.records import unknown_name
    from flor_runtime.store.layout import OPEN
    from flor_runtime.store.tail import Tail, merged

    folder = _run(words[0] if words else None)
    names = set(words[1:])
    tails = [Tail(folder.captured), Tail(folder.log)]
    show = _json if as_json else _text
    goes_on = follow and folder.status() in OPEN
    known = [name for tail in tails for name in tail.names()]
    for name in words[1:]:
        if name not in known and not goes_on:
            raise unknown_name(name, [name for name in known if "@" not in name])  # most with one are loops
    found: Iterable[tuple[Tail, Row]] = _named(merged(tails), names)
    count = last if last is not None else _LAST if follow else None
    _print(show, found if count is None else deque(found, count))
    idle = 0.0
    while goes_on:
        goes_on = folder.status() in OPEN  # before the last look: what was written until it ended is there
        any_came = _print(show, _named(merged(tails), names))
        idle = 0.0 if any_came else idle + _PATIENCE[0]
        if goes_on:
            time.sleep(min(max(idle / 4, _PATIENCE[0]), _PATIENCE[1]))
    if follow:
        label = folder.manifest().get("name") or folder.id[:8]
        say(f"{label}: {folder.status()}")
    for note in folder.notes:
        say(note)


def _run(text: str | None) -> RunFolder:
    """The run that is meant."""
    from flor_runtime.errors import StoreError
    from flor_runtime.query.catalog import select
    from flor_runtime.store.layout import OPEN, Home

    home = Home()
    found = select([text] if text is not None else None, home)
    for note in home.notes:
        say(note)
    if not found:
        raise StoreError(f"no runs in {home.root}: `flor run train.py` records one")
    if text is not None:
        return found[-1]
    newest = list(itertools.islice(reversed(found), 20))  # one that is alive began lately
    return next((run for run in newest if run.status() in OPEN), found[-1])


def _named(found: Iterable[tuple[Tail, Row]], names: set[str]) -> Iterator[tuple[Tail, Row]]:
    for tail, row in found:
        name = tail.name(row)
        if name is not None and (not names or name in names):
            yield tail, row


def _print(show: Show, found: Iterable[tuple[Tail, Row]]) -> bool:
    """Print records; True if there were any."""
    from flor_runtime.errors import StoreError

    any_came = False
    for tail, row in found:
        any_came = True
        try:
            value = tail.value(row)
        except StoreError as error:
            say(str(error))
            continue
        sys.stdout.write(show(tail.path(row.ctx), tail.name(row) or "", value) + "\n")
    sys.stdout.flush()
    return any_came


def _text(path: tuple[tuple[str, int], ...], name: str, value: object) -> str:
    place = " ".join(f"{plain(level, 40)} {turn}" for level, turn in path)
    return f"{place}{'  ' if place else ''}{plain(name, 100)} = {cell(value, _LONGEST)}"


def _json(path: tuple[tuple[str, int], ...], name: str, value: object) -> str:
    return json.dumps({"loop": dict(path), "name": name, "value": forms.json_value(value)})
