"""How a replay goes: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from flor_runtime.cli.text import duration, plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from flor_runtime.replay.campaign import RunResult
    from flor_runtime.replay.execute import Progress

_PATIENCE = 1.0  # seconds without a bar
_LINES = 20.0  # seconds between lines


class Shown:
    """Use as a context manager. `say_result` prints what became of a run."""

    def __init__(self, say_result: Callable[[RunResult], None]) -> None:
        self._say_result = say_result
        self._terminal = sys.stderr.isatty()
        self._bar: Bar | None = None
        self._next = time.monotonic() + (_PATIENCE if self._terminal else _LINES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hide()

    def ended(self, result: RunResult) -> None:
        """A run is through."""
        self._hide()
        self._say_result(result)

    def say(self, text: str) -> None:
        """Something happened that is to be known."""
        self._hide()
        click.echo(plain(text), err=True)

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._terminal:
            self._show(progress)
            return
        click.echo(f"flor: {_counts(progress)}; {_left(progress)}", err=True)
        self._next = now + _LINES

    def _show(self, progress: Progress) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = BarColumn(), TextColumn("{task.description}", markup=False)
            self._bar = Bar(*columns, console=Console(file=sys.stderr), transient=True)
            self._bar.add_task("", total=None)
            self._bar.start()
        total = progress.turns or progress.runs
        done = progress.turns_done if progress.turns else progress.runs_done
        text = f"{_counts(progress)}; {_left(progress)}"
        self._bar.update(self._bar.task_ids[0], total=total, completed=done, description=text)

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _counts(progress: Progress) -> str:
    runs = f"{progress.runs_done} of {progress.runs} runs"
    return f"{progress.turns_done} of {progress.turns} turns, {runs}" if progress.turns else runs


def _left(progress: Progress) -> str:
    workers = "1 worker" if progress.workers == 1 else f"{progress.workers} workers"
    return f"about {duration(progress.until)} left on {workers}"
