"""flor-transform as a process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("flor-transform"))

TRAIN = b"for epoch in range(3):\n    for batch in loader:\n        optimizer.step()\n"
DONE = (
    b'import flor\n\nfor epoch in flor.loop("epoch", range(3)):\n'
    b'    for batch in flor.SkipBlock.loop("train", loader):\n        optimizer.step()\n    flor.SkipBlock.end()\n'
)
_CAPABILITIES = (0, 1, 2)  # to own, to write and to read everything: what makes root see no modes


class Ended:
    """How a process ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.out = done.stdout.decode(errors="surrogateescape")
        self.err = done.stderr.decode(errors="surrogateescape")
        assert "Traceback" not in self.err, self.err

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "COV"))}
    return kept | {"COLUMNS": "100"} | more


def transform(
    *args: str | Path | bytes,
    cwd: Path,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    as_anybody: bool = False,
) -> Ended:
    """Run it; `as_anybody` without the rights that root has to every file."""
    done = subprocess.run(
        [PROGRAM, *[os.fspath(arg) for arg in args]],
        cwd=cwd,
        input=stdin if stdin is not None else b"",
        capture_output=True,
        env=environment(**(env or {})),
        preexec_fn=_give_up_rights if as_anybody else None,
        timeout=120,
    )
    return Ended(done)


def python(code: str, *args: str, cwd: Path) -> Ended:
    """Run the command in an interpreter in which something has been changed first."""
    program = f"import sys; sys.argv = ['flor-transform', *sys.argv[1:]]\n{code}\n"
    program += "from flor_transform.cli import transform_command\ntransform_command()\n"
    command: Sequence[str] = [sys.executable, "-c", program, *args]
    return Ended(subprocess.run(command, cwd=cwd, capture_output=True, env=environment(), timeout=120))


def _give_up_rights() -> None:
    for capability in _CAPABILITIES:
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; it is refused where there are none


def git(*args: str, cwd: Path) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    env = environment(**who, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
    subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, env=env)
