"""One question about forty versions: from the command to the table, beside flordb 4.0.1's replay of the same history.

A training script changes from version to version: rates, sizes, a schedule, clipping, an evaluation. Each tool records
all of them, in a repository of its own; then today's script gets one statement more, at the end of an epoch. Ours is
`flor-backport --replay` and the table; flordb's is its `replay`, which stops at the second version (it patches the
file, and then git does not check out the next one), so that one step is mended for it: what it patched is taken back.
All values are compared with those of training again.

Only when it is asked for, as it installs flordb (see `peers`); ten minutes on a quiet machine. FLOR_BENCH_SECONDS says
how long a version trains, FLOR_BENCH_VERSIONS how many there are.
"""

from __future__ import annotations

import csv
import io
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.figures import Figure

VERSIONS = int(os.environ.get("FLOR_BENCH_VERSIONS", "40"))
SECONDS = float(os.environ.get("FLOR_BENCH_SECONDS", "3"))
EPOCHS = 10

SCRIPT = """\
IMPORT
import time

import torch

LEARNING_RATE = flor.arg("rate", {rate})
WIDTH = {width}

torch.set_num_threads(1)
torch.manual_seed({number})
data = torch.randn(2048, 256)
labels = torch.randint(0, 10, (2048,))
model = torch.nn.Sequential(
    torch.nn.Linear(256, WIDTH), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(WIDTH, 10)
)
optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE{decay})
{scheduler}

{evaluate}
began = time.process_time()
for epoch in EPOCHS:
    {comment}
    for step in STEPS:
        start = step * 64 % 2048
        loss = torch.nn.functional.cross_entropy(model(data[start : start + 64]), labels[start : start + 64])
        optimizer.zero_grad()
        loss.backward()
        {clip}
        optimizer.step()
    {schedule}
    {accuracy}
    flor.log("loss", loss.item())
    # asked
print("trained", time.process_time() - began)
"""
EVALUATE = """
def evaluate():
    model.eval()
    with torch.no_grad():
        found = (model(data[:512]).argmax(1) == labels[:512]).float().mean().item()
    model.train()
    return found

"""
ASKED = "sum(p.detach().square().sum().item() for p in model.parameters())"
_MENDED = """
import builtins
from flordb import repl, versions
checkout = versions.checkout
versions.checkout = lambda commit: (versions.reset_hard(), checkout(commit))
builtins.input = lambda *_: "y"
repl.replay(["norm"])
"""
_TABLE = """
import flordb
frame = flordb.dataframe("norm").dropna(subset=["norm"])
for row in frame.to_dict("records"):
    print("asked", row["tstamp"], row.get("epoch_iteration", row.get("epoch")), row["norm"], sep="\\t")
"""


def version(number: int, batches: int, tool: str = "", asked: str = "") -> str:
    """The script as it was `number` changes ago, counted from the oldest.

    Args:
        tool: "flor" and "flordb" log by themselves; "" is the script alone, that prints.
        asked: what is logged as `norm` at the end of an epoch.
    """
    parts = {
        "rate": 0.0005 * (1 + number % 5),
        "width": 480 + 16 * (number % 3),
        "number": number,
        "decay": ", weight_decay=0.01" if number >= 5 else "",
        "evaluate": EVALUATE if number >= 10 else "",
        "accuracy": 'flor.log("accuracy", evaluate())' if number >= 10 else "",
        "clip": "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)" if number >= 20 else "",
        "scheduler": "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)" if number >= 30 else "",
        "schedule": "scheduler.step()" if number >= 30 else "",
        "comment": f"# as discussed, number {number}" if number % 2 else "",
    }
    text = SCRIPT.format(**parts)
    text = "\n".join(line for line in text.splitlines() if line.strip() or not line) + "\n"
    loops = {"EPOCHS": ("epoch", EPOCHS), "STEPS": ("step", batches)}
    for word, (name, count) in loops.items():
        text = text.replace(word, f'flor.loop("{name}", range({count}))' if tool == "flordb" else f"range({count})")
    imports = {"flor": "import flor", "flordb": "import flordb as flor"}.get(tool, textwrap.dedent(_ALONE))
    text = text.replace("IMPORT", imports, 1)
    return text.replace("    # asked\n", f'    flor.log("norm", {asked})\n' if asked else "")


#: In the place of either tool.
_ALONE = """
    class flor:
        @staticmethod
        def arg(name, value):
            return value

        @staticmethod
        def log(name, value):
            print("asked" if name == "norm" else name, repr(value), sep="\\t")
"""


@dataclass
class Spent:
    """CPU and wall seconds, and what was printed."""

    cpu: float
    wall: float
    out: str


