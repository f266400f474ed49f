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
from typing import TypeVar

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def run_all(
    run: Callable[[Task], Iterable[Outcome]],
    tasks: Sequence[Task],
    jobs: int,
    lost: Callable[[Task, str], Iterable[Outcome]],
) -> Iterator[Outcome]:
    """The outcomes of the tasks, in their order; `lost` gives those of a task whose process has died."""
    # A fork has everything imported already; there are no threads yet that it could trip over.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    executor = ProcessPoolExecutor(jobs, context, _begin)
    try:
        futures = _submitted(executor, run, tasks)
        for task, future in zip(tasks, futures, strict=True):
            try:
                yield from future.result()
            except BrokenProcessPool:
                yield from lost(task, "its process has died; try -j 1")
    except BaseException:
        # Interrupted: what is under way is of no use.
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()
        raise
    executor.shutdown()


def _submitted(
    executor: ProcessPoolExecutor, run: Callable[[Task], Iterable[Outcome]], tasks: Sequence[Task]
) -> list[Future[Iterable[Outcome]]]:
    """Hand out the tasks. The processes, which begin here, never see an interrupt: it is for who started them."""
    if not hasattr(signal, "pthread_sigmask"):
        return [executor.submit(run, task) for task in tasks]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return [executor.submit(run, task) for task in tasks]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """In a new process: end when the one that started it does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
