"""`Accelerator(log_with=FlorTracker())`: what is given to `accelerator.log` stands in flor's table.

The loop is the script's own: `flor run` finds it, keeps checkpoints and replays it as any other.
"""

from __future__ import annotations

from typing import Any

from accelerate.tracking import GeneralTracker

from flor_runtime import session as sessions
from flor_runtime.integrations import managed


@managed.harmless
class FlorTracker(GeneralTracker):  # type: ignore[misc]
    """A tracker of accelerate. Without `flor run` (or `--flor`) it does nothing."""

    name = "flor"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self) -> None:
        super().__init__()

    @property
    def tracker(self) -> Any:
        """The run in progress; None if nothing is recorded."""
        return sessions.current

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """The `config` of `accelerator.init_trackers`."""
        managed.parameters(values)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Record metrics at the current turn of the open loops; outside of loops `step` is the turn."""
        session = sessions.current
        if session is None:
            return
        level = None
        if step is not None and not session.place() and session.in_main_thread():
            level = session.open_level("step")
            level.advance(step + 1)
        try:
            managed.log(values)
        finally:
            if level is not None:
                session.close_level(level)
