"""`flor import tensorboard`: what TensorBoard's own writers have written, and files that are torn, damaged or hostile."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tensorboardX import SummaryWriter

from flor_runtime.checks import Look, examine
from flor_runtime.cli import main
from flor_runtime.imported.crc import masked
from flor_runtime.query import full_pivot
from flor_runtime.store.layout import Home
from tests.export.stores import store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Home(tmp_path / "home")


def flor(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(args))
    assert done.exit_code == code, done.output
    return done


def logs(root: Path) -> Path:
    """Two runs by tensorboardX, one by torch's writer."""
    from torch.utils.tensorboard import SummaryWriter as TorchWriter

    with SummaryWriter(str(root / "base")) as writer:
        for step in range(4):
            writer.add_scalar("train/loss", 1 / (step + 3), step, walltime=1_750_000_000 + step)
        writer.add_text("note", "first try", 0, walltime=1_750_000_004)
        writer.add_histogram("weights", np.arange(5), 0, walltime=1_750_000_004)
    with SummaryWriter(str(root / "deeper" / "other")) as writer:
        writer.add_scalar("loss", 0.5, 10)
        writer.add_scalar("loss", 0.25, 20)
        writer.add_scalar("test", 0.125)
    with TorchWriter(str(root / "torch")) as torch_writer:
        torch_writer.add_scalar("acc", 0.5, 1, new_style=True)
        torch_writer.add_scalar("acc", 0.75, 2, new_style=True)
        torch_writer.add_scalar("exact", 1 / 3, 3, new_style=True, double_precision=True)
        torch_writer.add_scalar("exact", 2 / 3, 4, new_style=True, double_precision=True)
    return root


def float32(value: float) -> float:
    return float(np.float32(value))


def test_runs_of_tensorboard_stand_in_the_table(home: Home, tmp_path: Path) -> None:
    output = flor("import", "tensorboard", str(logs(tmp_path / "logs"))).output
    assert "3 new" in output and "left out: weights" in output
    frame = full_pivot(home=home)
    assert frame["runid"].unique().tolist() == ["base", "deeper/other", "torch"]
    assert frame["projid"].unique().tolist() == ["logs"]
    base = frame[frame["runid"] == "base"]
    assert base["step"].tolist() == [1, 2, 3, 4]
    assert base["train/loss"].tolist() == [float32(1 / (step + 3)) for step in range(4)]
    assert base["note"].unique().tolist() == ["first try"]
    assert base["tstamp"].iloc[0].timestamp() > 0
    other = frame[frame["runid"] == "deeper/other"]
    assert other[["step", "loss"]].to_numpy().tolist() == [[10, 0.5], [20, 0.25]]
    torchs = frame[frame["runid"] == "torch"]
    assert torchs["acc"].dropna().tolist() == [0.5, 0.75]
    assert torchs["exact"].dropna().tolist() == [1 / 3, 2 / 3]
    described = flor("runs", "base").output
    assert "imported from TensorBoard" in described and "doesn't say how it ended" in described
    assert not list(examine(home, Look()))
    assert "3 as before" in flor("import", "tensorboard", str(tmp_path / "logs")).output
    with SummaryWriter(str(tmp_path / "logs" / "torch")) as writer:
        writer.add_scalar("acc", 0.875, 5)
    assert "1 brought up to date, 2 as before" in flor("import", "tensorboard", str(tmp_path / "logs")).output
    assert full_pivot(runs=["torch"], home=home)["acc"].dropna().tolist() == [0.5, 0.75, 0.875]


def test_what_flor_exported_comes_back_as_it_was(home: Home, tmp_path: Path) -> None:
    _, first, _ = store(tmp_path / "another")

    CliRunner().invoke(
        main, ["export", "tensorboard", "--runs", "all", "-o", "out"], env={"FLOR_HOME": str(tmp_path / "another")}
    )
    flor("import", "tensorboard", "out")
    frame = full_pivot(home=home)
    base = frame[frame["runid"] == f"base-{first.id[:8]}"]
    assert base["loss"].dropna().tolist() == [float32(0.1 / 3 / (10 * e + s)) for e in (1, 2) for s in (1, 2, 3)]
    assert (base["lr"].iloc[0], base["optimizer"].iloc[0], base["shuffle"].iloc[0]) == (float32(0.1 / 3), "adam", True)
    late = frame[frame["runid"] == f"base-{first.id[:8]}/recovered-verified"]
    assert late["grad_norm"].tolist() == [float32(1 / 7), float32(2 / 7)]
    statuses = {run.manifest()["name"]: run.status() for run in home.all_runs()}
    assert sorted(statuses.values()) == ["failed", "finished", "finished"]
    # In the store that they come from, they are left out.
    output = (
        CliRunner().invoke(main, ["import", "tensorboard", "out"], env={"FLOR_HOME": str(tmp_path / "another")}).output
    )
    assert output.count("is a run of this store that was exported: left out") == 3


def event_file(folder: Path) -> Path:
    with SummaryWriter(str(folder)) as writer:
        for step in range(1, 6):
            writer.add_scalar("loss", step / 8, step)
    return next(folder.glob("*tfevents*"))


def kept(home: Home) -> list[float]:
    values: list[float] = full_pivot(home=home)["loss"].tolist()
    return values


def test_a_torn_file_gives_what_is_whole(home: Home, tmp_path: Path) -> None:
    path = event_file(tmp_path / "logs")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert "ends in the middle of a record" in flor("import", "tensorboard", str(tmp_path / "logs")).output
    assert kept(home) == [0.125, 0.25, 0.375, 0.5]


def test_a_damaged_record_is_left_out(home: Home, tmp_path: Path) -> None:
    path = event_file(tmp_path / "logs")
    data = bytearray(path.read_bytes())
    data[-10] ^= 0xFF
    path.write_bytes(bytes(data))
    assert "1 records are damaged" in flor("import", "tensorboard", str(tmp_path / "logs")).output
    assert kept(home) == [0.125, 0.25, 0.375, 0.5]


@pytest.mark.parametrize("length", [2**63, 2**32, 50_000_000])
def test_a_length_that_nothing_has_is_not_believed(home: Home, tmp_path: Path, length: int) -> None:
    path = event_file(tmp_path / "logs")
    head = struct.pack("<Q", length)
    with open(path, "ab") as file:
        file.write(head + struct.pack("<I", masked(head)) + b"x" * 100)
    assert "ends in the middle of a record" in flor("import", "tensorboard", str(tmp_path / "logs")).output
    assert len(kept(home)) == 5


def test_a_record_that_is_no_event_is_left_out(home: Home, tmp_path: Path) -> None:
    path = event_file(tmp_path / "logs")
    head = struct.pack("<Q", 5)
    with open(path, "ab") as file:
        for data in (b"\xff" * 5, b"cos\ns"):  # the second is what a pickle begins with
            file.write(head + struct.pack("<I", masked(head)) + data + struct.pack("<I", masked(data)))
    assert "are no events" in flor("import", "tensorboard", str(tmp_path / "logs")).output
    assert len(kept(home)) == 5


def test_other_files_are_no_runs(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    assert "no runs of TensorBoard" in flor("import", "tensorboard", str(folder), code=2).output
    (folder / "events.out.tfevents.1.host").write_bytes(b"not an event file at all, but long enough to be one")
    (folder / "events.out.tfevents.2.link").symlink_to("/etc/passwd")
    assert "no runs" in flor("import", "tensorboard", str(folder)).output
    assert "is not there" in flor("import", "tensorboard", str(tmp_path / "nothing"), code=2).output
    assert home.all_runs() == []
