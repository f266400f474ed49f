"""What `flor export` writes, read by MLflow and trackio themselves."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flor_runtime.store.layout import Home, RunFolder
from tests.export.stores import NUMBERS, ODD, store
from tests.stores import add_replay

pytestmark = pytest.mark.proof


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Home, RunFolder, RunFolder]:
    return store(tmp_path / "home")


def export(root: Path, *args: str) -> str:
    """In a process of its own: trackio reads where its store is when it is imported."""
    env = {**os.environ, "FLOR_HOME": str(root / "home")}
    command = [sys.executable, "-m", "flor", "export", *args, "--runs", "all"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
    return done.stderr


def test_mlflow_reads_metrics_parameters_status_times_and_tags(runs: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    home, first, second = runs
    assert f"MLflow can't have the name {ODD!r}" in export(tmp_path, "mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path}/flor-export-mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    assert experiment.artifact_location.startswith((tmp_path / "flor-export-mlflow").as_uri())
    found = {run.data.tags["flor.run"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {first.id, second.id}
    run = found[first.id]
    assert run.info.run_name == f"base {first.id[:8]}"
    assert (run.info.status, found[second.id].info.status) == ("FINISHED", "FAILED")
    assert run.info.start_time == 1_750_000_000_000 and run.info.end_time > run.info.start_time
    assert run.data.params == {"lr": "0.1", "optimizer": "adam", "shuffle": "True"}
    loss = client.get_metric_history(run.info.run_id, "loss")
    expected = [0.1 / 3 / (10 * epoch + step) for epoch in (1, 2) for step in (1, 2, 3)]
    assert sorted((metric.step, metric.value) for metric in loss) == list(enumerate(expected, 1))
    assert all(abs(metric.timestamp - 1000 * first.path.stat().st_mtime) < 600_000 for metric in loss)
    for name, value in NUMBERS.items():
        kept = run.data.metrics[name]
        assert kept == (sys.float_info.max if math.isinf(value) else value)
    assert math.isnan(run.data.metrics["nan"])
    assert run.data.metrics["odd name_ ü__"] == 3.0 and run.data.metrics["odd name_ ü_"] == 4.0
    assert run.data.metrics["val/acc"] == 1.0
    assert run.data.metrics["grad_norm"] == 2 / 7
    tags = run.data.tags
    assert tags["flor.recovered.grad_norm"] == "2 verified of 2"
    assert tags["flor.version"] == "0" * 40
    assert tags["flor.text.note"] == "first <b>try</b>"
    assert not (tmp_path / "mlruns").exists()
    # Once more: nothing is doubled; what a replay has recovered since comes along.
    export(tmp_path, "mlflow")
    add_replay(second, "20250616-1", ["norm"], lambda log: log.append(log.context(0, "epoch", 1), "norm", 0.25))
    assert "1 brought up to date, 1 as before" in export(tmp_path, "mlflow")
    again = client.search_runs([experiment.experiment_id])
    assert len(again) == 2
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 6
    assert client.get_run(found[second.id].info.run_id).data.metrics["norm"] == 0.25
    # A value that has become another one: MLflow can't change any, so the run is written anew.
    add_replay(
        second, "20250617-1", ["norm"], lambda log: log.append(log.context(0, "epoch", 1), "norm", 0.5), ended=2e9
    )
    export(tmp_path, "mlflow")
    active = [r for r in client.search_runs([experiment.experiment_id]) if r.data.tags["flor.run"] == second.id]
    assert [r.data.metrics["norm"] for r in active] == [0.5]
    # Into a database of the user's own, which is named.
    mine = MlflowClient(f"sqlite:///{tmp_path}/mine.db")
    own = mine.create_experiment("own", (tmp_path / "files").as_uri())
    mine.create_run(own, run_name="theirs")
    export(tmp_path, "mlflow", "-o", "mine.db")
    assert len(mine.search_runs([mine.get_experiment_by_name("digits").experiment_id])) == 2
    assert [r.info.run_name for r in mine.search_runs([own])] == ["theirs"]


READ = """
import json, sys, trackio
from trackio.sqlite_storage import SQLiteStorage
api = trackio.Api()
found = {}
for run in api.runs("digits"):
    rows = SQLiteStorage.get_logs("digits", run.name, run_id=run.id)
    found[run.id] = {"name": run.name, "config": run.config, "rows": [
        {k: (v if isinstance(v, (int, str)) else v.hex()) for k, v in row.items()} for row in rows]}
print(json.dumps(found))
"""


def test_trackio_reads_metrics_steps_times_and_parameters(runs: Any, tmp_path: Path) -> None:
    _, first, second = runs
    export(tmp_path, "trackio")
    export(tmp_path, "trackio")
    add_replay(second, "20250616-1", ["norm"], lambda log: log.append(log.context(0, "epoch", 1), "norm", 0.25))
    assert "1 brought up to date, 1 as before" in export(tmp_path, "trackio")
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "flor-export-trackio"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", READ], env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {first.id, second.id}
    base = found[first.id]
    assert base["name"] == f"base {first.id[:8]}"
    assert base["config"]["lr"] == 0.1 and base["config"]["optimizer"] == "adam"
    assert base["config"]["flor.status"] == "finished" and base["config"]["flor.version"] == "0" * 40
    assert base["config"]["flor.recovered.grad_norm"] == "2 verified of 2"
    loss = {row["step"]: row["loss"] for row in base["rows"] if "loss" in row}
    expected = [0.1 / 3 / (10 * epoch + step) for epoch in (1, 2) for step in (1, 2, 3)]
    assert loss == {step: value.hex() for step, value in enumerate(expected, 1)}
    assert len([row for row in base["rows"] if "loss" in row]) == 6
    root = next(row for row in base["rows"] if "third" in row)
    for name, value in NUMBERS.items():
        assert root[name] == value.hex()
    assert root["note"] == "first <b>try</b>" and root[ODD] == 3
    late = {row["step"]: row["grad_norm"] for row in base["rows"] if "grad_norm" in row}
    assert late == {1: (1 / 7).hex(), 2: (2 / 7).hex()}
    assert all(row["timestamp"].startswith("20") for row in base["rows"])
    assert [row["norm"] for row in found[second.id]["rows"] if "norm" in row] == [(0.25).hex()]
