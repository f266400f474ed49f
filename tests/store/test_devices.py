"""Copies from devices, with a stand-in that copies when it is waited for, as late as a device might."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store.arena import Arena
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

    def cudart(self) -> Any:
        return SimpleNamespace(
            cudaHostRegister=lambda *_: self.calls.append("pin"),
            cudaHostUnregister=lambda *_: self.calls.append("unpin"),
        )


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
    monkeypatch.setattr("flor_runtime.store.writer.Devices", lambda _: Devices(SimpleNamespace(cuda=device)))
    writer = Writer(tmp_path, patient=True)
    parts = [bytes([n]) * 100_000 for n in range(3)]
    far = [Blob(len(part), 0, Storage(part)) for part in parts]
    near = b"near" * 1000
    for turn in range(2):
        graph = Graph(nodes=[], blobs=[*far, Blob.of(near)], storages=[-1] * 4, named=4)
        writer.save(Key(0, turn), 0.0, AMBIENT, graph)
        writer.wait()
    writer.close()
    order = ["own waits for program", "on own", "record own", "program waits for the event", "synchronize"]
    assert device.calls == ["pin", *order, *order]
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


def test_an_arena_that_is_not_used_any_more_is_let_go() -> None:
    device = Device()
    devices = Devices(SimpleNamespace(cuda=device))
    first, second = Arena(1), Arena(1)
    devices.pin(first)
    devices.pin(first)
    devices.pin(second)
    devices.unpin(second)
    devices.unpin(second)
    assert device.calls == ["pin", "pin", "unpin"]
