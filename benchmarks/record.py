"""A recorded run against the plain run of the same script: the whole training loop, default settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure

SCRIPT = """
import sys, time
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
width, batches, epochs = map(int, sys.argv[1:])
model = torch.nn.Sequential(
    torch.nn.Linear(64, width), torch.nn.ReLU(),
    torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 10),
)
optimizer = torch.optim.Adam(model.parameters())
x, y = torch.randn(64, 64), torch.randint(0, 10, (64,))
began = time.process_time()
for epoch in range(epochs):
    total = 0.0
    for step in range(batches):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total)
print("loop", time.process_time() - began)
"""


def _loop_seconds(command: list[str], folder: str) -> float:
    env = {**os.environ, "FLOR_HOME": f"{folder}/home", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    found = re.search(r"loop ([\d.]+)", done.stdout)
    assert found is not None
    return float(found.group(1))


def run() -> Iterator[Figure]:
    """CPU time of the loop, in turn, the median of three rounds."""
    flor = str(Path(sys.executable).with_name("flor"))
    for label, arguments in (
        ("epochs of about 1 s, 50 MB", ["2000", "12", "8"]),
        ("epochs of about 60 ms, 1 MB", ["256", "60", "40"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "train.py").write_text(SCRIPT)
            plain: list[float] = []
            recorded: list[float] = []
            for _ in range(3):
                plain.append(_loop_seconds([sys.executable, "train.py", *arguments], folder))
                recorded.append(_loop_seconds([flor, "run", "train.py", *arguments], folder))
            yield Figure(f"recorded run, {label}", sorted(recorded)[1], sorted(plain)[1], "the plain run")
