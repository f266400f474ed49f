"""The runs below a log folder of TensorBoard's: each folder with event files is one.

The files are taken apart here: lengths and checksums are looked at before anything is made of what they hold, and a
file that ends in the middle of a record, or is damaged, gives what comes before.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flor_runtime.imported.foreign import ForeignRun, ImportFailed, Value
from flor_runtime.store import plainfiles

TOOL = "TensorBoard"
_LARGEST = 8 << 20  # bytes of a record; numbers and texts are small
_STATUS = {1: "finished", 2: "failed"}
#: of the data types of a tensor: how one number of it lies in bytes, and the field that has it otherwise
_TYPES = {1: ("<f", "float_val"), 2: ("<d", "double_val"), 3: ("<i", "int_val"), 9: ("<q", "int64_val"),
          10: ("<?", "bool_val"), 19: ("<e", "")}  # fmt: skip
_TEXT = 7


def runs(path: Path) -> Iterator[ForeignRun]:
    """All runs below a folder.

    Raises:
        ImportFailed: there are none.
    """
    files = sorted(file for file in path.rglob("*tfevents*") if file.is_file() and not file.is_symlink())
    if not files:
        raise ImportFailed(f"{path}: no runs of TensorBoard: no file *tfevents* is there")
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    exported: dict[Path, str | None] = {}
    for folder, found in folders.items():
        run = _run(path, folder, found)
        if folder.name.startswith("recovered-"):  # of one that flor has exported
            run.flor = run.flor or exported.get(folder.parent)
        exported[folder] = run.flor
        if run.metrics or run.parameters:
            yield run


def _run(root: Path, folder: Path, files: list[Path]) -> ForeignRun:
    name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
    files = sorted(files, key=_begun)
    first = True
    run = ForeignRun(TOOL, "", name, root.resolve().name, str(folder))
    left_out: set[str] = set()
    plugins: dict[str, str] = {}
    last = 0.0
    for file in files:
        for event in _events(file, run.notes):
            time = event.wall_time if math.isfinite(event.wall_time) else 0.0
            if first:
                run.key = f"{folder.resolve().name}\0{files[0].name}\0{event.wall_time!r}"
                run.started, first = time, False
            run.started, last = min(run.started, time), max(last, time)
            for value in event.summary.value if event.HasField("summary") else ():
                _take(run, event.step, time, value, plugins, left_out)
    run.ended = last or None
    if not run.status and not first:
        run.status = "finished"
        run.notes.append("TensorBoard doesn't say how it ended")
    if left_out:
        shown = ", ".join(sorted(left_out)[:5]) + (", …" if len(left_out) > 5 else "")
        run.notes.append(f"no numbers and no texts, left out: {shown}")
    return run


def _begun(path: Path) -> tuple[float, str]:
    """When a file was begun; names have whole seconds only."""
    event = next(_events(path, []), None)
    return (event.wall_time if event is not None and math.isfinite(event.wall_time) else math.inf), path.name


def _take(run: ForeignRun, step: int, time: float, value: Any, plugins: dict[str, str], left_out: set[str]) -> None:
    plugin = value.metadata.plugin_data.plugin_name if value.HasField("metadata") else ""
    plugin = plugins.setdefault(value.tag, plugin)
    if plugin == "hparams":
        _hyper_parameters(run, value.metadata.plugin_data.content)
        return
    found: float | int | str | None = None
    if value.HasField("simple_value"):
        found = value.simple_value
    elif value.HasField("tensor") and plugin in ("", "scalars", "text"):
        found = _number_or_text(value.tensor)
    if found is None:
        left_out.add(value.tag)
    elif value.tag == "flor" and isinstance(found, str):
        own = re.search(r"\| run \| ([0-9a-f]{32}) \|", found)
        run.flor = own[1] if own else None
    else:
        name = value.tag.removesuffix("/text_summary") if isinstance(found, str) else value.tag
        run.metrics.setdefault(name, []).append(Value(step, time, found))


def _number_or_text(tensor: Any) -> float | int | str | None:
    if math.prod(dim.size for dim in tensor.tensor_shape.dim) != 1:
        return None
    if tensor.dtype == _TEXT:
        return tensor.string_val[0].decode("utf-8", "replace") if len(tensor.string_val) == 1 else None
    if tensor.dtype not in _TYPES:
        return None
    form, field = _TYPES[tensor.dtype]
    if len(tensor.tensor_content) == struct.calcsize(form):
        (number,) = struct.unpack(form, tensor.tensor_content)
        return number if isinstance(number, int) else float(number)
    values = list(getattr(tensor, field)) if field else []
    return values[0] if len(values) == 1 else None


def _hyper_parameters(run: ForeignRun, content: bytes) -> None:
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    try:
        data = HParamsPluginData.FromString(content)
    except DecodeError:
        run.notes.append("its hyper-parameters can't be read: left out")
        return
    if data.HasField("session_start_info"):
        for name, value in sorted(data.session_start_info.hparams.items()):
            kind = value.WhichOneof("kind")
            if kind in ("number_value", "string_value", "bool_value"):
                found = getattr(value, kind)
                run.parameters[name] = int(found) if isinstance(found, float) and found.is_integer() else found
    if data.HasField("session_end_info"):
        run.status = _STATUS.get(data.session_end_info.status, run.status)


def _events(path: Path, notes: list[str]) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    damaged = 0
    for data in _records(path, notes):
        try:
            yield Event.FromString(data)
        except DecodeError:
            damaged += 1
    if damaged:
        notes.append(f"{path.name}: {damaged} records are no events: left out")


def _records(path: Path, notes: list[str]) -> Iterator[bytes]:
    """The records of a file: each is its length, the length's checksum, the bytes, their checksum."""
    from flor_runtime.imported.crc import masked

    damaged = large = 0
    try:
        with plainfiles.opened(path) as file:
            size = file.seek(0, 2)
            at = 0
            while at + 16 <= size:
                file.seek(at)
                head = file.read(12)
                (length,) = struct.unpack("<Q", head[:8])
                if masked(head[:8]) != struct.unpack("<I", head[8:])[0]:
                    notes.append(f"{path.name}: damaged at byte {at}: only what comes before it is read")
                    break
                if at + 16 + length > size:
                    break
                if length > _LARGEST:
                    large += 1
                else:
                    data = file.read(length)
                    if masked(data) == struct.unpack("<I", file.read(4))[0]:
                        yield data
                    else:
                        damaged += 1
                at += 16 + length
            if at < size and not any(note.startswith(f"{path.name}: damaged at") for note in notes):
                notes.append(f"{path.name}: ends in the middle of a record: all before it is read")
    except OSError as error:
        notes.append(f"{path.name}: can't be read: {error.strerror or error}")
    if damaged:
        notes.append(f"{path.name}: {damaged} records are damaged: left out")
    if large:
        notes.append(f"{path.name}: {large} records are too large for numbers and texts: left out")
