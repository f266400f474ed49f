"""Calls as FlorDB's and pyflor's documents show them: what they do, and that a replay of their scripts is right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flor
from flor_runtime import session as sessions
from flor_runtime.published import INSTEAD, MTK
from flor_runtime.session import Session
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.runlog import RunLog, keyed, read
from flor_transform import instrument, strip
from flor_transform.analysis.marked import read_plan
from tests.runtime.processes import FLOR, Folder, assert_same


class Recorded:
    """A session without checkpoints; what was logged, by place."""

    def __init__(self, folder: Path) -> None:
        self.log = RunLog(folder)
        self.session = Session(self.log, self._failed, {"seed": 11})

    def _failed(self, error: Exception) -> None:
        raise AssertionError(error)

    def values(self) -> dict[str, object]:
        self.log.close()
        found = keyed(read(self.log.folder))
        return {" ".join([*(f"{n} {t}" for n, t in path), name]): value for (path, name, _), value in found.items()}


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    recorded = Recorded(tmp_path / "log")
    sessions.use(recorded.session)
    yield recorded
    sessions.use(None)


def test_off_they_hand_on_what_they_are_given() -> None:
    elements = [1, 2]
    assert MTK.loop(elements) is flor.loop(elements) is flor.loop("step", elements) is elements  # type: ignore[call-overload]
    assert flor.Flor is flor.MTK and flor.MTK.SkipBlock is flor.SkipBlock
    assert flor.MTK.checkpoints(elements) is None
    with flor.checkpointing(model=elements), flor.iteration("document", None, "a.pdf"):
        flor.commit()
    assert flor.pinned("seed", int, "7") == 7
    flor.set_ckpt_interval(60)
    flor.set_capture(False, max_records=5)


def test_levels_without_a_name(recorded: Recorded) -> None:
    for epoch in MTK.loop(range(2)):
        for step in MTK.loop(iter([5, 6])):
            flor.log("a", (epoch, step))
        for step in MTK.loop([7], name="valid"):
            flor.log("b", step)
    for fold in flor.loop(range(1)):
        flor.log("c", fold)
    assert recorded.values() == {
        "epoch 1 step 1 a": (0, 5),
        "epoch 1 step 2 a": (0, 6),
        "epoch 1 valid 1 b": 7,
        "epoch 2 step 1 a": (1, 5),
        "epoch 2 step 2 a": (1, 6),
        "epoch 2 valid 1 b": 7,
        "epoch@1 1 c": 0,
    }


def test_a_loop_whose_name_is_no_text(recorded: Recorded) -> None:
    for epoch in flor.loop(7, range(1)):  # type: ignore[call-overload]
        flor.log("a", epoch)
    assert recorded.values() == {"7 1 a": 0}


def test_iterations(recorded: Recorded) -> None:
    for doc in ["a.pdf", "b.pdf"]:
        with flor.iteration("document", None, doc):
            for page in flor.loop("page", range(2)):
                flor.log("color", f"{doc}{page}")
    with flor.iteration("epoch", 4, None):
        flor.log("loss", 0.5)
    for epoch in flor.loop("epoch", range(1)):
        with flor.iteration("epoch", epoch, None):  # the same turn
            flor.log("acc", 1)
    with pytest.raises(KeyError), flor.iteration("document", None, "c.pdf"):
        raise KeyError
    flor.log("after", True)
    assert recorded.values() == {
        "document 1 document_value": "a.pdf",
        "document 1 page 1 color": "a.pdf0",
        "document 1 page 2 color": "a.pdf1",
        "document 2 document_value": "b.pdf",
        "document 2 page@1 1 color": "b.pdf0",
        "document 2 page@1 2 color": "b.pdf1",
        "epoch 5 loss": 0.5,
        "epoch@2 1 acc": 1,
        "document 3 document_value": "c.pdf",
        "after": True,
    }


def test_texts_that_a_named_loop_goes_over(recorded: Recorded) -> None:
    for document in flor.loop("document", ["a.pdf", "b.pdf", "c.pdf"]):
        for page in flor.loop("page", range(2)):
            if document != "b.pdf":
                flor.log("first", page == 0)
    for line in flor.loop("step", ["x"]):
        flor.log("line", line)
    found = recorded.values()
    assert {place: value for place, value in found.items() if "value" in place} == {
        "document 1 document_value": "a.pdf",
        "document 3 document_value": "c.pdf",
    }
    assert len(found) == 7


def test_objects_belong_to_the_main_loops_that_follow(recorded: Recorded) -> None:
    one, two, three = object(), object(), object()
    session = recorded.session
    MTK.checkpoints(one)
    MTK.checkpoints(two, one)
    assert session.objects == (one, two)
    for _ in MTK.loop(range(1)):
        pass
    flor.checkpoints(three)
    assert session.objects == (three,)
    with flor.checkpointing(model=one, optimizer=two):
        assert session.objects == (three, one, two)
    assert session.objects == (three,)


def test_commit_shows_what_was_logged(recorded: Recorded) -> None:
    flor.log("a", 1)
    flor.commit()
    assert keyed(read(recorded.log.folder)) == {((), "a", 0): 1}


def test_a_pinned_value_is_the_recorded_one(recorded: Recorded) -> None:
    calls: list[int] = []

    def draw(value: int) -> int:
        calls.append(value)
        return value

    assert flor.pinned("seed", draw, 3) == 11  # of the run that is replayed
    assert flor.pinned("other", draw, 3) == 3
    assert calls == [3, 3]  # what it does is done in either
    assert flor.pinned("seed", input) == 11  # nobody can be asked


def test_what_there_is_not_any_more_says_what_to_write() -> None:
    for name, text in INSTEAD.items():
        with pytest.raises(AttributeError, match=f"flor has no '{name}': ") as error:
            getattr(flor, name)
        assert text in str(error.value)
        assert name not in flor.__all__
    for name in flor.__all__:
        assert getattr(flor, name) is not None
    with pytest.raises(AttributeError, match="module 'flor' has no attribute 'nothing'"):
        flor.nothing  # noqa: B018


def test_under_its_other_name() -> None:
    import flordb

    assert flordb is flor


def test_the_newest_run() -> None:
    import pandas as pd

    frame = pd.DataFrame({"tstamp": [1, 3, 3], "a": [1, 2, 3]})
    assert flor.utils.latest(frame)["a"].tolist() == [2, 3]
    assert flor.utils.latest(frame[:0]).empty


# -- in the text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "call"),
    [
        ("import flor", "flor.loop('e', range(3))"),
        ("import flor as f", "f.loop('e', range(3))"),
        ("import flordb as flor", "flor.loop('e', range(3))"),
        ("import flordb", "flordb.loop('e', range(3))"),
        ("from flor import MTK as Flor", "Flor.loop(range(3))"),
        ("from flor import Flor", "Flor.loop(range(3))"),
        ("from flordb import loop", "loop('e', range(3))"),
        ("import flor", "flor.MTK.loop(range(3))"),
        ("import flor", "enumerate(flor.it(range(3)))"),
    ],
)
def test_instrumentation_is_not_doubled(head: str, call: str) -> None:
    source = f"{head}\nfor e in {call}:\n    for x in xs:\n        optimizer.step()\n".encode()
    result = instrument(source)
    assert result.code == source and result.plan.instrumented
    assert [loop.start for loop in read_plan("t.py", source).loops] == [2]


def test_a_script_that_only_logs_is_instrumented() -> None:
    source = (
        b"import flordb as flor\nfor e in range(3):\n    for x in xs:\n        optimizer.step()\n    flor.log('a', e)\n"
    )
    result = instrument(source)
    assert result.code.startswith(b'import flordb as flor\nfor e in flor.loop("epoch", range(3)):')
    assert strip(result.code) == source
    assert instrument(result.code).code == result.code


def test_loops_in_a_turn_are_blocks() -> None:
    source = b"""\
