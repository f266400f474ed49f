"""Instrumenting a script in process, with its proofs, against libcst's own parse and code generation of that file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, interleaved

DEMO = Path(__file__).parent.parent / "demo" / "train.py"

FILLER = """def helper_{0}(values, weight={0}):
    total = 0
    for value in values:
        if value > weight:
            total += value * weight
    return total


"""


def _long(lines: int) -> bytes:
    """The demo's script with as many further functions in it as make up the length."""
    text = DEMO.read_text()
    head, tail = text.split("def main", 1)
    filler = FILLER
    count = max(0, (lines - text.count("\n")) // 8)
    return (head + "".join(filler.format(n) for n in range(count)) + "def main" + tail).encode()


def run() -> Iterator[Figure]:
    """CPU time, the median of seven."""
    import libcst

    import flor_transform

    for lines in (300, 1500):
        source = _long(lines)
        ours, floor = interleaved(
            lambda s=source: flor_transform.instrument(s, filename="train.py"),  # type: ignore[misc]
            lambda s=source: libcst.parse_module(s).bytes,  # type: ignore[misc]
            7,
            time.process_time,
        )
        yield Figure(f"instrument {lines} lines", ours * 1e3, floor * 1e3, "libcst parse + code", "ms")
