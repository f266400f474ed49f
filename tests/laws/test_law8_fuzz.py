"""Law 8: whatever stands in the files of a store, readers give values or errors of ours, soon, and run nothing."""

from __future__ import annotations

import datetime
import enum
import json
import math
import pickle
import resource
import shutil
import signal
import threading
import zlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flor_runtime.cli import main
from flor_runtime.errors import FlorError, RestoreError
from flor_runtime.inputs import read_inputs
from flor_runtime.replay.recorded import read_facts, turn_counts
from flor_runtime.state import codec, tables
from flor_runtime.state.restore import Restore, locate
from flor_runtime.store import checked, cleaning
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.layout import Home, RunFolder, read_json, write_json
from flor_runtime.store.logformat import FRAME
from flor_runtime.store.values import decode, encode
from flor_runtime.store.writer import Writer
from flor_transform.backport import history
from tests.runtime.states import capture, restore, stored, survey
from tests.stores import make_run, training

MEMORY = 3 << 30
SECONDS = 30
RAN: list[object] = []


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Evil:
    """Says so when it is made or called."""

    def __init__(self, *arguments: object) -> None:
        RAN.append(arguments)

    def __call__(self, *arguments: object) -> None:
        RAN.append(arguments)


def evil(*arguments: object, **more: object) -> None:
    RAN.append(arguments)


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield
    assert RAN == []


@contextmanager
def limits() -> Iterator[None]:
    """A reader that hangs, or takes memory without end, fails."""

    def late(*_: object) -> None:
        raise TimeoutError("it hangs")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, late) if main_thread else None
    if main_thread:
        signal.alarm(SECONDS)
    try:
        yield
    finally:
        if main_thread:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def examples(quick: int) -> Any:
    return settings(
        max_examples=quick, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def _deep(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


HERE = __name__
HARSH: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63), 0.5, math.nan, math.inf, -math.inf, 1e300,
    "", "x", "\0", "../../x", "/etc/passwd", "a" * 5000, "\udc80", "O", "|O", "V8", "i4,O", "[('a', '|O')]", "(" * 400,
    "os:system", "subprocess:Popen", "builtins:eval", f"{HERE}:Evil", f"{HERE}:evil", f"{HERE}:Color", "torch:load", "load",
    "__class__", "__reduce__", "tensor", "array", "objects", "enum", "scalar", "partial", "wrapper", "nprandom", "torch",
    "method", "function", "reference", "table", "container", "object", "class", "module", "generator", "random", "buffer",
    "datetime.datetime(1, 1, 1)", "evil()", "-1", "1e9",
    [], {}, [[]], [0], [1], [-1], [2**40], ["x"], _deep(60), _deep(900), [0] * 70, {"x": 1}, {"x": {"y": []}},
]  # fmt: skip


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in list(items):
        yield from _places(item, (*path, key))


def _put(data: Any, path: tuple[Any, ...], value: Any, drop: bool) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    if len(path) == 1 and drop:
        del copy[path[0]]
    else:
        copy[path[0]] = _put(copy[path[0]], path[1:], value, drop)
    return copy


@st.composite
def changed(draw: st.DrawFn, data: Any, most: int = 3) -> Any:
    """Plain data, harmed at up to so many places."""
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(list(_places(data))))
        data = _put(data, path, draw(st.sampled_from(HARSH)), draw(st.integers(0, 5)) == 0)
    return data


