"""Copies from devices, with a stand-in that copies when it is waited for, as late as a device might."""

from __future__ import annotations

import _thread
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.devices import Devices
from flor_runtime.store.writer import Writer
from tests.runtime.test_checkpoints import AMBIENT

torch = pytest.importorskip("torch")


class Device:
    """What of `torch.cuda` is used; each call is noted."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.waiting: list[tuple[Any, Any]] = []
        device = self

        class Event:
            def record(self, stream: Any) -> None:
                device.calls.append(f"record {stream.name}")

            def synchronize(self) -> None:
                device.calls.append("synchronize")
                for target, source in device.waiting:
                    target[:] = source
                device.waiting.clear()

        self.Event = Event

    def _stream(self, name: str) -> Any:
        note = self.calls.append
        return SimpleNamespace(
            name=name,
            wait_stream=lambda other: note(f"{name} waits for {other.name}"),
            wait_event=lambda event: note(f"{name} waits for the event"),
        )

    def current_stream(self, device: Any) -> Any:
        return self._stream("program")

    def Stream(self, device: Any) -> Any:
        return self._stream("own")

    @contextmanager
    def stream(self, stream: Any) -> Any:
        self.calls.append(f"on {stream.name}")
        yield

    @contextmanager
    def device(self, device: Any) -> Any:
        self.calls.append(f"as {device}")
        yield

    def cudart(self) -> Any:
        raise AssertionError("there is nothing to pin yet")


class Cuda(str):
    """A device, as far as it is asked."""

    type = "cuda"


class Storage:
    """A storage that says that it is on a device."""

    device = Cuda("cuda:0")

    def __init__(self, data: bytes) -> None:
        self.data = data

    def data_ptr(self) -> int:
        return id(self)

    def cpu(self) -> Any:
        return torch.frombuffer(bytearray(self.data), dtype=torch.uint8).untyped_storage()


def test_what_is_copied_late_is_hashed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    monkeypatch.setattr(
        Devices, "_copy", lambda self, storage, target: device.waiting.append((target, bytes(storage.data)))
    )
    monkeypatch.setattr(
        "flor_runtime.store.writer.Devices", lambda _, first: Devices(SimpleNamespace(cuda=device), first)
    )
    writer = Writer(tmp_path, patient=True)
    parts = [bytes([n]) * 100_000 for n in range(3)]
    far = [Blob(len(part), 0, Storage(part)) for part in parts]
    near = b"near" * 1000
    for turn in range(2):
        graph = Graph(nodes=[], blobs=[*far, Blob.of(near)], storages=[-1] * 4, named=4)
        writer.save(Key(0, turn), 0.0, AMBIENT, graph)
        writer.wait()
    writer.close()
    order = ["own waits for program", "on own", "record own", "program waits for the event"]
    assert device.calls == [*order, "as cuda:0", "synchronize"] * 2
    reader = Reader(tmp_path)
    for turn in range(2):
        _, _, blobs = reader.load(reader.entries[Key(0, turn)])
        assert [*parts, near] == [bytes(blob) for blob in blobs]


def test_what_does_not_fit_is_copied_at_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path, patient=True)
    part = bytes(range(256)) * 20_000
    writer.save(Key(0, 0), 0.0, AMBIENT, Graph(blobs=[Blob(len(part), 0, Storage(part))], storages=[-1], named=1))
    writer.close()
    reader = Reader(tmp_path)
    _, _, blobs = reader.load(reader.entries[Key(0, 0)])
    assert [part] == [bytes(blob) for blob in blobs]


def test_a_larger_arena_is_pinned_behind_and_let_go_when_there_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never on the program's thread: an error of the driver would be raised by the program's next kernel."""
    device = Device()
    threads: list[tuple[str, bool]] = []

    def note(what: str) -> Any:
        return lambda *_: threads.append((what, _thread.get_ident() == here))

    here = _thread.get_ident()
    monkeypatch.setattr(
        device, "cudart", lambda: SimpleNamespace(cudaHostRegister=note("pin"), cudaHostUnregister=note("unpin"))
    )
    monkeypatch.setattr(
        Devices, "_copy", lambda self, storage, target: device.waiting.append((target, bytes(storage.data)))
    )
    monkeypatch.setattr(
        "flor_runtime.store.writer.Devices", lambda _, first: Devices(SimpleNamespace(cuda=device), first)
    )
    writer = Writer(tmp_path, patient=True)
    sizes = [*[4 << 20] * 4, *[16 << 20] * 3]
    for turn, size in enumerate(sizes):
        blob = Blob(size, 0, Storage(bytes([turn]) * size))
        writer.save(Key(0, turn), 0.0, AMBIENT, Graph(blobs=[blob], storages=[-1], named=1))
        writer.wait()
    writer.close()
    deadline = time.monotonic() + 20
    while len(threads) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(threads) == [("pin", False), ("pin", False), ("unpin", False)]
    reader = Reader(tmp_path)
    for turn, size in enumerate(sizes):
        _, _, blobs = reader.load(reader.entries[Key(0, turn)])
        assert [bytes([turn]) * size] == [bytes(blob) for blob in blobs]
