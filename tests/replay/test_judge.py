"""What a replay logs is compared with what the run logged, whatever kind of value it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from flor_runtime.replay.verify import EXACT, VERIFIED, judge
from flor_runtime.store.runlog import RunLog


def figure(height: float) -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, height, 1])
    plt.close(drawn)
    return drawn


NEAR = float(np.nextafter(np.float32(0.1), np.float32(1)))
CASES = {
    "tensor": (torch.full((2, 3), 0.1), torch.full((2, 3), NEAR)),
    "bfloat16": (torch.ones(2, dtype=torch.bfloat16), torch.tensor([1, 1.0078125], dtype=torch.bfloat16)),
    "array": (np.zeros(2), -np.zeros(2)),
    "type": (np.zeros(2, "f4"), np.zeros(2, "f8")),
    "dictionary": ({"a": [0.1]}, {"a": [0.1 + 2**-56]}),
    "image": (Image.new("L", (2, 2), 7), Image.new("L", (2, 2), 8)),
    "figure": (figure(0.5), figure(0.6)),
    "table": (pd.DataFrame({"a": [0.1]}), pd.DataFrame({"a": [0.1 + 2**-56]})),
    "text": ("a", "b"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_bit_is_a_difference(tmp_path: Path, case: str) -> None:
    value, other = CASES[case]
    for folder, last in (("recorded", value), ("same", value), ("other", other)):
        log = RunLog(tmp_path / folder)
        for logged in (1.0, last):
            log.append(0, "x", logged)
        log.close()
    outcome = [{"same": 1, "different": 0}]
    same = judge(tmp_path / "recorded", [tmp_path / "same"], outcome, ["new"])
    assert (same.label, same.checked, same.mismatched) == (EXACT, 3, 0)
    different = judge(tmp_path / "recorded", [tmp_path / "other"], outcome, ["new"])
    assert (different.label, different.mismatched) == (VERIFIED, 1)
    assert different.notes == ["logged differently this time: x"]
