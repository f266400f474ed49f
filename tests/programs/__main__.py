"""Runs many generated programs: `python -m tests.programs --count 100000 --seed 0 -j 2`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.programs.grammar import from_seed
from tests.programs.minimize import minimize
from tests.programs.oracle import Checked, check

BATCH = 100


def check_seed(seed: int) -> Checked:
    """The program of a seed; what is wrong names the seed."""
    try:
        checked = check(from_seed(seed), seed, sparse=seed % 8 == 5)
    except Exception as error:
        checked = Checked(programs=1, wrong=[f"{type(error).__name__}: {error}"])
    checked.wrong = [f"seed {seed}: {wrong}" for wrong in checked.wrong]
    return checked


def check_seeds(start: int, count: int = BATCH) -> Checked:
    total = Checked()
    for seed in range(start, start + count):
        total += check_seed(seed)
    return total


def smallest(seed: int) -> bytes:
    """The failing program of a seed, with all taken out that the failure doesn't need."""
    kind = _kind(check_seed(seed).wrong)

    def fails(source: bytes) -> bool:
        try:
            return _kind(check(source, seed, sparse=seed % 8 == 5).wrong) == kind
        except Exception as error:
            return _kind([f"{type(error).__name__}: {error}"]) == kind

    return minimize(from_seed(seed), fails) if kind else b""


def _kind(wrong: list[str]) -> str:
    """What a failure is about: the way of running, and what differs."""
    if not wrong:
        return ""
    text = wrong[0].partition(": ")[2] if wrong[0].startswith("seed ") else wrong[0]
    way = text.partition(" ")[0]
    what = next(
        (
            name
            for name in ("error", "states", "last", "read", "turn -1", "turn", "logs", "names")
            if f": {name}" in text
        ),
        "",
    )
    return f"{way} {what}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Run generated training programs in all ways.")
    parser.add_argument("--count", type=int, default=1000, help="programs")
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the others follow")
    parser.add_argument("-j", type=int, default=1, help="processes")
    parser.add_argument("--small", action="store_true", help="print the first failing programs, made small")
    options = parser.parse_args()
    begun = time.perf_counter()
    total = Checked()
    starts = range(options.seed, options.seed + options.count, BATCH)
    size = min(BATCH, options.count)
    with ProcessPoolExecutor(options.j) as pool:
        for checked in pool.map(partial(check_seeds, count=size), starts):
            total += checked
            for wrong in checked.wrong:
                print(wrong[:900], flush=True)
            if total.programs % 5000 < BATCH:
                print(f"{total.programs} programs, {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - begun
    print(f"{total}; {total.programs / seconds * 60:.0f} a minute")
    for reason, count in total.reasons.most_common(30):
        print(f"  {count:7} {reason}")
    if options.small:
        for seed in list(dict.fromkeys(int(w.split()[1].rstrip(":")) for w in total.wrong))[:3]:
            print(f"\n# seed {seed}\n{smallest(seed).decode()}")
    return bool(total.wrong)


if __name__ == "__main__":
    sys.exit(main())
