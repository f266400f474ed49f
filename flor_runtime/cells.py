"""The cells of a notebook as one script that Python can run: Jupyter's percent format, IPython's own lines as comments.

A run that was recorded in `train.ipynb` has its code as `train.ipynb.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from flor_runtime.errors import FlorError

SUFFIX = ".ipynb.py"
_FLOR = re.compile(r"%%flor\b[^\n]*\n?")
#: cell magics under which a cell is Python that runs in the notebook's own names
_TRANSPARENT = re.compile(r"%%(time|prun|capture)\b[^\n]*\n?")


def without_flor(cell: str) -> str:
    """A cell without its `%%flor`."""
    return _FLOR.sub("", cell, count=1) if cell.startswith("%%flor") else cell


def script_of(cells: Iterable[str]) -> bytes:
    """Cells in the order of their execution as one script."""
    texts = (as_python(without_flor(cell)).rstrip() for cell in cells)
    return "\n".join(f"# %%\n{text}\n" for text in texts).encode("utf-8", "replace")


def script_of_notebook(path: Path) -> bytes:
    """The code cells of a file as one script.

    Raises:
        OSError: it can't be read.
        FlorError: it is no notebook.
    """
    try:
        cells = json.loads(path.read_bytes())["cells"]
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return script_of(source if isinstance(source, str) else "".join(source) for source in code)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FlorError(f"{path}: is not a notebook") from None


def as_python(cell: str) -> str:
    """A cell with what only IPython understands as comments."""
    body = _TRANSPARENT.sub("", cell, count=1)
    if body.startswith("%%"):
        return "".join(f"# {line}" for line in body.splitlines(keepends=True))
    lines = []
    for line in body.splitlines():
        bare = line.lstrip()
        indent = line[: len(line) - len(bare)]
        if bare.startswith(("%", "!", "?")) or (bare.endswith("?") and bare.rstrip("?").isidentifier()):
            line = f"{indent}pass  # {bare}" if indent else f"# {bare}"
        lines.append(line)
    return "\n".join(lines)
