"""`log_records`: every record, with its run and place; recovered ones beside recorded ones."""

from __future__ import annotations

import math
import os

import numpy as np
import pandas as pd
import pytest

from flor_runtime.errors import StoreError
from flor_runtime.query import full_pivot, log_records
from flor_runtime.query.catalog import load, select
from flor_runtime.store.layout import FORMAT, Home, write_json
from tests.stores import STARTED, add_replay, make_run, training


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def column(df: pd.DataFrame, name: str) -> list[object]:
    return [None if value is pd.NA else value for value in df[name].tolist()]


def test_columns_and_rows(home):
    run = make_run(home, training(epochs=1, steps=2), name="first")
    df = log_records(home=home)
    assert list(df.columns) == ["projid", "runid", "tstamp", "vid", "epoch", "step", "name", "value"]
    assert column(df, "epoch") == [None, 1, 1, 1, None]
    assert column(df, "step") == [None, 1, 2, None, None]
    assert column(df, "name") == ["lr", "loss", "loss", "acc", "best"]
    assert column(df, "value") == [0.1, 0.1 / 11, 0.1 / 12, 0.1, 0.1]
    assert set(df.projid) == {"digits"}
    assert set(df.runid) == {"first"}
    assert set(df.vid) == {run.manifest()["vid"]}
    assert [stamp.timestamp() for stamp in df.tstamp.dt.tz_localize(None).dt.to_pydatetime()] == [STARTED] * 5


def test_values_keep_their_types(home):
    logged = [1, 1.0, True, None, "text", [1, 2], {"a": math.nan}, 2**70, np.arange(3)]

    def logging(log):
        for value in logged:
            log.append(0, "x", value)

    make_run(home, logging)
    found = log_records(home=home).value.tolist()
    assert [type(value) for value in found] == [type(value) for value in logged]
    assert found[:6] == logged[:6]
    assert found[7] == 2**70


def test_run_without_a_name_goes_by_its_id(home):
    run = make_run(home, training(1, 1))
    assert set(log_records(home=home).runid) == {run.id[:8]}


def test_other_levels_follow_epoch_and_step(home):
    def logging(log):
        fold = log.context(0, "fold", 2)
        log.append(log.context(log.context(fold, "epoch", 3), "batch", 4), "loss", 1.0)

    make_run(home, logging)
    df = log_records(home=home)
    assert list(df.columns)[4:-2] == ["epoch", "step", "fold", "batch"]
    assert [column(df, level) for level in ("epoch", "step", "fold", "batch")] == [[3], [None], [2], [4]]


def test_loop_in_a_loop_of_its_own_name(home):
    def logging(log):
        outer = log.context(0, "step", 2)
        log.append(log.context(log.context(outer, "step", 3), "step", 4), "loss", 1.0)

    make_run(home, logging)
    df = log_records(home=home)
    assert [column(df, level) for level in ("step", "step_2", "step_3")] == [[2], [3], [4]]


def test_empty_store_and_run_without_records(home):
    columns = ["projid", "runid", "tstamp", "vid", "epoch", "step", "name", "value"]
    assert log_records(home=home).columns.tolist() == columns
    make_run(home)
    assert len(log_records(home=home)) == 0


def test_damaged_log_of_one_run_leaves_the_others(home):
    bad, good = make_run(home, training(), name="bad"), make_run(home, training(1, 1), name="good")
    for path in bad.log.iterdir():
        path.write_bytes(os.urandom(64))
    assert set(log_records(home=home).runid) == {good.manifest()["name"]}
    assert load(select(home=home)).notes


def test_log_of_a_newer_format_is_refused(home):
    run = make_run(home, training())
    write_json(run.log / "log.json", {"format": FORMAT + 1})
    with pytest.raises(StoreError, match="upgrade flor"):
        log_records(home=home)


class TestSelection:
    def test_by_name_id_and_beginning_oldest_first(self, home):
        first, second, third = (make_run(home, training(1, 1), name=name) for name in "abc")
        df = log_records(["c", first.id[:12]], home=home)
        assert list(dict.fromkeys(df.runid)) == ["a", "c"]
        assert set(log_records(second.id, home=home).runid) == {"b"}
        assert [run.id for run in select("all", home)] == [first.id, second.id, third.id]

    def test_of_the_project_of_the_current_folder(self, home, tmp_path, monkeypatch):
        for name in ("one", "two"):
            (tmp_path / name / "deep").mkdir(parents=True)
            make_run(home, training(1, 1), name=name, project=str(tmp_path / name))
        monkeypatch.chdir(tmp_path / "one" / "deep")
        assert set(log_records(home=home).runid) == {"one"}
        monkeypatch.chdir(tmp_path)
        assert set(log_records(home=home).runid) == {"one", "two"}

    def test_nearest_project_counts(self, home, tmp_path, monkeypatch):
        (tmp_path / "inner").mkdir()
        make_run(home, training(1, 1), name="outer", project=str(tmp_path))
        make_run(home, training(1, 1), name="inner", project=str(tmp_path / "inner"))
        monkeypatch.chdir(tmp_path / "inner")
        assert set(log_records(home=home).runid) == {"inner"}

    def test_unknown_run(self, home):
        make_run(home, training())
        with pytest.raises(StoreError, match="no run 'nothing'"):
            log_records("nothing", home=home)


