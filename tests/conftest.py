"""Tests sign with a key of their own, never with the user's."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers inherit it
        folder = Path(tempfile.mkdtemp(prefix="flor-key-"))
        os.environ["FLOR_KEY"] = str(folder / "key")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
