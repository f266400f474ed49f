"""A user's project for the commands of the documents: a script, its history, runs, a remote, a colleague's branch.

The script trains in a few milliseconds and imports nothing that takes long, so a page's commands take seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
_WHO = "[user]\nname = you\nemail = you@example.org\n"

TRAIN = '''"""Fit a line to points."""
import argparse
import random

import flor


class Line:
    def __init__(self):
        self.slope, self.offset = 0.0, 0.0

    def __call__(self, x):
        return self.slope * x + self.offset


class Descent:
    def __init__(self, model, lr):
        self.model, self.lr = model, lr

    def step(self, x, error):
        self.model.slope -= self.lr * error * x
        self.model.offset -= self.lr * error


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--hidden", type=int, default=1)
args = parser.parse_args()

random.seed(1)
points = [(x / 10, 0.7 * x / 10 + random.gauss(0, 0.1)) for x in range(10)]
model = Line()
optimizer = Descent(model, args.lr)
for epoch in range(args.epochs):
    for x, y in points:
        error = model(x) - y
        optimizer.step(x, error)
        flor.log("loss", error**2)
    right = sum(abs(model(x) - y) < 0.2 for x, y in points)
    flor.log("acc", right / len(points))
print(f"slope {model.slope:.3f}")
'''
NOW = (
    (
        '        flor.log("loss", error**2)\n',
        '        flor.log("loss", error**2)\n        flor.log("grad_norm", abs(error) * (x * x + 1) ** 0.5)\n',
    ),
    (
        '    flor.log("acc", right / len(points))\n',
        '    flor.log("acc", right / len(points))\n    flor.log("accuracy", right / len(points))\n',
    ),
    ("model = Line()\n", 'flor.log("device", "cpu")\nmodel = Line()\n'),
)


def today(text: str) -> str:
    """The script with the statements that somebody thought of afterwards."""
    for old, new in NOW:
        assert old in text
        text = text.replace(old, new)
    return text


ENGINE = """def fit(model, optimizer, points):
    for x, y in points:
        optimizer.step(x, model(x) - y)
"""
VALUES = """import numpy, PIL.Image, flor
for epoch in range(2):
    flor.log("val", {"loss": 0.5, "top": {"1": 0.9}})
    flor.log("confusion", numpy.eye(3))
    flor.log("samples", PIL.Image.new("L", (4, 4)))
"""
NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "id": "a", "source": TRAIN}
    ],
    "metadata": {"language_info": {"name": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class Project:
    """The folder `project`, in a home folder whose `.flor` is the store; both made anew by `restore`."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.folder = self.home / "project"
        self.kept = root / "kept"
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{root / 'bin'}:{BIN}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
        }

    def run(self, command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A command, by bash, in the project's folder."""
        return subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=timeout,
        )  # fmt: skip

    def do(self, *commands: str) -> None:
        for command in commands:
            done = self.run(command)
            assert done.returncode == 0, f"{command}: {done.stderr}"

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, title: str) -> None:
        self.do("git add -A", f"git commit -q -m '{title}'")

    def make(self) -> None:
        """Four versions in git, three of them recorded, pushed and shared; today's statements not committed."""
        self.folder.mkdir(parents=True)
        if not (BIN / "torchrun").exists():  # an environment that uses another one's libraries
            _program(self.home.parent / "bin" / "torchrun", 'exec python -m torch.distributed.run "$@"')
        (self.home / ".gitconfig").write_text(_WHO)
        self.do(
            "git init -q -b main", "git init -q --bare -b main ../origin.git", "git remote add origin ../origin.git"
        )
        self.write("train.py", TRAIN.replace("--lr", "--rate").replace("args.lr", "args.rate"))
        self.commit("first")
        self.do("git tag v1")
        self.write("train.py", TRAIN.replace("< 0.2", "< 0.1"))
        self.commit("second")
        self.do("flor run -q --name base --epsilon 1 train.py")
        self.write("train.py", TRAIN)
        self.commit("third")
        self.do("flor run -q --name my-run --epsilon 1 train.py --epochs 5 --lr 0.1")
        self.write("train.py", TRAIN.replace('print(f"slope', 'print(f"the slope is'))
        self.commit("fourth")
        self.do("git push -q -u origin main", "flor share -y", "git fetch -q")
        self.write("train.py", today((self.folder / "train.py").read_text()))
        shutil.copytree(self.home, self.kept, symlinks=True)

    def forget(self) -> None:
        """A history of four commits that never knew flor, and nothing recorded."""
        shutil.rmtree(self.home)
        self.folder.mkdir(parents=True)
        (self.home / ".gitconfig").write_text(_WHO)
        self.do("git init -q -b main")
        raw = "".join(line for line in TRAIN.splitlines(True) if "flor" not in line).replace(
            "random\n\n\n\n", "random\n\n\n"
        )
        first = raw.replace("right", "good").replace("< 0.2", "< 0.1")
        for title, text in (
            ("fit a line", first),
            ("be less strict", first.replace("< 0.1", "< 0.2")),
            ("better names", raw),
            ("say it in words", raw.replace("slope {", "the slope is {")),
        ):
            self.write("train.py", text)
            self.commit(title)

    def restore(self) -> None:
        """As it was when it was made. At the same place: a run knows the folder of its project."""
        shutil.rmtree(self.home)
        shutil.copytree(self.kept, self.home, symlinks=True)


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
