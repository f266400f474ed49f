"""`Trainer(..., logger=FlorLogger(), callbacks=[FlorCallback()])`: a training by Lightning's Trainer with epochs and
steps as flor has them. The callback opens the levels and keeps hyper-parameters, the logger takes `self.log(...)`.

In Fabric, where the loop is the script's own, `Fabric(loggers=[FlorLogger()])` is all.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

try:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
except ImportError:  # the package under its older name
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers import Logger

from flor_runtime.integrations import managed
from flor_runtime.ranks import place


@managed.harmless
class FlorCallback(Callback):  # type: ignore[misc]
    """Opens flor's levels `epoch` and `step`. Without `flor run` (or `--flor`) it does nothing."""

    def __init__(self) -> None:
        self._fit = managed.Fit()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Hyper-parameters are kept."""
        if self._fit.begin():
            managed.parameters({str(name): value for name, value in dict(pl_module.hparams).items()})
            told = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")
            managed.parameters({name: getattr(trainer, name, None) for name in told}, "trainer.")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """A level `epoch` opens."""
        self._fit.epoch(trainer.current_epoch + 1)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A level `step` opens, and stays open for what Lightning logs after the step."""
        self._fit.step(batch_idx + 1)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A validation at the end of an epoch belongs to the epoch, one in its middle to the step."""
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._fit.end_step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """What is logged now belongs to the epoch."""
        self._fit.end_step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """All levels close."""
        self._fit.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """All levels close."""
        self._fit.end()


@managed.harmless
class FlorLogger(Logger):  # type: ignore[misc]
    """Takes what `self.log(...)` gives to loggers, as often as the Trainer does (`log_every_n_steps`)."""

    @property
    def name(self) -> str:
        """The folder that Lightning puts checkpoints into."""
        return "flor"

    @property
    def version(self) -> str:
        """None: that folder is the same in every run."""
        return ""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics at the current place."""
        if place()[0] == 0:
            managed.log({name: value for name, value in metrics.items() if name != "epoch"})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keep hyper-parameters."""
        if place()[0] == 0:
            managed.parameters(vars(params) if isinstance(params, Namespace) else dict(params or {}))
