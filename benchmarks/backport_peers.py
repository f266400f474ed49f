"""flor's backport beside flordb 4.0.1's and 2.7.1's algorithm and `git merge-file`, on the same cases.

Only when it is asked for: `python -m benchmarks backport_peers` installs flordb as `peers` does. The cases are those of
the file that FLOR_BENCH_CASES names (`benchmarks/backport/cases.py` has its format), else some made of the repository's
own fixtures; FLOR_BENCH_SAMPLE of them (by default 200, 0 for all), always the same ones. FLOR_BENCH_PROGRAMS names
some of the programs, with commas. A statement at a wrong place, or in a program that is otherwise changed, is wrong;
times are CPU seconds in a process that has all imported.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import peers
from benchmarks.backport import cases, driver
from benchmarks.backport.judge import CRASHED, NOTHING, REFUSED, RIGHT, WRONG, Verdict, judge

_SAMPLE = 200
_AT_ONCE = 2  # programs: flordb's take seconds for a case
_FAR = 35  # revisions
_FEW = 8  # cases of a kind tell little
_LENGTHS = {"about 300 lines": (200, 450), "about 1,000 lines": (700, 1_400)}


def run() -> Iterator[str]:
    """A table: one column a program."""
    path = os.environ.get("FLOR_BENCH_CASES")
    sample = int(os.environ.get("FLOR_BENCH_SAMPLE") or _SAMPLE)
    chosen = cases.sampled(cases.read(Path(path)) if path else cases.own(), sample)
    yield f"{len(chosen)} cases of {Path(path).name if path else 'the fixtures'}"
    programs = (os.environ.get("FLOR_BENCH_PROGRAMS") or ",".join(driver.PROGRAMS)).split(",")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = {name: pool.submit(_results, name, chosen) for name in programs}
    yield from _table({name: each.result() for name, each in waiting.items()})


def _results(program: str, chosen: Sequence[cases.Case]) -> list[Verdict]:
    tools = {tool.name: tool for tool in peers.TOOLS}
    python = peers.environment(tools[program]) if program in tools and tools[program].needs else sys.executable
    process = subprocess.Popen(
        [python, driver.__file__, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin = process.stdin

    def feed() -> None:
        with stdin:
            stdin.writelines(f"{case.to_json()}\n" for case in chosen)

    threading.Thread(target=feed, daemon=True).start()
    answers = {}
    for line in process.stdout:
        answer = json.loads(line)
        answers[answer["id"]] = answer
    if process.wait():
        raise RuntimeError(f"{program}: the process ended with {process.returncode}")
    return [judge(case, **{k: v for k, v in answers[case.id].items() if k != "id"}) for case in chosen]


def _table(results: dict[str, list[Verdict]]) -> Iterator[str]:
    def row(what: str, value: Callable[[list[Verdict]], str]) -> str:
        return f"| {what} | {' | '.join(value(verdicts) for verdicts in results.values())} |"

    yield f"| | {' | '.join(results)} |"
    yield f"| --- |{' --- |' * len(results)}"
    yield row("of what is placed, right", _precision)
    yield row("of what can be placed, right", _recall)
    yield row("the same, of the worst kind", _worst)
    yield row(f"more than {_FAR} revisions apart: of what is placed", lambda v: _precision(_far(v)))
    yield row(f"more than {_FAR} revisions apart: of what can be placed", lambda v: _recall(_far(v)))
    yield row("of the right ones, every byte the author's", lambda v: _share([x.same_text for x in _all(v, RIGHT)]))
    yield row("impossible ones refused", lambda v: _share([x.outcome == REFUSED for x in v if x.case.truth is None]))
    yield row("nothing done, and nothing said", lambda v: str(len(_all(v, NOTHING))))
    yield row("other text of the file changed", lambda v: str(sum(not x.kept for x in _all(v, RIGHT, WRONG))))
    yield row("placed where a name is not bound", lambda v: str(sum(x.unbound for x in _all(v, RIGHT, WRONG))))
    yield row(f"errors, or more than {driver.LIMIT:.0f} s of CPU", lambda v: str(len(_all(v, CRASHED))))
    for name, (low, high) in _LENGTHS.items():
        yield row(f"CPU, {name}, median", lambda v, low=low, high=high: _median(v, low, high))  # type: ignore[misc]


def _all(verdicts: Sequence[Verdict], *outcomes: str) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.outcome in outcomes]


def _far(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.case.distance > _FAR]


def _precision(verdicts: Sequence[Verdict]) -> str:
    return _share([verdict.outcome == RIGHT for verdict in _all(verdicts, RIGHT, WRONG)])


def _recall(verdicts: Sequence[Verdict]) -> str:
    return _share([verdict.outcome == RIGHT for verdict in verdicts if _can_be_placed(verdict)])


def _worst(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.case.kind for verdict in verdicts if _can_be_placed(verdict))
    right = Counter(v.case.kind for v in verdicts if _can_be_placed(v) and v.outcome == RIGHT)
    worst = min((kind for kind in counts if counts[kind] >= _FEW), key=lambda k: right[k] / counts[k], default=None)
    return "" if worst is None else f"{100 * right[worst] / counts[worst]:.1f} % ({worst})"


def _can_be_placed(verdict: Verdict) -> bool:
    return verdict.case.truth is not None and not verdict.case.may_refuse


def _share(found: Sequence[bool]) -> str:
    return f"{100 * sum(found) / len(found):.1f} % of {len(found)}" if found else ""


def _median(verdicts: Sequence[Verdict], low: int, high: int) -> str:
    times = [v.seconds for v in verdicts if low <= v.case.new.count("\n") <= high]
    return f"{1e3 * statistics.median(times):.0f} ms" if times else ""
