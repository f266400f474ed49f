"""What a script gives to TensorBoard, Weights & Biases, MLflow and others, kept as log records too.

A tracker's function is replaced by one that calls it and then keeps the values: what it returns and raises stays its
own. A library that the script never imports is never touched. Another tracker is a line in the tables below.
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
Reader = tuple[Callable[..., Values], Keep]


def _pair(owner: Any, name: Any, value: Any = None, *rest: Any, **options: Any) -> Values:
    yield name, value


def _tagged(owner: Any, tag: Any, *rest: Any, **options: Any) -> Values:
    yield tag, next(iter((*rest, *options.values())))


def _scalars(writer: Any, main_tag: Any, tag_scalar_dict: Any, *rest: Any, **options: Any) -> Values:
    for tag, value in tag_scalar_dict.items():
        yield f"{main_tag}/{tag}", value


def _nested(owner: Any, data: Any, *rest: Any, **options: Any) -> Values:
    yield from _numbers("", data)


def _prefixed(owner: Any, data: Any, prefix: Any = None, *rest: Any, **options: Any) -> Values:
    yield from _numbers(f"{prefix}_" if prefix else "", data)


def _key(key: Any, value: Any, *rest: Any, **options: Any) -> Values:
    yield key, value


def _metrics(metrics: Any, *rest: Any, **options: Any) -> Values:
    yield from metrics.items()


def _parameters(params: Any, *rest: Any, **options: Any) -> Values:
    yield from params.items()


def _client_pair(client: Any, run_id: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Values:
    yield key, value


def _hparams(writer: Any, hparam_dict: Any, metric_dict: Any, *rest: Any, **options: Any) -> Values:
    yield from hparam_dict.items()


def _hparam_metrics(writer: Any, hparam_dict: Any, metric_dict: Any, *rest: Any, **options: Any) -> Values:
    yield from metric_dict.items()


def _series(owner: Any, title: Any, series: Any, value: Any, *rest: Any, **options: Any) -> Values:
    yield (title if title == series else f"{title}/{series}"), value


def _tracked(run: Any, value: Any, name: Any = None, *rest: Any, **options: Any) -> Values:
    yield from _numbers("", value if isinstance(value, dict) else {name: value})


def _appended(handler: Any, value: Any, *rest: Any, **options: Any) -> Values:
    yield from _numbers(f"{handler._path}/", value) if isinstance(value, dict) else [(handler._path, value)]


def _numbers(prefix: str, data: Mapping[Any, Any]) -> Values:
    """Numbers and texts of a nested dictionary; media stay with the tracker."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _numbers(f"{prefix}{key}.", value)
        elif isinstance(value, bool | int | float | str) or getattr(value, "ndim", None) == 0:
            yield f"{prefix}{key}", value


_SUMMARY_WRITER: Functions = (
    ("SummaryWriter.add_scalar", _tagged),
    ("SummaryWriter.add_scalars", _scalars),
    ("SummaryWriter.add_text", _tagged),
    ("SummaryWriter.add_image", _tagged),
    ("SummaryWriter.add_images", _tagged),
    ("SummaryWriter.add_histogram", _tagged),
    ("SummaryWriter.add_hparams", _hparam_metrics),
)
_WRITER_PARAMETERS: Functions = (("SummaryWriter.add_hparams", _hparams),)
#: module -> its functions that take metrics, and how the values lie in their arguments
METRICS: dict[str, Functions] = {
    "torch.utils.tensorboard.writer": _SUMMARY_WRITER,
    "tensorboardX.writer": _SUMMARY_WRITER,
    "wandb.sdk.wandb_run": (("Run.log", _nested),),
    "wandb.sdk.wandb_summary": (("SummaryDict.update", _nested),),
    "mlflow.tracking.fluent": (("log_metric", _key), ("log_metrics", _metrics)),
    "mlflow.tracking.client": (("MlflowClient.log_metric", _client_pair),),
    "comet_ml.experiment": (("CometExperiment.log_metric", _pair), ("CometExperiment.log_metrics", _prefixed)),
    "clearml.logger": (("Logger.report_scalar", _series), ("Logger.report_single_value", _pair)),
    "aim.sdk.run": (("BasicRun.track", _tracked),),
    "neptune.handler": (("Handler.append", _appended), ("Handler.log", _appended)),
    "swanlab.sdk.internal.run": (("Run.log", _nested),),
    "trackio.run": (("Run.log", _nested),),
}
#: the same of those that take parameters
PARAMETERS: dict[str, Functions] = {
    "torch.utils.tensorboard.writer": _WRITER_PARAMETERS,
    "tensorboardX.writer": _WRITER_PARAMETERS,
    "mlflow.tracking.fluent": (("log_param", _key), ("log_params", _parameters)),
    "mlflow.tracking.client": (("MlflowClient.log_param", _client_pair),),
    "comet_ml.experiment": (("CometExperiment.log_parameter", _pair), ("CometExperiment.log_parameters", _prefixed)),
}


def listen(captured: Captured) -> None:
    """Keep what trackers are given from now on."""
    inside = threading.local()  # one function of a tracker may call another
    readers: dict[str, dict[str, list[Reader]]] = {}
    for table, keep in ((METRICS, captured.metrics), (PARAMETERS, captured.parameters)):
        for module, functions in table.items():
            for attribute, values in functions:
                readers.setdefault(module, {}).setdefault(attribute, []).append((values, keep))
    for module, found in readers.items():
        when_imported(module, partial(_replace, module, found, inside))


def _replace(module: str, readers: Mapping[str, list[Reader]], inside: threading.local) -> None:
    for attribute, of_it in readers.items():
        *owners, last = attribute.split(".")
        owner: Any = sys.modules[module]
        for part in owners:
            owner = getattr(owner, part, None)
        original = getattr(owner, last, None)
        if callable(original):
            setattr(owner, last, _listening(original, of_it, inside))


def _listening(original: Callable[..., Any], readers: list[Reader], inside: threading.local) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if getattr(inside, "calling", False):
            return original(*args, **kwargs)
        inside.calling = True
        try:
            result = original(*args, **kwargs)
        finally:
            inside.calling = False
        for values, keep in readers:
            try:
                found = list(values(*args, **kwargs))
            except Exception:  # called in a way that the tracker knows and we don't
                continue
            keep(found)
        return result

    return call
