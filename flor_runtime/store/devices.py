"""Copies from CUDA devices that neither the program nor its device waits for longer than they take.

The copies run on a stream of their own, after what has been computed so far and before what comes next on the program's
stream: the device waits for them, the program does not. What they copy from is held until they are done, so the
allocator can't give it to another tensor meanwhile. Written from the documentation, and tested with a stand-in for
the device: it has not been run on one.
"""

from __future__ import annotations

import _thread
import contextlib
from collections.abc import Callable
from typing import Any

from flor_runtime.store.arena import Arena

_PORTABLE = 1  # flag of cudaHostRegister: for all devices of the process


class Devices:
    """The streams and the pinned memory of a writer.

    Args:
        torch: the module, with CUDA in use.
        device: one of those in use.
    """

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch = torch
        self._device = device
        self._streams: dict[Any, Any] = {}
        self._pinned: list[Arena] = []  # they must not go while the driver knows them

    def pin(self, arena: Arena) -> None:
        """Tell the driver of an arena, so that a device can write to it directly; without that it is only slower.

        Takes long, and is not for a thread of the program's: an error would be kept there and raised by the program's
        next kernel. Nothing may be on its way to the arena.
        """
        if arena not in self._pinned:
            self._pinned.append(arena)
            with self._torch.cuda.device(self._device):  # else a context is made on the first device of the machine
                self._torch.cuda.cudart().cudaHostRegister(arena.address, arena.nbytes, _PORTABLE)

    def unpin(self, but: Arena) -> None:
        """Let go of all other arenas; nothing may be on its way to them."""
        old = [arena for arena in self._pinned if arena is not but]
        if old:
            with contextlib.suppress(RuntimeError):  # no more threads: another time
                _thread.start_new_thread(self._unpin, (old,))
                self._pinned = [arena for arena in self._pinned if arena is but]

    def _unpin(self, arenas: list[Arena]) -> None:
        with self._torch.cuda.device(self._device):
            for arena in arenas:
                self._torch.cuda.cudart().cudaHostUnregister(arena.address)

    def copy(self, parts: list[tuple[Any, memoryview]]) -> Callable[[], None]:
        """Begin to copy storages into memory; the function that is returned waits until that is done."""
        cuda = self._torch.cuda
        by_device: dict[Any, list[tuple[Any, memoryview]]] = {}
        for storage, target in parts:
            by_device.setdefault(storage.device, []).append((storage, target))
        done: list[tuple[Any, Any]] = []
        for device, mine in by_device.items():
            program = cuda.current_stream(device)
            own = self._streams.get(device)
            if own is None:
                own = self._streams[device] = cuda.Stream(device)
            own.wait_stream(program)
            with cuda.stream(own):
                for storage, target in mine:
                    self._copy(storage, target)
                event = cuda.Event()
                event.record(own)
            program.wait_event(event)
            done.append((device, event))

        def wait() -> None:
            for device, event in done:
                with cuda.device(device):
                    event.synchronize()

        return wait

    def _copy(self, storage: Any, target: memoryview) -> None:
        torch = self._torch
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        torch.frombuffer(target, dtype=torch.uint8).copy_(source, non_blocking=True)
