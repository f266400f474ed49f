"""Libraries that open files by themselves get their paths from the overlay; trackers and programs get their variables."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flor_runtime.replay import offline, silence
from flor_runtime.replay.overlay import Overlay
from flor_runtime.replay.workspace import Workspace
from flor_runtime.replay.writers import WRITERS, patches
from tests.replay.test_guard import replay, user  # noqa: F401

#: What the libraries' own functions are called with; they are not installed where these tests run.
_CALLS: dict[str, tuple[tuple[str, tuple[Any, ...], str], ...]] = {
    "safetensors": (("serialize_file", ({}, "PATH"), "written"), ("safe_open", ("PATH", "pt"), "read")),
    "cv2": (
        ("imwrite", ("PATH", 0), "written"),
        ("imread", ("PATH",), "read"),
        ("VideoWriter", ("PATH", 0), "written"),
    ),
    "torchvision.io.image": (("read_file", ("PATH",), "read"), ("write_file", ("PATH", b""), "written")),
    "soundfile": (("SoundFile.__init__", ("PATH", "w"), "written"), ("SoundFile.__init__", ("PATH", "r"), "read")),
    "h5py._hl.files": (("File.__init__", ("PATH", "a"), "written"), ("File.__init__", ("PATH",), "read")),
    "tables.file": (("open_file", ("PATH", "w"), "written"), ("open_file", ("PATH",), "read")),
}


@pytest.mark.parametrize(
    ("library", "function", "arguments", "then"), [(name, *call) for name, calls in _CALLS.items() for call in calls]
)
def test_a_librarys_files_are_the_replays(
    tmp_path: Path, library: str, function: str, arguments: tuple[Any, ...], then: str
) -> None:
    mine = tmp_path / "user" / "data.bin"
    mine.parent.mkdir()
    mine.write_text("mine")
    upper = tmp_path / "up/fs"
    upper.mkdir(parents=True)
    overlay = Overlay(str(upper), protected=[str(mine.parent)])
    overlay.link_entries(str(upper), "/")
    got: list[Any] = []
    module = types.ModuleType(library)
    *owner, last = function.split(".")
    place = type(owner[0], (), {}) if owner else module
    if owner:
        setattr(module, owner[0], place)
    setattr(place, last, lambda *args: got.extend(args))
    patches(overlay)[library](module)
    getattr(place, last)(*(["self"] if owner else []), *(str(mine) if a == "PATH" else a for a in arguments))
    path = next(a for a in got if isinstance(a, str) and a.endswith("data.bin"))
    assert overlay.inside(path) == (then == "written")
    assert mine.read_text() == "mine"


def test_every_library_in_the_table_is_tried() -> None:
    elsewhere = {"torch", "torch.serialization", "torch.jit._serialization", "subprocess", "sqlite3.dbapi2"}
    assert set(WRITERS) == {*_CALLS, *elsewhere, "pyarrow", "pyarrow.parquet.core"}


@pytest.mark.proof
def test_pyarrow(replay: Callable[..., Workspace]) -> None:  # noqa: F811
    replay(
        """
        import pyarrow as pa, pyarrow.parquet as pq
        table = pa.table({"a": [1, 2]})
        for base in ("out/", str(USER) + "/out/"):
            pq.write_table(table, base + "t.parquet"); check(pq.read_table(base + "t.parquet") == table)
            with pa.OSFile(base + "f.arrow", "wb") as file: file.write(b"abc")
            check(pa.memory_map(base + "f.arrow").read() == b"abc")
        """
    )


def test_find_sees_links_where_the_users_files_are(replay: Callable[..., Workspace]) -> None:  # noqa: F811
    replay(
        """
        import subprocess
        def found(kind): return subprocess.run(["find", "data/", "-type", kind, "-name", "x.csv"], capture_output=True).stdout
        check(found("f") == b"" and found("l") == b"data/x.csv\\n", (found("f"), found("l")))
        """
    )


def test_the_variables_for_trackers_and_programs(tmp_path: Path) -> None:
    said = silence.environment(tmp_path)
    off = {"WANDB_MODE": "disabled", "SWANLAB_MODE": "disabled", "NEPTUNE_MODE": "debug", "CLEARML_OFFLINE_MODE": "1"}
    assert off.items() <= said.items()
    assert said["COMET_START_ONLINE"] == "0" and said["TRACKIO_DIR"].startswith(str(tmp_path))
    assert offline.OFFLINE["HF_HUB_OFFLINE"] == "1" and offline.OFFLINE["https_proxy"].endswith(":9")


def test_comet_and_trackio_whatever_the_script_says() -> None:
    said: dict[str, dict[str, object]] = {}
    comet, trackio = types.ModuleType("comet_ml"), types.ModuleType("trackio")

    class Experiment:
        def __init__(self, **options: object) -> None:
            said["comet"] = options

    comet.Experiment = Experiment  # type: ignore[attr-defined]
    trackio.init = lambda **options: said.update(trackio=options)  # type: ignore[attr-defined]
    for module in (comet, trackio):
        silence.patches()[module.__name__](module)
    comet.Experiment(project="p", disabled=False)  # type: ignore[attr-defined]
    trackio.init(project="p", space_id="me/space")  # type: ignore[attr-defined]
    assert said == {"comet": {"project": "p", "disabled": True}, "trackio": {"project": "p", "space_id": None}}
