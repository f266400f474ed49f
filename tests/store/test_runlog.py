"""The writer of the log: growth, threads, forks, full disks, and what it costs the disk."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from flor_runtime.errors import StoreError
from flor_runtime.store import runlog
from flor_runtime.store.logformat import FIRST_SEGMENT, LAST_SEGMENT, WIDTH
from flor_runtime.store.runlog import RunLog, read

FIRST = FIRST_SEGMENT // WIDTH  # records of the first segment


def logged(folder: Path) -> list[object]:
    records = read(folder)
    assert records.notes == []
    return [value for _, _, value, _ in records.rows()]


def disk_use(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_paths_names_and_order(tmp_path):
    log = RunLog(tmp_path / "log")
    log.append(0, "lr", 0.1)
    for epoch in (1, 2):
        turn = log.context(0, "epoch", epoch)
        for step in (1, 2):
            log.append(log.context(turn, "step", step), "loss", step / 10)
        log.append(turn, "acc", epoch)
    log.close()
    epochs = [(("epoch", 1),), (("epoch", 2),)]
    expected = [((), "lr", 0.1, 0)]
    for seq, epoch in ((1, epochs[0]), (4, epochs[1])):
        expected += [((*epoch, ("step", step)), "loss", step / 10, seq + step - 1) for step in (1, 2)]
        expected.append((epoch, "acc", epoch[0][1], seq + 2))
    assert list(read(tmp_path / "log").rows()) == expected


def test_empty_log_takes_no_room_and_reads_as_empty(tmp_path):
    log = RunLog(tmp_path / "log")
    assert disk_use(tmp_path / "log") <= 4096
    assert len(read(tmp_path / "log")) == 0
    log.close()
    assert len(read(tmp_path / "log")) == 0
    assert len(read(tmp_path / "missing")) == 0


def test_small_log_reserves_little_and_gives_it_back(tmp_path):
    log = RunLog(tmp_path / "log")
    log.append(0, "x", 1.0)
    assert disk_use(tmp_path / "log") < 400_000
    log.close()
    assert disk_use(tmp_path / "log") < 40_000


def test_segments_have_real_blocks(tmp_path):
    # On a sparse file a full disk would kill the training with a SIGBUS.
    log = RunLog(tmp_path / "log")
    log.append(log.context(0, "epoch", 1), "x", 1.0)
    for path in (tmp_path / "log").glob("*.bin"):
        assert path.stat().st_blocks * 512 >= path.stat().st_size == FIRST_SEGMENT, path
    log.close()


def test_growth_over_several_segments(tmp_path):
    log = RunLog(tmp_path / "log")
    count = FIRST * 8
    for number in range(count):
        log.append(0, "x", number)
    assert len(list((tmp_path / "log").glob("records-*.bin"))) == 4
    assert logged(tmp_path / "log") == list(range(count))
    log.close()
    assert logged(tmp_path / "log") == list(range(count))


def test_contexts_grow_too(tmp_path):
    log = RunLog(tmp_path / "log")
    count = FIRST * 2
    for number in range(1, count + 1):
        last = log.context(0, "step", number)
    log.append(last, "x", 1.0)
    log.close()
    assert list(read(tmp_path / "log").rows()) == [((("step", count),), "x", 1.0, 0)]


def test_segments_stop_growing(monkeypatch, tmp_path):
    sizes = []
    monkeypatch.setattr(runlog, "_reserve", lambda handle, size: (sizes.append(size), os.ftruncate(handle, size)))
    log = RunLog(tmp_path / "log")
    log._records.take = itertools.count(FIRST_SEGMENT * 200, WIDTH).__next__
    log.append = log._make_append()
    log.append(0, "x", 1.0)
    assert sizes[0] == FIRST_SEGMENT
    assert sizes[-1] == sizes[-2] == LAST_SEGMENT
    log.close()


def test_second_log_in_a_folder_is_refused(tmp_path):
    log = RunLog(tmp_path / "log")
    with pytest.raises(StoreError, match="holds a log already"):
        RunLog(tmp_path / "log")
    log.close()
    with pytest.raises(StoreError, match="holds a log already"):
        RunLog(tmp_path / "log")


def test_closed_log_refuses_and_closing_twice_is_nothing(tmp_path):
    log = RunLog(tmp_path / "log")
    log.append(0, "x", 1.0)
    log.close()
    log.close()
    for value in (1.0, 1, "text", None, [1]):
        with pytest.raises(StoreError, match="closed"):
            log.append(0, "x", value)
    with pytest.raises(StoreError, match="closed"):
        log.context(0, "epoch", 1)
    with pytest.raises(StoreError, match="closed"):
        log.append(0, "new name", 1.0)
    assert logged(tmp_path / "log") == [1.0]


def test_sync_may_be_called_at_any_time(tmp_path):
    log = RunLog(tmp_path / "log")
    log.sync()
    log.append(log.context(0, "epoch", 1), "x", "text")
    log.sync()
    log.close()
    log.sync()


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_names_of_any_kind(tmp_path):
    log = RunLog(tmp_path / "log")
    names = ["", "a\nb", "é", "\ud800", "x" * 10_000, "../..", "a/b", "\0", "\x1b[2J", '"', "a"]
    for name in names:
        log.append(0, name, 1.0)
    log.append(0, 5, 1.0)
    log.append(0, ["list"], 1.0)
    log.append(0, Rude(), 1.0)
    log.append(0, "y" * 70_000, 1.0)
    expected = [*names, "5", "['list']", "<Rude>", "y" * 65_536]
    assert [name for _, name, _, _ in read(tmp_path / "log").rows()] == expected


@pytest.mark.parametrize("count", [70_000, pytest.param(1_000_000, marks=pytest.mark.proof)])
def test_more_names_than_two_bytes_hold(tmp_path, count):
    log = RunLog(tmp_path / "log")
    for number in range(count):
        log.append(0, f"n{number}", number)
    turn = log.context(0, "after them all", 1)
    log.append(turn, "n0", 0.5)
    log.close()
    *_, before, last = read(tmp_path / "log").rows()
    assert before == ((), f"n{count - 1}", count - 1, count - 1)
    assert last == ((("after them all", 1),), "n0", 0.5, count)


def test_repeated_texts_are_stored_once(tmp_path):
    log = RunLog(tmp_path / "log")
    for number in range(1000):
        log.append(0, "phase", ("train", "test")[number % 2])
    assert (tmp_path / "log" / "blobs.bin").stat().st_size < 50
    assert logged(tmp_path / "log") == ["train", "test"] * 500


def test_threads_do_not_mix_their_records(tmp_path):
    log = RunLog(tmp_path / "log")
    count, workers = FIRST, 4
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(worker: int) -> None:
        turn = log.context(0, "worker", worker)
        for number in range(count):
            log.append(turn, f"n{worker}", float(number))
            if number % 1000 == 0:
                log.append(turn, f"text{worker}-{number}", f"{worker}-{number}")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(1, workers + 1)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    log.close()
    rows = list(read(tmp_path / "log").rows())
    for worker in range(1, workers + 1):
        mine = [row for row in rows if row[0] == (("worker", worker),)]
        assert [row[2] for row in mine if row[1] == f"n{worker}"] == [float(number) for number in range(count)]
        texts = {row[1]: row[2] for row in mine if row[1].startswith("text")}
        assert texts == {f"text{worker}-{n}": f"{worker}-{n}" for n in range(0, count, 1000)}


def test_late_thread_writes_into_the_segment_of_its_slot(tmp_path):
    log = RunLog(tmp_path / "log")
    log.append(0, "x", 0)
    late = log._records.take()  # a thread took a slot, and was put to sleep
    for number in range(FIRST):
        log.append(0, "x", number)
    log._records.take = lambda: late
    log._make_append()(0, "x", 42)
    assert logged(tmp_path / "log") == [0, 42, *range(FIRST)]


def test_interrupted_call_leaves_a_gap_that_is_no_record(tmp_path):
    log = RunLog(tmp_path / "log")
    log.append(0, "x", 1.0)
    log._records.take()  # Ctrl-C came between taking a slot and filling it
    log.append(0, "x", 2.0)
    for _ in range(2):
        records = read(tmp_path / "log")
        assert [(value, seq) for _, _, value, seq in records.rows()] == [(1.0, 0), (2.0, 2)]
        log.close()


def in_child(work) -> int:
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a lock that nobody gives back would be waited for without end
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_forked_child_writes_nothing_into_its_parents_log(tmp_path):
    log = RunLog(tmp_path / "log")
    log.append(0, "x", 1.0)

    def child() -> None:
        for number in range(FIRST + 10):
            log.append(0, "x", -1.0)
            log.append(log.context(0, "epoch", number + 1), "x", -1)
        log.append(0, "new", "text")
        log.append(0, "new", [1, 2])
        log.append(0, "x", "text")
        log.sync()
        log.close()
        with RunLogOfItsOwn(tmp_path / "own") as own:
            own.append(0, "y", 3.0)

    assert in_child(child) == 0
    assert logged(tmp_path / "log") == [1.0]  # closing would cut off what lies after the parent's own records
    log.append(0, "x", 2.0)
    log.append(0, "other", "after")
    log.close()
    records = read(tmp_path / "log")
    assert records.notes == []
    assert [(name, value) for _, name, value, _ in records.rows()] == [("x", 1.0), ("x", 2.0), ("other", "after")]
    assert logged(tmp_path / "own") == [3.0]


class RunLogOfItsOwn:
    def __init__(self, folder: Path) -> None:
        self.log = RunLog(folder)

    def __enter__(self) -> RunLog:
        return self.log

    def __exit__(self, *error: object) -> None:
        self.log.close()


def test_fork_while_another_thread_holds_the_lock(tmp_path):
    log = RunLog(tmp_path / "log")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with log._lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert in_child(lambda: log.append(0, "new", "text")) == 0
    finally:
        done.set()
        thread.join()


LIMITED = """
    import resource, sys
    from pathlib import Path
    from flor_runtime.errors import StoreError
    from flor_runtime.store.runlog import RunLog
    log = RunLog(Path(sys.argv[1]))
    log.append(0, "x", 0)
    log.append(0, "text", "short")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    done = 0
    try:
        for done in range(1, 1_000_000):
            {call}
    except StoreError as error:
        print(done, error)
    try:
        {call}
    except StoreError as error:
        print(error)
    log.close()
