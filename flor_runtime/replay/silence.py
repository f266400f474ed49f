"""Trackers post nothing again: each is told to keep quiet, whatever the script says to it.

By environment variables, as their documents have it, and, as a script may say otherwise in its own code, by the
arguments of the functions that begin a run. The script gets objects of the same kind back and goes on as it did.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

#: module -> functions, and the arguments that they get instead of the script's own; None: none
_SAID: dict[str, dict[str, dict[str, Any]]] = {
    "wandb": {"init": {"mode": "disabled"}},
    "neptune": {"init_run": {"mode": "debug"}, "init_project": {"mode": "debug"}, "init_model": {"mode": "debug"}},
    "swanlab": {"init": {"mode": "disabled"}},
    "comet_ml": {"Experiment.__init__": {"disabled": True}, "ExistingExperiment.__init__": {"disabled": True}},
    "comet_ml.experiment": {"CometExperiment.__init__": {"disabled": True}},
    "trackio": {"init": {"space_id": None, "dataset_id": None}},
}
#: module -> functions that would change where to, and do nothing now
_UNSAID: dict[str, tuple[str, ...]] = {
    "wandb": ("login",),
    "mlflow.tracking._tracking_service.utils": ("set_tracking_uri",),
    "mlflow.tracking._model_registry.utils": ("set_registry_uri",),
}
_CLIENT = "mlflow.tracking.client"


def environment(folder: Path) -> dict[str, str]:
    """The variables, for a replay whose own folder this is."""
    return {
        "WANDB_MODE": "disabled",
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(folder),
        "SWANLAB_MODE": "disabled",
        "NEPTUNE_MODE": "debug",
        "CLEARML_OFFLINE_MODE": "1",
        "COMET_START_ONLINE": "0",
        "MLFLOW_TRACKING_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_REGISTRY_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_ARTIFACT_ROOT": str(folder),
        "TRACKIO_DIR": str(folder / "trackio"),
        "DO_NOT_TRACK": "1",
    }


def patches() -> dict[str, Callable[[ModuleType], None]]:
    """What to do with which module once it is loaded."""
    return dict.fromkeys({*_SAID, *_UNSAID, _CLIENT}, _silence)


def _silence(module: ModuleType) -> None:
    for attribute, said in _SAID.get(module.__name__, {}).items():
        _replace(module, attribute, partial(_saying, said))
    for attribute in _UNSAID.get(module.__name__, ()):
        _replace(module, attribute, _nothing)
    if module.__name__ == _CLIENT:
        _replace(module, "MlflowClient.__init__", _at_home)


def _replace(module: ModuleType, attribute: str, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    *owners, last = attribute.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part, None)
    original = getattr(owner, last, None)
    if owner is None or not callable(original):
        return
    replacement = functools.wraps(original)(made(original))
    setattr(owner, last, replacement)
    if not owners:
        for loaded in list(sys.modules.values()):
            if isinstance(loaded, ModuleType) and vars(loaded).get(last) is original:
                setattr(loaded, last, replacement)


def _saying(said: dict[str, Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        own = {name: value for name, value in said.items() if value is not None or name in kwargs}
        return original(*args, **{**kwargs, **own})

    return call


def _nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> None:
        return None

    return call


def _at_home(original: Callable[..., Any]) -> Callable[..., Any]:
    """A client of MLflow that keeps to the environment's address."""

    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self)

    return call
