"""A small store with every kind of file in it, and all that can be read from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flor_runtime.errors import FlorError
from flor_runtime.exports import export
from flor_runtime.inputs import read_inputs
from flor_runtime.store.checked import read_bytes
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import Home, read_json
from flor_runtime.store.runlog import RunLog, read
from tests.runtime.processes import FLOR, HEAD, Folder
from tests.stores import add_replay

PROGRAM = (
    "import flor, argparse, numpy, os, signal\n"
    + HEAD
    + """
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
args = parser.parse_args()
weights = numpy.zeros(9000)
moments = [0.5] * 40
for epoch in range(4):
    total = 0.0
    for step in range(3):
        optimizer.zero_grad()
        Loss().backward()
        optimizer.step()
        weights[step] = epoch
        total += step / 7
        flor.log("total", total)
    moments = [m * 0.9 for m in moments]
    flor.log("text", "a text " * epoch)
    flor.log("list", [epoch, None, {"a": 1}])
    flor.log("flag", epoch % 2 == 0)
"""
)


def make_store(path: Path) -> Home:
    """Two runs, one of them replayed, and one that was killed."""
    folder = Folder(path)
    folder.write("helper.py", "x = 1\n")
    folder.write("train.py", "import helper\n" + PROGRAM)
    folder.write("killed.py", PROGRAM + "os.kill(os.getpid(), signal.SIGKILL)\n")
    for script, code in (("train.py", 0), ("train.py", 0), ("killed.py", -signal.SIGKILL)):
        ended = folder.end(folder.start(FLOR, "run", "--epsilon", "1", script, "--lr", "0.5"))
        assert (ended.code, ended.ours) == (code, [])

    def recovered(log: RunLog) -> None:
        log.append(log.context(0, "epoch", 1), "norm", 0.25)
        log.append(0, "texts", "recovered")

    add_replay(folder.home.all_runs()[0], "20200101T000000-x", ["norm"], recovered)
    return folder.home


def files(home: Home) -> list[Path]:
    """All that have something in them."""
    found = [Path(at) / name for at, _, names in os.walk(home.root) for name in names]
    return sorted(path for path in found if path.stat().st_size)


def kind(home: Home, path: Path) -> str:
    """Files of one kind are written by the same code."""
    name = path.relative_to(home.root).as_posix()
    if name.startswith("code/"):
        return "object" if "/objects/" in name else "ref" if "/refs/" in name else path.name
    if path.suffix == ".bin" and path.parent.name == "ckpt":
        return "data"
    stem = path.stem.partition("-")[0]
    if "/replays/" in name:
        return f"{stem} of a replay"
    return stem if path.parent.parent == home.runs else f"{path.parent.name}/{stem}"


def everything(home: Home, scratch: Path | None) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All that the store hands back: (what, value) of each thing that can be read.

    Args:
        scratch: an empty folder to export the code of the runs to; None: that is left out.
    """
    for run in home.all_runs():
        yield ("manifest", run.id), run.manifest()
        if run.end() is not None:
            yield ("end", run.id), run.end()
        for name in ("environment.json", "ckpt/turns.json"):
            try:
                yield (name, run.id), read_json(run.path / name)
            except FlorError:
                pass
        if (inputs := read_inputs(run.path)) is not None:
            yield ("inputs", run.id), dict(inputs)
        try:
            yield ("random", run.id), read_bytes(run.path / "random.bin")
        except (OSError, ValueError):
            pass
        logs = [run.log, run.captured]
        for replay in run.replays():
            yield ("replay", replay.path.name), replay.manifest
            logs += replay.parts
        for folder in logs:
            try:
                for place, name, value, seq in read(folder).rows():
                    yield ("record", folder, seq), (place, name, repr(value))
            except FlorError:
                pass
        try:
            reader = Reader(run.ckpt)
        except FlorError:
            continue
        for key, entry in reader.entries.items():
            yield ("note", run.id, key), (entry.ambient, entry.problems, entry.when)
            try:
                graph, ambient, blobs = reader.load(entry)
            except FlorError:
                continue
            yield ("checkpoint", run.id, key), (graph.roots, graph.nodes, ambient, [bytes(blob) for blob in blobs])
        reader.close()
        if scratch is None:
            continue
        vid, repo = run.manifest()["vid"], run.manifest()["repo"]
        to = scratch / run.id
        try:
            export(repo, vid, to)
        except FlorError:
            continue
        yield ("code", run.id), {path.name: path.read_bytes() for path in to.rglob("*") if path.is_file()}
