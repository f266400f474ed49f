"""The first table in `flor ui` over 1,000 runs of 10,000 records, in headless Chromium, from opening the page on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure
from flor_runtime.store.layout import Home
from tests.screens import scenes
from tests.screens.browser import DEEP, browser, hosts, program

RUNS, RECORDS = 1_000, 10_000
TIMES = int(os.environ.get("FLOR_BENCH_TIMES", "4"))
TARGET = 3.0  # seconds
#: a page of marimo's own: what no application of it can be quicker than
_BARE = """import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    mo.ui.table([{"a": number} for number in range(12)])
    return


if __name__ == "__main__":
    app.run()
"""


@contextmanager
def _served(home: Home, folder: Path, *more: str) -> Iterator[tuple[str, int]]:
    code = "from flor_runtime.cli import main; main(prog_name='flor')"
    environment = {**os.environ, "FLOR_HOME": str(home.root), "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-c", code, "ui", "--no-open", *more]
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as run:
        assert run.stdout is not None
        try:
            yield run.stdout.readline().decode().strip(), run.pid
        finally:
            run.send_signal(signal.SIGINT)


def _first_table(address: str, server: int, log: Path) -> tuple[float, float]:
    """Seconds until the first table is there, and CPU seconds of the server and the browser."""
    with browser(log) as page:
        page.size(1400, 1000)
        time.sleep(1)
        before = _cpu(server) + _cpu(page.process)
        began = page.open(address)
        page.wait(f"{DEEP}.some(e => e.tagName === 'TD')", 120)
        return time.monotonic() - began, _cpu(server) + _cpu(page.process) - before


def _cpu(root: int) -> float:
    """CPU seconds of a process and of those that it started."""
    times: dict[int, float] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
        times[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    wanted = {root}
    for _ in range(6):
        wanted |= {process for process, parent in parents.items() if parent in wanted}
    return sum(times[process] for process in wanted if process in times)


def run() -> Iterator[Figure]:
    """Time and CPU time of the first table, against those of an empty page of marimo's with a small table."""
    if program() is None:
        print("  no Chromium here")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, bare = Home(folder / "home"), folder / "bare.py"
        bare.write_text(_BARE)
        scenes.many(home, RUNS, RECORDS)
        time.sleep(0.5)
        with _served(home, folder) as ours, _served(home, folder, "--app", str(bare)) as floor:
            time.sleep(20)  # the first look makes the index
            found: dict[str, list[tuple[float, float]]] = {"ours": [], "floor": []}
            for _ in range(TIMES):
                found["ours"].append(_first_table(*ours, folder / "net.json"))
                asked = hosts(folder / "net.json")
                if asked - {"127.0.0.1"}:
                    print(f"  asked others: {asked}")
                found["floor"].append(_first_table(*floor, folder / "net.json"))
        for number, what in enumerate(("the first table", "the first table, CPU of server and browser")):
            best, least = (min(each[number] for each in found[side]) for side in ("ours", "floor"))
            limit = TARGET if number == 0 else None
            against = "an empty page of marimo's, a table of 12 rows"
            yield Figure(f"{what}, {RUNS} runs", best, least, against, at_most=limit)