import flordb as flor
from flor import MTK
def train():
    for b in flor.loop("train", xs):
        step()
for e in flor.loop("fold", range(3)):
    for b in tqdm(MTK.loop(xs)):
        for c in flor.loop("deep", b): pass
    for b in MTK.loop(xs, "valid"): pass
    for b in MTK.loop(xs, name=chosen): pass
"""
    plan = read_plan("t.py", source)
    assert [(loop.name, loop.start, loop.function) for loop in plan.loops] == [("train", 4, "train"), ("fold", 6, "")]
    blocks = [(block.name, block.start, block.stop) for block in plan.blocks]
    assert blocks == [("train", 4, 5), ("step", 7, 8), ("deep", 8, 8), ("valid", 9, 9), ("", 10, 10)]


# -- whole scripts --------------------------------------------------------------------------------------------------

#: Main loops of all styles, one after the other; statements are added where a comment stands.
STYLES = """\
import random

import flordb as flor
from flor import MTK as Flor


class Optimizer:
    def __init__(self): self.n = 0
    def step(self, x): self.n = (self.n * 31 + int(x * 7) + random.randrange(100)) % 1000003

opt = Optimizer()
seed = flor.arg("seed", default=random.randrange(100))
random.seed(seed)

def nested():
    Flor.checkpoints(opt)
    for epoch in Flor.loop(range(3)):
        for x in Flor.loop(iter([1, 2])):
            opt.step(x)
            # inner nested
        for x in Flor.loop([3, 4]):
            opt.step(x)
        # outer nested
        print(epoch, opt.n, x)

class Bar:
    def __init__(self, elements): self.elements = elements
    def __iter__(self):
        for element in self.elements:
            yield element

tqdm = Bar

def bars():
    for epoch in tqdm(flor.loop("epoch", range(3))):
        for i, x in enumerate(tqdm(flor.loop("step", [1, 2]))):
            opt.step(x + i)
            # inner bars
        # outer bars
        print(epoch, opt.n, i)

