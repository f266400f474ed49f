"""Dropping checkpoints of ended runs: what goes, what stays, and what is never touched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from flor_runtime.cli import main
from flor_runtime.knobs import override
from flor_runtime.store import cleaning
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.layout import Home, RunFolder, write_json
from flor_runtime.store.writer import Writer
from tests.runtime.test_checkpoints import AMBIENT, contents, graph
from tests.stores import make_run

SIZE = 204_800


def run_with(home: Home, turns: int, **manifest: object) -> RunFolder:
    run = make_run(home, **manifest)
    writer = Writer(run.ckpt, patient=True)
    for n in range(turns):
        writer.save(Key(0, n), float(n), AMBIENT, graph(os.urandom(SIZE)))
    writer.close()
    return run


def usable(run: RunFolder) -> list[int]:
    return [key.turn for key, entry in Reader(run.ckpt).entries.items() if entry.usable]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def test_the_oldest_run_is_thinned_out_first(home: Home) -> None:
    old, new = run_with(home, 9), run_with(home, 9)
    held = cleaning.checkpoint_bytes(old) + cleaning.checkpoint_bytes(new)
    found = cleaning.keep_within(home, held - 3 * SIZE)
    assert [(cleaned.run.id, cleaned.turns) for cleaned in found] == [(old.id, 3)]
    assert len(usable(old)) == 6 and {0, 8} <= set(usable(old))
    assert usable(new) == list(range(9))
    assert contents(Reader(old.ckpt), 8)
    cleaning.keep_within(home, held - 9 * SIZE)
    assert usable(old) == [0, 8] and len(usable(new)) == 7
    cleaning.keep_within(home, 0)
    assert usable(old) == usable(new) == []
    assert len(Reader(old.ckpt).entries) == 9  # their digests stay
    assert cleaning.checkpoint_bytes(old) == 0


def test_a_dry_run_changes_nothing(home: Home) -> None:
    runs = [run_with(home, 4) for _ in range(2)]
    held = cleaning.checkpoint_bytes(runs[0])
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    found = cleaning.keep_within(home, 0, dry=True)
    assert [(cleaned.before, cleaned.after, cleaned.turns) for cleaned in found] == [(held, 0, 4)] * 2
    assert before == {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


def test_what_is_never_touched(home: Home) -> None:
    pinned, read, gone = (run_with(home, 3) for _ in range(3))
    alive = run_with(home, 3, pid=os.getpid())
    (alive.path / "end.json").unlink()
    alive.begin({**alive.manifest(), "process": None, "started": 4e9})
    cleaning.pin(pinned, True)
    reader = Reader(read.ckpt)
    found = cleaning.keep_within(home, 0)
    assert {cleaned.run.id: cleaned.reason for cleaned in found} == {
        pinned.id: "pinned",
        read.id: "a replay is reading it",
        gone.id: "",
        alive.id: "alive",
    }
    assert usable(pinned) == usable(read) == usable(alive) == [0, 1, 2]
    reader.close()
    cleaning.pin(pinned, False)
    cleaning.keep_within(home, 0)
    assert usable(pinned) == usable(read) == []


def test_what_a_killed_run_left_behind_goes(home: Home) -> None:
    run = run_with(home, 2)
    (run.ckpt / "7.bin").write_bytes(bytes(SIZE))
    with open(run.ckpt / "index.jsonl", "ab") as index:
        index.write(b'{"key":{"entry"')
    assert cleaning.clean(run, 10**9).turns == 0
    assert not (run.ckpt / "7.bin").exists()
    assert usable(run) == [0, 1]


def test_two_runs_that_make_room_at_once(home: Home) -> None:
    """Each as `flor run` does when it starts: what one has, the other leaves alone."""
    runs = [run_with(home, 6) for _ in range(4)]
    held = sum(map(cleaning.checkpoint_bytes, runs))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cleaning.keep_within(home, held // 2), range(8)))
    cleaning.keep_within(home, held // 2)
    assert 0 < sum(map(cleaning.checkpoint_bytes, runs)) <= held // 2
    for run in runs:
        for turn in usable(run):
            assert contents(Reader(run.ckpt), turn)


def test_files_that_others_need_stay(home: Home) -> None:
    run = make_run(home)
    writer = Writer(run.ckpt, patient=True)
    frozen = os.urandom(SIZE)
    for n in range(6):
        writer.save(Key(0, n), float(n), AMBIENT, graph(*([frozen] if n else []), os.urandom(SIZE)))
    writer.close()
    cleaning.clean(run, 0)
    kept = usable(run)
    assert kept[0] == 0 and kept[-1] == 5 and 1 in kept  # turn 1 holds what all have
    for n in kept:
        assert contents(Reader(run.ckpt), n)


def test_the_share_of_the_disk_is_the_budget(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(home, 5)
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and _Usage())
    with override("DISK_SHARE", 0.5):
        assert cleaning.store_budget(home, 0) == 1_000_000
        assert cleaning.keep_within(home) == []
    with override("STORE_BUDGET_MB", 0.5):
        assert [cleaned.turns for cleaned in cleaning.keep_within(home)] == [3]
    assert len(usable(run)) == 2


class _Usage:
    free = 2_000_000


def gc(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["gc", *arguments])
    return done.exit_code, done.output


def test_the_command(home: Home) -> None:
    old, new = run_with(home, 4, name="old", started=1.0), run_with(home, 4, name="new")
    code, text = gc("--budget", "1kB", "--dry-run")
    assert code == 0 and old.id[:8] in text and new.id[:8] in text and "would free 1.7 MB" in text
    assert gc("--pin", "old") == (0, "")
    code, text = gc("old")
    assert code == 0 and "pinned" in text and "freed 0 B" in text
    assert gc("--unpin", "old") == (0, "")
    code, text = gc("new", "--older-than", "100000")
    assert code == 0 and usable(new) == [0, 1, 2, 3]
    code, text = gc("new")
    assert code == 0 and usable(new) == [] and usable(old) == [0, 1, 2, 3]
    write_json(old.path / "end.json", {**(old.end() or {}), "ended": 2.0})
    code, text = gc("--older-than", "1")
    assert code == 0 and usable(old) == []
    code, text = gc()
    assert code == 0 and "freed 0 B" in text


@pytest.mark.parametrize(
    "arguments",
    [("nobody",), ("--budget", "much"), ("--older-than", "-1"), ("--pin",), ("--budget", "1", "--older-than", "1")],
)
def test_bad_input_of_the_command(home: Home, arguments: tuple[str, ...]) -> None:
    assert gc(*arguments)[0] == 2


def test_what_is_kept_is_shown(home: Home) -> None:
    run = run_with(home, 4, name="old")
    runs = lambda: CliRunner().invoke(main, ["runs", "old"])  # noqa: E731
    assert "kept       4 turns, 835.6 kB\n" in runs().output
    cleaning.pin(run, True)
    assert "kept       4 turns, 835.6 kB, pinned\n" in runs().output
    cleaning.pin(run, False)
    cleaning.clean(run, 0)
    assert "kept       2 turns" in runs().output and "2 dropped" in runs().output


def test_checkpoints_of_an_earlier_flor_are_named_in_one_line(home: Home) -> None:
    run = run_with(home, 1, name="old")
    index = run.ckpt / "index.jsonl"
    index.write_bytes(b"".join(index.read_bytes().splitlines(keepends=True)[1:]))
    done = CliRunner().invoke(main, ["runs", "old"])
    assert done.exit_code == 0 and "checkpoints of an earlier flor (format 1" in done.output
    assert cleaning.clean(run, None).reason.endswith("record the run again")
