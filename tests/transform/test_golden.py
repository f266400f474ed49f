"""Golden files: fixtures/transform/**/*.py. The folder is the list of tests.

A file holds a training script, a line `# output`, and the script as it has to come out. Without that line the script
must stay as it is. Its first line may say `# expect: FT301:12 FT403:7`: the codes, with their lines, that have to be
reported; a file without has none. What is in `codes/` is there for the one code that its name begins with. Accept new
output and lines, after reading the diff, with

    python tests/transform/test_golden.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flor_transform import instrument, strip
from flor_transform.diagnostics import CODES, Severity
from flor_transform.errors import SourceError

FOLDER = Path(__file__).parents[2] / "fixtures" / "transform"
FILES = sorted(FOLDER.rglob("*.py"))
MARK = b"# output\n"
EXPECT = b"# expect: "

#: Codes that no single file can show, and where their test is.
ELSEWHERE = {
    "FT006": "test_cli: there is no file",
    "FT007": "test_cli, test_verify: a fault of ours",
    "FT008": "test_command: a fault of ours",
    "FT009": "test_folders: a pyproject.toml",
    "FT106": "test_command: of --check",
    "FT107": "test_folders: too many files",
    "FT208": "test_layout_is_refused: no known text gets it",
    "FT401": "test_cli: a second file",
}


def parts(path: Path) -> tuple[bytes, bytes | None]:
    before, mark, after = path.read_bytes().partition(MARK)
    return before, after if mark else None


def expected(source: bytes) -> list[str]:
    first = source.partition(b"\n")[0]
    return first.removeprefix(EXPECT).decode().split() if first.startswith(EXPECT) else []


def outcome(source: bytes) -> tuple[bytes, list[str]]:
    """What a script comes out as, and the codes with their lines: those reported and those of the plan."""
    try:
        result = instrument(source)
    except SourceError as error:
        return source, [f"{error.code}:{error.line}"]
    found = {(note.line, note.code) for note in result.diagnostics}
    found |= {(entry.line, entry.code) for entry in result.plan if entry.refused}
    return result.code, [f"{code}:{line}" for line, code in sorted(found)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    source, output = parts(path)
    code, codes = outcome(source)
    assert code == (source if output is None else output)
    assert codes == expected(source)
    if code != source:
        assert strip(code) == source
        assert instrument(code).code == code


def test_the_folder_is_found() -> None:
    assert len(FILES) > 45


@pytest.mark.parametrize("code", [code.code for code in CODES if code.code not in ELSEWHERE])
def test_each_code_has_its_file(code: str) -> None:
    """A loop that must be left alone, in a script as people write them, and the code that says so."""
    (path,) = FOLDER.glob(f"codes/{code.lower()}_*.py")
    (known,) = [each for each in CODES if each.code == code]
    assert path.stem == f"{code.lower()}_{known.slug.replace('-', '_')}"
    source, output = parts(path)
    lines = [int(place.partition(":")[2]) for place in expected(source) if place.startswith(code)]
    assert lines
    if output is not None and known.severity == Severity.REFUSED:
        for line in lines:  # it comes out as it was
            assert source.splitlines()[line - 1] in output.splitlines()


def test_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flor_transform.rewrites import LayoutError, header

    def refuse(*_: object) -> None:
        raise LayoutError

    monkeypatch.setattr(header, "_rewritten", refuse)
    source = b"for epoch in range(2):\n    for x in y:\n        optimizer.step()\n"
    code, codes = outcome(source)
    assert code == source
    assert {re.sub(":.*", "", each) for each in codes} == {"FT208"}


def accept(path: Path) -> None:
    source, output = parts(path)
    bare = source.partition(b"\n")[2] if source.startswith(EXPECT) else source
    source = bare
    if outcome(bare)[1]:
        # A line more moves the others: the codes are those of the file with it.
        source = EXPECT + b"\n" + bare
        source = EXPECT + " ".join(outcome(source)[1]).encode() + b"\n" + bare
    code, _ = outcome(source)
    path.write_bytes(source if code == source else source + MARK + code)


if __name__ == "__main__":
    for file in FILES:
        accept(file)
