"""`python -m benchmarks [NAME ...]`: run all benchmarks that need no network, or those named."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks

_ASKED = {"backport_peers", "forty", "peers"}  # they need the network
_NOT_ONE = {"__main__", "backport", "corpus", "figures", "scripts"}


def main(names: list[str]) -> int:
    """Run and print; 2 for an unknown name."""
    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in _NOT_ONE)
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or sorted(set(known) - _ASKED):
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        for figure in module.run():
            print(f"  {figure}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
