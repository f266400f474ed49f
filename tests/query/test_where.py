"""Conditions over the pivot: as pandas' `query` has them, and nothing that runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flor_runtime.query as query
from flor_runtime.cli.text import plain
from flor_runtime.errors import FlorError
from flor_runtime.query.catalog import select
from flor_runtime.query.matching import chosen_rows, matching
from flor_runtime.query.pivot import gather, pivot, taken
from flor_runtime.query.where import Where, WhereError, unknown_column
from flor_runtime.replay.choice import selected
from flor_runtime.store.layout import Home
from tests.query.test_pivot import at, logs
from tests.stores import add_replay, make_run, training

FRAME = pd.DataFrame(
    {
        "runid": ["a", "a", "b", "c"],
        "tstamp": pd.to_datetime([datetime(2024, 1, n) for n in (1, 1, 5, 9)]),
        "epoch": pd.array([1, 2, None, 5], "Int64"),
        "lr": [0.1, 0.01, np.nan, 1.0],
        "n": [1, 2, 3, 4],
        "val/loss": [0.5, 0.25, 2.0, np.nan],
        "optimizer": pd.Series(["adam", "sgd", None, "adam"], dtype=object),
        "mixed": pd.Series([1, "text", None, 2.5], dtype=object),
        "done": [True, False, True, True],
        "big": pd.Series([2**60, 2**60 + 1, 0, 1]),
        "arrays": pd.Series([np.zeros(2)] * 4, dtype=object),
    }
)
#: conditions that pandas reads, too, and gives the same rows for
PANDAS = [
    "lr > 0.01",
    "lr.isna()",
    "optimizer.notnull() and lr.astype('float') < 0.5",
    "lr > 0.01 and n >= 2",
    "lr > 0.01 or n == 3",
    "not (lr > 0.01)",
    "(lr > 0.01) & ~(n == 4)",
    "lr != 0.1",
    "0.05 < lr <= 1",
    "n * 2 + 1 == 5",
    "n % 2 == 0",
    "-n < -2",
    "n ** 2 > 4",
    "lr / n > 0.05",
    "n in [1, 4]",
    "n not in [1, 4]",
    "optimizer == 'adam'",
    "optimizer != 'adam'",
    "optimizer in ('adam', 'sgd')",
    "`val/loss` < 1",
    "`val/loss` < 1 and runid == 'a'",
    "done",
    "not done and n == 2",
    "tstamp > '2024-01-03'",
    "big == 1152921504606846977",
    "lr == lr",
]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.mark.parametrize("text", PANDAS)
def test_as_pandas_has_it(text: str) -> None:
    assert FRAME.query(text)["n"].tolist() == FRAME[Where.parse(text).rows(FRAME)]["n"].tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("epoch >= 2", [2, 4]),
        ("epoch != 2", [1, 3, 4]),
        ("epoch == None", [3]),
        ("lr != None", [1, 2, 4]),
        ("optimizer == None", [3]),
        ("mixed > 1", [4]),
        ("mixed == 'text'", [2]),
        ("run == 'b'", [3]),
        ("optimizer == 'a`d'", []),
        ("n / 0 > 1", [1, 2, 3, 4]),
        ("(n > 1) == done", [3, 4]),
        ("1 < 2", [1, 2, 3, 4]),
    ],
)
def test_what_pandas_does_otherwise_or_not_at_all(text: str, rows: list[int]) -> None:
    assert rows == FRAME[Where.parse(text).rows(FRAME)]["n"].tolist()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("lr = 0.1", "`==` compares"),
        ("", "--where ''"),
        ("lr >", "--where 'lr >'"),
        ("__import__('os').system('x') == 0", "more than a condition"),
        ("runid.upper() == 'A'", "more than a condition"),
        ("lr[0] > 1", "more than a condition"),
        ("[x for x in n] == 1", "more than a condition"),
        ("(lambda: 1) == 1", "more than a condition"),
        ("(n := 3) > 1", "more than a condition"),
        ("f'{n}' == '1'", "more than a condition"),
        ("n if done else n", "more than a condition"),
        ("n in runid", "more than a condition"),
        ("n in [n]", "numbers and texts only"),
        ("lr is None", "more than a condition"),
        ("@x > 1", "--where"),
        ("`lr > 1", "not closed"),
        ("1" * 20_000, "too long"),
        ("-" * 5_000 + "1 > 0", "--where"),
        ("(" * 3_000 + "1" + ")" * 3_000 + " > 0", "--where"),
        ("10 ** 400 ** 400 > n and 9" + "9" * 50 + " > n", "more than a condition"),
    ],
)
def test_what_is_refused_when_it_is_read(text: str, part: str) -> None:
    with pytest.raises(WhereError) as error:
        Where.parse(text)
    assert part in str(error.value)
    assert "\n" not in plain(str(error.value))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ephoc > 1", "no column 'ephoc': did you mean epoch?"),
        ("loss > 1", "did you mean `val/loss`?"),
        ("zzz > 1", "no column 'zzz': there are runid"),
        ("lr", "'lr' is no condition"),
        ("lr and done", "'lr' is no condition"),
        ("optimizer + 1 > 1", "'optimizer' is no number"),
        ("'a' * 10 ** 9 > 1", "is no number"),
        ("tstamp > 'soon'", "is no date"),
        ("lr > 'a'", "lr holds numbers, 'a' is text: these have no order"),
        ("optimizer < 3", "optimizer holds text, 3 is numbers: these have no order"),
        ("n <= optimizer", "n holds numbers, optimizer holds text"),
        ("arrays > 1", "arrays holds values of type ndarray"),
    ],
)
def test_what_is_refused_for_its_columns(text: str, part: str) -> None:
    with pytest.raises(WhereError) as error:
        Where.parse(text).rows(FRAME)
    assert part in str(error.value)


def test_no_power_takes_for_ever() -> None:
    assert not Where.parse("10 ** 10 ** 10 < n").rows(FRAME).any()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("lrn <>=!&|~()[]{}'`.0123456789,*/%+-:andotinepch\\\n@#", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        assert Where.parse(text).rows(FRAME).dtype == bool
    except WhereError as error:
        assert str(error)


class TestRowsOfRuns:
    def test_a_name_that_is_not_shown(self, home):
        make_run(home, training(3, 2, lr=0.1), name="a")
        make_run(home, training(3, 2, lr=0.2), name="b")
        folders = select(home=home)
        facts = gather(folders, ["acc"])
        table = pivot(facts, facts.names)
        for text, expected in [
            ("lr > 0.15 and epoch >= 2", [("b", 2), ("b", 3)]),
            ("step == 2 and lr < 0.15", [("a", 1), ("a", 2), ("a", 3)]),  # in a part of the row
            ("epoch == 9", []),
        ]:
            found = taken(table, chosen_rows(table, folders, Where.parse(text))).frame
            assert expected == list(zip(found["runid"], found["epoch"], strict=True))

    def test_a_level_of_the_script_s_own(self, home):
        make_run(home, logs((at(fold=1), "acc", 0.5), (at(fold=2), "acc", 0.75)))
        assert matching(select(home=home), Where.parse("fold == 2 and acc > 0.1"))["acc"].tolist() == [0.75]
        with pytest.raises(WhereError, match="did you mean fold"):
            matching(select(home=home), Where.parse("folds == 2"))

    def test_a_recovered_value(self, home):
        run = make_run(home, training(2, 1))
        add_replay(run, "r1", ["grad"], logs((at(epoch=2), "grad", 3.0)), label="verified")
        assert matching(select(home=home), Where.parse("grad > 2"))["epoch"].tolist() == [2]


@pytest.mark.parametrize("text", ["lr = " + "1" * 9000, "`" + "a" * 9000, "f(" + "a" * 9000 + ")"])
def test_a_long_condition_is_not_repeated_whole(text: str) -> None:
    with pytest.raises(WhereError) as caught:
        Where.parse(text)
    assert repr(text[:79] + "…") in str(caught.value) and len(str(caught.value)) < 400
    assert len(str(unknown_column("a" * 9000, ["b"]))) < 200


class TestInPython:
    def test_dataframe(self, home):
        make_run(home, training(3, 2, lr=0.1), name="a")
        run = make_run(home, training(3, 2, lr=0.2), name="b")
        frame = query.dataframe("acc", where="lr > 0.15 and epoch >= 2", home=home)
        assert list(zip(frame["runid"], frame["epoch"], strict=True)) == [("b", 2), ("b", 3)]
        add_replay(run, "r1", ["grad"], logs((at(epoch=2), "grad", 3.0)), label="verified")
        frame = query.dataframe("grad", "acc", where="grad > 2", provenance=True, home=home)
        assert frame[["grad", "grad label", "acc"]].to_numpy().tolist() == [[3.0, "verified", 0.2]]

    def test_full_pivot_and_log_records(self, home):
        make_run(home, training(2, 2), name="a")
        assert len(query.full_pivot(where="step == 1", home=home)) == 2
        records = query.log_records(home=home)
        assert len(query.full_pivot(records, where="acc > 0.15", home=home)) == 2
        found = query.log_records(where="name == 'acc' and value > 0.15", home=home)
        assert found["value"].tolist() == [0.2]
        assert found.index.tolist() == [0]

    @pytest.mark.parametrize("ask", [query.dataframe, query.full_pivot, query.log_records])
    def test_what_is_said(self, home, ask):
        make_run(home, training(1, 1))
        for text, part in [
            ("epch == 1", "where: no column 'epch': did you mean epoch?"),
            ("epoch =", "where 'epoch =':"),
        ]:
            with pytest.raises(WhereError) as caught:
                ask(where=text, home=home)
            assert str(caught.value).startswith(part)

    def test_an_empty_store(self, home):
        with pytest.raises(FlorError, match="no runs in"):
            query.dataframe("loss", home=home)
        assert len(query.full_pivot(home=home)) == len(query.log_records(home=home)) == 0


HOSTILE = [
    "__import__('os').system('touch {x}')", "open('{x}', 'w')", "exec('1')", "eval('1') == 1", "().__class__ == 1", "n.__class__ == 1",
    "[].append(1)", "(lambda: 0)()", "[open('{x}', 'w') for n in lr] == 1", "{{n: open('{x}', 'w') for n in lr}} == 1", "f'{{open(1)}}' == 'x'",
    "f'{{n!r:{{lr}}}}' == ''", "n if 1 else open('{x}')", "(n := 1) == 1", "await n", "yield", "*n", "**n", "n, lr", "n; lr", "n\nimport os", "import os",
    "del n", "global n", "@os.system('x')", "@n == 1", "`__class__` == 1", "`n`.x == 1", "``", "`", "n == `", "n is os", "n is not None", "n[0] == 1",
    "n[open('{x}')] == 1", "n @ lr == 1", "n << 10 > 1", "n >> 1 > 1", "n ^ 1", "~n > 1", "not", "and", "n and", "10 ** 10 ** 10 ** 10 > n",
    "'a' * 10 ** 9 == runid", "9" * 5000 + " > n", "n in (n,)", "n in range(10 ** 9)", "n in [[1]]", "n in {{'a': 1}}", "n in 'abc'", "print(n) == 1",
    "(" * 200 + "n" + ")" * 200, "-" * 9000 + "n > 0", "n" * 9999, "\0", "n == '\ud800'", "n == '\\x00' and lr[", "...", "n == ...", "b'1' == n", "1j > n", "None > n",
]  # fmt: skip


def test_no_condition_has_an_effect(tmp_path):
    target = tmp_path / "made"
    before = FRAME.copy(deep=True)
    assert len(HOSTILE) > 50
    for text in HOSTILE:
        try:
            rows = Where.parse(text.format(x=target)).rows(FRAME)
        except WhereError as error:
            assert len(plain(str(error))) < 400
        else:
            assert rows.dtype == bool
    assert not target.exists()
    pd.testing.assert_frame_equal(before, FRAME)


def test_a_name_that_is_to_be_recovered(tmp_path: Path) -> None:
    """A replay's condition may ask for it, where no run, or not every turn, has it yet."""
    home = Home(tmp_path)
    one, two = (make_run(home, training(2, 3, lr=lr)) for lr in (0.1, 0.2))
    where = Where.parse("norm.isna() and lr < 0.15")
    with pytest.raises(WhereError, match="no column 'norm'"):
        selected([one, two], where)
    assert selected([one, two], where, ["norm"]) == {one.id: {0: [0, 1]}}
    add_replay(one, "r1", ["norm"], lambda log: log.append(log.context(0, "epoch", 1), "norm", 0.5))
    assert selected([one, two], where, ["norm"]) == {one.id: {0: [1]}}
