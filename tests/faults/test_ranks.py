"""A training in several processes: the first one records, none of them is in the others' way."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from flor_runtime import ranks
from flor_runtime.checks import Look, examine
from flor_runtime.store.checkpoints import Reader
from tests.runtime.processes import FLOR, HEAD, TRAIN, Folder, assert_same

LOGS = "import flor\n" + HEAD + TRAIN.replace("print(", "flor.log('total', total); print(")
SEVERAL = [
    {"RANK": "{}", "WORLD_SIZE": "2"},
    {"OMPI_COMM_WORLD_RANK": "{}", "OMPI_COMM_WORLD_SIZE": "2"},
    {"PMI_RANK": "{}", "PMI_SIZE": "2"},
    {"SLURM_PROCID": "{}", "SLURM_STEP_NUM_TASKS": "2"},
]

#: Distributed data parallel training with two processes, from a seed of its own in each.
DDP = (
    """
import os, sys, hashlib
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler
import flor


def main(rank, world):
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(48, 5), torch.randint(0, 2, (48,)))
    model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sampler = DistributedSampler(data, num_replicas=world, rank=rank)
    loader = DataLoader(data, batch_size=6, sampler=sampler)
    torch.manual_seed(100 + rank)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        flor.log("total", total)
    parameters = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    with open(f"result-{rank}.txt", "w") as file:
        file.write(hashlib.sha256(parameters).hexdigest() + repr(total) + repr(torch.rand(1)))
    dist.destroy_process_group()

"""
).lstrip()
BY_TORCHRUN = DDP + 'main(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))\n'
BY_SPAWN = DDP + (
    'if __name__ == "__main__":\n'
    '    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[1]}\n'
    "    torch.multiprocessing.spawn(main, args=(2,), nprocs=2)\n"
)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize("variables", SEVERAL)
def test_which_of_several_processes_it_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert ranks.place() == (0, 1)
    for rank in range(3):
        for name, text in variables.items():
            monkeypatch.setenv(name, text.format(rank))
        assert ranks.place() == ((rank, 2) if rank < 2 else (0, 1))


def test_the_first_of_several_processes_records(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", LOGS)
    raw = folder.end(folder.start(sys.executable, "train.py"))
    for rank in (1, 0):
        env = {"RANK": str(rank), "WORLD_SIZE": "2"}
        recorded = folder.end(folder.start(FLOR, "run", "train.py", env=env))
        assert_same(raw, recorded)
        assert recorded.ours == []
        assert len(folder.home.all_runs()) == (not rank)
    assert folder.run().manifest()["processes"] == 2
    folder.write("train.py", LOGS.replace("total += x", "total += x; flor.log('x', x)"))
    replayed = folder.end(folder.start(FLOR, "replay", "x", "--yes"))
    assert replayed.code != 0
    assert b"one of 2 processes that trained together" in replayed.err


def results(folder: Folder) -> list[str]:
    found = [(folder.path / f"result-{rank}.txt").read_text() for rank in range(2)]
    for rank in range(2):
        (folder.path / f"result-{rank}.txt").unlink()
    return found


@pytest.mark.proof
def test_two_processes_by_torchrun(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", BY_TORCHRUN)
    raw = folder.end(folder.start(*TORCHRUN, "train.py"))
    assert raw.code == 0, raw
    expected = results(folder)
    assert len(set(expected)) == 2  # random states and losses are each process's own
    run = folder.end(folder.start(*TORCHRUN, "--no-python", FLOR, "run", "train.py"))
    assert run.code == 0 and results(folder) == expected, run
    folder.end(folder.start(str(Path(FLOR).with_name("flor-transform")), "train.py"))
    attached = folder.end(folder.start(*TORCHRUN, "train.py", "--flor", "both"))
    assert attached.code == 0 and results(folder) == expected, attached
    runs = folder.home.all_runs()
    assert len(runs) == 2
    for run in runs:
        assert run.status() == "finished" and run.manifest()["processes"] == 2
        reader = Reader(run.ckpt)
        assert len(reader.entries) > 0
        reader.close()
    losses = [value for (_, name, _), value in folder.log().items() if name == "total"]
    assert len(losses) == 3 and repr(losses[-1]) in expected[0]
    assert not [finding for finding in examine(folder.home, Look()) if finding.is_damage]


@pytest.mark.proof
def test_two_processes_by_spawn(tmp_path: Path) -> None:
    """They are not seen from the process that starts them: the run has nothing, and they compute what they compute."""
    folder = Folder(tmp_path)
    folder.write("train.py", BY_SPAWN)
    raw = folder.end(folder.start(sys.executable, "train.py", "29611"))
    assert raw.code == 0, raw
    expected = results(folder)
    recorded = folder.end(folder.start(FLOR, "run", "train.py", "29612"))
    assert recorded.code == 0 and results(folder) == expected, recorded
    assert folder.log() == {}
    assert not re.search(rb"Traceback", recorded.err)
