"""Golden files: fixtures/transform/*.py. The folder is the list of tests.

A file holds a training script, a line `# output`, and the script as it has to come out. Without that line the script
must stay as it is. Accept new output, after reading the diff, with

    python tests/transform/test_golden.py

which rewrites what follows `# output` in every file that has one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_transform import instrument, strip

FOLDER = Path(__file__).parents[2] / "fixtures" / "transform"
MARK = b"# output\n"


def parts(path: Path) -> tuple[bytes, bytes | None]:
    before, mark, after = path.read_bytes().partition(MARK)
    return before, after if mark else None


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    source, expected = parts(path)
    result = instrument(source)
    assert result.code.decode() == (source if expected is None else expected).decode()
    assert strip(result.code) == source or not result.changed
    assert instrument(result.code).code == result.code


def test_the_folder_is_found() -> None:
    assert len(list(FOLDER.glob("*.py"))) > 15


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.py")):
        original, output = parts(file)
        if output is not None:
            file.write_bytes(original + MARK + instrument(original).code)