def breaking():
    for epoch in flor.loop("epoch", range(5)):
        for i, x in enumerate(flor.loop("step", [1, 2, 3, 4])):
            if i == 3:
                break
            if x == 1:
                continue
            opt.step(x)
            # inner breaking
        for x in flor.loop("valid", [1, 2]):
            if opt.n % 3 == 0:
                break
            opt.step(x)
        # outer breaking
        print(epoch, opt.n, i, x)
        if epoch == 3:
            break

def train(loader):
    total = 0
    for i, x in flor.loop("step", enumerate(loader)):
        opt.step(x)
        total += x
        # inner called
    return total, i

def called():
    best = 0
    with flor.checkpointing(model=opt):
        for epoch in flor.loop("epoch", range(3)):
            total, last = train([1, 2, 3])
            for n, doc in enumerate(["a.pdf", "b.pdf"]):
                with flor.iteration("document", n, doc):
                    flor.log("pages", n + opt.n)
            best = max(best, opt.n)
            # outer called
            print(epoch, total, last, best)
    flor.commit()

def by_other_names():
    loop, name = flor.loop, "st" + "ep"
    def batches():
        for x in flor.loop("yielded", [1, 2]):
            yield x
    for fold in loop("fold", range(3)):
        for x in loop(name, [1, 2]):
            opt.step(x)
            # inner by_other_names
        for x in batches():
            opt.step(x)
        listed = [x + opt.n for x in flor.loop("listed", [1, 2])]
        for epoch in flor.loop("epoch", range(2)):
            for x in flor.loop("step", [5, 6]):
                opt.step(x)
        # outer by_other_names
        print(fold, opt.n, listed)

nested()
bars()
breaking()
called()
by_other_names()
"""
NAMES = ("nested", "bars", "breaking", "called", "by_other_names")


def with_statements(*kinds: str) -> str:
    text = STYLES
    for kind in kinds:
        for name in NAMES:
            text = text.replace(f"# {kind} {name}\n", f"flor.log('{kind}_{name}', opt.n)\n")
    return text


def test_every_style_is_recorded_as_it_runs_and_replayed_as_it_was(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.env["FLOR_EPSILON"] = "1"
    folder.write("train.py", STYLES)
    seed = ["--kwargs", "seed=5"]
    raw = folder.end(folder.start(sys.executable, "train.py", *seed))
    by_itself = folder.end(folder.start(sys.executable, "train.py", *seed, "--flor", "styles"))
    assert raw.code == 0, raw
    assert_same(raw, by_itself)
    run = folder.run()
    with_blocks = {(key.entry, key.block) for key in Reader(run.ckpt).entries if key.block}
    assert with_blocks == {(0, "step"), (1, "step"), (2, "step"), (2, "valid"), (3, "step"), (4, "step"), (4, "epoch")}
    folder.write("train.py", with_statements("outer", "inner"))
    assert folder.end(folder.start(sys.executable, "train.py", *seed, "--flor", "truth")).code == 0
    truth = folder.log()
    for kind in ("outer", "inner"):
        folder.write("train.py", with_statements(kind))
        names = [f"{kind}_{name}" for name in NAMES]
        ended = folder.end(folder.start(FLOR, "replay", *names, "--yes", "--runs", run.id))
        assert ended.code == 0, ended
        replay = run.replays()[-1]
        assert replay.manifest["label"] == "exact"
        found = {key: value for part in replay.parts for key, value in keyed(read(part)).items() if key[1] in names}
        assert found == {key: value for key, value in truth.items() if key[1] in names}
        assert {name for _, name, _ in found} == set(names)
        if kind == "outer":
            said = folder.end(folder.start(FLOR, "replay", *names, "--again", "--dry-run", "--runs", run.id)).err
            assert b"skipped, restored instead: epoch 3 times, step 19 times, valid 4 times" in said, said.decode()


def test_enumerate_around_a_main_loop(tmp_path: Path) -> None:
    """A checkpoint can't wind it on: nothing starts in mid-run, and it is said why."""
    source = "import flor\nopt = []\nfor i, epoch in enumerate(flor.loop('epoch', range(4))):\n    opt.append(i)\n"
    folder = Folder(tmp_path)
    folder.write("train.py", source)
    folder.env["FLOR_EPSILON"] = "1"
    assert folder.end(folder.start(sys.executable, "train.py", "--flor", "a")).code == 0
    run = folder.run()
    entries = [entry for key, entry in Reader(run.ckpt).entries.items() if key.turn]
    assert entries and not any(entry.usable for entry in entries)
    folder.write("train.py", source + "    flor.log('sum', sum(opt) + i)\n")
    assert folder.end(folder.start(FLOR, "replay", "sum", "--yes", "--epochs", "4")).code == 0
    replay = run.replays()[-1]
    assert replay.manifest["label"] != "inexact"
    assert keyed(read(replay.parts[0]))[(("epoch", 4),), "sum", 0] == 9
