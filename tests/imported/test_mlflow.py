"""`flor import mlflow`: from stores that look as MLflow makes them (test_real_tools.py has the real ones)."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flor_runtime.checks import Look, examine
from flor_runtime.cli import main
from flor_runtime.query import full_pivot, log_records
from flor_runtime.store.layout import Home

RUN = "2eafb65749864f94aa7069aa945c0836"
OTHER = "ba1b52932fd14405a01b40aa40031fe5"
META = """\
artifact_uri: file:///art/artifacts
end_time: {end}
experiment_id: '7'
lifecycle_stage: {stage}
run_id: {run}
run_name: '{name}'
source_name: ''
start_time: 1750000000000
status: {status}
tags: []
"""
FILES = {
    "params/lr": "1e-3",
    "params/opt/name": "adam",
    "params/layers": "4",
    "params/version": "007",
    "params/api_key": "sk-1234567890abcdef1234567890abcdef",
    "metrics/train/loss": "".join(f"175000000{n}000 {1 / (n + 3)!r} {n}\n" for n in range(3)),
    "metrics/odd": "1750000001000 nan 1\n1750000002000 inf 2\n",
    "metrics/test_acc": "1750000009000 0.9 0\n",
    "tags/mlflow.source.name": "/home/me/train.py",
    "tags/mlflow.source.git.commit": "a" * 40,
    "tags/mlflow.log-model.history": "[]",
    "tags/team": "vision",
}
TABLES = """
CREATE TABLE experiments (experiment_id INTEGER, name VARCHAR);
CREATE TABLE runs (run_uuid VARCHAR, name VARCHAR, source_name VARCHAR, status VARCHAR, start_time BIGINT, end_time BIGINT,
  lifecycle_stage VARCHAR, experiment_id INTEGER);
