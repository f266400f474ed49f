"""SQL over the views: what it shows is what the runs' files say, and it can change nothing."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import flor_runtime.query as query
from flor_runtime.cli import main
from flor_runtime.errors import FlorError
from flor_runtime.query import sql, views
from flor_runtime.store import index, schema
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog
from tests.stores import STARTED, add_replay, make_run, training

NAMES = (
    "loss",
    'a"b',
    "it's",
    "x;--",
    "Loss",
    "naïve ✓",
    "tab\there",
    "nul\0",
    "\ud800",
    "",
    "select",
    "epoch",
    "a]b`c",
)
VALUES = (
    0.1, -0.0, 5e-324, math.inf, -math.inf, math.nan, 1, -(2**63), 2**63 - 1, 2**63, 10**50, True, False, None,
    "text", "", "nul\0in", "\ud800", "' OR 1=1 --", b"\0\xff", [1, [2]], {"a": 1.5, "b": {"c": None}}, 1 + 2j,
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(index, "_SETTLED", -1)  # runs are asked for in the moment in which they end
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    make_run(home, training(), name="first")

    def odd(log: RunLog) -> None:
        for number, value in enumerate(VALUES, 1):
            turn = log.context(log.context(0, "fold", 2), "epoch", number)
            log.append(turn, NAMES[number % len(NAMES)], value)
            log.append(turn, "value", value)

    run = make_run(home, odd, end="failed")
    add_replay(run, "r1", ["norm"], lambda log: log.append(log.context(0, "epoch", 1), "norm", 0.25))
    make_run(home, None)
    make_run(home, training(1, 1), end=None, pid=2**22 + 1, name="killed")
    make_run(home, training(1, 1), end=None, name="alive")
    return home


def expected(value: Any) -> Any:
    """A value as SQL has it."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and abs(value) >= 2**63 and value != -(2**63):
        return str(value)
    return {"[1, [2]]": "[1, [2]]", str(VALUES[-2]): '{"a": 1.5, "b": {"c": null}}', "(1+2j)": "(1+2j)"}.get(
        str(value), value
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    return a == int(b) if isinstance(b, bool) else type(a) is type(b) and a == b


def test_the_logs_are_the_records(home: Home) -> None:
    records = query.log_records("all", provenance=True, home=home)
    rows = sql.ask("SELECT runid, epoch, name, value, label, source FROM logs ORDER BY tstamp", home=home).rows
    assert len(rows) == len(records)
    for row, record in zip(rows, records.itertuples(), strict=True):
        assert row[0] == record.runid
        assert row[1] == (None if record.epoch is pd.NA else record.epoch)
        assert row[2] == expected(record.name)
        assert same(row[3], expected(record.value)), (row, record)
        assert row[4] == record.label
        assert row[5] == record.source


def test_the_pivot_is_the_pivot(home: Home) -> None:
    frame = query.full_pivot(runs="all", home=home)
    answer = sql.ask("SELECT * FROM pivot ORDER BY tstamp, fold, epoch, step", home=home)
    found = {title: [row[n] for row in answer.rows] for n, title in enumerate(answer.columns)}
    assert len(answer.rows) == len(frame)
    titles = [title for title in answer.columns if title not in ("run", "tstamp") and not title.endswith(" label")]
    assert len(titles) == len(frame.columns) - 1
    assert found["norm label"].count("exact") == 1
    for title in ("runid", "vid", "loss", "acc", "lr", "value", "norm"):
        for one, other in zip(found[title], frame[title].tolist(), strict=True):
            other = None if other is None or other != other else other
            assert one == expected(other) or other is None, title


def test_names_that_sql_takes_for_one(home: Home) -> None:
    columns = sql.ask("SELECT * FROM pivot", home=home).columns
    assert {"loss", "Loss_logged", "epoch_logged", 'a"b', "nul?"} <= set(columns)
    with sqlite3.connect(home.root / "main.db") as db:
        assert [row[1] for row in db.execute("PRAGMA table_info(pivot)")] == columns


def test_new_records_and_runs(home: Home) -> None:
    count = "SELECT count(*) AS n FROM logs"
    before = query.query(count, home=home)["n"][0]
    run = make_run(home, training(1, 1), name="more")
    assert query.query(count, home=home)["n"][0] == before + 4
    add_replay(run, "r1", ["grad"], lambda log: log.append(0, "grad", 2.0), ended=STARTED + 1)
    assert query.query(count, home=home)["n"][0] == before + 5
    assert query.query("SELECT grad FROM pivot WHERE runid = 'more'", home=home)["grad"].tolist() == [2.0]
    shutil.rmtree(run.path)
    assert query.query(count, home=home)["n"][0] == before
    with sqlite3.connect(home.root / "main.db") as db:
        assert db.execute("SELECT count(*) FROM log_rows").fetchone() == (before,)


def test_a_run_in_progress(home: Home) -> None:
    run = home.create_run()
    run.begin({"projid": "digits", "project": "/p", "script": "train.py", "name": "now", "argv": []})
    log = RunLog(run.log)
    try:
        for count in (1, 2, 3):
            log.append(0, "loss", count / 2)
            asked = "SELECT loss FROM pivot WHERE runid = 'now'"
            assert sql.ask(asked, home=home).rows == [(count / 2,)]
            assert len(sql.ask("SELECT value FROM logs WHERE runid = 'now'", home=home).rows) == count
    finally:
        log.close()
    assert sql.ask("SELECT status FROM runs WHERE runid = 'now'", home=home).rows == [("alive",)]
    run.finish("finished")
    assert sql.ask("SELECT status FROM runs WHERE runid = 'now'", home=home).rows == [("finished",)]


def test_rows_that_are_there_are_not_made_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    put = views._put_logs
    monkeypatch.setattr(views, "_put_logs", lambda db, run, *rest: (made.append(run), put(db, run, *rest))[1])
    for count in (5, 1, 1):  # of the run in progress
        sql.ask("SELECT * FROM logs", home=home)
        assert len(made) == count
        made.clear()


@pytest.mark.parametrize("spoil", ["foreign", "folder", "damaged"])
def test_an_index_that_cannot_be_used(home: Home, spoil: str) -> None:
    whole = sql.ask("SELECT runid, name, value FROM logs ORDER BY tstamp", home=home).rows
    index.discard(home)
    path = home.root / "main.db"
    if spoil == "folder":
        path.mkdir()
    elif spoil == "damaged":
        path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    else:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE runs (a)")
    answer = sql.ask("SELECT runid, name, value FROM logs ORDER BY tstamp", home=home)
    assert answer.rows == whole
    assert len(answer.notes) == 1


def test_views_of_another(home: Home) -> None:
    """A view or trigger that flor did not make is not used."""
    whole = sql.ask("SELECT count(*) FROM pivot", home=home).rows
    for statement in (
        "DROP VIEW pivot; CREATE VIEW pivot AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON log_rows BEGIN DELETE FROM runs; END",
    ):
        sql.update(home)
        with sqlite3.connect(home.root / "main.db") as db:
            db.executescript(statement)
        answer = sql.ask("SELECT count(*) FROM pivot", home=home)
        assert answer.rows == whole
        assert "not made by flor" in answer.notes[0]
        index.discard(home)


HOSTILE = [
    "ATTACH DATABASE '{folder}/x.db' AS x", "ATTACH '{main}' AS y", "DETACH main", "VACUUM", "VACUUM INTO '{folder}/x.db'",
    "PRAGMA writable_schema = 1", "PRAGMA journal_mode = DELETE", "PRAGMA user_version = 9", "PRAGMA table_info(runs)",
    "SELECT * FROM pragma_table_info('runs')", "PRAGMA temp_store_directory = '{folder}'", "PRAGMA query_only = 0",
    "SELECT load_extension('{folder}/x.so')", "SELECT LOAD_EXTENSION('x', 'y')", "SELECT fts3_tokenizer('simple')",
    "SELECT writefile('{folder}/x', 'y')", "SELECT readfile('/etc/passwd')", "SELECT edit('x')",
    "UPDATE runs SET name = 'x'", "DELETE FROM runs", "INSERT INTO runs (run) VALUES ('x')", "REPLACE INTO runs (run) VALUES ('x')",
    "DROP TABLE runs", "DROP VIEW logs", "ALTER TABLE runs RENAME TO x", "CREATE TABLE x (a)", "CREATE TEMP TABLE x (a)",
    "CREATE TEMP VIEW runs AS SELECT 1", "CREATE INDEX x ON runs (name)", "CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE x USING fts5(a)", "UPDATE sqlite_master SET sql = ''", "INSERT INTO sqlite_master VALUES (1, 2, 3, 4, 5)",
    "BEGIN", "BEGIN EXCLUSIVE", "COMMIT", "ROLLBACK", "SAVEPOINT x", "REINDEX", "ANALYZE",
    "SELECT 1; DELETE FROM runs", "WITH x AS (SELECT 1) DELETE FROM runs", "DELETE FROM runs RETURNING *",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c",
    "SELECT count(*) FROM logs a, logs b, logs c, logs d, logs e, logs f, logs g, logs h, logs i, logs j",
    "SELECT randomblob(3999999) FROM logs a, logs b, logs c", "SELECT zeroblob(2000000000)", "SELECT printf('%.*c', 999999999, 'x')",
    "SELECT group_concat(randomblob(1000000)) FROM logs a, logs b", "SELECT replace(hex(zeroblob(1000000)), '00', hex(zeroblob(1000)))",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "1," * 2500 + "1", "SELECT " + "1+" * 9000 + "1", "SELECT '" + "x" * 30_000 + "'",
    "", ";", "--", "SELECT", "not sql", "SELECT * FROM", "SELECT * FROM nothing", "SELECT nothing FROM runs", "SELECT \0", "EXPLAIN", "\ud800",
    "SELECT ? FROM runs", "SELECT :x FROM runs", "SELECT * FROM runs WHERE name MATCH 'x'", "SELECT abs(-9223372036854775808)",
]  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(index, "_SETTLED", -1)
    home = Home(tmp_path / "home")
    make_run(home, training(), name="first")
    sql.update(home)
    return home


def contents(home: Home) -> dict[str, bytes]:
    """What is in the folder of the store and beside it, less what SQLite shares between processes."""
    found = {str(path): path.read_bytes() for path in home.root.parent.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if "main.db" not in name}


def test_no_statement_changes_anything(small: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each; and what was there before is there after."""
    monkeypatch.setattr(sql, "_MEMORY", 200 << 20)
    before, dump = contents(small), sorted(dumped(small))
    assert len(HOSTILE) > 60
    for text in HOSTILE:
        text = text.format(folder=small.root.parent, main=small.root / "main.db") if "{" in text else text
        with pytest.raises(FlorError) as caught:
            sql.ask(text, seconds=0.2, rows=10_000, home=small)
        assert len(str(caught.value).splitlines()) == 1, text
        assert len(str(caught.value)) < 300, text
    assert contents(small) == before
    assert sorted(dumped(small)) == dump


def dumped(home: Home) -> list[str]:
    with sqlite3.connect(home.root / "main.db") as db:
        return list(db.iterdump())


def test_ctrl_c(small: Home) -> None:
    code = (
        "import sys; from flor_runtime.query import sql; print('begun', flush=True)\n"
        "try: sql.ask('WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c')\n"
        "except KeyboardInterrupt: sys.exit(7)"
    )
    environment = {**os.environ, "FLOR_HOME": str(small.root)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 7
    process.stdout.close()


def test_parameters_are_bound(small: Home) -> None:
    hostile = "first' OR 1=1; DROP TABLE runs; --"
    assert sql.ask("SELECT * FROM runs WHERE name = ?", [hostile], home=small).rows == []
    assert len(sql.ask("SELECT * FROM runs WHERE name = :name", {"name": "first"}, home=small).rows) == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("SELECT * FROM log", "no such table: log: did you mean logs?"),
        ("SELECT valeu FROM logs", "did you mean value"),
        ("SELECT qqqqq FROM logs", "there are run, runid"),
        ("UPDATE runs SET name = 1", "only reading is allowed"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT value FROM logs a", "more than 3 rows: add LIMIT"),
    ],
)
def test_what_is_said(small: Home, text: str, part: str) -> None:
    with pytest.raises(FlorError) as caught:
        sql.ask(text, rows=3, home=small)
    assert part in str(caught.value)


def test_two_at_once(home: Home) -> None:
    answers: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(sql.ask("SELECT count(*) FROM logs, pivot", home=Home(home.root)).rows)
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3
    assert answers[0] == answers[1] == answers[2]


def test_types_of_the_frame(home: Home) -> None:
    frame = query.query(
        "SELECT epoch, step, value, name, 1 AS one, 1.5 AS half, NULL AS gone FROM logs WHERE runid = 'first'",
        home=home,
    )
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "Int64", "float64", "object", "int64", "float64", "object"]
    assert list(query.query("SELECT * FROM logs WHERE 0", home=home).columns[:3]) == ["run", "projid", "runid"]


class TestCommand:
    def flor(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, ["sql", *arguments])

    def test_table_csv_json(self, home: Home) -> None:
        text = "SELECT runid, acc FROM pivot WHERE runid = 'first' AND epoch = 2 AND step = 1"
        assert self.flor(text).output.split() == ["runid", "acc", "first", "0.2"]
        assert self.flor(text, "--format", "csv").output == "runid,acc\nfirst,0.2\n"
        assert self.flor(text, "--format", "json").output == '[\n{"runid": "first", "acc": 0.2}\n]\n'

    def test_the_views(self, home: Home) -> None:
        assert "logs        run, projid, runid" in self.flor().output

    def test_the_path(self, home: Home) -> None:
        path = self.flor("--path").output.strip()
        assert path == str(home.root / "main.db")
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT count(*) FROM logs").fetchone()[0] > 10
            assert db.execute("SELECT count(*) FROM pivot").fetchone()[0] > 10

    def test_what_goes_wrong(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        done = self.flor("DROP TABLE runs")
        assert (done.exit_code, done.output) == (2, "flor: only reading is allowed: a SELECT over runs, logs, pivot\n")
        monkeypatch.setenv("FLOR_HOME", str(home.root / "nowhere"))
        done = self.flor("SELECT 1")
        assert done.exit_code == 2
        assert "no runs in" in done.output


def test_arrays_and_pictures_are_described(tmp_path: Path) -> None:
    from PIL import Image

    home = Home(tmp_path)

    def logging(log: RunLog) -> None:
        for value in (
            np.zeros((2, 3), "f4"),
            Image.new("RGB", (4, 3)),
            pd.DataFrame({"a": [1, 2]}),
            object,
            "x" * 5_000_000,
        ):
            log.append(0, "v", value)

    make_run(home, logging)
    rows = sql.ask("SELECT kind, value FROM logs", home=home).rows
    assert rows[:3] == [("array", "array 2×3 float32"), ("image", "image 4×3"), ("table", "table 2×1")]
    assert rows[3][0] == "other"
    assert len(rows[4][1]) == 1_000_000


def test_the_doctor_looks_at_the_rows(home: Home) -> None:
    sql.update(home)

    def findings() -> list[str]:
        done = CliRunner().invoke(main, ["doctor"])
        return [line for line in done.output.splitlines() if "main.db" in line]

    assert findings() == []
    for view, table, column in (("logs", "log_rows", "value"), ("pivot", "pivot_rows", "c1")):
        with sqlite3.connect(home.root / "main.db") as db:
            db.execute(
                f"UPDATE {table} SET {column} = 0.123 WHERE id = (SELECT first FROM spans WHERE view = ?)", [view]
            )
        assert "is not what its files say" in findings()[0]
        CliRunner().invoke(main, ["doctor", "--rebuild"])
        assert findings() == []
        sql.update(home)
    assert len(list(Path(home.root).iterdir())) < 5


def test_a_store_of_a_newer_format(home: Home) -> None:
    run = make_run(home, training(1, 1), format=99)
    for ask in (lambda: query.dataframe("loss", home=home), lambda: query.query("SELECT * FROM logs", home=home)):
        with pytest.raises(FlorError) as caught:
            ask()
        assert "written by a newer flor (format 99" in str(caught.value)
        assert "upgrade flor" in str(caught.value)
    done = CliRunner().invoke(main, ["sql", "SELECT 1"])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    shutil.rmtree(run.path)
    assert len(query.query("SELECT * FROM runs", home=home)) == 5


def test_more_names_than_a_view_has_columns(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MOST_COLUMNS", 30)
    make_run(home, lambda log: [log.append(0, f"n{number}", number) for number in range(50)] and None)
    answer = sql.ask("SELECT * FROM pivot", home=home)
    assert len(answer.columns) == 37
    assert answer.notes == ["the view pivot has 30 columns: further names stand in logs only"]
    assert sql.ask("SELECT value FROM logs WHERE name = 'n49'", home=home).rows == [(49,)]
