"""The pivot, against tables written by hand and against a slow and simple one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_runtime.errors import FlorError
from flor_runtime.query import dataframe, full_pivot, log_records
from flor_runtime.query.catalog import load, select
from flor_runtime.query.pivot import pivot
from flor_runtime.query.records import INEXACT, RECORDED, RECOVERED
from flor_runtime.store.layout import Home
from tests.stores import add_replay, make_run, training


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def logs(*rows):
    """Logging of (path, name, value) rows, each in a context of its own."""

    def logging(log):
        made = {(): 0}
        for path, name, value in rows:
            for end in range(1, len(path) + 1):
                if path[:end] not in made:
                    made[path[:end]] = log.context(made[path[: end - 1]], *path[end - 1])
            log.append(made[path], name, value)

    return logging


def at(**turns):
    return tuple(turns.items())


def table(df: pd.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    def cell(value):
        return None if value is pd.NA or value is None or value != value else value

    return [tuple(map(cell, row)) for row in zip(*(df[name].tolist() for name in columns), strict=True)]


def test_coarser_values_stand_on_every_row_that_they_cover(home):
    make_run(home, training(epochs=2, steps=2))
    df = full_pivot(home=home)
    assert list(df.columns) == ["projid", "runid", "tstamp", "vid", "epoch", "step", "lr", "loss", "acc", "best"]
    assert table(df, "epoch", "step", "lr", "acc", "best", "loss") == [
        (1, 1, 0.1, 0.1, 0.2, 0.1 / 11),
        (1, 2, 0.1, 0.1, 0.2, 0.1 / 12),
        (2, 1, 0.1, 0.2, 0.2, 0.1 / 21),
        (2, 2, 0.1, 0.2, 0.2, 0.1 / 22),
    ]


def test_rows_are_as_fine_as_a_run_logs(home):
    make_run(home, logs(((), "lr", 0.5)), name="a")
    make_run(home, logs(((), "lr", 0.6), (at(epoch=1), "acc", 0.1), (at(epoch=2), "acc", 0.2)), name="b")
    make_run(home, training(1, 2), name="c")
    assert table(full_pivot(home=home), "runid", "epoch", "step", "lr", "acc") == [
        ("a", None, None, 0.5, None),
        ("b", 1, None, 0.6, 0.1),
        ("b", 2, None, 0.6, 0.2),
        ("c", 1, 1, 0.1, 0.1),
        ("c", 1, 2, 0.1, 0.1),
    ]


def test_turn_without_finer_records_has_a_row_of_its_own(home):
    rows = [(at(epoch=1, step=1), "loss", 1.0), (at(epoch=1), "acc", 0.1), (at(epoch=2), "acc", 0.2)]
    make_run(home, logs(*rows))
    assert table(full_pivot(home=home), "epoch", "step", "loss", "acc") == [(1, 1, 1.0, 0.1), (2, None, None, 0.2)]


def test_loops_side_by_side_have_rows_of_their_own(home):
    rows = [(at(epoch=1, step=1), "loss", 1.0), (at(epoch=1, batch=1), "test", 2.0), (at(epoch=1), "acc", 0.5)]
    make_run(home, logs(*rows))
    assert table(full_pivot(home=home), "epoch", "step", "batch", "loss", "test", "acc") == [
        (1, None, 1, None, 2.0, 0.5),
        (1, 1, None, 1.0, None, 0.5),
    ]


def test_outer_loops_of_other_names(home):
    rows = [(at(fold=fold, epoch=epoch), "acc", fold + epoch / 10) for fold in (1, 2) for epoch in (1, 2)]
    make_run(home, logs(*rows, (at(fold=2), "best", 9)))
    assert table(full_pivot(home=home), "fold", "epoch", "acc", "best") == [
        (1, 1, 1.1, None),
        (1, 2, 1.2, None),
        (2, 1, 2.1, 9),
        (2, 2, 2.2, 9),
    ]


def test_of_several_at_one_place_the_last_wins(home):
    make_run(home, logs((at(epoch=1), "acc", 0.1), (at(epoch=1), "acc", 0.2)))
    assert table(full_pivot(home=home), "epoch", "acc") == [(1, 0.2)]
    assert len(log_records(home=home)) == 2


def test_finer_value_wins_over_a_coarser_one_of_its_name(home):
    make_run(home, logs((at(epoch=1, step=1), "loss", 1.0), (at(epoch=1, step=2), "x", 0), (at(epoch=1), "loss", 9.0)))
    assert table(full_pivot(home=home), "step", "loss") == [(1, 1.0), (2, 9.0)]


def test_rows_stand_in_the_order_of_turns_not_of_logging(home):
    make_run(home, logs(*((at(epoch=epoch), "acc", epoch) for epoch in (3, 1, 10, 2))))
    assert table(full_pivot(home=home), "epoch", "acc") == [(1, 1), (2, 2), (3, 3), (10, 10)]


def test_names_stand_in_the_order_first_seen(home):
    make_run(home, logs(((), "z", 1), ((), "b", 1)))
    make_run(home, logs(((), "a", 1), ((), "z", 1)))
    assert list(full_pivot(home=home).columns)[6:] == ["z", "b", "a"]


def test_types_are_kept(home):
    rows = [
        (at(epoch=1), name, value)
        for name, value in [
            ("f", 1.5),
            ("i", 2**60 + 1),
            ("b", True),
            ("s", "x"),
            ("l", [1]),
            ("n", None),
            ("mixed", "a"),
        ]
    ]
    rows += [
        (at(epoch=2), "mixed", 1.0),
        (at(epoch=3), "mixed", True),
        (at(epoch=2), "both", 1),
        (at(epoch=3), "both", 0.5),
    ]
    make_run(home, logs(*rows[:6]), name="full")
    df = full_pivot(home=home)
    assert [str(df[name].dtype) for name in "fibsln"] == ["float64", "int64", "bool", "object", "object", "object"]
    assert df.i.tolist() == [2**60 + 1]
    make_run(home, logs(*rows), name="gaps")
    df = full_pivot(runs="gaps", home=home)
    assert [str(df[name].dtype) for name in ("f", "i", "b")] == ["float64", "Int64", "boolean"]
    assert df.i.tolist()[0] == 2**60 + 1
    assert df.i.isna().tolist() == [False, True, True]
    assert [type(value) for value in df.mixed] == [str, float, bool]
    assert df.both.dtype == np.float64
    assert df.l.tolist() == [[1], None, None]


def test_integers_that_no_float_holds_stay_integers_beside_floats(home):
    make_run(home, logs((at(epoch=1), "x", 2**53 + 1), (at(epoch=2), "x", 0.5)))
    assert full_pivot(home=home).x.tolist() == [2**53 + 1, 0.5]


def test_nan_and_infinities(home):
    make_run(home, logs((at(epoch=1), "x", math.nan), (at(epoch=2), "x", math.inf), (at(epoch=3), "x", -0.0)))
    values = full_pivot(home=home).x.tolist()
    assert math.isnan(values[0])
    assert values[1] == math.inf
    assert math.copysign(1, values[2]) == -1


def test_epoch_and_step_are_nullable_integers_always(home):
    make_run(home, logs(((), "lr", 1.0)))
    df = full_pivot(home=home)
    assert [str(df[level].dtype) for level in ("epoch", "step")] == ["Int64", "Int64"]


def test_names_that_are_columns_already(home):
    make_run(home, logs((at(epoch=1), "epoch", 7), (at(epoch=1), "runid", "x"), (at(epoch=1), "value", 3)))
    df = full_pivot(home=home)
    assert table(df, "epoch", "epoch_logged", "runid_logged", "value") == [(1, 7, "x", 3)]
    pd.testing.assert_frame_equal(full_pivot(log_records(home=home)), df)


def test_turns_too_large_for_one_number(home):
    last = 2**32 - 1
    levels = [f"level{number}" for number in range(4)]
    rows = [(tuple((level, turn) for level in levels), "x", turn) for turn in (last, 1, last - 1)]
    make_run(home, logs(*rows, (((levels[0], last),), "outer", 5)))
    assert table(full_pivot(home=home), "level3", "x", "outer") == [
        (1, 1, None),
        (last - 1, last - 1, None),
        (last, last, 5),
    ]


class TestDataframe:
    def test_rows_as_fine_as_the_names_need(self, home):
        make_run(home, training(2, 3))
        assert table(dataframe("acc", home=home), "epoch", "step", "acc") == [(1, None, 0.1), (2, None, 0.2)]
        assert table(dataframe("lr", home=home), "epoch", "lr") == [(None, 0.1)]
        assert len(dataframe("loss", home=home)) == 6

    def test_columns_in_the_order_asked(self, home):
        make_run(home, training())
        assert list(dataframe("loss", "lr", home=home).columns)[6:] == ["loss", "lr"]

    def test_without_names_all(self, home):
        make_run(home, training())
        pd.testing.assert_frame_equal(dataframe(home=home), full_pivot(home=home))

    def test_runs_without_the_names_have_no_rows(self, home):
        make_run(home, logs(((), "other", 1)), name="a")
        make_run(home, training(1, 1), name="b")
        assert set(dataframe("loss", home=home).runid) == {"b"}

    def test_unknown_name_says_which_are_near(self, home):
        make_run(home, training())
        with pytest.raises(FlorError, match="no run logs 'los': did you mean 'loss'"):
            dataframe("acc", "los", home=home)
        with pytest.raises(FlorError, match="there are lr, loss, acc, best"):
            dataframe("zzz", home=home)


class TestOfAFrame:
    def test_the_same_as_of_the_store(self, home):
        make_run(home, training(2, 3), name="a")
        make_run(home, training(3, 1), name=None, vid=None)
        make_run(home, logs(((), "text", "x"), ((), "big", 2**70), ((), "list", [1]), ((), "flag", False)))
        pd.testing.assert_frame_equal(full_pivot(log_records(home=home)), full_pivot(home=home))
        pd.testing.assert_frame_equal(full_pivot(log_records(home=home, provenance=True)), full_pivot(home=home))

    def test_filtered_rows(self, home):
        make_run(home, training(2, 2), name="a")
        make_run(home, training(2, 2), name="b")
        df = log_records(home=home)
        df = df[(df.runid == "b") & df.name.isin(["acc", "lr"])]
        assert table(full_pivot(df), "runid", "epoch", "lr", "acc") == [("b", 1, 0.1, 0.1), ("b", 2, 0.1, 0.2)]

    def test_no_rows(self, home):
        make_run(home, training())
        df = log_records(home=home)
        assert len(full_pivot(df[df.name == "nothing"])) == 0

    def test_another_frame_is_refused(self):
        with pytest.raises(FlorError, match="no column 'projid'"):
            full_pivot(pd.DataFrame({"a": [1]}))


def test_marks_say_where_a_cell_comes_from(home):
    def recovered(*epochs):
        return logs(*((at(epoch=epoch), "grad", float(epoch)) for epoch in epochs))

    run = make_run(home, training(3, 1))
    add_replay(run, "r1", ["grad"], recovered(1))
    add_replay(run, "r2", ["grad"], recovered(1, 2), label="inexact")
    facts = load(select(home=home))
    found = pivot(facts, facts.names)
    assert found.marks["grad"].tolist() == [RECOVERED, INEXACT, RECORDED]
    assert found.present["grad"].tolist() == [True, True, False]
    assert not found.marks["loss"].any()


def test_labels_by_row(home):
    run = make_run(home, training(4, 1))
    for number, label in enumerate(("inexact", "verified", "exact")):
        add_replay(run, f"r{number}", ["grad"], logs((at(epoch=number + 1), "grad", 1.0)), label=label)
    df = full_pivot(home=home, provenance=True)
    assert list(df.columns[-2:]) == ["grad", "grad label"]
    assert ["inexact", "verified", "exact", None] == df["grad label"].tolist()


turns = st.integers(1, 3)
paths = st.one_of(
    st.just(()),
    st.tuples(st.tuples(st.just("epoch"), turns)),
    st.tuples(st.tuples(st.just("epoch"), turns), st.tuples(st.sampled_from(["step", "batch"]), turns)),
    st.tuples(st.tuples(st.just("fold"), turns), st.tuples(st.just("epoch"), turns)),
)
records = st.lists(st.tuples(paths, st.sampled_from("abc"), st.integers(-5, 5)), max_size=25)


def simple_pivot(rows) -> list[tuple[frozenset, dict[str, int]]]:
    """Places of which none contains another, each with the last value of the finest place that covers it."""
    places = {frozenset(path) for path, _, _ in rows}
    leaves = [place for place in places if not any(place < other for other in places)]
    last = {(frozenset(path), name): value for path, name, value in rows}
    found = []
    for leaf in leaves:
        cells = {}
        for size in range(len(leaf) + 1):
            for (place, name), value in last.items():
                if len(place) == size and place <= leaf:
                    cells.setdefault(name, {})[size] = value
        found.append((leaf, {name: by_size[max(by_size)] for name, by_size in cells.items()}))
    return found


@given(records)
@settings(max_examples=40, deadline=None)
def test_against_a_simple_pivot(tmp_path_factory, rows):
    # Coarser places of one size never cover the same row here but for the turn of one loop, so the finest is one.
    home = Home(tmp_path_factory.mktemp("home"))
    make_run(home, logs(*rows))
    expected = sorted(simple_pivot(rows), key=by_place)
    assert sorted(cells_of(full_pivot(home=home)), key=by_place) == expected
    assert sorted(cells_of(full_pivot(log_records(home=home))), key=by_place) == expected


def by_place(row: tuple[frozenset, dict[str, int]]) -> list[tuple[str, int]]:
    return sorted(row[0])


def cells_of(df: pd.DataFrame) -> list[tuple[frozenset, dict[str, int]]]:
    levels = [level for level in ("epoch", "step", "batch", "fold") if level in df.columns]
    found = []
    for row in df.to_dict("records"):
        place = frozenset((level, int(row[level])) for level in levels if not pd.isna(row[level]))
        cells = {name: int(row[name]) for name in "abc" if name in row and not pd.isna(row[name])}
        found.append((place, cells))
    return found


def test_a_million_records_are_quick_enough_to_notice_a_merge(home):
    # The figure itself is a benchmark's; a chain of merges or a loop over rows takes ten times this.
    import time

    def logging(log):
        for epoch in range(1, 101):
            turn = log.context(0, "epoch", epoch)
            for step in range(1, 101):
                at = log.context(turn, "step", step)
                for number in range(10):
                    log.append(at, f"m{number}", step / epoch)

    make_run(home, logging)
    full_pivot(home=home)
    before = time.process_time()
    df = full_pivot(home=home)
    assert time.process_time() - before < 0.5
    assert df.shape == (10_000, 16)
