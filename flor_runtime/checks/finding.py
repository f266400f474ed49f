"""What `flor doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """Something in the store that is not as it was written.

    Attributes:
        run: its id; "" for what belongs to no run.
        file: relative to the run's folder, or to the store.
        what: is the matter. then: what follows from it, or what can be done.
        is_damage: False for what a kill or a full disk leaves behind.
    """

    run: str
    file: str
    what: str
    then: str
    is_damage: bool = True

    def __str__(self) -> str:
        return f"{self.run[:8] or 'store'}: {self.file}: {self.what}: {self.then}"


class Look:
    """Counts what has been looked at.

    Attributes:
        runs, files, nbytes: up to now.
    """

    def __init__(self) -> None:
        self.runs = self.files = self.nbytes = 0

    def file(self, path: Path) -> int:
        """Count a file; gives its size."""
        size = path.stat().st_size
        self.files += 1
        self.nbytes += size
        return size

    @staticmethod
    def is_temporary(path: Path) -> bool:
        """True for a file that was being written when its writer was killed."""
        return path.name.startswith(".") and path.name.endswith(".tmp")

    @dataclass(frozen=True)
    class At:
        """A place; its methods make the findings there."""

        run: str
        file: str

        def damage(self, what: str, then: str) -> Finding:
            return Finding(self.run, self.file, what, then)

        def normal(self, what: str, then: str) -> Finding:
            return Finding(self.run, self.file, what, then, is_damage=False)

        def unknown(self) -> Finding:
            return Finding(self.run, self.file, "is no file of flor's", "nothing reads it: it can be moved away")

    @staticmethod
    def at(run: str, root: Path, path: Path) -> Look.At:
        """The place of a file below `root`."""
        return Look.At(run, path.relative_to(root).as_posix())
