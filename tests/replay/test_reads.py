"""What is read in another state than the run read it in is noticed, whoever reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flor_runtime.inputs import came_later, has_downloads, listing, moved_on
from flor_runtime.replay.overlay import resolve
from flor_runtime.replay.reads import CHANGED, LOOKED, SKIPPED, Reads
from tests.scripts import Project, recovered


class Place:
    """A mirror, the user's folder, and what is noted."""

    def __init__(self, base: Path) -> None:
        self.user = base / "user"
        self.mirror = Path(f"{base}/up/fs{self.user}")
        self.upper = str(base / "up/fs")
        self.base = base
        self.user.mkdir()
        self.mirror.mkdir(parents=True)

    def reads(self, **then: object) -> Reads:
        time.sleep(0.02)  # the kernel's clock of files is a coarse one
        return Reads(self.upper, str(self.base / "noted"), **then)  # type: ignore[arg-type]

    def write(self, name: str, text: str = "x") -> str:
        path = self.mirror / name
        path.write_text(text)
        return str(path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def noted(reads: Reads) -> dict[str, list[str]]:
    return {kind: sorted(Path(path).name for path in paths) for kind, paths in reads.taken().items() if paths}


def test_what_the_replay_has_written_is_not_believed_behind_a_skip(place: Place) -> None:
    reads = place.reads()
    before = place.write("log.csv")
    reads.begun(before)
    reads.content(before, resolve)
    assert noted(reads) == {}
    time.sleep(0.02)
    reads.skipped()
    reads.look(before, True)
    reads.content(before, resolve)
    reads.begun(before)
    reads.content(before, resolve)
    assert noted(reads) == {SKIPPED: ["log.csv"], LOOKED: ["log.csv"]}


def test_a_new_name_is_no_new_file(place: Place) -> None:
    reads = place.reads()
    reads.skipped()
    new, old = place.write("new.tmp"), place.write("old.tmp")
    reads.begun(new)
    reads.moved(new, place.write("new"))
    reads.moved(old, place.write("old"))
    for name in ("new", "old"):
        reads.content(str(place.mirror / name), resolve)
    assert noted(reads) == {SKIPPED: ["old"]}


def test_what_was_written_before_the_loop_only_is_believed(place: Place) -> None:
    (place.user / "prepared.pt").write_text("x")
    reads = place.reads(settled=time.time_ns() + 10**9)
    path = place.write("prepared.pt")
    reads.begun(path)
    reads.skipped()
    reads.content(path, resolve)
    assert noted(reads) == {}


def test_what_came_later_is_looked_for(place: Place) -> None:
    reads = place.reads(later=[f"{place.user}/best.pt", f"{place.user}/out"])
    for skips in (False, True):
        if skips:
            reads.skipped()
        reads.look(str(place.mirror / "best.pt"), False)
        reads.look(f"{place.user}/out/x", False)
        reads.look(f"{place.user}/none", False)
        reads.look(str(place.mirror), True, listed=True)
        assert noted(reads) == ({LOOKED: ["best.pt", "user", "x"]} if skips else {})


def test_files_of_the_users_that_have_changed(place: Place) -> None:
    names = ("known", "changed", "outside", "old")
    for name in names:
        (place.user / name).write_text(name)
    since = time.time_ns() - 10**9
    known = [f"{place.user}/known"]
    reads = place.reads(changed=[f"{place.user}/changed"], known=known, since=since)
    for name in names:
        reads.content(str(place.user / name), resolve)
    assert noted(reads) == {CHANGED: ["changed", "old", "outside"]}
    later = Reads(place.upper, str(place.base / "nothing"), since=time.time_ns() + 10**9)
    later.content(f"{place.user}/old", resolve)
    assert noted(later) == {}


def test_a_changed_file_that_is_gone_on_with(place: Place) -> None:
    """`open(name, "a")` copies it; what is read then begins with what the run did not find."""
    (place.user / "log.txt").write_text("the run's")
    reads = place.reads(changed=[f"{place.user}/log.txt"])
    copied = place.write("log.txt", "the run's and more")
    assert noted(reads) == {}
    reads.content(copied, resolve)
    assert noted(reads) == {CHANGED: ["log.txt"]}


def test_large_folders_are_only_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "empty").mkdir()
    for number in range(20):
        (tmp_path / f"images/{number}").touch()
    (tmp_path / "a.txt").touch()
    then = listing(tmp_path, most=10)
    assert set(then) == {"images/", "empty/", "a.txt"}
    (tmp_path / "images/new").touch()
    (tmp_path / "empty/new").touch()
    (tmp_path / "b.txt").touch()
    assert came_later(tmp_path, then) == {str(tmp_path / "empty/new"), str(tmp_path / "b.txt")}
    (tmp_path / "a.txt").unlink()
    assert list(moved_on(tmp_path, then)) == [("a.txt", None)]


