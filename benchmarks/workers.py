"""Replaying on workers: how fast one starts, how two share a training loop, what dividing segments is worth.

A busy machine makes wall-clock times of several processes meaningless, so the figures are CPU time: of two workers,
that of the one that took more, with all that has to be done before and after (planning, loading libraries, judging). On
two free cores that is the time it takes. What dividing is worth is told by epochs that sleep.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from flor_runtime.replay import campaign, execute
from flor_runtime.replay.engines import Surroundings, surroundings_of
from flor_runtime.replay.engines.processes import Engine
from flor_runtime.replay.recorded import read_facts
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.worker import Job
from flor_runtime.store.layout import Home, RunFolder

_EPOCHS = int(os.environ.get("BENCH_EPOCHS", "30"))
_STARTS = 12
_SLOTS = 2

TRAIN = """
import time
print("first", time.monotonic(), time.process_time(), flush=True)
import torch

torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 256))
optimizer = torch.optim.Adam(model.parameters())
x = torch.randn(64 * 320, 256)
for epoch in range(EPOCHS):
    for start in range(0, len(x), 64):
        loss = (model(x[start : start + 64]) - x[start : start + 64]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # probe
    print(epoch, loss.item())
"""
PROBE = 'flor.log("norm", sum(p.grad.norm() for p in model.parameters()).item())'

#: The images grow, and with them the epochs.
UNEVEN = """
import time
import flor


class Optimizer:
    def __init__(self): self.total = 0.0
    def step(self, x): self.total += x


optimizer = Optimizer()
for epoch in range(12):
    for batch in range(4):
        optimizer.step(batch)
        time.sleep(0.05 * 1.5**epoch / 4)
        # probe
    print(epoch)
"""


class _Watch:
    """Says nothing."""

    def ended(self, result: campaign.RunResult) -> None:
        assert result.label in ("exact", "verified"), (result.label, result.error, result.notes, result.lost)

    def progress(self, progress: execute.Progress) -> None: ...

    def say(self, text: str) -> None:
        raise AssertionError(text)


class _Counting(Engine):
    """Knows what each worker took. `divides`: segments may be divided while they run."""

    def __init__(self, divides: bool = True) -> None:
        super().__init__()
        self.shares = divides
        self.outcomes: list[dict[str, Any]] = []
        self._busy: list[Future[dict[str, Any]] | None] = [None] * _SLOTS
        self.cpu = [0.0] * _SLOTS

    def submit(self, job: Job, surroundings: Surroundings) -> Future[dict[str, Any]]:
        slot = next(n for n, future in enumerate(self._busy) if future is None or future.done())
        future = self._busy[slot] = super().submit(job, surroundings)
        future.add_done_callback(lambda done: self._note(slot, done.result()))
        return future

    def _note(self, slot: int, outcome: dict[str, Any]) -> None:
        self.outcomes.append(outcome)
        self.cpu[slot] += outcome["cpu"]


def run() -> Iterator[Figure]:
    """The figures."""
    with _recorded(TRAIN.replace("EPOCHS", str(_EPOCHS))) as (script, folder):
        yield from _start(folder)
        yield from _training(script)
    with _recorded(UNEVEN) as (script, _):
        yield from _uneven(script)


@contextmanager
def _recorded(text: str) -> Iterator[tuple[Path, RunFolder]]:
    """A script that was run, and its run; its text has the probe now."""
    kept = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="flor-workers-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        script = project / "train.py"
        script.write_text(text)
        os.environ |= {"FLOR_HOME": f"{folder}/home", "FLOR_KEY": f"{folder}/key", "OMP_NUM_THREADS": "1"}
        try:
            command = [sys.executable, "-m", "flor", "run", "--epsilon", "1", "train.py"]
            subprocess.run(command, cwd=project, check=True, capture_output=True)
            script.write_text("import flor\n" + text.replace("# probe", PROBE if "torch" in text else _LOG))
            yield script, Home().all_runs()[-1]
        finally:
            os.environ.clear()
            os.environ.update(kept)


_LOG = 'flor.log("total", optimizer.total)'


def _start(run: RunFolder) -> Iterator[Figure]:
    surroundings = surroundings_of(run.manifest(), read_facts(run))
    goal = Goal({}, [_EPOCHS], frozenset(), False, WEAK)  # it ends where the main loop begins
    wall, cpu = [], []
    with Engine() as engine, tempfile.TemporaryDirectory(prefix="flor-workers-") as folder:
        for number in range(_STARTS + 1):  # the first one loads the libraries
            place = Path(folder) / str(number)
            place.mkdir()
            before = time.monotonic()
            outcome = engine.run(Job(str(run.path), str(place), goal), surroundings)
            assert outcome["code"] == 0, outcome
            words = next(line.split() for line in (place / "output.txt").read_text().splitlines() if "first" in line)
            wall.append(float(words[1]) - before)
            cpu.append(float(words[2]))
            shutil.rmtree(place)
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    alone = _cpu(resource.getrusage(resource.RUSAGE_CHILDREN)) - _cpu(began)
    against = f"`import torch` in a new process, CPU; least of {_STARTS}; {_load()}"
    yield Figure("worker start, warm, to the script's first line, CPU", min(cpu[1:]), alone, against, at_most=0.1)
    yield Figure("the same by the clock", min(wall[1:]), alone, against, at_most=0.1)


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _training(script: Path) -> Iterator[Figure]:
    again, spent = _timed(
        lambda: subprocess.run([sys.executable, "train.py"], cwd=script.parent, check=True, stdout=subprocess.DEVNULL)
    )
    engine = _Counting()
    ours, total = _timed(lambda: _replay(script, "norm", engine))
    alone = total - sum(engine.cpu)  # planning, loading libraries, judging
    yield Figure(
        "probe in the training loop, all epochs, 2 workers, CPU", alone + max(engine.cpu), spent,
        f"retraining {_EPOCHS} epochs, CPU; {len(engine.outcomes)} segments", target=0.55,
    )  # fmt: skip
    yield Figure("the same by the clock", ours, again, f"retraining; {_load()}", target=0.55)


def _uneven(script: Path) -> Iterator[Figure]:
    fixed, _ = _timed(lambda: _replay(script, "total", _Counting(divides=False)))
    engine = _Counting()
    divided, _ = _timed(lambda: _replay(script, "total", engine))
    text = f"segments as planned; divided, there are {len(engine.outcomes)}"
    yield Figure("epochs that get longer by half each, 2 workers", divided, fixed, text)


def _replay(script: Path, name: str, engine: Engine) -> None:
    runs = campaign.runs_of(script, Home())
    plans, others = campaign.make_plans(runs, script, [name], _SLOTS, True)
    assert not others, others
    results = execute.carry_out(plans, _SLOTS, _Watch(), engine=engine)
    assert all(result.values for result in results), results


def _timed(action: Any) -> tuple[float, float]:
    """Seconds by the clock, and of CPU, of an action with all processes that it has waited for."""
    began, before = time.monotonic(), _all_cpu()
    action()
    return time.monotonic() - began, _all_cpu() - before


def _all_cpu() -> float:
    return sum(_cpu(resource.getrusage(who)) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime
