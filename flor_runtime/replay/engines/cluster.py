"""Runs jobs on a Ray cluster: an actor for each worker, which has its own zygotes on its machine.

The store is reached by path (a file system that all machines share), or through an object store. flor has to be
installed there, and the user's key be readable, as a replay runs and restores only what is signed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from flor_runtime.errors import FlorError, ReplayError
from flor_runtime.replay.engines import OURS, Surroundings, outcome_of, surroundings_from
from flor_runtime.replay.engines.processes import Engine as Processes
from flor_runtime.replay.transport import Receiver, Sender
from flor_runtime.replay.worker import Job
from flor_runtime.store.remote import Remote

_VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Variables that belong to a machine, or to a process of it.
_LOCAL = frozenset(
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "HOSTNAME", "TMPDIR", "TERM", _VISIBLE]
)
_LOCAL_GROUPS = ("RAY_", "XDG_", "LD_", "SSH_", "SLURM_")


class Actor:
    """One worker's place on a machine of the cluster.

    Args:
        env: the scheduler's variables, which scripts read and credentials are in.
        store: URL of the object store, "" if the store is reached by path.
    """

    def __init__(self, env: dict[str, str], store: str) -> None:
        os.environ.update(env)
        self._engine = Processes()
        self._receiver = Receiver(Remote(store)) if store else None

    def run(self, text: str, surroundings: dict[str, Any], results: str) -> dict[str, Any]:
        """Do a job; gives its outcome, as plain data."""
        job = Job.from_json(text)
        if gpus := os.environ.get(_VISIBLE):  # that Ray has given to this actor
            job = replace(job, env={**job.env, _VISIBLE: gpus})
        try:
            if self._receiver is not None:
                job = self._receiver.fetch(job)
            outcome = self._engine.run(job, surroundings_from(surroundings))
            if self._receiver is not None:
                self._receiver.send(results, job)
        except (FlorError, OSError) as error:
            return {"code": OURS, "died": None, "error": str(error)}
        return outcome


class Engine:
    """A Ray cluster: that of RAY_ADDRESS, or the one that was started on this machine, or one for the length of this
    replay.

    Args:
        threads, gpus: that a worker needs.
        store: URL of an object store that all machines reach, in place of a shared file system.

    Raises:
        ReplayError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, *, threads: int = 1, gpus: int = 0, store: str = "") -> None:
        try:
            import ray
        except ImportError:
            raise ReplayError("--engine ray needs Ray: pip install 'flor[ray]'") from None
        self._ray: Any = ray
        self.shares = not store
        self._store = store
        self._sender = Sender(Remote(store)) if store else None
        self._owns = not self._ray.is_initialized()
        if self._owns:
            try:
                self._ray.init(log_to_driver=False, configure_logging=False)
            except Exception as error:
                raise ReplayError(f"no Ray cluster: {str(error).strip().splitlines()[0]}") from None
        self.slots = max(1, int(self._ray.cluster_resources().get("CPU", 1)) // threads)
        self._actor: Any = self._ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(Actor)
        self._free: list[Any] = []
        self._all: list[Any] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._all:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        if self._owns:
            self._ray.shutdown()
            self._owns = False

    def prepare(self, surroundings: Surroundings) -> None:
        """Nothing: who gets a machine of the cluster is to use it."""

    def submit(self, job: Job, surroundings: Surroundings) -> Future[dict[str, Any]]:
        """Begin a job."""
        results = self._sender.send(job) if self._sender is not None else ""
        with self._lock:
            actor = self._free.pop() if self._free else None
        if actor is None:
            actor = self._actor.remote(_own_variables(), self._store)
            self._all.append(actor)
        future: Future[dict[str, Any]] = Future()
        reference = actor.run.remote(job.to_json(), asdict(surroundings), results)
        reference.future().add_done_callback(lambda done: self._ended(done, actor, job, results, future))
        return future

    def _ended(
        self, done: Future[dict[str, Any]], actor: Any, job: Job, results: str, future: Future[dict[str, Any]]
    ) -> None:
        try:
            outcome = done.result()
        except BaseException as error:  # the actor or its machine is gone
            outcome = outcome_of(Path(job.folder), -9)
            outcome["died"] = f"its Ray actor was lost: {str(error).strip().splitlines()[0]}"
        else:
            with self._lock:
                self._free.append(actor)
            if self._sender is not None:
                try:
                    self._sender.fetch(results, Path(job.folder))
                except FlorError as error:
                    outcome = {"code": OURS, "died": None, "error": str(error)}
        future.set_result(outcome)


def _own_variables() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in _LOCAL and not name.startswith(_LOCAL_GROUPS)
    }