@st.composite
def harmed(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that were cut, flipped, put in, left out, or written over."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([1, 2, 4, 8, 20, 100, 5000]))
        new = draw(
            st.sampled_from([b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0" * 8, b"\xff" * 8, b"[", b"{", b'"', b"\n"])
        )
        match draw(st.integers(0, 4)):
            case 0:
                data = data[:at]
            case 1:
                data = (
                    data[:at]
                    + bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in data[at : at + 1])
                    + data[at + 1 :]
                )
            case 2:
                data = data[:at] + new + data[at:]
            case 3:
                data = data[:at] + data[at + length :]
            case _:
                data = data[:at] + new + data[at + len(new) :]
    return data


# -- encodings -------------------------------------------------------------------------------------------------------

VALUES: list[object] = [
    1, 2**80, 0.5, "text", b"bytes", None, True, 1j, [1, [2.0, "x"]], (1, {"a": {1, 2}}), {"k": [frozenset({3})]},
    np.arange(6.0).reshape(2, 3), np.array(["a", "bb"]), datetime.datetime(2020, 1, 1), torch.zeros(3), pd.DataFrame({"a": [1, 2]}),
]  # fmt: skip


def check_values(data: bytes) -> None:
    with limits():
        try:
            decode(data)
        except ValueError:
            pass


@examples(250)
@given(st.sampled_from(VALUES).flatmap(lambda value: harmed(encode(value))))
def test_values_of_the_log(data: bytes) -> None:
    check_values(data)


@examples(100)
@given(st.binary(max_size=60).map(lambda tail: tail))
def test_values_of_nobody(data: bytes) -> None:
    check_values(data)
    for tag in (b"A", b"l", b"d", b"s", b"I", b"O"):
        check_values(tag + data)


FRAMES = [
    pd.DataFrame({"epoch": [0, 1], "loss": [0.5, math.nan], "split": ["train", "test"]}),
    pd.Series([1, 2, 3], name="a"),
    pd.DataFrame({"o": np.array([1, "x", None], object)}, index=["a", "b", "c"]),
]


@examples(150)
@given(st.sampled_from(FRAMES).flatmap(lambda frame: changed(codec.unpack(tables.dump(frame) or b""))))
def test_tables_in_checkpoints(data: Any) -> None:
    with limits():
        try:
            tables.load(codec.pack(data))
        except (RestoreError, ValueError, OverflowError, UnicodeEncodeError):  # the last two: msgpack can't write it
            pass


def state() -> dict[str, Any]:
    """One object of each kind that a checkpoint can hold."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    shared = [1, 2]
    return {
        "model": model, "optimizer": optimizer, "list": [1, 2.5, "x", None, shared], "tuple": (1, [2], "y"), "set": {1, 2},
        "frozen": frozenset({"a"}), "deque": deque([1, 2], maxlen=4), "dict": {"a": shared, 3: {"b": 1}},
        "ordered": OrderedDict(x=1), "default": defaultdict(list, a=[1]), "big": 2**80, "complex": 1 + 2j,
        "bytes": bytearray(b"abc"), "range": range(3), "slice": slice(1, 2), "when": datetime.datetime(2020, 1, 1),
        "path": Path("x"), "color": Color.RED, "array": np.arange(6.0).reshape(2, 3)[:, ::2], "objects": np.array([1, "x"], object),
        "scalar": np.float32(1.5), "generator": np.random.default_rng(0), "torch generator": torch.Generator(),
        "dtype": torch.float32, "size": torch.Size([1, 2]), "table": pd.DataFrame({"a": [1, 2]}),
    }  # fmt: skip


@pytest.fixture(scope="module")
def recorded() -> tuple[list[Any], list[bytes]]:
    """The parts of a graph as plain data, and its blobs."""
    roots = state()
    anchors = survey(roots)
    roots["list"].append(torch.ones(2))
    roots["new"] = {
        "array": np.ones(3),
        "tensor": torch.ones(2),
        "table": pd.Series([1.0]),
        "generator": np.random.PCG64(1),
    }
    roots["colors"] = [Color.BLUE, datetime.timedelta(1), np.int8(3)]
    full = capture(roots, anchors)
    assert full.problems == []
    graph, blobs = stored(full)
    return [
        graph.roots,
        graph.nodes,
        graph.origins,
        graph.storages,
        graph.unbound,
        [list(path) for path in graph.paths],
    ], blobs


def check_graph(parts: Any, blobs: list[bytes]) -> None:
    *graph, paths = parts if isinstance(parts, list) and parts else [None]
    try:
        data, packed_paths = codec.pack(graph), codec.pack(paths)
    except (ValueError, OverflowError, TypeError, UnicodeEncodeError):
        return  # nobody could have written it
    with limits():
        try:
            read = codec.unpack_graph(data, [len(blob) for blob in blobs], packed_paths)
            restore(read, blobs, state())
        except (FlorError, KeyError):  # KeyError: a module of the roots, looked up by the test itself
            pass


def test_the_graph_itself_can_be_restored(recorded: tuple[list[Any], list[bytes]]) -> None:
    parts, blobs = recorded
    graph = codec.unpack_graph(codec.pack(parts[:-1]), [len(blob) for blob in blobs], codec.pack(parts[-1]))
    again = restore(graph, blobs, state())
    assert again["color"] is Color.RED and again["new"]["array"].tolist() == [1, 1, 1]


@examples(200)
@given(st.data())
def test_graphs(recorded: tuple[list[Any], list[bytes]], data: st.DataObject) -> None:
    parts, blobs = recorded
    check_graph(data.draw(changed(parts)), blobs)


@pytest.mark.proof
@settings(examples(1), max_examples=3000)
@given(st.data())
def test_many_graphs(recorded: tuple[list[Any], list[bytes]], data: st.DataObject) -> None:
    parts, blobs = recorded
    check_graph(data.draw(changed(parts, 6)), blobs)


NODES: dict[str, list[Any]] = {
    "an enumeration that is a program": ["enum", f"{HERE}:Evil", 1],
    "an enumeration that is a process": ["enum", "subprocess:Popen", [["touch", "ran"]]],
    "a date that is a call": ["scalar", f"{HERE}:Evil", "Evil()"],
    "a date of an expression": ["scalar", "datetime:datetime", f"datetime.datetime({HERE}.evil())"],
    "a generator that is a function": ["nprandom", [], "test", None],
    "a name of torch that is a function": ["torch", "load", "dtype"],
    "objects from bytes": ["array", 0, "|O", [1], [8], 0, True, True],
    "memory beyond its own": ["array", 0, "<f8", [1 << 40], [8], 0, True, True],
    "memory before its own": ["array", 0, "<f8", [2], [-8], 0, True, True],
    "an offset beyond its memory": ["array", 0, "<f8", [1], [8], 8, True, True],
    "a tensor beyond its memory": ["tensor", 0, "float32", [1 << 40], [1], 0, False, "tensor", None, "cpu", False, None, []],
    "a tensor of another name": ["tensor", 0, "load", [1], [1], 0, False, "tensor", None, "cpu", False, None, []],
    "a table that is a pickle": ["table", "pandas.DataFrame", b"\x80\x04cos\nsystem\n(S'x'\ntR."],
    "a method that is a property": ["wrapper", [1], "__class__"],
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_nodes_of_somebody_who_means_harm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [{"L:x": [0]}, [NODES[name], ["list", []]], [-1, -1], [-1], [], [[-1, "L:x"]]]
    graph = codec.unpack_graph(codec.pack(parts[:-1]), [8], codec.pack(parts[-1]))
    with limits(), pytest.raises(FlorError):
        Restore(graph, [b"\0" * 8].__getitem__, locate(graph.paths, {"L:x": 1})).run()
    assert list(tmp_path.iterdir()) == []


# -- files -----------------------------------------------------------------------------------------------------------

JSON_FILES = (
    "run.json",
    "end.json",
    "log/log.json",
    "replays/r/replay.json",
    "ckpt/turns.json",
    "environment.json",
    "inputs.json",
)
LINES = ("ckpt/index.jsonl", "log/names.jsonl", "log/seals.jsonl")
BYTES = ("log/records-0.bin", "log/contexts-0.bin", "log/blobs.bin", "ckpt/0.bin", "random.bin")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with one file of each kind."""
    home = Home(tmp_path_factory.mktemp("whole") / "home")
    run = make_run(
        home, _log, plans={"train.py": {"loops": [{"code": "FT1", "start": 1, "reason": "x"}]}}, script="train.py"
    )
    roots = state()
    anchors = survey(roots)
    writer = Writer(run.ckpt, patient=True)
    for turn in range(3):
        roots["list"].append(torch.full((5,), float(turn)))
        writer.save(Key(0, turn), 1.0 + turn, {"python": [3, [1], None]}, capture(roots, anchors))
    writer.close()
    write_json(run.ckpt / "turns.json", {"entries": [3], "checkpoints": {"seconds": 0.5, "skipped": 0}})
    write_json(run.path / "environment.json", {"loaded": ["numpy"], "threads": 1})
    write_json(run.path / "inputs.json", {"files": {"a": [1, 2]}})
    checked.write_bytes(run.path / "random.bin", codec.pack([3, [1], None]))
    part = run.path / "replays" / "r" / "records"
    shutil.copytree(run.log, part)
    write_json(
        run.path / "replays" / "r" / "replay.json",
        {
            "format": 2,
            "id": "r",
            "vars": ["acc"],
            "started": 1.0,
            "ended": 2.0,
            "label": "exact",
            "texts": {},
            "parts": ["records"],
        },
    )
    assert Reader(run.ckpt).entries
    return run


def _log(log: Any) -> None:
    training(3, 3)(log)
    for value in VALUES:
        log.append(0, "value", value)


def read_all(run: RunFolder, codes: tuple[int, ...] = (0, 1, 2), *, doctor: bool = True) -> None:
    """All that commands read of a store, by themselves and by the commands."""
    home = Home(run.path.parent.parent)
    for read in READERS:
        try:
            read(run)
        except FlorError:
            pass
    for command in COMMANDS if doctor else COMMANDS[:-1]:
        done = CliRunner().invoke(main, command, env={"FLOR_HOME": str(home.root)})
        if done.exception is not None and not isinstance(done.exception, SystemExit | FlorError):
            raise done.exception
        assert done.exit_code in codes, (command, done.output)


def _checkpoints(run: RunFolder) -> None:
    reader = Reader(run.ckpt, trust=True)
    for entry in reader.entries.values():
        for read in (reader.load, reader.paths, reader.files):
            try:
                read(entry)
            except FlorError:
                pass
    turn_counts(run, reader)


READERS: tuple[Callable[[RunFolder], object], ...] = (
    _checkpoints,
    RunFolder.is_own,
    lambda run: read_inputs(run.path),
    read_facts,
    lambda run: cleaning.clean(run, None, dry=True),
    lambda run: history.runs(run.path.parent.parent),
)
COMMANDS = (
    ["runs", "--all"],
    ["runs", "--all", "--explain"],
    ["show", "--all"],
    ["doctor", "-v"],
)


def check_file(whole: RunFolder, name: str, content: bytes, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    run = RunFolder(folder / "runs" / whole.id)
    shutil.copytree(whole.path, run.path)
    (run.path / name).write_bytes(content)
    with limits():
        read_all(run)


def _draw_bytes(draw: Callable[..., Any], whole: RunFolder, name: str) -> bytes:
    return draw(harmed((whole.path / name).read_bytes()))  # type: ignore[no-any-return]


def _draw_json(draw: Callable[..., Any], whole: RunFolder, name: str, scratch: Path) -> bytes | None:
    data = draw(changed(read_json(whole.path / name)))
    if not isinstance(data, dict):
        return json.dumps(data).encode()
    try:
        write_json(scratch, data)
    except (ValueError, RecursionError):
        return None
    return scratch.read_bytes()


def _draw_lines(draw: Callable[..., Any], whole: RunFolder, name: str) -> bytes:
    lines = (whole.path / name).read_bytes().split(b"\n")[:-1]
    at = draw(st.integers(0, len(lines) - 1))
    has_check = b"\t" in lines[at]
    data = draw(changed(checked.parse(lines[at]) if has_check else json.loads(lines[at])))
    lines[at] = checked.line(data)[:-1] if has_check else json.dumps(data).encode()
    return b"\n".join(lines) + b"\n"


def _draw_blob(draw: Callable[..., Any], whole: RunFolder) -> bytes:
    data = (whole.path / "log/blobs.bin").read_bytes()
    frames, at = [], 0
    while at + FRAME.size <= len(data):
        length, _ = FRAME.unpack_from(data, at)
        frames.append((at + FRAME.size, length))
        at += FRAME.size + length
    start, length = draw(st.sampled_from(frames))
    payload = draw(harmed(data[start : start + length]))[:length].ljust(length, b"\0")
    return data[: start - FRAME.size] + FRAME.pack(length, zlib.crc32(payload)) + payload + data[start + length :]


def draw_and_check(whole: RunFolder, data: st.DataObject, folder: Path) -> None:
    match data.draw(st.integers(0, 3)):
        case 0:
            name = data.draw(st.sampled_from(JSON_FILES + LINES + BYTES))
            content: bytes | None = _draw_bytes(data.draw, whole, name)
        case 1:
            name = data.draw(st.sampled_from(JSON_FILES))
            content = _draw_json(data.draw, whole, name, folder.with_name("scratch"))
        case 2:
            name = data.draw(st.sampled_from(LINES))
            content = _draw_lines(data.draw, whole, name)
        case _:
            name, content = "log/blobs.bin", _draw_blob(data.draw, whole)
    if content is not None:
        check_file(whole, name, content, folder)


def test_the_whole_store_is_read(whole: RunFolder) -> None:
    read_all(whole, (0, 1))  # 1: the doctor knows of things that a run by itself would have
    assert all((whole.path / name).is_file() for name in JSON_FILES + LINES + BYTES)


@examples(25)
@given(st.data())
def test_files(whole: RunFolder, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    draw_and_check(whole, data, whole.path.parent.parent.with_name("harmed"))


@pytest.mark.proof
@settings(examples(1), max_examples=600)
@given(st.data())
def test_many_files(whole: RunFolder, data: st.DataObject) -> None:
    draw_and_check(whole, data, whole.path.parent.parent.with_name("harmed"))


def test_a_pickle_that_was_planted_is_not_read(whole: RunFolder, tmp_path: Path) -> None:
    """In the place of each file, and of each part of one that a reader hands on."""

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (evil, ("a pickle was read",))

    payloads = [pickle.dumps(Payload(), protocol) for protocol in (0, 4)]
    with pytest.raises(AssertionError):  # they would be seen
        pickle.loads(payloads[0])
        assert RAN == []
    RAN.clear()
    for payload in payloads:
        for name in JSON_FILES + LINES + BYTES if payload is payloads[1] else ("run.json", "random.bin"):
            check_file(whole, name, payload, tmp_path / "home")
        frame = FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        check_file(whole, "log/blobs.bin", frame * 50, tmp_path / "home")
        check_values(payload)
        for read in (codec.unpack, codec.unpack_paths, tables.load):
            with pytest.raises(FlorError):
                read(payload)
        run = RunFolder(tmp_path / "home" / "runs" / whole.id)
        checked.write_bytes(run.path / "random.bin", payload)
        with pytest.raises(FlorError):
            codec.unpack(checked.read_bytes(run.path / "random.bin"))
    assert RAN == []


def test_files_of_holes(whole: RunFolder, tmp_path: Path) -> None:
    """They take no room on the disk of who sends them."""
    for name in (*LINES, *BYTES, "run.json", "end.json", "log/contexts-9999999999.bin", "log/records-4000000000.bin"):
        run = RunFolder(tmp_path / "home" / "runs" / whole.id)
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        shutil.copytree(whole.path, run.path)
        with open(run.path / name, "ab") as file:
            file.truncate(file.tell() + (1 << 40))
        with limits():
            read_all(run, doctor=name not in ("log/blobs.bin", "ckpt/0.bin"))  # it looks at every byte
    for start in (10**9, 9 * 10**9):
        shutil.copy(whole.log / "contexts-0.bin", run.log / f"contexts-{start}.bin")
        with limits():
            read_all(run)
