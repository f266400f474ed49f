"""What a replay may call itself, by what it has compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from flor_runtime.replay.verify import EXACT, INEXACT, VERIFIED, judge, keep
from flor_runtime.store.runlog import RunLog, keyed, read

SAME, ANOTHER = {"same": 2}, {"same": 2, "different": 1, "notes": ["tensors are not the recorded ones"]}
LOSS = {"loss": 0.5, "nan": math.nan, "zero": 0.0}
NEW = {"grad": 1.25}

#: What the run logged, what each worker logged, what they say of states; the label, and how many differed.
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], str, int]] = {
    "all is the same": (LOSS, [LOSS | NEW], [SAME], EXACT, 0),
    "states alone": (LOSS, [NEW], [SAME], EXACT, 0),
    "values alone": (LOSS, [LOSS | NEW], [{}], VERIFIED, 0),
    "nothing to compare": (LOSS, [NEW], [{}], INEXACT, 0),
    "another value": (LOSS, [LOSS | NEW | {"loss": 0.75}], [SAME], VERIFIED, 1),
    "another value and no state": (LOSS, [LOSS | NEW | {"loss": 0.75}], [{}], INEXACT, 1),
    "another sign of zero": (LOSS, [LOSS | NEW | {"zero": -0.0}], [SAME], VERIFIED, 1),
    "another type": ({"n": 1}, [NEW | {"n": 1.0}], [SAME], VERIFIED, 1),
    "another state": (LOSS, [LOSS | NEW], [ANOTHER], INEXACT, 1),
    "another state of one worker": (LOSS, [LOSS | NEW, LOSS], [SAME, ANOTHER], INEXACT, 1),
    "workers that disagree": (LOSS, [LOSS | NEW, {"grad": 1.5}], [SAME, SAME], INEXACT, 1),
    "a turn that led nowhere": ({}, [NEW], [{**SAME, "unproven": [[0, 1, 1]]}], VERIFIED, 0),
    "a turn whose value is the recorded one": (LOSS, [LOSS | NEW], [{**SAME, "unproven": [[0, 1, 1]]}], EXACT, 0),
    "a turn with a value that is another": (
        LOSS,
        [NEW | {"loss": 0.75}],
        [{**SAME, "unproven": [[0, 1, 1]]}],
        VERIFIED,
        1,
    ),
    "a later turn that gave nothing": (LOSS, [NEW], [{**SAME, "unproven": [[0, 2, 3]]}], EXACT, 0),
    "a file that has changed": (LOSS, [LOSS | NEW], [{**SAME, "stale": ["data.csv"]}], INEXACT, 1),
}


#: Labels that follow from what there is, and need no words.
QUIET = {"values alone", "nothing to compare"}


def _log(folder: Path, values: dict[str, Any]) -> Path:
    log = RunLog(folder)
    turn = log.context(0, "epoch", 1)
    for name, value in values.items():
        log.append(turn, name, value)
    log.close()
    return folder


@pytest.mark.parametrize("name", CASES)
def test_labels(tmp_path: Path, name: str) -> None:
    recorded, parts, outcomes, label, mismatched = CASES[name]
    logs = [_log(tmp_path / str(n), values) for n, values in enumerate(parts)]
    verdict = judge(_log(tmp_path / "log", recorded), logs, outcomes, ["grad"])
    assert (verdict.label, verdict.mismatched) == (label, mismatched), verdict.notes
    assert {((("epoch", 1),), "grad", 0): 1.25} == verdict.recovered
    assert bool(verdict.notes) == (label in (VERIFIED, INEXACT) and name not in QUIET)
    keep(verdict, tmp_path / "kept")
    assert verdict.recovered == keyed(read(tmp_path / "kept"))
