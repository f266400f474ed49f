"""Runs for TensorBoard: a folder of event files a run; what replays recovered is a run of its own beside it.

Written with the messages of tensorboardX. Numbers are 32-bit floats: its format has doubles, too, but the server that
TensorBoard starts by default doesn't show them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

from flor_runtime.export.gather import RECORDED, Exported
from flor_runtime.export.target import Target, file_name
from flor_runtime.imported.crc import masked
from flor_runtime.store.pictures import Picture

_STATUS = {"finished": 1, "alive": 3}  # of plugin_hparams: SUCCESS, RUNNING; else FAILURE
_FAILURE = 2


def write(runs: list[Exported], target: Target) -> list[str]:
    """Write runs that are not there as they are; gives what is to be said."""
    notes: dict[str, None] = {}
    for run in runs:
        if target.is_current(run.id, run.digest()):
            continue
        # The name of a run may change; its folder keeps the id only, so that it is not written twice.
        folder = f"{run.id[:8]}" if not run.name else f"{file_name(run.name)}-{run.id[:8]}"
        files = {}
        for part, events in _parts(run, notes):
            inside = f"{folder}/{part}" if part else folder
            files[f"{inside}/events.out.tfevents.{int(run.started)}.{run.id[:8]}.flor"] = events
        target.remove_below(f"{folder}/", set(files))
        for name, data in files.items():
            target.put(name, data)
        target.has(run.id, run.digest())
    return list(notes)


def _parts(run: Exported, notes: dict[str, None]) -> Iterator[tuple[str, bytes]]:
    """The event files of a run: what was recorded, and what was recovered, by label."""
    labels = {point.label for points in run.points.values() for point in points}
    for label in sorted(labels | {RECORDED}, key=lambda label: (label != RECORDED, label)):
        events = [_version(run.started)]
        if label == RECORDED:
            events += _about(run)
        points = [
            (point.time, point.step, name, point.value)
            for name, points in run.points.items()
            for point in points
            if point.label == label
        ]
        told: set[str] = set()
        for time, step, name, value in sorted(points, key=lambda each: each[:2]):
            event = _event(time, step, name, value, "" if name in told else label)
            if event is not None:
                told.add(name)
                events.append(event)
                if isinstance(value, (int, float)) and math.isinf(as_float32(value)) and abs(value) != math.inf:
                    notes[f"{name!r} has values beyond 32-bit floats: they are infinite in TensorBoard"] = None
            elif value is not None:
                notes[f"{name!r} has values that are no numbers, texts or images: these are left out"] = None
        yield "" if label == RECORDED else f"recovered-{label}", b"".join(map(framed, events))


def _event(time: float, step: int, name: str, value: object, label: str) -> Any:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    about = "recorded by flor" if label == RECORDED else f"recovered by flor replay: {label}"

    def described(plugin: str) -> Any:
        if not label:  # it stands in the first event of a name
            return None
        return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin), summary_description=about)

    if isinstance(value, (bool, int, float)):
        found = Summary.Value(tag=_tag(name), metadata=described("scalars"), simple_value=as_float32(value))
    elif isinstance(value, str):
        found = Summary.Value(tag=_tag(name), metadata=described("text"), tensor=_text(value))
    elif isinstance(value, Picture):
        width, height = value.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=value.png)
        found = Summary.Value(tag=_tag(name), image=image)
    else:
        return None
    return Event(wall_time=time, step=step, summary=Summary(value=[found]))


def _tag(name: str) -> str:
    return name.encode("utf-8", "replace").decode()  # a message holds no lone surrogates


def as_float32(value: float) -> float:
    """The nearest 32-bit float; infinite beyond them."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _text(value: str) -> Any:
    from tensorboardX.proto.tensor_pb2 import TensorProto
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboardX.proto.types_pb2 import DT_STRING

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    return TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[value.encode("utf-8", "replace")])


def _version(started: float) -> Any:
    from tensorboardX.proto.event_pb2 import Event

    return Event(wall_time=started, file_version="brain.Event:2")


def _about(run: Exported) -> list[Any]:
    """The parameters, for the page of hyper-parameters, and the rest that is known of a run as a text."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboardX.proto.tensor_pb2 import TensorProto
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboardX.proto.types_pb2 import DT_FLOAT

    begun = SessionStartInfo(start_time_secs=run.started, group_name=run.id[:8])
    for name, value in run.parameters.items():
        entry = begun.hparams[_tag(name)]
        if isinstance(value, bool):
            entry.bool_value = value
        elif isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 1024):
            entry.number_value = float(value)
        elif value is not None:
            entry.string_value = _tag(str(value))
    ended = SessionEndInfo(status=_STATUS.get(run.status, _FAILURE), end_time_secs=run.ended or run.started)
    values = []
    for tag, content in (
        ("_hparams_/session_start_info", HParamsPluginData(session_start_info=begun, version=0)),
        ("_hparams_/session_end_info", HParamsPluginData(session_end_info=ended, version=0)),
    ):
        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
        nothing = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))
        values.append(Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=nothing))
    known = {"run": run.id, "name": run.name or "", "status": run.status, **run.tags, "arguments": " ".join(run.argv)}
    rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in known.items() if value)
    about = Summary.Value(
        tag="flor",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=_text(f"| | |\n|---|---|\n{rows}"),
    )
    return [Event(wall_time=run.started, step=0, summary=Summary(value=[each])) for each in (*values, about)]


def _cell(text: str) -> str:
    return " ".join("".join("\\" + char if char in "\\|`*_<>[]" else char for char in text).split())


def framed(message: Any) -> bytes:
    """A record of an event file: length and bytes, each with its masked CRC-32C."""
    data: bytes = message.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked(length)), data, struct.pack("<I", masked(data))))
