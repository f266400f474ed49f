"""A replay's progress: a bar with the time left on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from flor_runtime.cli import progress as shown
from flor_runtime.replay.execute import Progress

HALF = Progress(runs=3, runs_done=1, turns=40, turns_done=20, left=300.0, until=150.0, workers=2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(shown, "_PATIENCE", 0.0)
    results: list[Any] = []
    with shown.Shown(results.append) as watcher:
        watcher.progress(HALF)
        assert watcher._bar is not None
        task = watcher._bar.tasks[0]
        assert (40, 20) == (task.total, task.completed)
        watcher.ended(SimpleNamespace())  # type: ignore[arg-type]
        assert 1 == len(results)
    assert "20 of 40 turns, 1 of 3 runs; about 2 min 30 s left on 2 workers" in terminal.getvalue()


def test_elsewhere_there_are_plain_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shown, "_LINES", 0.0)
    with shown.Shown(lambda result: None) as watcher:
        watcher.progress(HALF)
        monkeypatch.setattr(shown, "_LINES", 1000.0)
        watcher.progress(Progress(runs=3, runs_done=2, until=2.0, workers=1))
        for _ in range(3):
            watcher.progress(HALF)
        watcher.say("3 \x1b[31mturns")
    lines = capsys.readouterr().err.splitlines()
    assert "flor: 20 of 40 turns, 1 of 3 runs; about 2 min 30 s left on 2 workers" == lines[0]
    assert ["flor: 2 of 3 runs; about 2.0 s left on 1 worker", "3 [31mturns"] == lines[1:]
