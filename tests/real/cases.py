"""The cases: which script, with which arguments, and what has to be there before it runs."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).with_name("cases.tsv")
_LARGEST = 1_000_000  # bytes of a file that is copied; scripts need none of the larger ones


@dataclass(frozen=True)
class Case:
    """One script.

    Attributes:
        repo: owner/name, a folder `owner+name` of the corpus.
        cwd, script, args: as they are typed, in a folder of the repository.
        env: variables, NAME=VALUE, separated by blanks.
        prepare: steps, separated by `;`: see `prepare`.
        noise: a pattern of what the script prints of the clock or the process.
        probe: FILE:LINE:EXPRESSION: logged after the statement that begins at that line, then recovered by replay.
    """

    name: str
    repo: str
    cwd: str
    script: str
    args: str
    env: str
    prepare: str
    noise: str
    probe: str

    @property
    def command(self) -> list[str]:
        return [self.script, *shlex.split(self.args)]


def read(path: Path = CASES) -> list[Case]:
    """All cases, in the order of the file."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(
            (line for line in file if not line.startswith("#")), delimiter="\t", quoting=csv.QUOTE_NONE
        )
        return [Case(**{key: value or "" for key, value in row.items()}) for row in rows]


def prepare(case: Case, repository: Path, data: Path, target: Path, env: dict[str, str]) -> None:
    """A fresh copy of the repository under git, with what the case needs.

    Steps: `data FROM TO` copies from the data folder; `mkdir DIR`; `python ARGS` runs; `json FROM TO KEY.KEY=VALUE ...` is a
    changed copy; `sine FILE ROWS COLUMNS` is an array of sine waves, saved by torch.
    """
    shutil.copytree(repository, target, ignore=_too_large)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it was"]):
        subprocess.run([*git, *arguments], cwd=target, check=True)
    folder = target / case.cwd
    for step in filter(None, (step.strip() for step in case.prepare.split(";"))):
        verb, *words = shlex.split(step)
        if verb == "data":
            source = data / words[0]
            to = folder / words[1]
            to.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree(source, to, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, to))
        elif verb == "mkdir":
            (folder / words[0]).mkdir(parents=True, exist_ok=True)
        elif verb == "python":
            done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{case.name}: {step}: {done.stderr[-500:]}")
        elif verb == "json":
            _write_json(folder / words[0], folder / words[1], words[2:])
        elif verb == "sine":
            _write_sine(folder / words[0], int(words[1]), int(words[2]))
        else:
            raise ValueError(f"{case.name}: no such step: {step}")


def _too_large(folder: str, names: list[str]) -> set[str]:
    paths = [Path(folder, name) for name in names]
    return {path.name for path in paths if path.name == ".git" or (path.is_file() and path.stat().st_size > _LARGEST)}


def _write_json(source: Path, target: Path, changes: list[str]) -> None:
    data = json.loads(source.read_text())
    for change in changes:
        keys, _, value = change.partition("=")
        *path, last = keys.split(".")
        place = data
        for key in path:
            place = place[key]
        place[last] = json.loads(value)
    target.write_text(json.dumps(data))


def _write_sine(target: Path, rows: int, columns: int) -> None:
    import numpy as np
    import torch

    phase = np.arange(rows).reshape(rows, 1) * 3.0
    torch.save(np.sin((np.arange(columns) + phase) / 20.0), target)
