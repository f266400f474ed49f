"""Instrumenting a script, with its proofs, against libcst's own parse and code generation of that file.

FLOR_BENCH_SCRIPTS=FOLDER adds the figures over the Python files below a folder.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Figure, interleaved
from benchmarks.scripts import script

_FLOOR = (
    "import sys, libcst; p = sys.argv[1]; m = libcst.parse_module(open(p, 'rb').read()); open(p, 'wb').write(m.bytes)"
)


def run() -> Iterator[Figure]:
    """CPU time, medians of what is done in turn."""
    for lines in (300, 1500):
        source = script(lines)
        ours, floor = _both(source, 7)
        yield Figure(
            f"instrument {source.count(10)} lines in process", ours * 1e3, floor * 1e3, "libcst parse + code", "ms"
        )
    yield _process(script(300))
    if folder := os.environ.get("FLOR_BENCH_SCRIPTS"):
        yield from _files(Path(folder))


def _both(source: bytes, rounds: int) -> tuple[float, float]:
    import libcst

    import flor_transform

    return interleaved(
        lambda: flor_transform.instrument(source, filename="train.py"),
        lambda: libcst.parse_module(source).bytes,
        rounds,
        time.process_time,
    )


def _process(source: bytes) -> Figure:
    """`flor-transform --check` as a user has it (compiled modules), against a process that does what a codemod must."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.py")
        path.write_bytes(source)
        env = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/cache"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        command = str(Path(sys.executable).with_name("flor-transform"))

        def check() -> None:
            done = subprocess.run([command, "--check", str(path)], env=env, capture_output=True)
            assert done.returncode == 1, done.stderr

        def rewrite() -> None:
            subprocess.run([sys.executable, "-c", _FLOOR, str(path)], env=env, check=True)

        check()
        rewrite()
        ours, floor = interleaved(check, rewrite, 9, _children)
    return Figure(
        f"flor-transform --check, {source.count(10)} lines", ours * 1e3, floor * 1e3, "libcst parse + write", "ms"
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _files(folder: Path) -> Iterator[Figure]:
    """All files, and the one with the worst ratio of those that are instrumented."""
    import libcst

    import flor_transform
    from flor_transform.errors import TransformError

    measured: list[tuple[float, float, str]] = []
    for path in sorted(folder.rglob("*.py")):
        source = path.read_bytes()
        try:
            libcst.parse_module(source)
            if not flor_transform.instrument(source, filename=path.name).changed:
                continue
        except (TransformError, libcst.ParserSyntaxError, RecursionError):
            continue
        ours, floor = _both(source, 3)
        measured.append((ours, floor, f"{path.name} ({source.count(10)} lines)"))
    if not measured:
        return
    ratio: Callable[[tuple[float, float, str]], float] = lambda row: row[0] / row[1]  # noqa: E731
    over = sum(ratio(row) > 1.5 for row in measured)
    total = [sum(row[index] for row in measured) for index in (0, 1)]
    yield Figure(f"{len(measured)} files instrumented", total[0], total[1], "libcst parse + code")
    middle = statistics.median_low(sorted(ratio(row) for row in measured))
    for label, row in (
        ("the median of them", next(row for row in measured if ratio(row) == middle)),
        (f"the worst; {over} above 1.5", max(measured, key=ratio)),
    ):
        yield Figure(f"{label}: {row[2]}", row[0] * 1e3, row[1] * 1e3, "libcst parse + code", "ms")
