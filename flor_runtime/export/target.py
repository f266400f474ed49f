"""The folder that an export goes to: never one that flor has not made, and never over what somebody has changed in it.

`flor-export.json` in it says which format it is and what flor wrote: each run's digest, each file's checksum.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flor_runtime.errors import FlorError, StoreError
from flor_runtime.store.layout import read_json, write_json

MARK = "flor-export.json"
_FORMAT = 1


class ExportError(FlorError):
    """Runs can't be written there, or not in that format."""


class Target:
    """A folder of an export, new or to be brought up to date.

    Args:
        form: the name of the format.

    Attributes:
        written: (new, brought up to date, as they were): numbers of runs.

    Raises:
        ExportError: it is something else.
    """

    def __init__(self, folder: Path, form: str) -> None:
        self.folder, self.form = folder, form
        self.written = [0, 0, 0]
        self._runs: dict[str, str] = {}
        self._files: dict[str, str] = {}
        try:
            there = folder.is_symlink() or folder.exists()
            if there and not folder.is_dir():
                raise ExportError(f"{folder}: is a file: choose another -o")
            found = read_json(folder / MARK) if there else None
            if found is None and there and any(folder.iterdir()):
                raise ExportError(f"{folder}: is there already, and flor has not made it: choose another -o")
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExportError(f"{folder}: {error.strerror or error}") from error
        except StoreError as error:
            raise ExportError(f"{error}: choose another -o") from None
        if found is not None:
            if found.get("export") != form or found.get("format") != _FORMAT:
                raise ExportError(f"{folder}: holds an export for {found.get('export')}: choose another -o")
            self._runs = {str(key): str(value) for key, value in dict(found.get("runs") or {}).items()}
            self._files = {str(key): str(value) for key, value in dict(found.get("files") or {}).items()}

    def knows(self, run: str) -> bool:
        """Whether an earlier export has this run."""
        return run in self._runs

    def is_current(self, run: str, digest: str) -> bool:
        """Whether an earlier export has this run as it is."""
        if self._runs.get(run) == digest:
            self.written[2] += 1
            return True
        return False

    def has(self, run: str, digest: str) -> None:
        """A run has been written."""
        self.written[1 if run in self._runs else 0] += 1
        self._runs[run] = digest

    def put(self, name: str, data: bytes | Callable[[Path], Any]) -> None:
        """Write a file whole, or not at all.

        Args:
            name: relative to the folder.
            data: its bytes, or what writes them to a path.

        Raises:
            ExportError: somebody has changed it since flor wrote it, or it can't be written.
        """
        path = self.folder / name
        self._check(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                if callable(data):
                    data(temporary)
                else:
                    temporary.write_bytes(data)
                checksum = _checksum(temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise ExportError(f"{path}: can't be written: {error.strerror or error}") from error
        self._files[name] = checksum

    def remove_below(self, prefix: str, keep: set[str]) -> None:
        """Take away files of an earlier export."""
        for name in [name for name in self._files if name.startswith(prefix) and name not in keep]:
            self._check(name)
            (self.folder / name).unlink(missing_ok=True)
            del self._files[name]

    def close(self) -> None:
        """Write down what is there now."""
        data = {"export": self.form, "format": _FORMAT, "runs": self._runs, "files": self._files}
        try:
            write_json(self.folder / MARK, data)
        except StoreError as error:
            raise ExportError(str(error)) from None

    def _check(self, name: str) -> None:
        path = self.folder / name
        try:
            there = path.exists() or path.is_symlink()
            if there and (name not in self._files or path.is_symlink() or _checksum(path) != self._files[name]):
                raise ExportError(f"{path}: is not as flor wrote it: move it away, or choose another -o")
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror or error}") from error


class Names:
    """Names as another tool takes them.

    Args:
        bad: what may not be in a name; each such stretch becomes an underscore.
        longest: characters.

    Attributes:
        changed: the names that had to be changed, as they are now.
    """

    def __init__(self, bad: str, longest: int) -> None:
        self._bad, self._longest = re.compile(bad), longest
        self._known: dict[str, str] = {}
        self._taken: set[str] = set()
        self.changed: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The same name for the same text, another for any other."""
        if name not in self._known:
            plain = self._bad.sub("_", name) or "_"
            if len(plain) > self._longest or plain in self._taken:
                mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
                plain = f"{plain[: self._longest - 9]}-{mark}"
            self._known[name] = plain
            self._taken.add(plain)
            if plain != name:
                self.changed[name] = plain
        return self._known[name]

    def said(self, tool: str) -> list[str]:
        """A line for each name that had to be changed."""
        return [f"{tool} can't have the name {name!r}: it is {now!r} there" for name, now in self.changed.items()]


def file_name(text: str) -> str:
    """A text as the name of a file anywhere."""
    return re.sub(r"[^\w.,=+@-]+", "-", text, flags=re.ASCII).strip(".-")[:100] or "run"


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
