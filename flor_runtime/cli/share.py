"""`flor share [REMOTE]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli.completion import complete_runs
from flor_runtime.cli.text import Column, plain, print_table, say, size

if TYPE_CHECKING:
    from flor_runtime.share.bundle import Bundle
    from flor_runtime.share.publish import Shipment, Target

_LARGEST = 50


@click.command()
@click.argument("remote", required=False)
@click.option(
    "--runs",
    "chosen",
    shell_complete=complete_runs,
    help="Only these runs: names or ids, separated by commas; `all`: of all branches.",
)
@click.option("--branch", help="Share them for this branch, not for the current one.")
@click.option("--no-code", is_flag=True, help="Leave the code of the runs out.")
@click.option(
    "--largest",
    type=click.FloatRange(0, min_open=True),
    default=_LARGEST,
    show_default=True,
    metavar="MB",
    help="Leave out runs that have more records than that.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go; the network is not used.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def command(
    remote: str | None,
    chosen: str | None,
    branch: str | None,
    no_code: bool,
    largest: float,
    dry_run: bool,
    yes: bool,
) -> None:
    """Push the runs that were recorded on the current branch to REMOTE, as its branch flor.shadow.<branch>.

    What goes is what was logged, recovered and captured, secrets masked, and the code; no checkpoints. Nothing that is
    there already is changed. After a `git fetch`, `flor show --branch REMOTE/flor.shadow.<branch>` has the table.

    \b
      flor share --dry-run
      flor share origin --runs baseline,wide
    """
    from flor_runtime.coderules import Rules
    from flor_runtime.repository import locate
    from flor_runtime.share import publish
    from flor_runtime.share.layout import ShareError
    from flor_transform.errors import SettingsError
    from flor_transform.settings import Lookup

    where = publish.target(locate(Path.cwd().resolve(), with_index=False), remote, branch)
    bundles = _bundles(where, chosen, largest)
    if not bundles:
        say(f"no runs to share for {where.branch}: `flor run train.py` records one")
        return
    try:
        rules = Rules.from_settings(Lookup().of(str(where.place.root)).settings.changed())
    except SettingsError as error:
        raise ShareError(str(error)) from None
    planned = publish.prepare(where, bundles, publish.known_tip(where), rules, code=not no_code)
    _print(where, planned, "would go" if dry_run else "go")
    if dry_run or not planned.runs:
        return
    terminal = sys.stdin.isatty()
    if terminal and not yes and not click.confirm("Go on?", default=True, err=True):
        return
    done = publish.send(where, bundles, rules, code=not no_code, ask=terminal, say=say)
    name = f"{where.remote}/{where.name}"
    if done.runs:
        say(f"shared {_runs(len(done.runs))}: `flor show --branch {name}`")
    else:
        say(f"all of it is on {name} already")


def _bundles(where: Target, chosen: str | None, largest: float) -> list[Bundle]:
    from flor_runtime.errors import StoreError
    from flor_runtime.share.bundle import bundle
    from flor_runtime.store.layout import OPEN, Home

    home = Home()
    if chosen is not None and chosen != "all":
        wanted = {home.find(text.strip()).id for text in chosen.split(",")}
        folders = [folder for folder in home.all_runs() if folder.id in wanted]
    else:
        folders = home.all_runs()
    found = []
    elsewhere = 0
    for folder in folders:
        manifest = folder.manifest()
        if not _belongs(where, manifest):
            if chosen is not None and chosen != "all":
                say(f"{folder.id[:8]}: not a run of this repository: left out")
            continue
        if chosen is None and manifest.get("branch") not in (None, where.branch):
            elsewhere += 1
            continue
        if folder.status() in OPEN:
            say(f"{folder.id[:8]}: still running: left out")
            continue
        try:
            made = bundle(folder)
        except StoreError as error:
            say(f"{folder.id[:8]}: {error}: left out")
            continue
        if made.size > largest * 1e6:
            say(f"{folder.id[:8]}: {size(made.size)} of records: left out (--largest)")
            continue
        found.append(made)
    if elsewhere:
        say(f"{_runs(elsewhere)} of other branches: left out (--runs all)")
    return found


def _belongs(where: Target, manifest: dict[str, Any]) -> bool:
    return manifest.get("repo") == where.repo or manifest.get("project") == str(where.place.root)


def _print(where: Target, planned: Shipment, word: str) -> None:
    from flor_runtime.secrets import mask_text
    from flor_runtime.share.publish import url_of

    if not planned.runs:
        say(f"all of it is on {where.remote}/{where.name} already")
        return
    print_table(
        [
            Column("run", [one.run[:8] for one in planned.runs], key=True),
            Column("name", [plain(one.name or "", 36) for one in planned.runs], key=True),
            Column("script", [plain(" ".join([one.script, *one.argv]), 36) for one in planned.runs]),
            Column("records", [str(one.records) for one in planned.runs], right=True),
            Column("size", [size(one.size) for one in planned.runs], right=True),
            Column("masked", [str(one.masked) if one.masked else "" for one in planned.runs], right=True),
            Column("code", [_code(where, planned.codes.get(one.run)) for one in planned.runs]),
        ]
    )
    for run, why in planned.withheld.items():
        say(f"{run[:8]}: its code is left out: {why}")
    names = dict.fromkeys(name for one in planned.runs for name in one.names)
    if names:
        say(f"values of {', '.join(names)}")
    total = sum(one.size for one in planned.runs)
    url = mask_text(url_of(where))
    say(f"{_runs(len(planned.runs))}, {size(total)}, {word} to {where.name} at {where.remote} ({url})")


def _code(where: Target, tree: str | None) -> str:
    from flor_runtime.share.publish import code_size

    if tree is None:
        return ""
    files, total = code_size(where, tree)
    return f"{files} file{'s' * (files != 1)}, {size(total)}"


def _runs(count: int) -> str:
    return f"{count} run" + "s" * (count != 1)
