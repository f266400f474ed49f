"""`flor import BRANCH`."""

from __future__ import annotations

from pathlib import Path

import click

from flor_runtime.cli.text import plain, say


@click.command()
@click.argument("branch")
@click.option("--runs", "chosen", help="Only these runs: names or ids, separated by commas.")
def command(branch: str, chosen: str | None) -> None:
    """Copy the runs that were shared on BRANCH (origin/flor.shadow.main) into your own store.

    Then `flor replay NAMES --trust` recovers values for them, too: they are run in full, as checkpoints are not shared.
    To read what they logged, `flor show --branch BRANCH` is enough.
    """
    from flor_runtime.errors import StoreError
    from flor_runtime.repository import locate
    from flor_runtime.share.adopt import adopt
    from flor_runtime.store.layout import Home

    wanted = None if chosen is None else [text.strip() for text in chosen.split(",")]
    found, notes = adopt(locate(Path.cwd().resolve(), with_index=False), branch, wanted, Home())
    for note in notes:
        say(note)
    for one in found:
        label = plain(f"{one.run[:8]} {one.name or ''}").strip()
        if one.refusal:
            say(f"{label}: {one.refusal}")
        else:
            click.echo(label)
    if wanted is not None and any(one.refusal for one in found):
        raise StoreError("not all of the runs were copied")
