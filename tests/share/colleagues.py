"""Two clones of one repository, each with a store of its own, and the bare repository between them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flor_runtime.store.layout import Home, RunFolder, write_json
from flor_runtime.store.runlog import RunLog
from flor_runtime.versions import snapshot
from tests.versions.repos import RAN, SCRIPT, fresh, git


@dataclass
class Colleague:
    """One of them.

    Attributes:
        repo: the working tree. `home`: the store.
    """

    repo: Path
    home: Home

    def record(
        self, values: dict[str, object], epochs: int = 2, code: bytes = RAN, end: bool = True, **manifest: object
    ) -> RunFolder:
        """A run that has ended, as `flor run` would have left it: parameters at the root, `loss` in each epoch."""
        run = self.home.create_run()
        (self.repo / SCRIPT).write_bytes(code)
        taken = snapshot(self.repo / SCRIPT, {self.repo / SCRIPT: code}, run.id, home=self.home.root)
        known = {
            "project": str(self.repo),
            "projid": "repo",
            "script": SCRIPT,
            "name": None,
            "argv": [],
            "cwd": str(self.repo),
        }
        versions = {"vid": taken.vid, "repo": taken.repo, "branch": taken.branch}
        run.begin({**known, **versions, "executable": sys.executable, "env": {}, **manifest})
        log = RunLog(run.log)
        for name, value in values.items():
            log.append(0, name, value)
        for epoch in range(1, epochs + 1):
            log.append(log.context(0, "epoch", epoch), "loss", 1.0 / epoch)
        log.close()
        if end:
            run.finish("finished")
        return run

    def recover(self, run: RunFolder, name: str, values: list[object]) -> None:
        """A replay of the run that has recovered a value for each epoch."""
        folder = run.path / "replays" / f"r-{name}"
        log = RunLog(folder / "records")
        for epoch, value in enumerate(values, 1):
            log.append(log.context(0, "epoch", epoch), name, value)
        log.close()
        facts = {"format": 1, "id": folder.name, "vars": [name], "label": "exact", "ended": 1.0, "parts": ["records"]}
        write_json(folder / "replay.json", facts)

    def flor(self, *args: str, code: int = 0, **environment: str) -> tuple[str, str]:
        """What `flor` prints, and what it says."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "FLOR_"))}
        env |= {"FLOR_HOME": str(self.home.root), "GIT_CONFIG_GLOBAL": "/dev/null", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "flor", *args], cwd=self.repo, env=env, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    def table(self, *names: str, branch: str = "origin/flor.shadow.main") -> list[str]:
        """The rows of a shared branch, as CSV without the columns that say when and where."""
        lines = self.flor("show", *names, "--branch", branch, "--format", "csv")[0].splitlines()
        return sorted(line.split(",", 4)[4] for line in lines[1:])


def colleagues(folder: Path) -> tuple[Colleague, Colleague]:
    """Their remote, `origin`, is a bare repository at a path."""
    first = fresh(folder / "ann/repo")
    git(folder, "clone", "-q", "--bare", str(first), "shared.git")
    git(first, "remote", "add", "origin", str(folder / "shared.git"))
    git(first, "fetch", "-q")
    (folder / "bob").mkdir()
    git(folder / "bob", "clone", "-q", str(folder / "shared.git"), "repo")
    for name in ("ann", "bob"):
        git(folder / name / "repo", "config", "user.name", name)
        git(folder / name / "repo", "config", "user.email", f"{name}@example.org")
    return tuple(Colleague(folder / name / "repo", Home(folder / name / "home")) for name in ("ann", "bob"))  # type: ignore[return-value]
