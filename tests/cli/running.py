"""Commands of flor in this process, and on a terminal of a given size."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from flor_runtime.cli import main
from flor_runtime.store.layout import Home

FLOR = [sys.executable, "-c", "from flor_runtime.cli import main; main(prog_name='flor')"]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Done(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


def call(home: Home, *args: str | Path) -> Done:
    """Run a command of flor here: what it would do in a pipe."""
    env = {"FLOR_HOME": str(home.root), "COLUMNS": None, "NO_COLOR": None, "FORCE_COLOR": None}
    result = CliRunner().invoke(main, list(map(str, args)), prog_name="flor", env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.stdout + result.stderr)
    return Done(result.exit_code, result.stdout, result.stderr)


def environment(home: Home, **more: str) -> dict[str, str]:
    """Of a command in a process of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "FLOR_HOME": str(home.root), "PYTHONPATH": str(Path(__file__).parents[2]), **more}


def on_terminal(home: Home, *args: str, columns: int = 80, **env: str) -> str:
    """What the command writes when its output is a terminal."""
    master, slave = pty.openpty()
    env = environment(home, COLUMNS=str(columns), TERM="xterm-256color") | env
    with subprocess.Popen([*FLOR, *args], env=env, stdout=slave, stderr=slave, stdin=slave, cwd=home.root.parent):
        os.close(slave)
        output = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not data:
                break
            output += data
    os.close(master)
    return output.decode().replace("\r\n", "\n")
