"""Where things lie, and manifests that are torn, foreign, too new, or of processes that are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.errors import StoreError
from flor_runtime.store.layout import FORMAT, Home, RunFolder, process_mark, read_json, write_json
from tests.stores import add_replay, make_run, training


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_home_is_flor_home_or_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "elsewhere"))
    assert Home().root == tmp_path / "elsewhere"
    monkeypatch.delenv("FLOR_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home().root == tmp_path / ".flor"
    assert not Home().root.exists()


def test_run_ids_are_hexadecimal_and_fresh(home):
    ids = {home.new_run_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(run) == 32 and int(run, 16) >= 0 for run in ids)


def test_manifest_comes_back(home):
    run = make_run(home, name="first", argv=["--lr", "0.1"])
    manifest = run.manifest()
    assert (manifest["run"], manifest["name"], manifest["argv"]) == (run.id, "first", ["--lr", "0.1"])
    assert manifest["format"] == FORMAT
    assert manifest["pid"] == os.getpid()


def test_runs_are_listed_oldest_first(home):
    late = make_run(home, started=300.0)
    early = make_run(home, started=100.0)
    middle = make_run(home, started=200.0)
    assert [run.id for run in home.all_runs()] == [early.id, middle.id, late.id]


def test_empty_and_missing_home_have_no_runs(home):
    assert home.all_runs() == []
    home.root.mkdir()
    assert home.all_runs() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\x00\xff\xfe",
        b"[]",
        b"null",
        b'"x"',
        b"[" * 100_000,
        b"{}",
        b'{"format": true}',
        b'{"format": "1"}',
    ],
    ids=["empty", "torn", "garbage", "list", "null", "text", "deep", "no format", "boolean format", "text format"],
)
def test_bad_manifest_is_left_out_with_a_note(home, text):
    good, bad = make_run(home), make_run(home)
    (bad.path / "run.json").write_bytes(text)
    assert [run.id for run in home.all_runs()] == [good.id]
    assert [note for note in home.notes if bad.id in note and "\n" not in note]


@pytest.mark.parametrize(
    "change",
    [{"started": "now"}, {"started": None}, {"pid": "1"}, {"argv": "x"}, {"run": "f" * 32}, {"pid": True}],
    ids=str,
)
def test_manifest_of_wrong_types_is_left_out(home, change):
    run = make_run(home)
    write_json(run.path / "run.json", {**run.manifest(), **change})
    assert home.all_runs() == []
    assert len(home.notes) == 1


def test_foreign_folders_and_files_are_left_out(home):
    run = make_run(home)
    (home.runs / "notes").mkdir()
    (home.runs / "readme.txt").write_text("hello")
    (home.runs / ("0" * 32)).mkdir()  # a run that was killed before its manifest was there
    assert [found.id for found in home.all_runs()] == [run.id]
    assert len(home.notes) == 1


def test_newer_format_is_refused_in_one_line(home):
    run = make_run(home)
    write_json(run.path / "run.json", {**run.manifest(), "format": FORMAT + 1})
    with pytest.raises(StoreError, match=r"written by a newer flor .*upgrade flor") as error:
        home.all_runs()
    assert "\n" not in str(error.value)


def test_find_by_name_id_and_beginning(home):
    first, second = make_run(home, name="base"), make_run(home, name="base")
    other = make_run(home, name="other")
    assert home.find("base").id == second.id
    assert home.find("other").id == other.id
    assert home.find(first.id).id == first.id
    assert home.find(first.id[:10]).id == first.id
    for text in ("nothing", first.id[:3], ""):
        with pytest.raises(StoreError, match="no run"):
            home.find(text)


def test_find_refuses_an_ambiguous_beginning(home):
    for end in "01":
        run = home.create_run("abcd" + end * 28)
        run.begin({"started": 1.0})
    with pytest.raises(StoreError, match="beginning of 2 runs"):
        home.find("abcd")


def test_run_id_can_not_lead_out_of_the_store(home):
    make_run(home)
    for text in ("../..", "/etc", ".", "a" * 31):
        with pytest.raises(StoreError):
            home.run(text)


def test_write_json_replaces_whole_files_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with open(path) as reading:
        write_json(path, {"a": 0})
        assert json.load(reading)["a"] == 1  # what is open stays whole
    write_json(path, {"a": 1})

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match="No space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]


def test_write_json_to_a_place_that_can_not_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        write_json(tmp_path / "file" / "run.json", {})


class TestStatus:
    def test_alive_while_the_process_is(self, home):
        assert make_run(home, end=None).status() == "alive"

    @pytest.mark.parametrize("status", ["finished", "failed", "interrupted"])
    def test_as_it_ended(self, home, status):
        assert make_run(home, end=status).status() == status

    def test_killed_also_while_nobody_has_waited_for_the_process(self, home):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        run = make_run(home, end=None, pid=process.pid)
        assert run.status() == "alive"
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert run.status() == "killed"
        process.wait()
        assert run.status() == "killed"

    def test_killed_when_another_process_has_the_number(self, home):
        run = make_run(home, end=None, process="another boot:1")
        assert run.status() == "killed"

    def test_killed_when_the_process_began_later_and_has_no_mark(self, home):
        assert make_run(home, end=None, process=None, started=1000.0).status() == "killed"

    def test_torn_end_counts_as_none(self, home):
        run = make_run(home)
        (run.path / "end.json").write_text('{"format": 1, "sta')
        assert run.status() == "alive"
        assert run.notes
        (run.path / "end.json").write_text('{"format": 1, "status": "splendid"}')
        assert run.status() == "alive"

    def test_mark_of_a_process_stays_and_differs(self):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try:
            assert process_mark(process.pid) == process_mark(process.pid)
            assert process_mark(process.pid) != process_mark(os.getpid())
        finally:
            process.kill()
            process.wait()
        assert process_mark(process.pid) is None
        assert process_mark(0) is None


def test_replays_exist_when_their_manifest_does(home):
    run = make_run(home, training())
    add_replay(run, "b", ["x"], training(), ended=20.0)
    add_replay(run, "a", ["x"], training(), ended=30.0)
    add_replay(run, "c", ["x"], training(), finished=False)
    torn = add_replay(run, "d", ["x"], training())
    (torn / "replay.json").write_text("{")
    assert [replay.path.name for replay in run.replays()] == ["b", "a"]
    assert len(run.notes) == 1


def test_parts_of_a_replay_stay_in_its_folder(home):
    run = make_run(home)
    folder = add_replay(run, "a", ["x"], training())
    manifest = json.loads((folder / "replay.json").read_text())
    manifest["parts"] = ["log-0", "../../log", "/etc", "..", 3, "a/../..", "worker/log"]
    write_json(folder / "replay.json", manifest)
    assert run.replays()[0].parts == [folder / "log-0", folder / "worker" / "log"]


def test_size_counts_what_lies_on_the_disk(home):
    run = make_run(home)
    before = run.size()
    (run.path / "ckpt").mkdir()
    (run.path / "ckpt" / "data").write_bytes(bytes(1_000_000))
    assert before + 900_000 < run.size() < before + 1_200_000


def test_a_file_where_the_home_should_be_is_one_error(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match="can't be made"):
        Home(tmp_path / "home").create_run()


def test_importing_the_store_loads_the_standard_library_only():
    code = (
        "import sys; import flor_runtime.store.runlog, flor_runtime.store.layout\n"
        "print([m for m in ('numpy', 'pandas', 'torch', 'git', 'libcst', 'click', 'rich') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_run_folder_shows_its_path(tmp_path):
    assert str(tmp_path) in repr(RunFolder(tmp_path))