def run() -> Iterator[Figure | str]:
    """The figures, by CPU and by the clock."""
    tool = next(tool for tool in peers.TOOLS if "4.0.1" in tool.name)
    theirs = peers.environment(tool)
    with tempfile.TemporaryDirectory(prefix="flor-forty-") as folder:
        batches = _batches(Path(folder))
        ours, flordb = _Place(Path(folder) / "ours", "flor"), _Place(Path(folder) / "flordb", "flordb", theirs)
        for number in range(VERSIONS):
            ours.put(version(number, batches, "flor"))
            flordb.put(version(number, batches, "flordb"))
            _both(
                lambda: ours.call(sys.executable, "-P", "-m", "flor", "run", "train.py"),
                lambda: flordb.call(theirs, "train.py"),
            )
        truth, trained = _truth(Path(folder), batches)
        ours.put(version(VERSIONS - 1, batches, "flor", ASKED))
        flordb.put(version(VERSIONS - 1, batches, "flordb", ASKED))
        backport = str(Path(sys.executable).with_name("flor-backport"))
        asked = ours.call(backport, "--vars", "norm", "--replay", "--yes")
        table = ours.call(sys.executable, "-P", "-m", "flor", "show", "norm", "--format", "csv")
        replayed = flordb.call(theirs, "-c", _MENDED)
        listed = flordb.call(theirs, "-c", _TABLE)
        mine, labels = _ours(table.out), _labels(asked.out)
        yield f"ours: {_right(mine, truth)} of {len(truth)} values are those of training again; runs: {labels}"
        yield f"flordb: {_right(_theirs(listed.out), truth)} of {len(truth)} values are those of training again"
        again = f"{VERSIONS} versions of {trained / VERSIONS:.2g} s of training"
        for how in ("cpu", "wall"):
            took = getattr(asked, how) + getattr(table, how)
            other = getattr(replayed, how) + getattr(listed, how)
            name = "CPU" if how == "cpu" else f"by the clock, load {os.getloadavg()[0]:.1f}"
            yield Figure(f"forty versions, from the command to the table, {name}", took, other, again, target=0.1)
        yield Figure("the same, against training alone, CPU", asked.cpu + table.cpu, trained, again)


class _Place:
    """A repository and a home folder, to be thrown away."""

    def __init__(self, folder: Path, name: str, python: str = sys.executable) -> None:
        self.home, self.repository = folder / "home", folder / name
        for path in (self.home, self.repository):
            path.mkdir(parents=True)
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("FLOR", "GIT_", "PYTHON")) or n in _KEPT}
        path = f"{Path(python).parent}:{os.environ['PATH']}"
        self.env = {**kept, "HOME": str(self.home), "OMP_NUM_THREADS": "1", "PATH": path}
        for words in (("init", "-q", "-b", "main"), ("config", "user.name", "b"), ("config", "user.email", "b@x.org")):
            subprocess.run(["git", *words], cwd=self.repository, env=self.env, check=True)

    def put(self, text: str) -> None:
        """Write the script."""
        (self.repository / "train.py").write_text(text)

    def call(self, *command: str) -> Spent:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=self.repository, env=self.env, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Spent(cpu, time.perf_counter() - began, done.stdout + done.stderr)


_KEPT = ("FLOR_EPSILON",)


def _both(*calls: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def _alone(folder: Path, text: str, name: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, str(path)], env=env, capture_output=True, text=True, check=True).stdout


def _batches(folder: Path) -> int:
    """How many make an epoch of a version that trains as long as is wanted."""
    took = float(_alone(folder, version(0, 50), "first").rpartition("trained ")[2])
    return max(5, round(SECONDS / EPOCHS / (took / (50 * EPOCHS))))


def _truth(folder: Path, batches: int) -> tuple[list[str], float]:
    """(the values of training again, in the order of versions and epochs, the seconds that it took)."""
    with ThreadPoolExecutor(2) as pool:
        texts = [version(number, batches, asked=ASKED) for number in range(VERSIONS)]
        outs = list(pool.map(lambda item: _alone(folder, item[1], f"again{item[0]}"), enumerate(texts)))
    values = [line.split("\t")[1] for out in outs for line in out.splitlines() if line.startswith("asked\t")]
    assert len(values) == VERSIONS * EPOCHS
    return values, sum(float(out.rpartition("trained ")[2]) for out in outs)


def _ours(table: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(table))
    found = sorted((row["tstamp"], int(row["epoch"]), row["norm"]) for row in rows if row["norm"])
    return [value for _, _, value in found]


def _labels(said: str) -> str:
    words = ("exact", "verified", "inexact")
    counts = {word: sum(f"of norm: {word}" in line for line in said.splitlines()) for word in words}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _theirs(listed: str) -> list[str]:
    rows = [line.split("\t") for line in listed.splitlines() if line.startswith("asked\t")]
    return [row[3] for row in sorted(rows, key=lambda row: (row[1], int(float(row[2]))))]


def _right(found: Sequence[str], truth: Sequence[str]) -> int:
    """How many are the same numbers, to the last bit."""
    if len(found) != len(truth):
        return 0
    return sum(float(one) == float(other) for one, other in zip(found, truth, strict=True))
