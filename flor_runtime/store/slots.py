"""What lies where in an arena: the bytes of a checkpoint stay there, and the next one copies only what differs.

What a checkpoint needs that is still on its way to the disk is not written over: a later one shares it where it is the
same, and else needs room beside it.
"""

from __future__ import annotations

import bisect
import ctypes
from dataclasses import dataclass

from flor_runtime.store.arena import PAGE, Arena

_CHUNK = 512 << 10  # compared and then copied: the second finds it in the processor's cache

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

Source = tuple[int, int]  # where bytes are in the program: (address, length)


@dataclass(eq=False, slots=True)
class Slot:
    """A part of an arena, in whole pages.

    Attributes:
        at: where it begins. nbytes: of what lies there.
        digest: of what lies there; "" while it is not known.
        users: checkpoints on their way that need it.
        source: where its bytes came from, if a later checkpoint may find them there again.
    """

    at: int
    nbytes: int
    digest: str = ""
    users: int = 0
    source: Source | None = None


class Slots:
    """The slots of an arena. For one thread; others may read what a slot holds as long as it has users."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._known: dict[Source, Slot] = {}
        self._free: list[tuple[int, int]] = []
        self.clear()

    def clear(self) -> None:
        """Forget what lies there; no slot may have users."""
        self._known.clear()
        self._free = [(0, self.arena.ready)]

    def find(self, source: Source) -> Slot | None:
        """The slot that holds what lay at a place in the program."""
        return self._known.get(source)

    def new(self, nbytes: int, source: Source | None = None) -> Slot | None:
        """A slot with anything in it; None if there is no room for it in one piece."""
        length = _pages(nbytes)
        for n, (start, stop) in enumerate(self._free):
            if stop - start >= length:
                if stop - start == length:
                    del self._free[n]
                else:
                    self._free[n] = start + length, stop
                slot = Slot(start, nbytes, source=source)
                if source is not None:
                    before = self._known.get(source)
                    self._known[source] = slot
                    if before is not None:
                        before.source = None
                        self.release([before], 0)
                return slot
        return None

    def release(self, slots: list[Slot], users: int = 1) -> None:
        """Take users from slots; those that nothing can find any more are free then."""
        for slot in slots:
            slot.users -= users
            if not slot.users and slot.source is None:
                self._give_back(slot)

    def forget(self, keep: set[Source]) -> None:
        """Free what came from other places than these, unless it has users."""
        for source, slot in list(self._known.items()):
            if source not in keep:
                del self._known[source]
                slot.source = None
                self.release([slot], 0)

    def is_same(self, slot: Slot, address: int) -> bool:
        """Whether the bytes of a slot are those at an address."""
        return _memcmp(self.arena.address + slot.at, address, slot.nbytes) == 0  # type: ignore[no-any-return]

    def fill(self, slot: Slot, address: int) -> None:
        """Copy bytes into a slot that no other checkpoint needs, from the first chunk on that differs."""
        at, left = self.arena.address + slot.at, slot.nbytes
        while left:
            count = min(left, _CHUNK)
            if _memcmp(at, address, count):
                ctypes.memmove(at, address, left)
                slot.digest = ""
                return
            at, address, left = at + count, address + count, left - count

    def view(self, slot: Slot) -> memoryview:
        """The bytes of a slot."""
        return self.arena.view[slot.at : slot.at + slot.nbytes]

    def pages(self, slot: Slot) -> tuple[int, int]:
        """Where the pages of a slot begin and end in the arena."""
        return slot.at, slot.at + _pages(slot.nbytes)

    def blank(self, at: int, nbytes: int) -> None:
        """Nothing of what lay there before is to be written: what is between the parts of a file is zero."""
        if nbytes:
            ctypes.memset(self.arena.address + at, 0, nbytes)

    def blank_end(self, slot: Slot) -> None:
        """The same for what is left of the last page of a slot."""
        self.blank(slot.at + slot.nbytes, _pages(slot.nbytes) - slot.nbytes)

    def _give_back(self, slot: Slot) -> None:
        start, stop = self.pages(slot)
        free = self._free
        n = bisect.bisect(free, (start, stop))
        if n < len(free) and free[n][0] == stop:
            stop = free.pop(n)[1]
        if n and free[n - 1][1] == start:
            n -= 1
            start = free.pop(n)[0]
        free.insert(n, (start, stop))


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE
