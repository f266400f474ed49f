"""Replays of one script, against training it again in the same run: what a question costs, and what was estimated.

The script trains a little network for twenty epochs; training is 98 % of a turn. It is recorded with an epsilon of 0.1,
as a minute is too short for the default to keep all epochs. CPU seconds of all processes that a command starts, less
those of the script itself with no epoch (it starts, loads torch, and comes to its main loop: the floor), so that a busy
machine counts for both; the estimate is compared with wall seconds of the same command. What a turn costs besides
restoring and the code that must run is taken in one worker, with a state of 57 MB.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure

EPOCHS = 20
#: Minutes are too long for a look: FLOR_BENCH_SECONDS sets how long an epoch trains, about.
SECONDS = float(os.environ.get("FLOR_BENCH_SECONDS", "3"))

SCRIPT = """
import sys
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
batches = int(sys.argv[1])
data = torch.randn(4096, 256)
labels = torch.randint(0, 10, (4096,))
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
device = str(data.device)


def gradient_norm(model):
    return sum(p.grad.norm().item() ** 2 for p in model.parameters()) ** 0.5


def evaluate(model):
    with torch.no_grad():
        return (model(data[:512]).argmax(1) == labels[:512]).float().mean().item()


began = time.process_time()
for epoch in range(int(sys.argv[2])):
    for step in range(batches):
        start = step * 64 % 4096
        loss = torch.nn.functional.cross_entropy(model(data[start : start + 64]), labels[start : start + 64])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = evaluate(model)
    print(epoch, loss.item(), accuracy)
print("trained", time.process_time() - began)
"""

PROBES = {
    "device": ("device = str(data.device)\n", 'flor.log("device", device)\n'),
    "norm": ("    accuracy = evaluate(model)\n", '    flor.log("norm", gradient_norm(model))\n'),
    "inner": ("        loss.backward()\n", '        flor.log("inner", gradient_norm(model))\n'),
}


@dataclass
class Spent:
    """CPU and wall seconds of a command, and what it said."""

    cpu: float
    wall: float
    text: str


#: Writes the job of the one segment of the newest run, for `norm`, into the file that is its argument.
JOB = """
import sys
from pathlib import Path
from flor_runtime.replay.onerun import OneRun
from flor_runtime.replay.request import Request, make_plans, runs_of
from flor_runtime.store.layout import Home

request = Request(("norm",))
((plan,), _) = make_plans(request, runs_of(request, Home()), 1)
(segment,) = OneRun(plan, False).begin()
Path(sys.argv[1]).write_text(segment.job({}).to_json())
"""
#: Of a worker, with the job as its argument: seconds of CPU in its turns, and what of it is ours.
MEASURE = """
import json, os, sys, time
import torch
from flor_runtime.replay import worker
from flor_runtime.replay.engines import zygote
from flor_runtime.replay.replayer import Replayer

spent, begun, first = {}, [], []


def timed(name):
    real = getattr(Replayer, name)

    def call(self, *args):
        begun.append((name, time.process_time()))
        first.append(begun[-1][1])
        try:
            return real(self, *args)
        finally:
            which, began = begun.pop()
            spent[which] = spent.get(which, 0.0) + time.process_time() - began

    setattr(Replayer, name, call)


def leave(self, code):
    now = time.process_time()
    for which, began in begun:
        spent[which] = spent.get(which, 0.0) + now - began
    ours = sum(spent.get(name, 0.0) for name in ("turn", "leave", "passed")) - spent.get("_jump", 0.0)
    os.write(shown, json.dumps([now - first[0], ours]).encode())
    os._exit(code)


shown = os.dup(1)
for name in ("turn", "enter", "leave", "passed", "_jump"):
    timed(name)