def test_downloads_are_told_from_results(tmp_path: Path) -> None:
    then = listing(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").touch()
    time.sleep(0.02)
    settled = time.time_ns()
    assert not has_downloads(tmp_path, then, 0)
    time.sleep(0.02)
    (tmp_path / "data/last.pt").touch()
    assert came_later(tmp_path, then) == {str(tmp_path / "data")}
    assert came_later(tmp_path, then, settled) == {str(tmp_path / "data/last.pt")}
    assert has_downloads(tmp_path, then, settled)


SCRIPT = """
import os

class Optimizer:
    def zero_grad(self): pass
    def step(self): pass

optimizer = Optimizer()
WITH
for epoch in range(4):
    for k in range(2):
        optimizer.zero_grad()
        optimizer.step()
    TURN
value = READ
# probe: flor.log("value", value)
print(value)
"""
CASES = {
    "appended to": ("", "open('log', 'a').write('x')", "len(open('log').read())"),
    "written before": ("open('log', 'w').write('x')", "open('log', 'a').write('x')", "os.path.getsize('log')"),
    "listed": ("os.makedirs('out')", "open(f'out/{epoch}', 'w').close()", "len(os.listdir('out'))"),
    "by another program": ("", "os.system('echo x >> log')", "int(os.popen('wc -l < log').read())"),
}


@pytest.mark.parametrize("case", CASES)
def test_turns_that_write_what_is_read_are_run(tmp_path: Path, case: str) -> None:
    """The statement is behind the loop, so a replay would start at its last turn."""
    user = Project(tmp_path, "steps.py")
    script = SCRIPT
    for mark, text in zip(("WITH", "TURN", "READ"), CASES[case], strict=True):
        script = script.replace(mark, text)
    (user.folder / user.script).write_text(script)
    (user.folder / ".gitignore").write_text("log\nout\n")
    user.commit("the script")
    run = user.run("flor", "run", "--epsilon", "1", user.script)
    assert run.code == 0, run.err
    user.add_probes()
    replay = user.run("flor", "replay", "value", "--yes", "--script", user.script)
    assert replay.code == 0, replay.err
    (first,) = user.runs()
    assert [str(value) for value in recovered(first).values()] == run.out.split()


def test_loader_workers_tell_what_they_have_read(tmp_path: Path) -> None:
    user = Project(tmp_path, "steps.py")
    child = "import multiprocessing\ndef work(name): return len(open(name).read())"
    turn = "pool = multiprocessing.get_context('fork').Pool(1); seen = pool.map(work, ['data'])[0]; pool.terminate()"
    script = SCRIPT.replace("WITH", child).replace("TURN", turn).replace("READ", "seen")
    (user.folder / user.script).write_text(script)
    (user.folder / ".gitignore").write_text("data\n")
    user.commit("the script")
    (user.folder / "data").write_text("1234")
    assert user.run("flor", "run", "--epsilon", "1", user.script).out == "4\n"
    (user.folder / "data").write_text("12345")
    user.add_probes()
    replay = user.run("flor", "replay", "value", "--yes", "--script", user.script)
    assert "data has changed since: put it back" in replay.err
    labels = [found.manifest["label"] for found in user.runs()[0].replays()]
    assert "exact" not in labels
    assert "/data" in replay.err.split("value:")[-1]
