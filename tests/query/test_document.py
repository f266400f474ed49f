"""What docs/query.md shows is what comes out."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pandas as pd
import pytest

from flor_runtime.query import sql
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import RunLog
from tests.stores import add_replay, make_run, training

TEXT = (Path(__file__).parent.parent.parent / "docs" / "query.md").read_text()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path))
    home = Home(tmp_path)
    run = make_run(home, training(2, 3, lr=0.1), name="wide")
    make_run(home, training(2, 3, lr=0.2), name="narrow")

    def norm(log: RunLog) -> None:
        for epoch in (1, 2):
            log.append(log.context(0, "epoch", epoch), "norm", epoch / 4)

    add_replay(run, "r1", ["norm"], norm)
    return home


def test_its_blocks(home: Home) -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    found = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/query.md", "docs/query.md", 0)
    said: list[str] = []
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=said.append)
    assert result.attempted > 3
    assert not result.failed, "".join(said)


def test_the_views_have_the_columns_that_it_names(home: Home) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", TEXT, re.MULTILINE))
    views = sql.described(home=home)
    for view in ("runs", "logs"):
        assert re.findall(r"`(\w+)`", rows[view]) == views[view]
    assert re.findall(r"`(\w+)`", rows["pivot"])[:7] == views["pivot"][:7]
    for table in ("parameters", "names"):
        (columns,) = re.findall(rf"`{table}` \((.+?)\)", TEXT)
        assert re.findall(r"`(\w+)`", columns) == views[table]
