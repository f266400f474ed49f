"""The runs in an MLflow store: a folder (`mlruns`) or an SQLite database (`mlflow.db`). Read only, without MLflow."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flor_runtime.imported.foreign import ForeignRun, ImportFailed, Value
from flor_runtime.store import plainfiles

TOOL = "MLflow"
_LARGEST = 64 << 20  # bytes of a file of metrics
_SMALL = 1 << 20
_STATUS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}
_CODES = {"3": "FINISHED", "4": "FAILED", "5": "KILLED"}
#: what MLflow notes itself and a table has no use for
_OWN = re.compile(r"mlflow\.(?!source\.git\.commit$|user$|note\.content$)")
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+([eE][+-]?\d+)?")


def runs(path: Path) -> Iterator[ForeignRun]:
    """All runs that were not deleted.

    Raises:
        ImportFailed: there is no store of MLflow's.
    """
    database = path if path.is_file() else path / "mlflow.db"
    folder = path if any(path.glob("*/meta.yaml")) else path / "mlruns"
    if database.is_file():
        yield from _from_database(database)
    elif path.is_dir() and any(folder.glob("*/meta.yaml")):
        yield from _from_folder(folder)
    else:
        raise ImportFailed(f"{path}: no runs of MLflow: neither mlruns/*/meta.yaml nor mlflow.db is there")


def _from_database(path: Path) -> Iterator[ForeignRun]:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            base.text_factory = lambda raw: raw.decode("utf-8", "replace")
            base.execute("PRAGMA trusted_schema = OFF")
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"experiments", "runs", "tags", "params", "metrics"} <= tables:
                raise ImportFailed(f"{path}: not a database of MLflow's")
            names = dict(base.execute("SELECT experiment_id, name FROM experiments"))
            columns = "run_uuid, name, status, start_time, end_time, experiment_id, source_name"
            listed = base.execute(f"SELECT {columns} FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time")
            for key, name, status, started, ended, experiment, source in listed.fetchall():
                tags = dict(base.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (key,)))
                run = _run(str(key), name, names.get(experiment), tags, source, f"{path}")
                run.status = _STATUS.get(str(status), "")
                run.started, run.ended = _seconds(started) or 0.0, _seconds(ended)
                found = base.execute("SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key", (key,))
                run.parameters = {str(name): plain(str(value)) for name, value in found}
                metrics = (
                    "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? ORDER BY timestamp"
                )
                for metric, value, time, step, is_nan in base.execute(metrics, (key,)):
                    if isinstance(step, int) and isinstance(value, (int, float)):
                        number = float("nan") if is_nan else float(value)
                        run.metrics.setdefault(str(metric), []).append(Value(step, _seconds(time) or 0.0, number))
                yield run
    except sqlite3.Error as error:
        raise ImportFailed(f"{path}: not a database of MLflow's: {error}") from error


def _from_folder(root: Path) -> Iterator[ForeignRun]:
    for about in sorted(root.glob("*/meta.yaml")):
        experiment = _meta(about)
        if experiment.get("lifecycle_stage") == "deleted" or ".trash" in about.parts:
            continue
        for described in sorted(about.parent.glob("*/meta.yaml")):
            meta = _meta(described)
            key = meta.get("run_id") or meta.get("run_uuid")
            if not key or meta.get("lifecycle_stage") == "deleted":
                continue
            folder = described.parent
            tags: dict[str, Any] = dict(_files(folder / "tags"))
            run = _run(key, meta.get("run_name"), experiment.get("name"), tags, meta.get("source_name"), str(folder))
            run.status = _STATUS.get(_CODES.get(meta.get("status") or "", ""), "")
            run.started, run.ended = _seconds(meta.get("start_time")) or 0.0, _seconds(meta.get("end_time"))
            run.parameters = {name: plain(text) for name, text in _files(folder / "params")}
            for name, text in _files(folder / "metrics", _LARGEST):
                values = [_line(line) for line in text.splitlines()]
                run.metrics[name] = [value for value in values if value is not None]
                if None in values:
                    run.notes.append(f"{values.count(None)} lines of metrics/{name} can't be read: left out")
            yield run


def _run(key: str, name: Any, experiment: Any, tags: dict[str, Any], source: Any, place: str) -> ForeignRun:
    flor = tags.get("flor.run")
    return ForeignRun(
        tool=TOOL,
        key=key,
        name=str(tags.get("mlflow.runName") or name or "") or None,
        project=str(experiment or "mlflow"),
        place=place,
        script=Path(str(tags.get("mlflow.source.name") or source or "")).name,
        tags={str(tag): str(text) for tag, text in sorted(tags.items()) if not _OWN.match(str(tag))},
        flor=flor if isinstance(flor, str) and re.fullmatch(r"[0-9a-f]{32}", flor) else None,
    )


def _files(folder: Path, largest: int = _SMALL) -> Iterator[tuple[str, str]]:
    """Names and texts of the files below a folder; a name may have slashes."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError):
            text = plainfiles.read(path, largest).decode("utf-8", "replace")
            yield path.relative_to(folder).as_posix(), text


def _line(text: str) -> Value | None:
    """A metric as a file has it: time in milliseconds, value, step."""
    parts = text.split()
    try:
        return Value(int(parts[2]) if len(parts) > 2 else 0, int(parts[0]) / 1000, float(parts[1]))
    except (ValueError, IndexError, OverflowError):
        return None


def _meta(path: Path) -> dict[str, str | None]:
    """The plain texts and numbers of a meta.yaml, which has one a line."""
    found: dict[str, str | None] = {}
    try:
        text = plainfiles.read(path, _SMALL).decode("utf-8", "replace")
    except OSError:
        return found
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and re.fullmatch(r"\w+", key):
            found[key] = _scalar(value.strip())
    return found


def _scalar(text: str) -> str | None:
    if text in ("null", "~", ""):
        return None
    if text.startswith("'"):
        return text.strip("'").replace("''", "'")
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            return str(json.loads(text))
        return text.strip('"')
    return text


def _seconds(milliseconds: Any) -> float | None:
    try:
        return int(milliseconds) / 1000
    except (TypeError, ValueError, OverflowError):
        return None


def plain(text: str) -> Any:
    """A parameter, which MLflow keeps as text, as the number or truth value that it most likely was."""
    if text in ("True", "False"):
        return text == "True"
    if text == "None":
        return None
    if _NUMBER.fullmatch(text) and len(text) < 40:
        return float(text) if set(text) & set(".eE") else int(text)
    return text
