"""Tries faults: `python -m tests.seeded [NAME ...] -j 2`. 1 if one of them survives or can't be tried."""

from __future__ import annotations

import argparse
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.seeded.faults import FAULTS
from tests.seeded.planting import Fault, Outcome, run


def main(argv: list[str] | None = None) -> int:
    """Print a line for each fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.seeded", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="of the faults; none: all")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="faults at a time")
    parser.add_argument("--with", dest="tests", action="append", default=[], metavar="TEST", help="other tests to run")
    parser.add_argument("-v", action="store_true", help="what the tests print")
    options = parser.parse_args(argv)
    chosen = [fault for fault in FAULTS if not options.names or fault.name in options.names]
    unknown = set(options.names) - {fault.name for fault in chosen}
    if unknown:
        print(f"no fault {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2

    def attempt(fault: Fault) -> tuple[Fault, Outcome, float]:
        began = time.perf_counter()
        try:
            outcome = run(fault, options.tests)
        except ValueError as error:
            outcome = Outcome("broken", str(error))
        return fault, outcome, time.perf_counter() - began

    verdicts = []
    with ThreadPoolExecutor(options.j) as threads:
        for fault, outcome, seconds in threads.map(attempt, chosen):
            verdicts.append(outcome.verdict)
            by = ", ".join(re.findall(r"^(?:FAILED|ERROR) (\S+)", outcome.output, re.MULTILINE))
            print(f"{outcome.verdict:8} {seconds:6.1f} s  {fault.name}  {by}", flush=True)
            if options.v or outcome.verdict == "broken":
                print(outcome.output[-3000:], flush=True)
    print(", ".join(f"{verdicts.count(kind)} {kind}" for kind in ("caught", "survived", "broken")))
    return int(set(verdicts) != {"caught"})


if __name__ == "__main__":
    sys.exit(main())
