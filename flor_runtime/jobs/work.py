"""One job's process: how it is started, stopped, and what it is said to have died of."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flor_runtime.jobs.queue import Claim
from flor_runtime.store.layout import Home, RunFolder

_TAIL = 4096  # bytes of what it printed that its last line is looked for in
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def command(claim: Claim) -> list[str]:
    """The command line of a job."""
    job = claim.manifest
    executable = str(job.get("executable") or "")
    python = executable if os.access(executable, os.X_OK) else sys.executable
    if job["kind"] == "replay":
        return [python, "-P", "-m", "flor_runtime.jobs.replaying", str(claim.folder.path)]
    flor = str(job.get("flor") or "")
    face = flor if Path(flor).is_file() else str(Path(__file__).parents[2] / "flor.py")
    # By path, not by -m: nothing in the folder of the script may shadow it.
    options = ["--quiet", "--run-id", claim.run, "--name", str(job.get("name") or "BATCH")]
    return [python, face, "run", *options, "--", str(job.get("script")), *map(str, job.get("args") or ())]


def start(claim: Claim, home: Home, gpu: str | None) -> subprocess.Popen[bytes]:
    """Start a job; what it prints goes to its log.

    Args:
        gpu: CUDA_VISIBLE_DEVICES; None: as it is here.

    Raises:
        OSError: its folder is gone, or it can't be started.
    """
    env = {**os.environ, "FLOR_HOME": str(home.root)}
    if gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = gpu
    with open(claim.folder.log(claim.attempt), "ab") as log:
        return subprocess.Popen(
            command(claim),
            cwd=str(claim.manifest.get("path") or home.root),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for the server, which says what becomes of the job
            preexec_fn=_end_with(os.getpid()) if sys.platform == "linux" else None,
        )


def _end_with(server: int) -> Any:
    """Called in the child: it ends when the server is killed, and no half of a run goes on without one."""
    libc = ctypes.CDLL(None)  # before the fork

    def set_up() -> None:
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != server:
            os.kill(os.getpid(), signal.SIGKILL)

    return set_up


def stop(child: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Send a signal to a job, or kill it with all that it has started."""
    try:
        if how == signal.SIGKILL:
            os.killpg(child.pid, how)
        else:
            child.send_signal(how)
    except ProcessLookupError:
        pass


def reason(claim: Claim, home: Home, code: int) -> str:
    """Why a job failed, in a line: what its run says, else its last words."""
    how = _signal_name(-code) if code < 0 else f"exit code {code}"
    said = _error(home, claim.run) if claim.manifest["kind"] == "run" else ""
    said = said or last_line(claim.folder.log(claim.attempt))
    return f"{how}: {said}" if said else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _error(home: Home, run: str) -> str:
    end: Mapping[str, Any] = RunFolder(home.runs / run).end() or {}
    return str(end.get("error") or "").partition("\n")[0]


def last_line(path: Path) -> str:
    """The last line that has something in it; "" if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
