"""What a worker has to say of differences: one line for each name, however many turns it differs in."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 20  # lines
_TURNS = 8  # that are named


class Remarks:
    """Lines in the order first said; `lines` is kept up to date in place."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self._at: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], str] = {}
        self._turns: dict[tuple[str, str], list[int]] = {}

    def say(self, text: str) -> None:
        """A line of its own."""
        if text not in self.lines and len(self.lines) < _MOST:
            self.lines.append(text)

    def differs(self, where: str, turn: int, text: str) -> None:
        """Something differs at a place of a turn.

        Args:
            where: "before turn" or "after train of turn".
            turn: from 1.
            text: the name, or all there is to say, and behind `: ` what it was then and now: told of the first turn.
        """
        key = where, text.partition(": ")[0]
        if key not in self._at:
            if len(self.lines) >= _MOST:
                return
            self._at[key] = len(self.lines)
            self._first[key] = text
            self._turns[key] = []
            self.lines.append("")
        turns = self._turns[key]
        if turn not in turns:
            turns.append(turn)
        more = f" (and {ranges(turns[1:])})" if len(turns) > 1 else ""
        self.lines[self._at[key]] = f"{where} {turns[0]}{more}: {self._first[key]}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in few words: `1-3, 7`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in found]
    return ", ".join(texts if len(texts) <= _TURNS else [*texts[: _TURNS - 2], "…", texts[-1]])
