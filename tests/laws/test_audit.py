"""Law 5 where a checkpoint does not see what a block changes: no replay hands back another value and calls it exact."""

from __future__ import annotations

import decimal
import locale
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch

from tests.laws.planted import CASES, FILES, TURNS, Planted
from tests.laws.ways import Ways, goals, same_parts
from tests.runtime.processes import FLOR, Folder, assert_same
from tests.transform.support import check_laws


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """What the programs set, as it was."""
    before = numpy.geterr(), locale.setlocale(locale.LC_ALL)
    torch.set_num_threads(1)
    yield
    numpy.seterr(**before[0])
    numpy.setbufsize(8192)
    locale.setlocale(locale.LC_ALL, before[1])
    decimal.getcontext().prec = 28
    pandas.reset_option("display.precision")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    torch.set_float32_matmul_precision("highest")
    torch.set_default_device(None)
    torch.set_autocast_enabled("cpu", False)
    torch.set_printoptions(profile="default")
    torch.set_flush_denormal(False)


SLOW = {"what a collection of garbage calls"}  # half a minute


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=[pytest.mark.proof] * (name in SLOW)) for name, case in CASES.items()],
)
def test_planted(case: Planted, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))

    def is_project(namespace: dict[str, Any]) -> bool:
        return namespace.get("__name__") in ("__main__", "helper")

    result = check_laws(case.code)
    assert [block.name for block in result.plan.blocks if not block.refused] == ["train"]
    ways = Ways(tmp_path, case.code, result, is_project)
    assert ways.raw.error == ""
    recorded = ways.record()
    assert [recorded.tape, recorded.trouble] == [ways.raw.tape | recorded.tape, []]
    assert recorded.out == ways.raw.out
    skipped = {}
    for which, goal in goals(recorded.entries).items():
        found = ways.replay(which, goal)
        assert not found.outcome.different
        assert [text for text in same_parts(recorded, found, which, goal) if ": names:" not in text] == []
        skipped[which] = found.outcome.blocks_skipped
    problems = ways.problems()
    assert skipped["strong"] == {"skip": TURNS, "later": TURNS - 1, "run": 0}[case.must], problems
    if case.must == "skip":
        assert problems == []
    assert any(case.says in text for text in problems) == (case.must != "skip"), problems


EXPLAINED = """\
import numpy as np
import torch

import registry

torch.manual_seed(0)


class Noise:
    def __init__(self):
        self.table = np.zeros(5000)

    def __call__(self, x):
        self.table[7] += 1
        return x + self.table[7]


class Data(torch.utils.data.Dataset):
    def __init__(self):
        self.transforms = [abs, Noise()]

    def __len__(self):
        return 4

    def __getitem__(self, i):
        registry.count(i)
        for transform in self.transforms:
            i = transform(i)
        return torch.tensor([float(i)])


model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
train_set = Data()
for epoch in range(3):
    for x in torch.utils.data.DataLoader(train_set, batch_size=2):
        model(x).sum().backward()
        optimizer.step()
    print(epoch, train_set.transforms[1].table[7], registry.seen)
"""


def test_the_reason_names_file_line_object_and_turn(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.env |= {"OMP_NUM_THREADS": "1"}
    folder.write("train.py", EXPLAINED)
    folder.write("registry.py", "seen = 0\ndef count(i, name='seen'): globals()[name] = globals()[name] + 1\n")
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    lines = folder.end(folder.start(FLOR, "runs", "--explain", folder.run().id)).out.decode().splitlines()
    where = f"train.py:{EXPLAINED[: EXPLAINED.index('    for x in')].count(chr(10)) + 1}: train: "
    assert any(line.startswith(f"  {where}train_set.transforms[1].table: it was changed") for line in lines), lines
