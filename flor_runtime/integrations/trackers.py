"""Metrics that a script gives to TensorBoard, Weights & Biases or MLflow, kept as log records too.

A tracker's function is replaced by one that calls it and then keeps the values: what it returns and raises stays its
own. A library that the script never imports is never touched.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from flor_runtime.importing import when_imported
from flor_runtime.integrations.captured import Captured

Values = Iterator[tuple[object, object]]
Functions = tuple[tuple[str, Callable[..., Values]], ...]
Keep = Callable[[list[tuple[object, object]]], None]


def _scalar(writer: Any, tag: Any, scalar_value: Any, *rest: Any, **options: Any) -> Values:
    yield tag, scalar_value


def _scalars(writer: Any, main_tag: Any, tag_scalar_dict: Any, *rest: Any, **options: Any) -> Values:
    for tag, value in tag_scalar_dict.items():
        yield f"{main_tag}/{tag}", value


def _wandb(run: Any, data: Any, *rest: Any, **options: Any) -> Values:
    yield from _numbers("", data)


def _metric(key: Any, value: Any, *rest: Any, **options: Any) -> Values:
    yield key, value


def _metrics(metrics: Any, *rest: Any, **options: Any) -> Values:
    yield from metrics.items()


def _numbers(prefix: str, data: Mapping[Any, Any]) -> Values:
    """Numbers and texts of a nested dictionary; media stay with the tracker."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _numbers(f"{prefix}{key}.", value)
        elif isinstance(value, bool | int | float | str) or getattr(value, "ndim", None) == 0:
            yield f"{prefix}{key}", value


_SUMMARY_WRITER = (("SummaryWriter.add_scalar", _scalar), ("SummaryWriter.add_scalars", _scalars))
#: module -> its functions that take metrics, and how the values lie in their arguments
METRICS: dict[str, Functions] = {
    "torch.utils.tensorboard.writer": _SUMMARY_WRITER,
    "tensorboardX.writer": _SUMMARY_WRITER,
    "wandb.sdk.wandb_run": (("Run.log", _wandb),),
    "mlflow.tracking.fluent": (("log_metric", _metric), ("log_metrics", _metrics)),
}
#: the same of those that take parameters
PARAMETERS: dict[str, Functions] = {
    "mlflow.tracking.fluent": (("log_param", _metric), ("log_params", _metrics)),
}


def listen(captured: Captured) -> None:
    """Keep what trackers are given from now on."""
    inside = threading.local()  # one function of a tracker may call another
    for table, keep in ((METRICS, captured.metrics), (PARAMETERS, captured.parameters)):
        for module, functions in table.items():
            when_imported(module, partial(_replace, module, functions, keep, inside))


def _replace(module: str, functions: Functions, keep: Keep, inside: threading.local) -> None:
    for attribute, values in functions:
        *owners, last = attribute.split(".")
        owner: Any = sys.modules[module]
        for part in owners:
            owner = getattr(owner, part, None)
        original = getattr(owner, last, None)
        if callable(original):
            setattr(owner, last, _listening(original, values, keep, inside))


def _listening(
    original: Callable[..., Any], values: Callable[..., Values], keep: Keep, inside: threading.local
) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if getattr(inside, "calling", False):
            return original(*args, **kwargs)
        inside.calling = True
        try:
            result = original(*args, **kwargs)
        finally:
            inside.calling = False
        try:
            found = list(values(*args, **kwargs))
        except Exception:  # called in a way that the tracker knows and we don't
            return result
        keep(found)
        return result

    return call
