"""Manifests, which are read as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flor_runtime.checks.finding import Finding, Look
from flor_runtime.errors import StoreError
from flor_runtime.store.layout import read_json


def check_json(at: Look.At, path: Path, look: Look, then: str) -> Iterator[Finding]:
    """A manifest that is not what was written."""
    look.file(path)
    try:
        read_json(path)
    except StoreError as error:
        yield at.damage(reason(error), then)


def reason(error: StoreError) -> str:
    """What is wrong with a file, without its path."""
    return str(error).partition(": ")[2]
