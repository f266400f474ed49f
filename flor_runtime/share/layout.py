"""How a shared branch is laid out, for who writes one and who reads one.

| path | holds |
| --- | --- |
| README.md | what this branch is, for who looks at it |
| flor.json | the format's number |
| runs/<run>/run.json, end.json | how the run began and ended: what may leave the machine of it |
| runs/<run>/random*.bin | its random states when it began |
| runs/<run>/log/, captured/ | the files of its logs, as they are in the store |
| runs/<run>/replays/<id>/ | replay.json and the logs of what was recovered |
| runs/<run>/code/ | the tree of the version |

A run's files never change once they are there; replays are added. So two branches merge by taking all paths of both.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from flor_runtime.errors import FlorError
from flor_runtime.gitcalls import GitFailed

PREFIX = "flor.shadow."
FORMAT = 1
FORMAT_FILE = "flor.json"
README = "README.md"
RUNS = "runs"
CODE = "code"
RUN = re.compile(r"[0-9a-f]{32}")
#: files of a run's own folder (its random states when it began, too), and folders of logs
FILE = re.compile(r"(run|end|environment)\.json|random(-[a-z0-9_.]{1,40})?\.bin")
LOGS = ("log", "captured")
REPLAYS = "replays"
#: names within those: one part of a path, nothing that leads elsewhere
NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,100}[A-Za-z0-9_-])?")
SHARED = "refs/flor/shared/"  # then the remote's name and the branch: what is known to be there

README_TEXT = b"""\
# Runs of this project

This branch is written by `flor share` and holds runs of training scripts: what they logged, and the code that ran.

    git fetch
    flor show --branch origin/BRANCH         # BRANCH: the name of this branch
    flor.full_pivot(branch="origin/BRANCH")  # the same in Python

There is no need to check it out.
"""
FORMAT_TEXT = json.dumps({"format": FORMAT}).encode() + b"\n"


class ShareError(FlorError):
    """Runs can't be shared, or a shared branch can't be read."""


@contextmanager
def git_said(what: str) -> Iterator[None]:
    """Make a ShareError of what git fails at.

    Args:
        what: it was about, for the message.
    """
    try:
        yield
    except (GitFailed, subprocess.SubprocessError) as error:
        raise ShareError(f"{what}: {error}") from error
