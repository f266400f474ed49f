"""What `flor export` writes, read by the tools that it is for."""

from __future__ import annotations

import json
import math
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from flor_runtime.cli import main
from flor_runtime.query import full_pivot, log_records
from flor_runtime.store.layout import Home, RunFolder
from tests.export.stores import NUMBERS, ODD, store
from tests.stores import add_replay, training


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Home, RunFolder, RunFolder]:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return store(tmp_path / "home")


def export(*args: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["export", *args, "--runs", "all"])
    assert done.exit_code == code, done.output
    return done.output


def events(folder: Path) -> dict[str, Any]:
    """What TensorBoard's own reader finds in a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    found: dict[str, Any] = {tag: reader.Scalars(tag) for tag in reader.Tags()["scalars"]}
    found["texts"] = {tag: reader.Tensors(tag)[0].tensor_proto.string_val[0] for tag in reader.Tags()["tensors"]
                      if not tag.startswith("_hparams_")}  # fmt: skip
    found["reader"] = reader
    return found


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def as_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.inf


def test_tensorboard_reads_values_steps_times_and_what_was_recovered(runs: Any) -> None:
    _, first, second = runs
    said = export("tensorboard")
    assert "'huge' has values beyond 32-bit floats" in said
    assert "'sizes' has values that are no numbers" in said
    folder = Path("flor-export-tensorboard")
    base = folder / f"base-{first.id[:8]}"
    found = events(base)
    loss = found["loss"]
    assert [event.step for event in loss] == [1, 2, 3, 4, 5, 6]  # counted on over epochs
    expected = [0.1 / 3 / (10 * epoch + step) for epoch in (1, 2) for step in (1, 2, 3)]
    assert [event.value for event in loss] == [as_float32(value) for value in expected]
    assert [event.wall_time for event in loss] == sorted(event.wall_time for event in loss)
    assert [(event.step, event.value) for event in found["acc"]] == [(1, as_float32(0.1)), (2, as_float32(0.2))]
    for name, value in NUMBERS.items():
        assert bits(found[name][0].value) == bits(as_float32(value))
    assert math.isnan(found["nan"][0].value)
    assert found[ODD][0].value == 3.0
    assert found["odd name_ ü_"][0].value == 4.0
    assert found["val/acc"][0].value == 1.0
    assert found["tracked"][0].step == 1
    assert found["texts"]["note"] == b"first <b>try</b>"
    about = found["texts"]["flor"].decode()
    assert first.id in about and "finished" in about and "0" * 40 in about and "--lr 0.1" in about
    assert "grad_norm" not in found
    late = events(base / "recovered-verified")
    assert [(e.step, e.value) for e in late["grad_norm"]] == [(1, as_float32(1 / 7)), (2, as_float32(2 / 7))]
    assert [e.wall_time for e in late["grad_norm"]] == [e.wall_time for e in found["acc"]]  # of the turn itself
    description = late["reader"].SummaryMetadata("grad_norm").summary_description
    assert description == "recovered by flor replay: verified"
    assert events(folder / second.id[:8])["loss"]


def test_tensorboard_has_parameters_and_status_on_its_page_of_hyper_parameters(runs: Any) -> None:
    from tensorboard.plugins.hparams import metadata

    _, first, second = runs
    export("tensorboard", "loss")
    found = {}
    for name in (f"base-{first.id[:8]}", second.id[:8]):
        reader = events(Path("flor-export-tensorboard") / name)["reader"]
        content = {tag: reader.SummaryMetadata(tag).plugin_data.content for tag in reader.Tags()["tensors"]}
        begun = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
        ended = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
        found[name] = begun, ended
    begun, ended = found[f"base-{first.id[:8]}"]
    assert begun.hparams["lr"].number_value == 0.1
    assert begun.hparams["optimizer"].string_value == "adam"
    assert begun.hparams["shuffle"].bool_value is True
    assert (begun.start_time_secs, ended.status) == (1_750_000_000.0, 1)
    assert found[second.id[:8]][1].status == 2


def test_exported_twice_is_not_doubled_and_what_is_new_comes_along(runs: Any) -> None:
    _, first, _ = runs
    assert "2 new: out" in export("tensorboard", "-o", "out")
    files = sorted(Path("out").rglob("events*"))
    assert "2 as before: out" in export("tensorboard", "-o", "out")
    assert sorted(Path("out").rglob("events*")) == files
    add_replay(first, "20250616-1", ["grad_norm"], lambda log: log.append(log.context(0, "epoch", 1), "grad_norm", 0.5))
    assert "1 brought up to date, 1 as before: out" in export("tensorboard", "-o", "out")
    base = Path("out") / f"base-{first.id[:8]}"
    assert [e.value for e in events(base / "recovered-exact")["grad_norm"]] == [0.5]
    assert [e.step for e in events(base / "recovered-verified")["grad_norm"]] == [2]
    assert len(events(base)["loss"]) == 6


@pytest.mark.parametrize("form", ["csv", "parquet", "tensorboard"])
def test_what_flor_has_not_written_is_never_touched(runs: Any, form: str) -> None:
    other = Path("logs")
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    assert "flor has not made it: choose another -o" in export(form, "-o", "logs", code=2)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]
    assert "is a file: choose another -o" in export(form, "-o", "logs/mine.txt", code=2)
    export(form)
    assert "holds an export for" in export("parquet" if form == "csv" else "csv", "-o", f"flor-export-{form}", code=2)
    written = next(path for path in Path(f"flor-export-{form}").rglob("*") if path.suffix != ".json" and path.is_file())
    written.write_bytes(b"mine, too")
    _, first, second = runs
    for run in (first, second):
        add_replay(run, "20250617-1", ["acc2"], lambda log: log.append(0, "acc2", 0.5))
    assert "is not as flor wrote it" in export(form, code=2)
    assert written.read_bytes() == b"mine, too"


def test_csv_is_read_back_by_pandas(runs: Any) -> None:
    home, first, second = runs
    assert export("csv").splitlines()[-1].startswith("flor-export-csv/runs.csv")
    folder = Path("flor-export-csv")
    listed = pd.read_csv(folder / "runs.csv", parse_dates=["started", "ended"])
    assert listed["run"].tolist() == [first.id, second.id]
    assert listed["status"].tolist() == ["finished", "failed"]
    assert listed["started"][0] == datetime.fromtimestamp(1_750_000_000)
    assert listed["param.lr"][0] == 0.1 and listed["param.optimizer"][0] == "adam"
    assert json.loads(listed["arguments"][0]) == ["--lr", "0.1"]
    assert json.loads(listed["recovered"][0]) == {"grad_norm": {"verified": 2}}
    logs = pd.read_csv(folder / "logs.csv", keep_default_na=False, dtype=str)
    expected = log_records("all", home=home, provenance=True)
    assert logs["name"].tolist() == expected["name"].tolist()
    for row, value in zip(logs.itertuples(), expected["value"], strict=True):
        if row.type == "float":
            assert (math.isnan(value) and not row.number) or bits(float(row.number)) == bits(value)
        elif row.type == "int":
            assert int(row.integer) == value
    late = logs[logs["name"] == "grad_norm"]
    assert late[["epoch", "source", "label"]].to_numpy().tolist() == [
        ["1", "recovered", "verified"],
        ["2", "recovered", "verified"],
    ]
    pivot = pd.read_csv(folder / "pivot.csv", float_precision="round_trip")
    assert pivot["loss"].tolist() == full_pivot(runs="all", home=home)["loss"].tolist()
    assert pivot["grad_norm label"].dropna().unique().tolist() == ["verified"]
    assert "2 as before" in export("csv")


def test_parquet_keeps_types_and_bits(runs: Any) -> None:
    import pyarrow.parquet as pq

    home, _, _ = runs
    export("parquet")
    pivot = pq.read_table("flor-export-parquet/pivot.parquet")
    types = {field.name: str(field.type) for field in pivot.schema}
    assert (types["loss"], types["epoch"], types["big"], types[ODD]) == ("double", "int64", "int64", "int64")
    frame = full_pivot(runs="all", home=home)
    for name in ("loss", "third", "tiny", "huge", "zero"):
        values = pivot.column(name).to_pylist()
        kept = [value for value in values if value is not None]
        assert [bits(v) for v in kept] == [bits(v) for v in frame[name].dropna()]
    assert set(pivot.column("big").to_pylist()) == {2**62 + 1, None}
    assert pivot.column("sizes").to_pylist()[0] == "[1, 2]"
    logs = pq.read_table("flor-export-parquet/logs.parquet")
    assert str(logs.schema.field("number").type) == "double"
    assert len(logs) == len(log_records("all", home=home))


def test_names_runs_and_conditions_choose(runs: Any) -> None:
    _, first, second = runs
    export("tensorboard", "loss", "val", "--where", "epoch == 2")
    found = events(Path("flor-export-tensorboard") / f"base-{first.id[:8]}")
    assert [event.step for event in found["loss"]] == [4, 5, 6]
    assert "acc" not in found and "val/loss" in found
    done = CliRunner().invoke(main, ["export", "csv", "--runs", second.id[:8], "-o", "one"])
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv("one/runs.csv")) == 1
    assert "no run logs 'losss': did you mean 'loss'" in export("csv", "losss", code=2)
    assert "no column 'nothing'" in export("csv", "--where", "nothing > 1", code=2)
    assert export("excel", code=2)


def test_a_missing_library_is_one_line(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flor_runtime.cli.export.find_spec", lambda name: None)
    assert 'export trackio needs trackio: pip install "flor[trackio]"' in export("trackio", code=2)
    assert not Path("flor-export-trackio").exists()


def test_values_at_one_place_are_counted_when_only_the_last_is_exported(runs: Any, tmp_path: Path) -> None:
    from tests.stores import make_run

    home, _, _ = runs

    def logging(log: Any) -> None:
        turn = log.context(0, "epoch", 1)
        for value in (1.0, 2.0, 3.0):
            log.append(turn, "again", value)

    run = make_run(home, logging)
    said = export("tensorboard", "again")
    assert f"{run.id[:8]}: 2 values of 'again' stood where a later one was logged" in said
    assert [event.value for event in events(Path("flor-export-tensorboard") / run.id[:8])["again"]] == [3.0]
    export("csv", "again")
    assert len(pd.read_csv("flor-export-csv/logs.csv")) == 3


def test_an_empty_store_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "no runs in" in export("csv", code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_second_entry_into_the_main_loop_counts_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flor_runtime.export.gather import gather
    from tests.stores import make_run

    home = Home(tmp_path)

    def logging(log: Any) -> None:
        training(2, 1)(log)
        log.append(log.context(0, "epoch@1", 1), "acc", 0.9)

    (run,), _ = gather([make_run(home, logging)])
    assert [point.step for point in run.points["acc"]] == [1, 2, 3]
