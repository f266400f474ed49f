"""Tasks in several processes. The processes only compute: whatever is written, the one that started them writes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

#: in a process that works: what is done with a task; sent once, as it may hold whole files
_run: Callable[[Any], Iterable[Any]] | None = None


def run_all(
    run: Callable[[Task], Iterable[Outcome]],
    tasks: Sequence[Task],
    jobs: int,
    lost: Callable[[Task, str], Iterable[Outcome]],
    together: int = 1,
) -> Iterator[Outcome]:
    """The outcomes of the tasks, in their order; `lost` gives those of a task whose process has died.

    `together` is how many tasks in a row go to one process at a time: neighbours that are alike are best worked on by
    one that remembers.
    """
    # A fork has everything imported already; there are no threads yet that it could trip over.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    executor = ProcessPoolExecutor(jobs, context, _begin, (run,))
    batches = [tasks[at : at + together] for at in range(0, len(tasks), together)]
    try:
        for batch, future in zip(batches, _submitted(executor, batches), strict=True):
            try:
                yield from future.result()
            except BrokenProcessPool:
                for task in batch:
                    yield from lost(task, "its process has died; try -j 1")
    except BaseException:
        # Interrupted: what is under way is of no use.
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()
        raise
    executor.shutdown()


def _submitted(executor: ProcessPoolExecutor, batches: Sequence[Sequence[Any]]) -> list[Future[list[Any]]]:
    """Hand out the tasks. The processes, which begin here, never see an interrupt: it is for who started them."""
    if not hasattr(signal, "pthread_sigmask"):
        return [executor.submit(_work, batch) for batch in batches]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return [executor.submit(_work, batch) for batch in batches]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(run: Callable[[Any], Iterable[Any]]) -> None:
    """In a new process: keep what is to be done with each task, and end when the one that started it does."""
    global _run
    _run = run
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _work(batch: Sequence[Any]) -> list[Any]:
    assert _run is not None
    return [outcome for task in batch for outcome in _run(task)]


def _follow(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
