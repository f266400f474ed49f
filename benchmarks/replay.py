"""Replays of one script, against training it again in the same run: what a question costs, and what was estimated.

The script trains a little network for twenty epochs; training is 98 % of a turn. It is recorded with an epsilon of 0.1,
as a minute is too short for the default to keep all epochs. CPU seconds of all processes that a command starts, less
those of the script itself with no epoch (it starts, loads torch, and comes to its main loop), so that a busy machine
counts for both; the estimate is compared with wall seconds of the same command.
"""

from __future__ import annotations

import os
import re
import resource
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


def run() -> Iterator[Figure]:
    """Before the main loop; in all turns; in one of twenty epochs of the training loop."""
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder))
        start = min(bench.python("train.py", "1", "0").cpu for _ in range(3))
        arguments = "train.py", str(bench.batches()), str(EPOCHS)
        trained = bench.python(*arguments)
        training = float(trained.text.rpartition("trained ")[2])
        recorded = bench.flor("run", "--epsilon", "0.1", *arguments)
        yield Figure("recording", recorded.cpu, trained.cpu, "the script alone, CPU")
        for name, options, target, title in (
            ("device", (), 0.02, "a statement before the main loop"),
            ("norm", (), 0.05, "in a turn, outside of blocks, all epochs"),
            ("inner", ("--epochs", "7"), 0.08, "in the training loop, one epoch of twenty"),
        ):
            spent, estimate = bench.replay(name, *options)
            against = f"training again; the start ({start:.2g} s) taken off"
            yield Figure(title, max(0.0, spent.cpu - start), training, against, target=target)
            yield Figure("  estimated", estimate, spent.wall, "what it took, on the wall; within 2", target=2.0)


class _Bench:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "project"
        self._folder.mkdir()
        self._env = {**os.environ, "FLOR_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        self._write(SCRIPT)
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

    def replay(self, name: str, *options: str) -> tuple[Spent, float]:
        """What it took, and the estimate before it began."""
        behind, statement = PROBES[name]
        assert behind in SCRIPT
        self._write("import flor\n" + SCRIPT.replace(behind, behind + statement))
        spent = self.flor("replay", name, "--yes", "-j", "1", *options)
        assert ": exact" in spent.text or ": verified" in spent.text, spent.text
        found = re.search(r"to replay, about ([\d.]+) s", spent.text)
        assert found is not None, spent.text
        return spent, float(found[1])
