"""Copies from CUDA devices that neither the program nor its device waits for longer than they take.

The copies run on a stream of their own, after what has been computed so far and before what comes next on the program's
stream: the device waits for them, the program does not. Written from the documentation, and tested with a stand-in
for the device: it has not been run on one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flor_runtime.store.arena import Arena


class Devices:
    """The streams and the pinned memory of a writer.

    Args:
        torch: the module, with CUDA in use.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._streams: dict[Any, Any] = {}
        self._pinned: list[Arena] = []  # they must not go while the driver knows them

    def pin(self, arena: Arena) -> None:
        """Tell the driver of an arena, so that a device can write to it directly; without that it is only slower."""
        if arena not in self._pinned:
            self._pinned.append(arena)
            self._torch.cuda.cudart().cudaHostRegister(arena.address, arena.nbytes, 0)

    def unpin(self, but: Arena) -> None:
        """Let go of all other arenas; nothing may be on its way to them."""
        for arena in self._pinned:
            if arena is not but:
                self._torch.cuda.cudart().cudaHostUnregister(arena.address)
        self._pinned = [arena for arena in self._pinned if arena is but]

    def copy(self, parts: list[tuple[Any, memoryview]]) -> Callable[[], None]:
        """Begin to copy storages into memory; the function that is returned waits until that is done."""
        cuda = self._torch.cuda
        by_device: dict[Any, list[tuple[Any, memoryview]]] = {}
        for storage, target in parts:
            by_device.setdefault(storage.device, []).append((storage, target))
        done = []
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
            done.append(event)

        def wait() -> None:
            for event in done:
                event.synchronize()

        return wait

    def _copy(self, storage: Any, target: memoryview) -> None:
        torch = self._torch
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        torch.frombuffer(target, dtype=torch.uint8).copy_(source, non_blocking=True)
