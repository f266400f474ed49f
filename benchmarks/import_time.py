"""CPU time of `import flor` in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.figures import Figure

_CODE = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"


def _cost(module: str) -> float:
    runs = [
        subprocess.run([sys.executable, "-c", _CODE.format(module)], capture_output=True, text=True, check=True)
        for _ in range(7)
    ]
    return min(float(run.stdout) for run in runs)


def run() -> Iterator[Figure]:
    """Against importing argparse, which most training scripts import anyway."""
    yield Figure("import flor", _cost("flor") * 1e3, _cost("argparse") * 1e3, "import argparse", "ms", at_most=30)
