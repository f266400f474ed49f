"""`flor import mlflow` from stores that MLflow itself has made, and what `flor export mlflow` wrote."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from flor_runtime.cli import main
from flor_runtime.query import full_pivot
from flor_runtime.store.layout import Home
from tests.export.stores import store

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("form", ["files", "database"])
def test_a_store_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    place = tmp_path / ("mlruns" if form == "files" else "mlflow.db")
    client = MlflowClient(place.as_uri() if form == "files" else f"sqlite:///{place}")
    experiment = client.create_experiment("odd: ü #1", (tmp_path / "art").as_uri())
    run = client.create_run(experiment, start_time=1_750_000_000_000, run_name="- 'base': #1\ttab").info.run_id
    client.log_param(run, "lr", 0.1)
    client.log_param(run, "many/words", "a b")
    client.set_tag(run, "team", "vision")
    for step in range(3):
        client.log_metric(run, "train/loss", 1 / (step + 3), 1_750_000_000_000 + step, step)
    client.log_metric(run, "odd", math.nan, 1_750_000_000_000, 2)
    client.log_metric(run, "test_acc", 0.9)
    client.set_terminated(run, "FAILED", 1_750_000_009_000)
    done = CliRunner().invoke(main, ["import", "mlflow", str(place)])
    assert done.exit_code == 0 and "1 new" in done.output, done.output
    frame = full_pivot(runs="all")
    assert frame["train/loss"].tolist() == [1 / 3, 1 / 4, 1 / 5]
    assert frame["projid"][0] == "odd: ü #1"
    assert frame["runid"][0] == "- 'base': #1\ttab"
    assert (frame["lr"][0], frame["many/words"][0], frame["tag.team"][0], frame["test_acc"][0]) == (
        0.1,
        "a b",
        "vision",
        0.9,
    )
    [folder] = Home().all_runs()
    assert folder.status() == "failed"
    assert folder.end()["ended"] == 1_750_000_009.0  # type: ignore[index]


def test_what_flor_exported_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.export.test_real_tools import export

    monkeypatch.chdir(tmp_path)
    _, first, _ = store(tmp_path / "home")
    export(tmp_path, "mlflow")
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "other"))
    done = CliRunner().invoke(main, ["import", "mlflow", "flor-export-mlflow"])
    assert "2 new" in done.output, done.output
    frame = full_pivot(runs="all")
    base = frame[frame["runid"] == f"base {first.id[:8]}"]
    assert base["loss"].dropna().tolist() == [0.1 / 3 / (10 * epoch + step) for epoch in (1, 2) for step in (1, 2, 3)]
    assert base["grad_norm"].dropna().tolist() == [1 / 7, 2 / 7]
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    assert (
        CliRunner().invoke(main, ["import", "mlflow", "flor-export-mlflow"]).output.count("was exported: left out") == 2
    )
