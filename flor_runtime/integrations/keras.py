"""`model.fit(..., callbacks=[FlorCallback()])`: a training by Keras 3 with epochs and steps as flor has them."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

from flor_runtime.integrations import managed


@managed.harmless
class FlorCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Records what `fit` does. Without `flor run` (or `--flor`) it does nothing.

    Args:
        steps: record the metrics of every batch, too. They are running means over the epoch, as Keras shows them.
    """

    def __init__(self, steps: bool = False) -> None:
        super().__init__()
        self._fit = managed.Fit()
        self._steps = steps

    def on_train_begin(self, logs: Any = None) -> None:
        """The settings of the optimizer are kept."""
        if self._fit.begin():
            optimizer = getattr(self.model, "optimizer", None)
            if optimizer is not None:
                with contextlib.suppress(Exception):  # a schedule of the user's need not say what it is
                    managed.parameters(optimizer.get_config(), "optimizer.")
            managed.parameters({"epochs": self.params.get("epochs"), "steps": self.params.get("steps")})

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """A level `epoch` opens."""
        self._fit.epoch(epoch + 1)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A level `step` opens."""
        self._fit.step(batch + 1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Metrics of the batch, if they are asked for."""
        if self._steps and self._fit.on:
            managed.log(logs or {})

    def on_test_begin(self, logs: Any = None) -> None:
        """The validation of an epoch belongs to it."""
        self._fit.end_step()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Metrics of the epoch."""
        self._fit.end_step()
        if self._fit.on:
            managed.log(logs or {})

    def on_train_end(self, logs: Any = None) -> None:
        """All levels close."""
        self._fit.end()