CREATE TABLE metrics (key VARCHAR, value FLOAT, timestamp BIGINT, run_uuid VARCHAR, step BIGINT, is_nan BOOLEAN);
CREATE TABLE params (key VARCHAR, value VARCHAR, run_uuid VARCHAR);
CREATE TABLE tags (key VARCHAR, value VARCHAR, run_uuid VARCHAR);
"""


def files_store(root: Path) -> Path:
    """An `mlruns` folder with two runs."""
    folder = root / "mlruns" / "7"
    for path, text in {"meta.yaml": "experiment_id: '7'\nlifecycle_stage: active\nname: digits\n"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for run, status, end in ((RUN, 3, "1750000010000"), (OTHER, 1, "null")):
        made = folder / run
        for path, text in (FILES if run == RUN else {"metrics/loss": "1750000020000 0.5 4\n"}).items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text)
        name = "it''s: base" if run == RUN else "other"
        (made / "meta.yaml").write_text(META.format(run=run, end=end, status=status, stage="active", name=name))
    return folder.parent


def database(path: Path) -> Path:
    """The first of these runs in a database."""
    base = sqlite3.connect(path)
    base.executescript(TABLES)
    base.execute("INSERT INTO experiments VALUES (7, 'digits')")
    base.execute(
        "INSERT INTO runs VALUES (?, ?, '', 'FINISHED', 1750000000000, 1750000010000, 'active', 7)", (RUN, "it's: base")
    )
    base.execute("INSERT INTO runs VALUES (?, 'gone', '', 'FINISHED', 1, 2, 'deleted', 7)", (OTHER,))
    for path_, text in FILES.items():
        kind, _, key = path_.partition("/")
        if kind == "metrics":
            for line in text.splitlines():
                time, value, step = line.split()
                number = float(value)
                row = key, 0.0 if math.isnan(number) else number, int(time), RUN, int(step), math.isnan(number)
                base.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row)
        else:
            base.execute(f"INSERT INTO {kind} VALUES (?, ?, ?)", (key, text, RUN))
    base.commit()
    base.close()
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return Home(tmp_path / "home")


def flor(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(args))
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("form", ["files", "database"])
def test_runs_of_mlflow_stand_in_the_table(home: Home, tmp_path: Path, form: str) -> None:
    store = files_store(tmp_path) if form == "files" else database(tmp_path / "mine.db")
    before = {
        path: path.read_bytes() for path in store.parent.rglob("*") if path.is_file() and "home" not in path.parts
    }
    flor("import", "mlflow", str(store))
    assert {path: path.read_bytes() for path in before} == before
    frame = full_pivot(runs=["it's: base"], home=home)
    assert frame["projid"].unique().tolist() == ["digits"]
    loss = frame[["step", "train/loss"]].dropna()
    assert loss.to_numpy().tolist() == [[1, 1 / 3], [2, 1 / 4], [3, 1 / 5]]  # steps from 0 are counted from 1
    odd = frame["odd"].tolist()
    assert math.isnan(odd[1]) and odd[2] == math.inf
    assert frame["test_acc"].tolist() == [0.9] * 3  # one value at step 0: of the run
    first = frame.iloc[0]
    assert (first["lr"], first["layers"], first["opt/name"], first["version"]) == (1e-3, 4, "adam", "007")
    assert first["api_key"] == "***"
    assert first["tag.team"] == "vision" and first["tag.mlflow.source.git.commit"] == "a" * 40
    assert "tag.mlflow.log-model.history" not in frame
    described = flor("runs", "it's: base").output
    assert "finished" in described and "imported from MLflow" in described and "train.py" in described
    records = log_records(["it's: base"], provenance=True, home=home)
    assert set(records[records["name"] == "train/loss"]["label"]) == {"imported from MLflow"}
    [folder] = [f for f in home.all_runs() if f.manifest()["name"] == "it's: base"]
    assert (folder.manifest()["started"], folder.end()["ended"]) == (1_750_000_000.0, 1_750_000_010.0)  # type: ignore[index]
    from flor_runtime.store.logreader import read

    assert read(folder.log).started.tolist()[1:] == [1_750_000_000.0, 1_750_000_001.0, 1_750_000_002.0]
    assert not list(examine(home, Look()))


def test_imported_twice_is_not_doubled_and_what_is_new_comes_along(home: Home, tmp_path: Path) -> None:
    store = files_store(tmp_path)
    assert "2 new" in flor("import", "mlflow", str(store)).output
    assert "2 as before" in flor("import", "mlflow", str(tmp_path)).output
    assert "2 as before" in flor("import", "mlflow", str(store)).output
    with open(store / "7" / OTHER / "metrics" / "loss", "a") as file:
        file.write("1750000021000 0.25 5\n")
    assert "1 brought up to date, 1 as before" in flor("import", "mlflow", str(store)).output
    assert full_pivot(runs=["other"], home=home)["loss"].tolist() == [0.5, 0.25]
    assert len(home.all_runs()) == 2
    # The same run from the database is the same run; other tags apart nothing of it differs.
    flor("import", "mlflow", str(database(tmp_path / "mine.db")))
    assert len(home.all_runs()) == 2


def test_a_run_that_has_not_ended_is_said_to_be_so(home: Home, tmp_path: Path) -> None:
    flor("import", "mlflow", str(files_store(tmp_path)), "--runs", "other")
    [run] = home.all_runs()
    assert run.status() == "killed"
    assert "MLflow doesn't say that it ended" in run.manifest()["notes"]
    assert "2025-06-15" in flor("runs").output


def test_a_replay_of_it_is_refused_in_one_line(home: Home, tmp_path: Path) -> None:
    flor("import", "mlflow", str(files_store(tmp_path)), "--runs", "it's: base")
    Path("train.py").write_text("import flor\nfor epoch in range(3):\n    flor.log('norm', 1)\n")
    asked = flor("replay", "norm", "--runs", "it's: base", "--script", "train.py", code=2).output
    assert asked.startswith("flor: ") and "was imported from MLflow: there is no code to replay" in asked
    assert len(asked.splitlines()) == 1
    # Where nobody asks for it, it is not among the runs of the script whose name it has.
    assert flor("replay", "norm", code=2).output.startswith("flor: no recorded runs here")
    assert flor("replay", "norm", "--script", "train.py", code=2).output.startswith(
        "flor: no recorded runs of train.py"
    )


def test_steps_may_be_turns_of_another_loop(home: Home, tmp_path: Path) -> None:
    flor("import", "mlflow", str(database(tmp_path / "mine.db")), "--level", "epoch")
    assert full_pivot(home=home)["epoch"].tolist() == [1, 2, 3]
    assert "not a name" in flor("import", "mlflow", str(tmp_path / "mine.db"), "--level", "a b", code=2).output


def test_what_is_no_store_is_one_line(home: Home, tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"SQLite format 3\0" + b"x" * 4000)
    (tmp_path / "text.db").write_text("hello")
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE runs (x)")
    base = sqlite3.connect(tmp_path / "views.db")
    base.executescript(
        "CREATE VIEW runs AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    )
    base.close()
    for name in ("no.db", "text.db", "empty.db", "views.db", "nothing", "project"):
        output = flor("import", "mlflow", str(tmp_path / name), code=2).output
        assert len(output.splitlines()) == 1, output
    assert "flor import mlflow PATH" in flor("import", "mlflow", code=2).output
    assert "takes a BRANCH" in flor("import", "a", "b", code=2).output
    assert (
        "no run 'nobody' there"
        in flor("import", "mlflow", str(files_store(tmp_path)), "--runs", "nobody", code=2).output
    )
    assert home.all_runs() == []


def test_hostile_files_are_left_out(home: Home, tmp_path: Path) -> None:
    store = files_store(tmp_path)
    run = store / "7" / RUN
    secret = tmp_path / "secret"
    secret.write_text("1750000000000 7 0\n")
    (run / "metrics" / "stolen").symlink_to(secret)
    (run / "params" / "stolen").symlink_to(secret)
    (run / "metrics" / "broken").write_bytes(
        b"\xff\xfe nonsense\n1750000000000 0.5 1\n1 2 99999999999999999999\n1e9 x y\n"
    )
    (run / "metrics" / "far").write_text("1750000000000 0.5 5000000000\n1750000000000 0.25 3\n")
    (run / "metrics" / "time").write_text(f"{10**400} 0.5 1\n-5 0.5 2\n")
    (run / "meta.yaml").write_text(
        "run_id: &a [*a]\n" + (run / "meta.yaml").read_text() + "x: !!python/object/apply:os.system [id]\n"
    )
    (run / "artifacts").mkdir()
    (run / "artifacts" / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    flor("import", "mlflow", str(store), "--runs", "it's: base")
    frame = full_pivot(home=home)
    assert "stolen" not in frame
    assert frame["broken"].dropna().tolist() == [0.5]
    [folder] = home.all_runs()
    notes = " ".join(folder.manifest()["notes"])
    assert "lines of metrics/broken can't be read" in notes and "steps beyond" in notes
    assert not list(tmp_path.rglob("pwned"))