worker._Worker._leave = leave
zygote._load_ours()
worker.work(worker.Job.from_json(open(sys.argv[1]).read()))
"""


def run() -> Iterator[Figure | str]:
    """Before the main loop; in all turns; in one of twenty epochs of the training loop."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _restores(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder))
        starts = [bench.python("train.py", "1", "0") for _ in range(3)]
        start, wall = min(each.cpu for each in starts), min(each.wall for each in starts)
        arguments = "train.py", str(bench.batches()), str(EPOCHS)
        trained = bench.python(*arguments)
        training = float(trained.text.rpartition("trained ")[2])
        recorded = bench.flor("run", "--epsilon", "0.1", *arguments)
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        yield f"training takes {training:.3g} s of CPU; a start {start:.3g} s, {wall:.3g} s by the clock ({load})"
        yield Figure("recording", recorded.cpu, trained.cpu, "the script alone, CPU")
        for name, options, target, title in (
            ("device", (), 0.02, "a statement before the main loop"),
            ("norm", (), 0.05, "in a turn, outside of blocks, all epochs"),
            ("inner", ("--epochs", "7"), 0.08, "in the training loop, one epoch of twenty"),
        ):
            spent, estimate = bench.replay(name, *options)
            against = f"training again; {spent.cpu:.3g} s with the start, {spent.wall:.3g} s by the clock"
            yield Figure(title, max(0.0, spent.cpu - start), training, against, target=target)
            yield Figure("  estimated", estimate, spent.wall, "what it took, on the wall; within 2", target=2.0)


def _restores(folder: Path) -> Iterator[Figure]:
    """An outer statement in all turns, of which none trains: how much more than restoring, and what must run."""
    layers = "256, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 10)"
    bench = _Bench(folder, SCRIPT.replace("256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)", layers))
    bench.flor("run", "--epsilon", "1", "train.py", "3", "10")
    job = folder / "job.json"
    bench.ask("norm")
    bench.python("-c", JOB, str(job))
    found = [bench.measured(job) for _ in range(3)]
    total, ours = min(found)
    yield Figure("in a turn, all epochs, a state of 57 MB, one worker, CPU", total, total - ours,
                 "restores, and the code that must run", target=1.2)  # fmt: skip


class _Bench:
    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        self._folder = folder / "project"
        self._folder.mkdir()
        self._script = script
        # What is installed has its bytecode beside it.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._env = {**kept, "FLOR_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        self._write(script)
        for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=b", "-c", "user.email=b@example.org",
                                                        "commit", "-qm", "a script"]):  # fmt: skip
            subprocess.run(["git", *command], cwd=self._folder, check=True)

    def _write(self, text: str) -> None:
        (self._folder / "train.py").write_text(text)

    def _run(self, *command: str) -> Spent:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=self._folder, env=self._env, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Spent(cpu, time.perf_counter() - began, done.stdout + done.stderr)

    def python(self, *arguments: str) -> Spent:
        return self._run(sys.executable, *arguments)

    def flor(self, *arguments: str) -> Spent:
        return self._run(sys.executable, "-P", "-m", "flor", *arguments)

    def batches(self) -> int:
        """How many make an epoch of the length that is wanted."""
        each = float(self.python("train.py", "100", "1").text.rpartition("trained ")[2]) / 100
        return max(20, round(SECONDS / each))

    def ask(self, name: str) -> None:
        """Put a statement into today's script."""
        behind, statement = PROBES[name]
        assert behind in self._script
        self._write("import flor\n" + self._script.replace(behind, behind + statement))

    def measured(self, job: Path) -> tuple[float, float]:
        """(seconds of CPU that the turns of a job take, what of it is neither restoring nor the script's)."""
        shutil.rmtree(json.loads(job.read_text())["folder"], ignore_errors=True)
        Path(json.loads(job.read_text())["folder"]).mkdir(parents=True)
        total, ours = json.loads(self.python("-c", MEASURE, str(job)).text)
        return total, ours

    def replay(self, name: str, *options: str) -> tuple[Spent, float]:
        """What it took, and the estimate before it began."""
        self.ask(name)
        spent = self.flor("replay", name, "--yes", "-j", "1", *options)
        assert ": exact" in spent.text or ": verified" in spent.text, spent.text
        found = re.search(r"to replay, about ([\d.]+) s", spent.text)
        assert found is not None, spent.text
        return spent, float(found[1])