def recovering(value: float, epochs=(1, 2), name: str = "grad"):
    """A replay's log: its own records again, and the new one."""

    def logging(log):
        log.append(0, "lr", -1.0)
        for epoch in epochs:
            turn = log.context(0, "epoch", epoch)
            log.append(turn, name, value + epoch)
            if name != "acc":
                log.append(turn, "acc", -1.0)

    return logging


class TestRecovered:
    def records(self, home) -> list[tuple[object, ...]]:
        df = log_records(home=home, provenance=True)
        df = df[df.source == "recovered"]
        return list(zip(df.epoch, df.name, df.value, df.label, df.replay, strict=True))

    def test_only_the_names_asked_for(self, home):
        run = make_run(home, training())
        before = log_records(home=home)
        add_replay(run, "r1", ["grad"], recovering(10.0, epochs=[1, 3]))  # its `acc` of the third turn is not asked for
        assert self.records(home) == [(1, "grad", 11.0, "exact", "r1"), (3, "grad", 13.0, "exact", "r1")]
        after = log_records(home=home)
        pd.testing.assert_frame_equal(after[after.name != "grad"].reset_index(drop=True), before)

    def test_newest_wins_place_by_place(self, home):
        run = make_run(home, training())
        add_replay(run, "zz", ["grad"], recovering(10.0), ended=STARTED + 1)
        add_replay(run, "aa", ["grad"], recovering(20.0, epochs=[2]), label="verified", ended=STARTED + 2)
        assert self.records(home) == [(2, "grad", 22.0, "verified", "aa"), (1, "grad", 11.0, "exact", "zz")]

    def test_exact_wins_over_a_newer_inexact_one(self, home):
        run = make_run(home, training())
        add_replay(run, "r1", ["grad"], recovering(10.0, epochs=[1]), ended=STARTED + 1)
        add_replay(run, "r2", ["grad"], recovering(20.0), label="inexact", ended=STARTED + 2)
        assert self.records(home) == [(1, "grad", 11.0, "exact", "r1"), (2, "grad", 22.0, "inexact", "r2")]

    def test_unknown_label_counts_as_inexact(self, home):
        run = make_run(home, training())
        add_replay(run, "r1", ["grad"], recovering(10.0, epochs=[1]), label="splendid")
        assert self.records(home) == [(1, "grad", 11.0, "inexact", "r1")]

    def test_parts_are_one_replay_and_say_nothing_twice(self, home):
        run = make_run(home, training())

        def part(epochs):
            def logging(log):
                log.append(0, "parameters", 1234)  # each worker runs what stands before the loop
                recovering(10.0, epochs)(log)

            return logging

        add_replay(run, "r1", ["grad", "parameters"], part([1]), part([2, 1]))
        found = self.records(home)
        assert [row[1:3] for row in found] == [("parameters", 1234), ("grad", 11.0), ("grad", 12.0)]

    def test_recorded_value_stays(self, home):
        run = make_run(home, training())
        add_replay(run, "r1", ["acc"], recovering(10.0, epochs=[1, 2, 3], name="acc"))
        df = log_records(home=home)
        assert df[df.name == "acc"].value.tolist() == [0.1, 0.2, 13.0]  # the third epoch is new

    def test_unfinished_replay_does_not_exist(self, home):
        run = make_run(home, training())
        add_replay(run, "r1", ["grad"], recovering(10.0), finished=False)
        assert self.records(home) == []

    def test_duplicates_of_one_replay_all_stay(self, home):
        def logging(log):
            turn = log.context(0, "epoch", 1)
            for value in (1.0, 2.0):
                log.append(turn, "grad", value)

        run = make_run(home, training())
        add_replay(run, "r1", ["grad"], logging)
        assert [row[2] for row in self.records(home)] == [1.0, 2.0]
        assert set(full_pivot(home=home).query("epoch == 1").grad) == {2.0}

    def test_finer_recovered_values_make_finer_rows(self, home):
        def logging(log):
            for epoch in (1, 2):
                turn = log.context(0, "epoch", epoch)
                for step in (1, 2):
                    log.append(log.context(turn, "step", step), "grad", epoch + step / 10)

        def coarse(log):
            for epoch in (1, 2):
                log.append(log.context(0, "epoch", epoch), "acc", epoch / 10)

        run = make_run(home, coarse)
        add_replay(run, "r1", ["grad"], logging)
        df = full_pivot(home=home)
        assert column(df, "step") == [1, 2, 1, 2]
        assert df.acc.tolist() == [0.1, 0.1, 0.2, 0.2]
        assert df.grad.tolist() == [1.1, 1.2, 2.1, 2.2]


def test_blocks_are_steps_and_a_loop_entered_again_has_an_entry(home):
    def logging(log):
        for entry, loop in enumerate(("epoch", "epoch@1")):
            for epoch in (1, 2):
                turn = log.context(0, loop, epoch)
                for block in ("step@train", "step@evaluate#2"):
                    log.append(log.context(turn, block, 1), f"{block[5:]} acc@5", 10 * entry + epoch)

    make_run(home, logging)
    df = log_records(home=home)
    assert list(df.columns[4:7]) == ["epoch", "step", "entry"]
    assert column(df, "entry") == [1, 1, 1, 1, 2, 2, 2, 2]
    assert column(df, "epoch") == [1, 1, 2, 2, 1, 1, 2, 2]
    assert {1} == set(column(df, "step"))
    assert len(full_pivot(home=home)) == 4


def test_a_name_with_an_at_sign_makes_no_entry(home):
    make_run(home, lambda log: log.append(log.context(0, "epoch", 1), "acc@5", 0.5))
    assert "entry" not in log_records(home=home).columns
