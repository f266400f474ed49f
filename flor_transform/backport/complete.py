"""What a shell is told when it asks how a word of flor-backport may go on."""

from __future__ import annotations

import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from flor_transform.backport import history

_LOGGED = re.compile(rb"\blog\(\s*[\"']([^\"'\\]{1,200})[\"']")
_SAFE = re.compile(r"[\w@%+=:./][\w@%+=:./-]*")  # what a shell takes as it is, and no program for an option
_MOST, _LARGEST = 200, 4 << 20  # scripts of a folder, bytes of one


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names and ids of recorded runs that kept their code, behind commas."""
    known = history.runs()[::-1]
    return _items([run.name for run in known] + [run.id[:8] for run in known], incomplete)


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names that the script logs, else those that the scripts of this folder do, behind commas."""
    scripts = ctx.params.get("scripts") or sorted(Path.cwd().glob("*.py"))[:_MOST]
    found: list[str] = []
    for script in scripts:
        try:
            if script.stat().st_size < _LARGEST:
                found += [match.decode("utf-8", "replace") for match in _LOGGED.findall(script.read_bytes())]
        except OSError:
            continue
    return _items(found, incomplete)


def _items(found: list[str], incomplete: str) -> list[CompletionItem]:
    before, comma, word = incomplete.rpartition(",")
    given = before.split(",")
    meant = [text for text in dict.fromkeys(found) if text.startswith(word) and text not in given]
    return [CompletionItem(before + comma + text) for text in meant if _SAFE.fullmatch(text)]
