"""The code of a run, taken when it begins, in repositories of 100 and of 5,000 files; beside `git add`, `git commit`.

Wall time, the least of several, in turn with the peer, which stages and commits the same change: what trackers do that
commit for their users. Each time one file has changed and one is new.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from flor_runtime.versions import snapshot

_ROUNDS = 9
_LINE = "value = some_function(of_one_argument, and_another)  # about as long as a line of code is\n"


def run() -> Iterator[Figure]:
    """Snapshots of files of 40 lines, in folders of 50."""
    for files in (100, 5_000):
        folder = Path(tempfile.mkdtemp(prefix="flor-bench-"))
        try:
            ours, peer = _times(folder, files)
        finally:
            shutil.rmtree(folder)
        yield Figure(f"snapshot, {files:,} files", ours * 1e3, peer * 1e3, "git add -u, git commit", "ms")


def _times(folder: Path, files: int) -> tuple[float, float]:
    repo, home = folder / "repo", folder / "home"
    for number in range(files):
        path = repo / f"part{number // 50}/module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"number = {number}\n" + _LINE * 40)
    script = repo / "train.py"
    script.write_text("0\n")
    _git(repo, "init", "-q", "-b", "main")
    _git(repo, "add", "-A")
    _git(repo, "commit", "-qm", "all")
    ours, peer = [], []
    for number in range(_ROUNDS):
        code = f"run = {number}\n"
        script.write_text(code)
        (repo / "part0/module0.py").write_text(f"changed = {number}\n")
        began = time.perf_counter()
        compiled = {script: code.encode(), repo / f"new{number}.py": code.encode()}
        taken = snapshot(script, compiled, f"run{number}", home=home)
        ours.append(time.perf_counter() - began)
        assert taken.vid is not None, taken.notes
        assert taken.repo == str(repo / ".git"), taken.notes
        began = time.perf_counter()
        _git(repo, "add", "-u")
        _git(repo, "commit", "-qm", code)
        peer.append(time.perf_counter() - began)
    return min(ours), min(peer)


def _git(repo: Path, *args: str) -> None:
    who = {f"GIT_{role}_{part}": "bench" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", **who}
    subprocess.run(["git", "-c", "gc.auto=0", *args], cwd=repo, env=environment, check=True, stdout=subprocess.DEVNULL)
