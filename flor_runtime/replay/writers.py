"""What opens files by itself, in C++: it gets its paths from the overlay, from the moment that it is imported."""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from flor_runtime.replay.overlay import Overlay
from flor_runtime.replay.redirect import text_of

# module -> what in it takes a path: attribute, position, name, and what is done with the file: it is written anew,
# changed (the old content matters) or read; or it is a folder to work in
WRITERS: dict[str, tuple[tuple[str, int, str, str], ...]] = {
    "torch.serialization": (
        ("_open_zipfile_writer_file.__init__", 1, "name", "new"),
        ("load", 0, "f", "read"),
    ),
    "torch": (("from_file", 0, "filename", "shared"),),
    "torch.jit._serialization": (("save", 1, "f", "new"), ("load", 0, "f", "read")),
    "safetensors": (("serialize_file", 1, "filename", "new"), ("safe_open", 0, "filename", "read")),
    "cv2": (
        ("imwrite", 0, "filename", "new"),
        ("imread", 0, "filename", "read"),
        ("VideoCapture", 0, "filename", "read"),
        ("VideoWriter", 0, "filename", "new"),
    ),
    "torchvision.io.image": (("read_file", 0, "path", "read"), ("write_file", 0, "filename", "new")),
    "soundfile": (("SoundFile.__init__", 1, "file", "mode"),),
    "h5py._hl.files": (("File.__init__", 1, "name", "mode"),),
    "tables.file": (("open_file", 0, "filename", "mode"),),
    "pyarrow.parquet.core": (
        ("ParquetWriter.__init__", 1, "where", "new"),
        ("ParquetFile.__init__", 1, "source", "read"),
        ("read_table", 0, "source", "read"),
    ),
    "pyarrow": (("memory_map", 0, "path", "read"), ("OSFile", 0, "path", "mode")),
    "subprocess": (("Popen.__init__", 10, "cwd", "folder"),),
    "sqlite3.dbapi2": (("connect", 0, "database", "changed"),),
}


def patches(overlay: Overlay) -> dict[str, Callable[[ModuleType], None]]:
    """What to do with which module once it is loaded."""
    return {name: functools.partial(_patch, overlay) for name in WRITERS}


class Imports(importlib.abc.MetaPathFinder):
    """Patches modules right after they are loaded."""

    def __init__(self, patches: Mapping[str, Sequence[Callable[[ModuleType], None]]]) -> None:
        self._patches = patches
        self._looking: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._patches or fullname in self._looking:
            return None
        self._looking.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking.discard(fullname)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for patch in self._patches[fullname]:
                patch(module)

        with contextlib.suppress(AttributeError):
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _patch(overlay: Overlay, module: ModuleType) -> None:
    for attribute, position, name, use in WRITERS[module.__name__]:
        *owners, last = attribute.split(".")
        owner: Any = module
        for part in owners:
            owner = getattr(owner, part, None)
        original = getattr(owner, last, None)
        if original is None:
            continue
        patched = _writer(original, position, name, use, overlay)
        setattr(owner, last, patched)
        if not owners:
            for loaded in list(sys.modules.values()):
                if isinstance(loaded, ModuleType) and vars(loaded).get(last) is original:
                    setattr(loaded, last, patched)


def _writer(original: Callable[..., Any], position: int, name: str, use: str, overlay: Overlay) -> Callable[..., Any]:
    def redirect(value: Any, use: str) -> Any:
        path = text_of(value)
        if path is None or path == ":memory:":
            return value
        if path.startswith("file:"):  # an sqlite URI
            head, mark, options = path[5:].partition("?")
            if "mode=memory" in options or head == ":memory:":
                return value
            use = "read" if "mode=ro" in options else use
            return f"file:{redirect(head.removeprefix('//'), use)}{mark}{options}"
        if use == "folder":
            return overlay.for_folder(path)
        if use == "read":
            target = overlay.for_read(path)
            overlay.note_read(target)
            return value if target == path else target
        if name == "database":
            for log in (f"{path}-wal", f"{path}-journal"):
                if os.path.exists(log):  # noqa: PTH110
                    overlay.for_write(log)
        target = overlay.for_write(path, keep=use == "changed")
        if use == "new":
            overlay.reads.begun(target)
        else:
            overlay.note_read(target)
        return target

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        what = use
        if use == "shared":
            shared = args[position + 1] if len(args) > position + 1 else kwargs.get("shared")
            what = "changed" if shared else "read"
        if use == "mode":  # as `open` has it, read by default
            mode = args[position + 1] if len(args) > position + 1 else kwargs.get("mode", "r")
            what = {"r": "read", "w": "new"}.get(mode, "changed")
        if len(args) > position:
            args = (*args[:position], redirect(args[position], what), *args[position + 1 :])
        elif name in kwargs:
            kwargs[name] = redirect(kwargs[name], what)
        return original(*args, **kwargs)

    return call
