"""What `--out` gets: the patched files, one folder a version, or one patch a version."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from flor_transform.backport.patches import patch
from flor_transform.backport.report import Outcome
from flor_transform.backport.survey import Stop

FORMS = ("files", "patches")


def write(folder: Path, outcomes: Sequence[Outcome], form: str) -> int:
    """Write them all, or none; gives the number of files. What is there under the same names is replaced.

    Args:
        form: "files": `FOLDER/<version>/<path>`; "patches": `FOLDER/<number>-<version>.patch`, oldest version first.

    Raises:
        Stop: it can't be written.
    """
    files = dict(_patches(outcomes) if form == "patches" else _files(outcomes))
    for name in files:
        in_the_way = [p for p in Path(name).parents if (folder / p).exists() and not (folder / p).is_dir()]
        if in_the_way or (folder / name).is_dir():
            raise Stop(f"{folder / (in_the_way[-1] if in_the_way else name)}: is in the way of what is to be written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".flor-", dir=folder))
        try:
            for name, data in files.items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).write_bytes(data)
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).replace(folder / name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise Stop(f"{os.fspath(folder)}: can't be written: {error.strerror or error}") from None
    return len(files)


def _files(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, bytes]]:
    for outcome in outcomes:
        for path, code in outcome.result.changed.items():
            yield f"{outcome.short}/{path}", code


def _patches(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, bytes]]:
    changed = [outcome for outcome in outcomes if outcome.result.changed]
    for number, outcome in enumerate(changed, 1):
        yield f"{number:04}-{outcome.short}.patch", patch(outcome)
