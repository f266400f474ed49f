"""Laws 1 and 2 over all files that this Python has: the standard library and what is installed.

    python -m tests.laws.files [-j N] [--every N]

Each file is instrumented as it is, and again with every outermost loop taken for a main loop and every loop below it
for a block; both times the proof of `flor_transform.verify` has to hold, strip has to give the file back and a second
pass has to change nothing.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from flor_transform import instrument, pipeline, strip
from flor_transform.analysis.effects import Effects, all_loops
from flor_transform.analysis.loops import Finder, Found, Main
from flor_transform.errors import SourceError

STDLIB = Path(sysconfig.get_path("stdlib"))


class EveryLoop:
    """In the place of the finder: all loops are wanted."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects

    def find(self) -> list[Main]:
        mains = []
        for function in self.effects.project.functions():
            for loop in all_loops(self.effects.of(function)):
                if loop.parent is None:
                    main = Main(loop, "epoch")
                    main.blocks = [Found(child, "train", main, False) for child in loop.children]
                    mains.append(main)
        return mains


def check(source: bytes) -> bool | None:
    """Hold both laws against one source; whether it came out changed; None: it can't be worked on."""
    try:
        result = instrument(source)
    except SourceError:
        return None
    if result.changed:
        assert strip(result.code) == source, "strip does not give it back"
        assert instrument(result.code).code == result.code, "a second pass changes it"
    else:
        assert result.code == source, "unchanged, and yet another text"
    return result.changed


@dataclass
class Tally:
    """What came of a number of files: `found` are those that the real finder found a main loop in."""

    files: int = 0
    lines: int = 0
    refused: int = 0
    found: int = 0
    changed: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.files + other.files,
            self.lines + other.lines,
            self.refused + other.refused,
            self.found + other.found,
            self.changed + other.changed,
            self.wrong + other.wrong,
            max(self.slowest, other.slowest),
        )


def check_files(paths: Iterable[Path]) -> Tally:
    """Both passes over some files; what goes wrong is listed, not raised."""
    tally = Tally()
    for path in paths:
        source = path.read_bytes()
        tally.files += 1
        tally.lines += source.count(b"\n")
        begun = time.perf_counter()
        for name, finder in (("found", Finder), ("changed", EveryLoop)):
            pipeline.Finder = finder  # type: ignore[misc, assignment]
            try:
                changed = check(source)
                if changed is None:
                    tally.refused += 1
                    break
                setattr(tally, name, getattr(tally, name) + changed)
            except Exception as error:
                tally.wrong.append(f"{path}: {finder.__name__}: {type(error).__name__}: {error}"[:600])
            finally:
                pipeline.Finder = Finder  # type: ignore[misc]
        tally.slowest = max(tally.slowest, (time.perf_counter() - begun, str(path)))
    return tally


def standard_library() -> list[Path]:
    return sorted(path for path in STDLIB.rglob("*.py") if "site-packages" not in path.parts and path.is_file())


def installed() -> list[Path]:
    """Every file of the standard library and of the folders that packages are imported from."""
    folders = {Path(entry).resolve() for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    found = {path for folder in folders for path in folder.rglob("*.py") if path.is_file()}
    return sorted({*standard_library(), *found})


def main() -> int:
    parser = argparse.ArgumentParser(description="Laws 1 and 2 over every installed file.")
    parser.add_argument("-j", type=int, default=1, help="processes")
    parser.add_argument("--every", type=int, default=1, help="take every N-th file only")
    options = parser.parse_args()
    paths = installed()[:: options.every]
    begun = time.perf_counter()
    total = Tally()
    with ProcessPoolExecutor(options.j) as pool:
        for n, tally in enumerate(pool.map(check_files, [paths[n::200] for n in range(200)])):
            total += tally
            for wrong in tally.wrong:
                print(wrong, flush=True)
            if sys.stderr.isatty() or n % 20 == 19:
                print(f"{total.files} of {len(paths)} files", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - begun
    print(
        f"{total.files} files, {total.lines} lines, {seconds:.0f} s: {total.refused} not Python 3, {total.found} with a main loop, "
        f"{total.changed} changed with every loop forced, {len(total.wrong)} wrong; slowest {total.slowest[0]:.1f} s: {total.slowest[1]}"
    )
    return bool(total.wrong)


if __name__ == "__main__":
    sys.exit(main())
