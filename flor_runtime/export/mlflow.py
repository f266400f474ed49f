"""Runs for MLflow: an SQLite database that its server opens, an experiment a project.

Written by MLflow's own client. Numbers are metrics at their steps (64-bit floats; infinities are the largest float
there), parameters are texts as MLflow has them. A run is known again by its tags `flor.run` and `flor.digest`.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flor_runtime.export.gather import Exported
from flor_runtime.export.target import ExportError, Names, Target

DATABASE = "mlflow.db"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "alive": "RUNNING"}  # else KILLED
_LONGEST = 250  # characters of a key
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 8000
_AT_ONCE = 1000  # metrics
_FEW = 100  # parameters, tags


def write(runs: list[Exported], target: Target | Path) -> list[str]:
    """Write runs, or bring those that are there up to date; gives what is to be said.

    Args:
        target: a folder of ours, or a database of the user's that was named as such.

    Raises:
        ExportError: MLflow can't open the database.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):  # what it tells of its tables
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = target.folder if isinstance(target, Target) else target.parent
    database = (folder / DATABASE if isinstance(target, Target) else target).resolve()
    try:
        client = MlflowClient(f"sqlite:///{database}")
        names = Names(r"[^\w /.:\-]|^/|/+(?=/|$)|(?<![^/])\.+(?=/|$)", _LONGEST)
        writer = _Writer(client, folder.resolve(), names)
        for run in runs:
            done = writer.write(run)
            if isinstance(target, Target):
                target.written[done] += 1
    except MlflowException as error:
        raise ExportError(f"{database}: {str(error).splitlines()[0]}") from error
    return [*writer.notes, *names.said("MLflow")]


class _Writer:
    def __init__(self, client: Any, folder: Path, names: Names) -> None:
        self._client, self._folder, self._names = client, folder, names
        self._experiments: dict[str, str] = {}
        self.notes: dict[str, None] = {}

    def write(self, run: Exported) -> int:
        """0: it is new; 1: it was brought up to date; 2: it was there as it is."""
        client, experiment = self._client, self._experiment(run.projid)
        digest = run.digest()
        there = self._find(experiment, run.id)
        if there is not None and there.data.tags.get("flor.digest") == digest:
            return 2
        known: set[tuple[str, int]] = set()
        if there is not None:
            points = self._points_there(there)
            ours = {(key, step): value for key, step, _, value in self._metrics(run)}
            if any(ours.get(place, object()) != value for place, value in points.items()):
                client.delete_run(there.info.run_id)  # a value that is another one now: MLflow only adds
                there = None
            else:
                known = set(points)
        if there is None:
            made = client.create_run(experiment, start_time=_ms(run.started), run_name=run.title)
            identity = made.info.run_id
        else:
            identity = there.info.run_id
        self._fill(identity, run, known, {} if there is None else there.data.params)
        status = _STATUS.get(run.status, "KILLED")
        if run.ended is not None:
            client.set_terminated(identity, status, _ms(run.ended))
        else:
            client.update_run(identity, status)
        client.set_tag(identity, "flor.digest", digest)  # last: only now it is all there
        return 0 if there is None else 1

    def _experiment(self, projid: str) -> str:
        name = (
            "".join(char if char.isprintable() and char not in "'\"" else "_" for char in projid)[:_LONGEST] or "flor"
        )
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            location = (self._folder / "artifacts").as_uri()
            self._experiments[name] = (
                found.experiment_id if found is not None else self._client.create_experiment(name, location)
            )
        return self._experiments[name]

    def _find(self, experiment: str, run: str) -> Any:
        found = self._client.search_runs([experiment], f"tags.`flor.run` = '{run}'", max_results=1)
        return found[0] if found else None

    def _points_there(self, there: Any) -> dict[tuple[str, int], float | str]:
        points: dict[tuple[str, int], float | str] = {}
        for key in there.data.metrics:
            for metric in self._client.get_metric_history(there.info.run_id, key):
                points[key, metric.step] = _comparable(metric.value)
        return points

    def _metrics(self, run: Exported) -> Iterator[tuple[str, int, float, float | str]]:
        """(key, step, time, value) of what MLflow can have: numbers."""
        for name, points in run.points.items():
            for point in points:
                if isinstance(point.value, (bool, int, float)):
                    yield self._names(name), point.step, point.time, _comparable(float(point.value))
                elif point.value is not None and not (isinstance(point.value, str) and point.step == 0):
                    self.notes[f"{name!r} has values that are no numbers: these are left out"] = None

    def _fill(self, identity: str, run: Exported, known: set[tuple[str, int]], parameters: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, float(value), _ms(time), step)
            for key, step, time, value in self._metrics(run)
            if (key, step) not in known
        ]
        given = {self._names(name): str(value)[:_LONGEST_PARAMETER] for name, value in run.parameters.items()}
        params = [Param(key, value) for key, value in given.items() if key not in parameters]
        tags = [RunTag(key, value[:_LONGEST_TAG]) for key, value in self._tags(run).items()]
        for some in _portions(metrics, _AT_ONCE):
            self._client.log_batch(identity, metrics=some)
        for some in _portions(params, _FEW):
            self._client.log_batch(identity, params=some)
        for some in _portions(tags, _FEW):
            self._client.log_batch(identity, tags=some)

    def _tags(self, run: Exported) -> dict[str, str]:
        tags = {"flor.run": run.id, "flor.status": run.status, "mlflow.source.name": run.script}
        tags |= {f"flor.{name}": value for name, value in run.tags.items()}
        if run.argv:
            tags["flor.arguments"] = " ".join(run.argv)
        for name, counts in run.recovered().items():
            said = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
            tags[self._names(f"flor.recovered.{name}")] = f"{said} of {len(run.points[name])}"
        for name, points in run.points.items():
            if isinstance(points[-1].value, str) and points[-1].step == 0:
                tags[self._names(f"flor.text.{name}")] = points[-1].value
        return {key: value.encode("utf-8", "replace").decode() for key, value in tags.items() if value}


def _comparable(value: float) -> float | str:
    """A metric as MLflow gives it back; a missing number is equal to itself."""
    if math.isnan(value):
        return "nan"
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _portions(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
