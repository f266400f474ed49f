"""`locals()` of a function that is being recorded: what the program holds of it stays as it was."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

from flor_runtime.frame_locals import is_module, read_locals
from tests.runtime.processes import Folder

HELD = """\
import flor

class Optimizer:
    def step(self): pass

def main(lr=0.1, n=3):
    config = locals()
    optimizer, total, last = Optimizer(), 0, None
    for epoch in flor.loop("epoch", range(n)):
        for batch in flor.SkipBlock.loop("train", range(3)):
            total += batch
            optimizer.step()
        total, batch = flor.SkipBlock.end(optimizer, values=("total", "batch"))
        total += 1
    print(sorted(config.items()), total, batch)

main()
"""
RAW = (
    HELD.replace("import flor\n", "")
    .replace('flor.loop("epoch", range(n))', "range(n)")
    .replace('flor.SkipBlock.loop("train", range(3))', "range(3)")
    .replace('        total, batch = flor.SkipBlock.end(optimizer, values=("total", "batch"))\n', "")
)


class Thing:
    pass


def names() -> list[str]:
    return sorted(read_locals(sys._getframe(1)))


def test_a_held_snapshot_keeps_its_content() -> None:
    first = 1
    held = locals()
    before = dict(held)
    second = 2
    assert {"first", "second"} <= set(names())
    assert dict.__eq__(dict(held), before) or sys.version_info >= (3, 13)
    assert first + second == 3


def test_nothing_stays_alive() -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    assert "thing" in names()
    del thing
    gc.collect()
    assert gone() is None


def test_the_body_of_a_class_keeps_its_names() -> None:
    class Body:
        value = 1
        seen = names()
        again = value

    assert "value" in Body.seen and Body.again == 1


def test_modules_are_told_apart() -> None:
    frame = sys._getframe()
    assert not is_module(frame)


def test_a_program_that_keeps_its_locals(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("raw.py", RAW)
    folder.write("train.py", HELD)
    raw = folder.end(folder.start(sys.executable, "raw.py"))
    off = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.recorded("raw.py")
    assert raw.code == 0 and b"('lr', 0.1)" in raw.out
    assert (off.out, off.err, off.code) == (raw.out, b"", 0)
    assert (recorded.out, recorded.code) == (raw.out, 0)
