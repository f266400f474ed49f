"""Another clock on the wall, for all that Python asks: `CLOCK` says which."""

from __future__ import annotations

import itertools
import os
import time

_kind, _now = os.environ.get("CLOCK"), time.time
_count = itertools.count()

if _kind == "steps back":
    time.time = lambda: _now() - 3600.0 * next(_count)
elif _kind == "frozen":
    time.time = lambda: 1_700_000_000.0
elif _kind == "far ahead":
    time.time = lambda: _now() + 10 * 365.25 * 86_400
elif _kind == "before 1970":
    time.time = lambda: -5.0
