"""Laws 1 and 2 on folders, with the real command: instrument a copy, check that nothing is left to do, strip it.

    python -m tests.laws.idempotent FOLDER ...

prints one line for each folder and exits 1 if a law is broken anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("flor-transform"))


@dataclass
class Outcome:
    files: int
    unusable: int  #: that can't be parsed or decoded: left out
    changed: int
    problems: list[str]

    def __str__(self) -> str:
        text = f"{self.files} files, {self.changed} instrumented, {self.unusable} that are no Python 3"
        return "\n".join([f"{text}: {len(self.problems)} problems", *self.problems])


def check(folder: Path) -> Outcome:
    """Hold both laws against the scripts of a folder."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        shutil.copytree(folder, copy, ignore=_only_scripts, symlinks=True)
        for path in copy.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o644)
        return _check(copy)


def _only_scripts(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith((".py", ".ipynb")) and not Path(folder, name).is_dir()]


def _check(folder: Path) -> Outcome:
    raw = {path: path.read_bytes() for path in _scripts(folder)}
    first = _run(folder, "--output-format", "json", ".")
    failed = {folder / item["path"]: item for item in json.loads(first.stdout) if item["severity"] == "error"}
    problems = [
        f"{path.relative_to(folder)}: {item['code']} {item['message']}"
        for path, item in failed.items()
        if item["code"] in ("FT007", "FT008")
    ]
    for path in failed:
        del raw[path]
        path.unlink()
    done = {path: path.read_bytes() for path in raw}
    second = _run(folder, "--check", ".")
    if second.returncode:
        problems.append(f"--check after instrumentation: exit {second.returncode}: {second.stderr[-500:]}")
    _run(folder, ".")
    problems += [f"{path.relative_to(folder)}: changed again" for path in raw if path.read_bytes() != done[path]]
    changed = [path for path in raw if raw[path] != done[path]]
    for start in range(0, len(changed), 500):
        _run(folder, "--strip", *(os.fspath(path.relative_to(folder)) for path in changed[start : start + 500]))
    problems += [f"{path.relative_to(folder)}: not stripped" for path in changed if path.read_bytes() != raw[path]]
    return Outcome(len(raw) + len(failed), len(failed), len(changed), problems)


def _scripts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".ipynb") and path.is_file())


def _run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, "--isolated", *args], cwd=folder, capture_output=True, text=True)
    if "Traceback" in done.stderr:
        raise AssertionError(done.stderr)
    return done


if __name__ == "__main__":
    outcomes = [check(Path(folder)) for folder in sys.argv[1:]]
    for name, outcome in zip(sys.argv[1:], outcomes, strict=True):
        print(f"{name}: {outcome}")
    sys.exit(any(outcome.problems for outcome in outcomes))
