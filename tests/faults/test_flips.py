"""Flipped bits and cut files: `flor doctor` finds each one, and nothing that is read is another value."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flor_runtime.checks import Finding, Look, examine
from flor_runtime.errors import FlorError
from flor_runtime.store.layout import Home
from tests.faults.store import everything, files, kind, make_store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_store(tmp_path_factory.mktemp("store"))


def findings(home: Home) -> list[Finding]:
    return list(examine(home, Look()))


def damage(home: Home) -> list[str]:
    return [str(finding) for finding in findings(home) if finding.is_damage]


class Checked:
    """A store that is damaged and mended again, time after time."""

    def __init__(self, home: Home, scratch: Path) -> None:
        self._home, self._scratch = home, scratch
        self._before = dict(everything(home, scratch / "before"))
        self._said = {str(finding) for finding in findings(home)}
        assert damage(home) == []
        self.kinds: Counter[str] = Counter()

    def with_content(self, path: Path, content: bytes | None, what: str) -> None:
        """Check the store with this content of a file; None: without the file."""
        whole = path.read_bytes()
        try:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            self.kinds[kind(self._home, path)] += 1
            found = findings(self._home)
            assert any(finding.is_damage for finding in found) or self._is_of_no_record(found), (what, path)
            in_code = path.is_relative_to(self._home.code)
            scratch = self._scratch / "now" if in_code else None
            try:
                for thing, value in everything(self._home, scratch):
                    assert self._before[thing] == value, (what, path, thing)
            except FlorError as error:
                raise AssertionError(f"{what} {path}: {error}") from error
            finally:
                shutil.rmtree(self._scratch / "now", ignore_errors=True)
        finally:
            path.write_bytes(whole)

    def _is_of_no_record(self, found: list[Finding]) -> bool:
        """Something was noted, of a place where a kill may leave anything: no record is there."""
        return any("never finished" in finding.what and str(finding) not in self._said for finding in found)


def flips(home: Home, count: int, rng: random.Random) -> Iterator[tuple[Path, int]]:
    """(file, bit): of each kind of file as many."""
    kinds: dict[str, list[Path]] = {}
    for path in files(home):
        kinds.setdefault(kind(home, path), []).append(path)
    names = sorted(kinds)
    for number in range(count):
        path = rng.choice(kinds[names[number % len(names)]])
        yield path, rng.randrange(8 * path.stat().st_size)


def flip(home: Home, scratch: Path, count: int, rng: random.Random) -> None:
    checked = Checked(home, scratch)
    for path, bit in flips(home, count, rng):
        data = bytearray(path.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        checked.with_content(path, bytes(data), f"bit {bit}")
    assert len(checked.kinds) > 20 or count < 30, checked.kinds
    assert damage(home) == []


def test_flipped_bits_of_every_kind_of_file_are_found(home: Home, tmp_path: Path) -> None:
    flip(home, tmp_path, 40, random.Random(40))


@pytest.mark.proof
def test_two_thousand_flipped_bits_are_found(home: Home, tmp_path: Path) -> None:
    flip(home, tmp_path, 2000, random.Random())


@pytest.mark.proof
def test_cut_and_missing_files_are_found(home: Home, tmp_path: Path) -> None:
    """Of runs that were closed: what a killed run has lost at its end can't be told from what it never wrote."""
    checked = Checked(home, tmp_path)
    rng = random.Random(41)
    killed = next(run.path for run in home.all_runs() if run.end() is None)
    for path in files(home):
        if path.is_relative_to(killed) or path.name in ("inputs.json", "environment.json", "hash_seed"):
            continue
        size = path.stat().st_size
        for kept in {0, rng.randrange(size), size - 1}:
            checked.with_content(path, path.read_bytes()[:kept], f"cut to {kept}")
        if path.parent.name in ("log", "ckpt", "log-0") and path.name != "turns.json":
            checked.with_content(path, None, "removed")


def test_what_does_not_belong_there_is_said(home: Home) -> None:
    (run, *_) = home.all_runs()
    places = [home.root / "notes.txt", run.path / "notes.txt", run.log / "x", run.ckpt / "copy.bin", home.runs / "x"]
    for path in places:
        path.write_text("mine")
    found = damage(home)
    for path in places:
        assert sum(f"{path.name}: is no file of flor's" in line for line in found) >= 1
        path.unlink()
    assert len(found) == len(places)


def test_links_and_pipes_are_said_and_not_opened(home: Home, tmp_path: Path) -> None:
    (run, *_) = home.all_runs()
    places = [run.path / "log" / "pipe", home.root / "pipe", run.path / "replays" / "link", home.runs / "link"]
    for path in places:
        if path.name == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(tmp_path)
    found = damage(home)
    for path in places:
        path.unlink()
    assert len(found) == len(places)
    assert all("is a link, or no plain file" in line or "is no file of flor's" in line for line in found)


def test_what_a_kill_leaves_behind_is_no_damage(home: Home) -> None:
    (run, *_) = home.all_runs()
    left = [run.path / ".end.json.77.12345678.tmp", run.path / "train.pyc", home.root / ".hash_seed.7.tmp"]
    for path in left:
        path.write_bytes(b"{")
    begun = home.create_run()
    found = findings(home)
    assert not any(finding.is_damage for finding in found)
    assert {finding.file for finding in found} >= {path.name for path in left} | {"run.json"}
    for path in left:
        path.unlink()
    begun.path.rmdir()
