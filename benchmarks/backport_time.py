"""A statement backported: one pair of versions in process, and a history of 300 versions as a process.

The floor of a pair is the standard library's parse of both files, that of a history one parse of each version.
"""

from __future__ import annotations

import ast
import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.scripts import script

_VERSIONS = 300
_PROBED = re.compile(rb"( +)norm = nn\.utils\.clip_grad_norm_\(.*\n")


def run() -> Iterator[Figure]:
    """CPU time of a pair, the median over a history; wall and CPU time of the command, the best of three."""
    for lines, most in ((300, 15.0), (1000, 50.0)):
        versions = history(lines, _VERSIONS)
        pairs = versions[:: _VERSIONS // 25]
        ours, floor = _median(pairs, probed(versions[-1]))
        name = f"a pair of versions of {versions[-1].count(10)} lines, in process"
        yield Figure(name, ours * 1e3, floor * 1e3, "ast.parse of both", "ms", at_most=most)
    yield from _process(versions)


def history(lines: int, count: int) -> list[bytes]:
    """Versions of one script, oldest first: each has three more lines changed, inserted or taken out again."""
    chosen = random.Random(count)
    text = script(lines).splitlines(keepends=True)
    out = [b"".join(text)]
    while len(out) < count:
        changed = list(text)
        for _ in range(3):
            _mutate(changed, chosen, len(changed) > lines + 90)
        code = b"".join(changed)
        try:
            ast.parse(code)
        except SyntaxError:
            continue
        if code not in out:
            text = changed
            out.append(code)
    return out


def _mutate(lines: list[bytes], chosen: random.Random, long: bool) -> None:
    notes = [number for number, line in enumerate(lines) if b'"note ' in line]
    if long and notes:
        del lines[chosen.choice(notes)]
        return
    at = chosen.randrange(40, len(lines) - 10)
    line = lines[at]
    indent = line[: len(line) - len(line.lstrip())]
    if b"0" in line and chosen.random() < 0.5:
        lines[at] = line.replace(b"0", b"1%d" % chosen.randrange(10), 1)
    elif indent and line.rstrip().endswith(b")"):
        lines.insert(at + 1, indent + b'log.debug("note %d")\n' % chosen.randrange(1000))


def probed(code: bytes) -> bytes:
    """The newest version, with the statement that goes to all others."""
    found = list(_PROBED.finditer(code))[-1]
    return b"import flor\n" + code[: found.end()] + found[1] + b'flor.log("norm", norm)\n' + code[found.end() :]


def _median(pairs: list[bytes], new: bytes) -> tuple[float, float]:
    from flor_transform import backport

    mine: list[float] = []
    floor: list[float] = []
    for number, old in enumerate(pairs):
        # comments make it another file: nothing is known of it from the pair before
        today = b"# %d\n" % number + new

        def place(old: bytes = old, today: bytes = today) -> None:
            assert not backport(old, today, ["norm"]).refusals

        def read(old: bytes = old, today: bytes = today) -> None:
            ast.parse(old), ast.parse(today)

        mine.append(_cpu(place))
        floor.append(_cpu(read))
    return statistics.median(mine), statistics.median(floor)


def _cpu(function: Callable[[], None]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def _process(versions: list[bytes]) -> Iterator[Figure]:
    """`flor-backport --revs` on two cores as a user has it, against a process that parses each version once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "project", "train.py")
        path.parent.mkdir()
        _commit(path, versions)
        path.write_bytes(probed(versions[-1]))
        env = {**os.environ, "FLOR_HOME": f"{folder}/store"}
        command = str(Path(sys.executable).with_name("flor-backport"))
        asked = [command, str(path), "--vars", "norm", "--revs", "HEAD", "-j", "2", "--dry-run"]

        def ours() -> None:
            done = subprocess.run(asked, env=env, capture_output=True, text=True)
            assert f"{len(versions)} versions: {len(versions)} statements placed, 0 refused" in done.stderr, done.stderr

        def floor() -> None:
            for version in versions:
                ast.parse(version)

        mine, parsed = [_times(ours) for _ in range(3)], [_times(floor) for _ in range(3)]
    name = f"{len(versions)} versions of {versions[-1].count(10)} lines, a process, -j 2"
    yield Figure(name, min(mine)[0], min(parsed)[0], "ast.parse of each, one process", at_most=5.0)
    used = [min(cpu for _, cpu in each) for each in (mine, parsed)]
    yield Figure("the same, CPU time of all its processes", *used, "ast.parse of each, one process")


def _times(function: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds, with those of child processes."""
    began, used = time.perf_counter(), os.times()
    function()
    now = os.times()
    return time.perf_counter() - began, sum(now[:4]) - sum(used[:4])


def _commit(path: Path, versions: list[bytes]) -> None:
    """A repository whose history has these versions of a file."""
    out = []
    for mark, code in zip(itertools.count(1), versions):
        who = b"bench <bench@localhost> %d +0000" % (1_700_000_000 + 60 * mark)
        out.append(b"commit refs/heads/main\nmark :%d\ncommitter %s\ndata 1\nv\n" % (mark, who))
        out.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.name.encode(), len(code), code))
    git = ["git", "-C", str(path.parent)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "fast-import", "--quiet"], input=b"".join(out), check=True)
