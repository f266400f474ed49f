"""Runs the scripts of `fixtures/scripts` as a user would: processes, a git repository, a store of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.logreader import Key
from flor_runtime.store.runlog import keyed, read

FIXTURES = Path(__file__).parent.parent / "fixtures" / "scripts"
_PROBE = re.compile(r"# probe: ")


@dataclass
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str


class Project:
    """A user's folder with a script in it, under git unless said otherwise, and a store beside it."""

    def __init__(self, folder: Path, name: str, *, git: bool = True) -> None:
        self.folder = folder / "project"
        source = FIXTURES / name
        if source.is_dir():
            shutil.copytree(source, self.folder)
            self.script = "train.py"
        else:
            self.folder.mkdir(parents=True)
            shutil.copy(source, self.folder / "train.py")
            self.script = "train.py"
        self.home = Home(folder / "home")
        self.env = {
            **os.environ,
            "FLOR_HOME": str(self.home.root),
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        self.env.pop("PYTHONPATH", None)
        if git:
            self.git("init", "-q", "-b", "main")
            self.commit("first version")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.env, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def run(self, *command: str, cwd: Path | None = None, **env: str) -> Done:
        """Run a command to its end; `flor` and `python` are those of this environment."""
        program, *rest = command
        executable = [sys.executable] if program == "python" else [str(Path(sys.executable).with_name(program))]
        done = subprocess.run(
            [*executable, *rest],
            cwd=cwd or self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def add_probes(self) -> None:
        """Today's version: the statements in the comments, made real, in every file."""
        for path in self.folder.glob("*.py"):
            text = path.read_text()
            if _PROBE.search(text):
                path.write_text(_with_import(_PROBE.sub("", text)))

    def runs(self) -> list[RunFolder]:
        return self.home.all_runs()


def _with_import(text: str) -> str:
    """`import flor` before the first import that is not inside a docstring."""
    return re.sub(r"(?m)^(?=import |from )", "import flor\n", text, count=1)


def recorded(run: RunFolder) -> dict[Key, object]:
    """What a run logged, by place and name."""
    return keyed(read(run.log))


def recovered(run: RunFolder) -> dict[Key, object]:
    """What replays of a run recovered."""
    found: dict[Key, object] = {}
    for replay in run.replays():
        for part in replay.parts:
            found |= keyed(read(part))
    return found
