"""Source to source: put wrappers and blocks into training code, take exactly them out again, backport statements."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flor_transform.backport import BackportResult as BackportResult
    from flor_transform.backport import ProjectResult as ProjectResult
    from flor_transform.backport import backport as backport
    from flor_transform.backport import backport_project as backport_project
    from flor_transform.pipeline import Result as Result
    from flor_transform.pipeline import instrument as instrument
    from flor_transform.pipeline import instrument_project as instrument_project
    from flor_transform.strip import strip as strip

#: what is exported, and the module that has it; nothing is loaded before it is asked for
_EXPORTS = {
    "instrument": "flor_transform.pipeline",
    "instrument_project": "flor_transform.pipeline",
    "Result": "flor_transform.pipeline",
    "strip": "flor_transform.strip",
    "backport": "flor_transform.backport",
    "backport_project": "flor_transform.backport",
    "BackportResult": "flor_transform.backport",
    "ProjectResult": "flor_transform.backport",
}

__all__ = [
    "BackportResult",
    "ProjectResult",
    "Result",
    "backport",
    "backport_project",
    "instrument",
    "instrument_project",
    "strip",
]


class _Package(ModuleType):
    """Keeps `flor_transform.strip` and `.backport` the functions: importing a submodule would put itself there."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _EXPORTS or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value
