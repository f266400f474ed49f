"""The order of a set: found again by putting its elements into a new one in a certain order.

A set's order is that of its table. An element lies where its hash says, or, if that place was taken when it came,
further on; so each one comes after those that lie in its way. That holds as long as none was removed. What is found is
tried out.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from typing import Any

_PROBES, _SHIFT = 9, 5  # of CPython's `set_add_entry`
_LARGEST = 2000  # elements; looking for the order of more would take too long
_WORD = ctypes.sizeof(ctypes.c_ssize_t)


def insertion_order(obj: set[Any] | frozenset[Any]) -> list[Any] | None:
    """The elements in an order that gives the same set when they are added so; None if none was found."""
    base: Any = set if isinstance(obj, set) else frozenset
    items = list(base.__iter__(obj))
    if _gives(base, items, obj):
        return items
    ordered = _by_places(obj)
    return ordered if ordered is not None and _gives(base, ordered, obj) else None


def _gives(base: Any, items: list[Any], obj: set[Any] | frozenset[Any]) -> bool:
    again = base(items)
    return bool(
        list(again) == list(base.__iter__(obj))
        and base.__sizeof__(again) == base.__sizeof__(obj)
        and history(again) == history(obj)
    )


def history(obj: Any) -> tuple[int, int]:
    """(slots in use, those of removed elements included; where `pop` goes on) of a set, from its C structure."""
    if sys.implementation.name != "cpython":
        return 0, 0
    fill, _, _, _, _, finger = _structure(obj)
    return fill, finger if isinstance(obj, set) else 0


def _structure(obj: Any) -> Any:
    # fill, used, mask, table, hash, finger
    assert _WORD == 8
    return (ctypes.c_ssize_t * 6).from_address(id(obj) + object.__basicsize__)


def _by_places(obj: set[Any] | frozenset[Any]) -> list[Any] | None:
    """First those that lie where their hash says, then each as soon as all are there that lie in its way."""
    if sys.implementation.name != "cpython":
        return None
    fill, used, mask, table, _, _ = _structure(obj)
    if fill != used or used > _LARGEST:
        return None
    entries = (ctypes.c_ssize_t * (2 * (mask + 1))).from_address(table)  # (element, hash)
    base: Any = set if isinstance(obj, set) else frozenset
    elements = {id(item): item for item in base.__iter__(obj)}
    here = {place: elements[entries[2 * place]] for place in range(mask + 1) if entries[2 * place]}
    home = [place for place in here if entries[2 * place + 1] & mask == place]
    placed, order = set(home), [here[place] for place in home]
    waiting = [place for place in here if place not in placed]
    while waiting:
        later = []
        for place in waiting:
            if _way_is_full(entries[2 * place + 1], place, mask, placed):
                placed.add(place)
                order.append(here[place])
            else:
                later.append(place)
        if len(later) == len(waiting):
            return None
        waiting = later
    return order


def _way_is_full(hashed: int, place: int, mask: int, placed: set[int]) -> bool:
    for slot in _slots(hashed, mask):
        if slot == place:
            return True
        if slot not in placed:
            return False
    return False


def _slots(hashed: int, mask: int) -> Iterator[int]:
    """The places that an element is tried at."""
    rest = hashed % 2**64
    slot = rest & mask
    for _ in range(4 * (mask + 1)):
        yield from range(slot, slot + (_PROBES if slot + _PROBES <= mask else 0) + 1)
        rest >>= _SHIFT
        slot = (slot * 5 + 1 + rest) & mask
