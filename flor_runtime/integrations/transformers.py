"""`Trainer(..., callbacks=[FlorCallback()])`: a training by Hugging Face's Trainer (also TRL's, sentence-transformers')
with epochs and steps as flor has them, its arguments and its metrics."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from transformers import TrainerCallback

from flor_runtime.integrations import managed

#: arguments that a table should have of every run; of others those that are not their defaults
_ALWAYS = frozenset(
    {
        "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
        "weight_decay", "warmup_ratio", "warmup_steps", "lr_scheduler_type", "optim", "seed", "bf16", "fp16",
    }
)  # fmt: skip
#: arguments that say where things go and how much is told
_NEVER = frozenset({"output_dir", "logging_dir", "run_name", "report_to", "local_rank", "disable_tqdm", "hub_token"})


@managed.harmless
class FlorCallback(TrainerCallback):  # type: ignore[misc]
    """Records what a Trainer does. Without `flor run` (or `--flor`) it does nothing."""

    def __init__(self) -> None:
        self._fit = managed.Fit()
        self._first = 0  # steps before this epoch

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The arguments are kept."""
        if self._fit.begin():
            managed.parameters(_told(args))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A level `epoch` opens."""
        begun = float(state.epoch or 0.0)
        epoch = math.floor(begun + 1e-6)
        in_epoch = state.max_steps / max(float(args.num_train_epochs), 1.0) if begun > epoch else 0.0
        self._first = state.global_step - round((begun - epoch) * in_epoch)  # resumed in the middle of an epoch
        self._fit.epoch(epoch + 1)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A level `step` opens, and stays open for what is logged and evaluated after the step."""
        self._fit.step(state.global_step - self._first + 1)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What the Trainer logs and evaluates now belongs to the epoch."""
        self._fit.end_step()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Metrics of the Trainer; what it says of the whole training belongs to the run."""
        values = dict(logs or {})
        values.pop("epoch", None)
        if "train_runtime" in values:
            self._fit.end_epoch()
        managed.log(values)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All levels close."""
        self._fit.end()


def _told(args: Any) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    found = {}
    for name, value in args.to_dict().items():
        if name in _NEVER or name.startswith(("hub_", "push_to_hub", "logging_")):
            continue
        if name in _ALWAYS or (name in defaults and value != getattr(defaults[name], "value", defaults[name])):
            found[name] = value
    return found
