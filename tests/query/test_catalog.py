"""The index gives what the runs' own files give, or is not used."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import flor_runtime.query as query
from flor_runtime.cli import main
from flor_runtime.query import catalog, sql
from flor_runtime.query.packed import pack, unpack
from flor_runtime.store import index
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.values import encode
from tests.stores import STARTED, add_replay, make_run, training


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(index, "_SETTLED", -1)  # runs are listed in the moment in which they end
    home = Home(tmp_path / "home")
    make_run(home, training(), name="first", argv=["--lr", "0.1"])

    def odd(log: RunLog) -> None:
        turn = log.context(0, "epoch", 1)
        for value in (1, "text", None, True, [1, {"a": np.zeros(2)}], {"x": 1.5}, float("nan"), 2**70, "\ud800"):
            log.append(turn, "odd\ud800", value)

    run = make_run(home, odd, end="failed")
    captured = RunLog(run.captured)
    captured.append(0, "depth", 3)
    captured.append(0, "names", ["a", "b"])
    captured.append(captured.context(0, "epoch", 1), "loss", 0.5)
    captured.close()
    add_replay(run, "r1", ["norm"], lambda log: log.append(log.context(0, "epoch", 1), "norm", 0.25))
    make_run(home, None)
    make_run(home, training(1, 1), end=None, pid=2**22 + 1)  # killed
    make_run(home, training(1, 1), end=None)  # alive
    return home


def everything(home: Home) -> tuple[Any, ...]:
    """What the commands and functions over runs have to go on."""
    fresh = Home(home.root)
    listed = catalog.chosen("all", fresh)
    known = [{k: v for k, v in found.items() if k != "seconds"} for found in catalog.overviews(listed, fresh)]
    records = query.log_records("all", provenance=True, home=fresh)
    some = query.dataframe("loss", runs="all", home=fresh)
    return known, records.map(repr).to_dict("list"), some.map(repr).to_dict("list"), fresh.notes


def index_file(home: Home) -> Path:
    return home.root / "main.db"


def emptied(home: Home) -> None:
    index.discard(home)


def test_it_gives_what_the_files_give(home: Home) -> None:
    first = everything(home)
    assert index_file(home).exists()
    assert everything(home) == first
    emptied(home)
    assert everything(home) == first
    with sqlite3.connect(index_file(home)) as db:
        assert db.execute("SELECT count(*) FROM cache").fetchone() == (3,)  # of those that have ended


def test_it_is_really_used(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = everything(home)
    ended = [run for run in home.all_runs() if run.end() is not None]
    monkeypatch.setattr(catalog, "overview", None)
    monkeypatch.setattr(catalog, "part_of", None)
    with pytest.raises(TypeError):
        everything(home)
    for run in set(home.all_runs()):
        if run.id not in {each.id for each in ended}:
            shutil.rmtree(run.path)
    assert len(everything(home)[0]) == len(first[0]) - 2


def test_its_tables(home: Home) -> None:
    catalog.overviews(catalog.chosen("all", home), home)
    with sqlite3.connect(index_file(home)) as db:
        runs = db.execute("SELECT name, status, argv, records, started FROM runs ORDER BY started").fetchall()
        assert runs[0] == ("first", "finished", '["--lr", "0.1"]', 10, STARTED)
        assert runs[1][1] == "failed"
        assert db.execute("SELECT name, value FROM parameters").fetchall() == [("depth", 3), ("names", '["a", "b"]')]
        names = {row[0]: row[1:] for row in db.execute("SELECT name, records, recovered, last, min, max FROM names")}
        assert names["acc"] == (2, None, 0.2, 0.1, 0.2)
        assert names["odd?"] == (9, None, "?", 1.0, 1.0)
        assert names["norm"] == (1, "exact", 0.25, 0.25, 0.25)
        assert names["loss"][1] is None


def test_what_is_called_recovered_has_values_and_their_label(home: Home) -> None:
    """Not that of an older replay that counts no more, and no name that a replay was asked for in vain."""
    run = home.find("first")
    add_replay(
        run, "r2", ["norm", "never"], lambda log: log.append(0, "norm", 7.0), label="verified", ended=STARTED + 9
    )
    assert everything(home)[0][0]["recovered"] == {"norm": "verified"}
    add_replay(run, "r3", ["norm"], lambda log: log.append(0, "norm", 8.0), label="inexact", ended=STARTED + 10)
    assert everything(home)[0][0]["recovered"] == {"norm": "verified"}


def test_what_has_changed_is_read_again(home: Home) -> None:
    everything(home)
    run = home.find("first")
    add_replay(run, "r2", ["norm"], lambda log: log.append(0, "norm", 7.0))
    known, records, _, _ = everything(home)
    assert known[0]["recovered"] == {"norm": "exact"}
    assert "7.0" in records["value"]
    (run.ckpt).mkdir(exist_ok=True)
    (run.ckpt / "x.bin").write_bytes(b"x" * 100_000)
    assert everything(home)[0][0]["bytes"] > known[0]["bytes"]
    shutil.rmtree(run.path)
    assert len(everything(home)[0]) == len(known) - 1
    with sqlite3.connect(index_file(home)) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (2,)


def test_a_value_that_was_changed_in_place_is_read_again(home: Home) -> None:
    everything(home)
    segment = home.find("first").log / "records-0.bin"
    data = bytearray(segment.read_bytes())
    data[9] ^= 1
    segment.write_bytes(data)
    assert any("damaged" in note for found in everything(home)[0] for note in found["said"])


def test_in_another_time_zone_all_is_read_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    query.full_pivot(runs="all", home=home)
    sql.query("SELECT * FROM pivot", home=home)
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        began = datetime.fromtimestamp(STARTED)
        assert query.full_pivot(runs="all", home=home)["tstamp"].min() == began
        assert sql.query("SELECT min(tstamp) AS t FROM pivot", home=home)["t"][0] == began.isoformat(
            " ", "microseconds"
        )
        assert findings(home) == []
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_that_has_just_ended_is_not_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED", 3600)
    everything(home)
    with sqlite3.connect(index_file(home)) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def garbage(home: Home) -> str:
    index_file(home).write_bytes(b"SQLite format 3\0" + random.Random(0).randbytes(5000))
    return "damaged"


def foreign(home: Home) -> str:
    with sqlite3.connect(index_file(home)) as db:
        db.execute("CREATE TABLE runs (a)")
    return "not made by flor"


def newer(home: Home) -> str:
    catalog.rebuild(home)
    with sqlite3.connect(index_file(home)) as db:
        db.execute("UPDATE flor_index SET version = 99")
    return "newer flor"


def folder(home: Home) -> str:
    index_file(home).mkdir()
    return "no plain file"


@pytest.mark.parametrize("spoil", [garbage, foreign, newer, folder], ids=lambda spoil: spoil.__name__)
def test_one_that_cannot_be_used(home: Home, spoil: Any) -> None:
    expected = everything(home)
    emptied(home)
    word = spoil(home)
    *found, notes = everything(home)
    assert found == list(expected[:3])
    assert len(notes) == 1
    assert word in notes[0]
    if spoil is not folder:
        catalog.rebuild(home)
        assert everything(home) == expected


def test_one_that_is_locked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_WAIT", 0.01)
    expected = everything(home)
    make_run(home, training())
    other = sqlite3.connect(index_file(home), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        known, *_, notes = everything(home)  # read, and not kept this time
        assert len(known) == len(expected[0]) + 1
        assert notes == []
    finally:
        other.close()
    emptied(home)
    other = sqlite3.connect(index_file(home), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "in use by another program" in everything(home)[3][0]
    finally:
        other.close()


def test_one_that_another_program_shares(home: Home) -> None:
    with sqlite3.connect(index_file(home)) as db:
        db.execute("CREATE TABLE jobs (a)")
        db.execute("INSERT INTO jobs VALUES (1)")
    assert everything(home)[3] == []
    with sqlite3.connect(index_file(home)) as db:
        db.execute("UPDATE flor_index SET version = 0")  # an older one
    expected = everything(home)
    assert expected[3] == []
    with sqlite3.connect(index_file(home)) as db:
        assert db.execute("SELECT a FROM jobs").fetchall() == [(1,)]
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (3,)


@pytest.mark.parametrize("count", [8, pytest.param(400, marks=pytest.mark.proof)])
def test_a_flipped_bit_changes_nothing_that_is_shown(home: Home, count: int) -> None:
    expected = everything(home)[:3]
    with sqlite3.connect(index_file(home)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = index_file(home).read_bytes()
    draw = random.Random(1)
    for _ in range(count):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        emptied(home)
        index_file(home).write_bytes(data)
        assert everything(home)[:3] == expected


def test_packed_records_that_do_not_fit_together(home: Home) -> None:
    run = home.find("first")
    part = catalog.part_of(run, run.manifest(), catalog.logs_of(run, run.manifest()), None)
    for name in ("place", "name", "source", "kind"):
        whole = unpack(pack(part))
        column = getattr(whole.runs[0], name).copy()
        column[-1] = 77 if name != "kind" else 6
        setattr(whole.runs[0], name, column)
        if name == "kind":
            whole.runs[0].raw = whole.runs[0].raw + np.uint64(1 << 60)
        with pytest.raises(ValueError, match="fit together"):
            unpack(pack(whole))
    for data in (b"", encode([]), encode({}), encode({"projid": 1})):
        with pytest.raises(ValueError, match="no"):
            unpack(data)


def test_several_readers_at_once(home: Home) -> None:
    code = "import sys; from flor_runtime.cli import main; main(['runs', '--all'])"
    environment = {**os.environ, "FLOR_HOME": str(home.root)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 4, outputs
    assert len({tuple(line[:60] for line in out.splitlines()) for out, _ in outputs}) == 1


def findings(home: Home, *arguments: str) -> list[str]:
    done = CliRunner().invoke(main, ["doctor", *arguments], env={"FLOR_HOME": str(home.root)})
    return [line for line in done.output.splitlines() if "main.db" in line]


def test_the_doctor_looks_at_it(home: Home) -> None:
    everything(home)
    assert findings(home) == []
    with sqlite3.connect(index_file(home)) as db:
        db.execute("UPDATE names SET max = 0.75 WHERE name = 'acc'")
    assert "is not what was written" in findings(home)[0]
    assert findings(home, "--rebuild") == ["flor: the index (main.db) was made anew: 3 ended runs"]
    assert findings(home) == []
    index_file(home).write_bytes(b"nonsense" * 1000)
    assert "damaged" in findings(home)[0]
    assert index_file(home).read_bytes() == b"nonsense" * 1000


def test_the_doctor_behind_a_query(home: Home) -> None:
    sql.query("SELECT * FROM pivot", home=home)
    done = CliRunner().invoke(main, ["doctor"], env={"FLOR_HOME": str(home.root)})
    assert (done.exit_code, "all is as it was written" in done.output) == (0, True)


def test_rebuilding(home: Home) -> None:
    assert catalog.rebuild(home) == 3
    assert catalog.rebuild(Home(home.root)) == 3
    assert len(everything(home)[0]) == 5


def test_the_statement_of_the_document(home: Home) -> None:
    everything(home)
    text = (Path(__file__).parent.parent.parent / "docs" / "reference" / "schema.md").read_text()
    statement = next(line for line in text.splitlines() if line.startswith("SELECT runs.name"))
    with sqlite3.connect(index_file(home)) as db:
        assert db.execute(statement).fetchall() == [("first", 0.2)]


def test_of_many_runs_the_newest_are_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        make_run(home, lambda log, number=number: log.append(0, "x", number))
    everything(home)
    read: list[str] = []
    real = catalog.part_of
    monkeypatch.setattr(catalog, "part_of", lambda folder, *rest: (read.append(folder.id), real(folder, *rest))[1])

    def asked(*names: str, most: int = 2) -> list[str]:
        fresh = Home(home.root)
        return [folder.id for folder in catalog.newest(catalog.chosen("all", fresh), names, most, fresh)]

    runs = [run.id for run in home.all_runs()]
    assert asked() == runs[-2:]
    assert asked("loss", most=1) == [runs[4]]
    assert asked("odd\ud800/x", "norm", "nothing") == [runs[1]]  # a part of a dictionary; what a replay recovered
    assert asked("depth") == [runs[1]]  # a parameter
    assert asked("nothing") == []
    assert read == []