"""


@pytest.mark.parametrize(
    ("call", "file"),
    [
        ('log.append(0, "x", done)', "records"),
        ('log.context(0, "step", done)', "contexts"),
        ('log.append(0, "text", "x" * 1000)', "blobs.bin"),
        ('log.append(0, f"{done:0>200}", done)', "names.jsonl"),
    ],
    ids=["records", "contexts", "blobs", "names"],
)
def test_full_disk_is_an_error_and_loses_nothing(tmp_path, call, file):
    program = textwrap.dedent(LIMITED).format(call=call)
    run = subprocess.run([sys.executable, "-c", program, tmp_path / "log"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first, again = run.stdout.splitlines()
    assert f"{file}: can't be written: File too large" in first
    assert again in first  # it says the same at once, without trying
    count = int(first.split()[0])
    records = read(tmp_path / "log")
    values = [value for _, _, value, _ in records.rows()]
    assert values[:2] == [0, "short"]
    if file == "contexts":
        assert len(records.parent) == count
    elif file == "blobs.bin":
        assert values[2:] == ["x" * 1000] * (count - 1)
    else:
        assert values[2:] == list(range(1, count))


def test_full_disk_at_the_first_record_leaves_no_file(tmp_path, monkeypatch):
    def full(handle: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    log = RunLog(tmp_path / "log")
    with pytest.raises(StoreError, match="No space left on device"):
        log.append(0, "x", 1.0)
    assert not list((tmp_path / "log").glob("records*"))
    assert logged(tmp_path / "log") == []
    log.close()


def test_file_system_that_can_not_reserve_gets_zeros_written(tmp_path, monkeypatch):
    def unable(handle: int, offset: int, size: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unable)
    log = RunLog(tmp_path / "log")
    log.append(0, "x", 1.0)
    (path,) = (tmp_path / "log").glob("records*")
    assert path.stat().st_blocks * 512 >= FIRST_SEGMENT
    log.close()
    assert logged(tmp_path / "log") == [1.0]
