"""A process that has imported the heavy libraries and forks a worker for each job: a start costs milliseconds.

It has run no operation of torch, so that forking is safe. Jobs come as lines on stdin, `{"id": n, "path": job file}`;
each end goes out as a line on stdout, `{"id": n, "code": exit code, "cpu": seconds}`. When stdin closes, its workers
are killed, with what they have started; they die with it, too, where the kernel sees to that.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import json
import os
import random
import select
import signal
import sys
from pathlib import Path

from flor_runtime.state import rng

_TICK = 0.02  # seconds between looks at the workers
_LIBC = ctypes.CDLL(None)
_DEATH_SIGNAL = 1  # prctl, Linux: what a process gets when its parent dies


def serve(preload: list[str]) -> None:
    """Serve jobs until stdin closes."""
    answers = os.dup(1)
    os.dup2(2, 1)  # for what says something when it is imported
    for name in filter(_is_installed, preload):
        before = _random_states()
        try:
            importlib.import_module(name)
        except Exception:  # then the script meets it, or does not
            pass
        after = _random_states()
        if any(after[source] != state for source, state in before.items()):
            # This import draws random numbers, so it has to happen where the script does it. Begin again without it.
            package = name.partition(".")[0]
            os.dup2(answers, 1)
            os.execv(
                sys.executable, [sys.executable, __file__, *(n for n in preload if n.partition(".")[0] != package)]
            )
    _load_ours()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    workers: dict[int, int] = {}
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], _TICK if workers else None)
        if readable:
            chunk = os.read(0, 65536)
            if not chunk:
                for pid in workers:
                    _kill(pid)
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                request = json.loads(line)
                workers[_fork(Path(request["path"]))] = request["id"]
        while workers:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                break
            _kill(pid)  # loaders' workers and other programs that it has left behind
            code, cpu = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
            answer = {"id": workers.pop(pid), "code": code, "cpu": cpu}
            os.write(answers, json.dumps(answer).encode() + b"\n")


def _load_ours() -> None:
    """What every worker would import and compile anew."""
    with contextlib.suppress(Exception):
        for name in ("guard", "worker", "workspace"):
            importlib.import_module(f"flor_runtime.replay.{name}")
        from flor_runtime.replay.redirect import survey
        from flor_runtime.runner import warm_up

        warm_up()
        survey()


def _is_installed(name: str) -> bool:
    """False for a package of the project's own that has a library's name: each version has its own of these."""
    spec = importlib.util.find_spec(name.partition(".")[0])
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec is not None else []
    return any(place and {"site-packages", "dist-packages"} & {*Path(place).parts} for place in places)


def _random_states() -> dict[str, object]:
    states: dict[str, object] = {"random": random.getstate()}
    for module, read, _ in rng.SELF_SEEDED:
        if module in sys.modules:
            states[module] = read()
    return states


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _fork(path: Path) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # it does so itself, too: whoever comes first
            os.setpgid(pid, pid)
        return pid
    try:
        from flor_runtime.replay.worker import Job, work

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.setpgid(0, 0)
        if sys.platform == "linux":
            _LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(4)
        work(Job.from_json(path.read_text()))
    finally:
        os._exit(4)


if __name__ == "__main__":
    serve(sys.argv[1:])
    os._exit(0)  # taking down the libraries would take half as long as loading them, and nobody is left to see it
