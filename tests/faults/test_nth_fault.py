"""Each single operation on the store fails, in six ways: the program's result is its own, and the store is whole."""

from __future__ import annotations

import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.nth import KINDS, Sweep

_SHIM = Path(__file__).with_name("shim.c")


@pytest.fixture
def compiled(tmp_path: Path) -> Sweep:
    library = tmp_path / "shim.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(_SHIM), "-ldl"]
    subprocess.run(command, check=True)
    return Sweep(tmp_path / "runs", {"LD_PRELOAD": str(library)})


@pytest.mark.proof
@pytest.mark.skipif(shutil.which("gcc") is None, reason="a C compiler makes the faults")
def test_every_operation_fails_in_some_way(compiled: Sweep) -> None:
    """Each operation at least once, and each kind of fault at 60 places at least."""
    count = compiled.run("none", None, 0)
    assert count > 100
    rng = random.Random()
    faults = [(at, rng.choice(KINDS)) for at in range(1, count + 1)]
    for kind in KINDS:
        faults += [(rng.randint(1, count), kind) for _ in range(60 - sum(k == kind for _, k in faults))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: compiled.run(f"{n}", faults[n][1], faults[n][0]), range(len(faults))))


def test_some_operations_fail_in_every_way(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "runs", {"PYTHONPATH": str(Path(__file__).with_name("preload"))})
    count = sweep.run("none", None, 0)
    assert count > 60
    rng = random.Random(72)
    places = sorted(rng.sample(range(1, count + 1), 6))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: sweep.run(f"{n}", KINDS[n % 6], places[n]), range(len(places))))
