"""`flor runs` and `flor show` as processes, over stores that the real writers wrote."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.cli import COMMANDS, main
from flor_runtime.store.checked import line
from flor_runtime.store.layout import FORMAT, Home, write_json
from tests.cli.running import ANSI, FLOR, environment, on_terminal
from tests.stores import add_replay, make_run, training


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def flor(home: Home, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [*FLOR, *args], env=environment(home), cwd=cwd or home.root.parent, capture_output=True, text=True
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert "\x1b" not in run.stdout + run.stderr
    return run


def grad_norm(*epochs: int):
    def logging(log):
        for epoch in epochs:
            log.append(log.context(0, "epoch", epoch), "grad_norm", epoch / 7)

    return logging


@pytest.fixture
def versions(home: Home) -> Home:
    """Three runs, two of them with a recovered column, one of these not exact."""
    for number, label in enumerate(("exact", "inexact", None)):
        run = make_run(home, training(2, 2, lr=0.1 + number), name=f"v{number}", argv=["--lr", str(0.1 + number)])
        if label is not None:
            add_replay(run, "r1", ["grad_norm"], grad_norm(1, 2), label=label)
    return home


class TestShow:
    def test_plain_text_in_a_pipe(self, versions):
        run = flor(versions, "show", "lr", "acc", "grad_norm")
        assert run.returncode == 0
        assert run.stdout.splitlines() == [
            "run  vid      epoch   lr  acc  grad_norm",
            "v0   0000000      1  0.1  0.1  0.142857*",
            "v0   0000000      2  0.1  0.2  0.285714*",
            "v1   1111111      1  1.1  0.1  0.142857~",
            "v1   1111111      2  1.1  0.2  0.285714~",
            "v2   2222222      1  2.1  0.1",
            "v2   2222222      2  2.1  0.2",
        ]
        assert run.stderr == "* recovered by replay\n~ recovered by replay, not exact\n"

    def test_everything_without_names(self, versions):
        run = flor(versions, "show")
        assert run.stdout.splitlines()[0].split() == [
            *("run", "vid", "epoch", "step", "lr", "loss", "acc", "best", "grad_norm")
        ]
        assert len(run.stdout.splitlines()) == 13

    def test_chosen_runs(self, versions):
        run = flor(versions, "show", "acc", "--runs", "v2,v0")
        assert [line.split()[0] for line in run.stdout.splitlines()] == ["run", "v0", "v0", "v2", "v2"]

    def test_rows_for_which_something_is_true(self, versions):
        run = flor(versions, "show", "acc", "--where", "grad_norm > 0.2 and lr < 1")
        assert [line.split() for line in run.stdout.splitlines()[1:]] == [["v0", "0000000", "2", "0.2"]]
        run = flor(versions, "show", "acc", "--where", "grad_nrm > 0.2")
        assert (2, 1) == (run.returncode, run.stderr.count("\n"))
        assert "did you mean grad_norm?" in run.stderr

    def test_csv_has_full_values(self, versions):
        run = flor(versions, "show", "loss", "grad_norm", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(run.stdout)))
        assert list(rows[0]) == ["projid", "runid", "tstamp", "vid", "epoch", "step", "loss", "grad_norm"]
        assert (rows[0]["epoch"], rows[0]["step"], float(rows[0]["loss"])) == ("1", "1", 0.1 / 11)
        assert float(rows[0]["grad_norm"]) == 1 / 7
        assert rows[-1]["grad_norm"] == ""
        assert len(rows) == 12

    def test_json_keeps_types_and_says_what_is_recovered(self, home):
        def logging(log):
            for name, value in [("nan", float("nan")), ("list", [1, {"a": (2,)}]), ("text", "x\x1b"), ("big", 2**70)]:
                log.append(0, name, value)
            log.append(log.context(0, "epoch", 1), "flag", True)

        add_replay(make_run(home, logging), "r1", ["grad_norm"], grad_norm(1))
        (row,) = json.loads(flor(home, "show", "--format", "json").stdout)
        assert {name: row[name] for name in ("nan", "list", "text", "big", "flag", "epoch", "step")} == {
            "nan": "nan",
            "list": [1, {"a": [2]}],
            "text": "x\x1b",
            "big": 2**70,
            "flag": True,
            "epoch": 1,
            "step": None,
        }
        assert row["_recovered"] == {"grad_norm": "exact"}

    def test_markdown(self, home):
        make_run(home, lambda log: (log.append(0, "a|b", "x|y"), log.append(0, "n", 1)), name="r")
        assert flor(home, "show", "--format", "markdown").stdout.splitlines() == [
            "| run | vid | a\\|b | n |",
            "| --- | --- | --- | ---: |",
            "| r | 0000000 | x\\|y | 1 |",
        ]

    def test_long_tables_show_the_last_rows_of_each_run(self, home):
        for name in "ab":
            make_run(home, training(100, 1), name=name)
        run = flor(home, "show", "acc")
        lines = run.stdout.splitlines()
        assert [line.split()[0] for line in lines].count("a") == [line.split()[0] for line in lines].count("b") == 30
        assert lines[30].split()[2] == lines[60].split()[2] == "100"
        assert "60 shown, --all shows all" in run.stderr
        assert len(flor(home, "show", "acc", "--all").stdout.splitlines()) == 201
        assert len(flor(home, "show", "acc", "--format", "csv").stdout.splitlines()) == 201

    def test_unknown_name(self, versions):
        run = flor(versions, "show", "acc", "los")
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr == "flor: no run logs 'los': did you mean 'loss'?\n"

    @pytest.mark.parametrize("command", ["show", "runs"])
    def test_empty_store(self, home, command):
        run = flor(home, command)
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr == f"flor: no runs in {home.root}: `flor run train.py` records one\n"
        assert not home.root.exists()

    def test_nothing_logged(self, home):
        make_run(home)
        run = flor(home, "show")
        assert run.returncode == 2
        assert len(run.stderr.splitlines()) == 1
        assert "flor.log" in run.stderr

    def test_hostile_names_and_values(self, home):
        def logging(log):
            log.append(0, "\x1b[2Jname\u202e", "\x1b[31mred\x07\nline two")
            log.append(0, "<b>html</b>", "[bold]markup[/bold]")
            log.append(0, "lone \ud800", "\udfff")

        make_run(home, logging, name="\x1b]0;title\x07run")
        for form in ("table", "markdown", "csv"):
            run = flor(home, "show", "--format", form)
            assert run.returncode == 0
            assert "\x07" not in run.stdout
        shown = ANSI.sub("", on_terminal(home, "show"))
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "[bold]markup[/bold]" in shown
        flor(home, "runs")

    def test_damaged_log_is_said_and_the_rest_shown(self, home):
        run, _ = make_run(home, training(), name="a"), make_run(home, training(), name="b")
        data = bytearray((run.log / "records-0.bin").read_bytes())
        for place in range(8, len(data), 20):
            data[place] ^= 1
        (run.log / "records-0.bin").write_bytes(data)
        shown = flor(home, "show", "acc")
        assert shown.returncode == 0
        assert "damaged" in shown.stderr
        assert " b " not in shown.stderr
        assert {line.split()[0] for line in shown.stdout.splitlines()[1:]} == {"b"}

    def test_store_of_a_newer_format(self, home):
        run = make_run(home, training())
        write_json(run.path / "run.json", {**run.manifest(), "format": FORMAT + 1})
        for command in ("show", "runs"):
            result = flor(home, command)
            assert result.returncode == 2
            assert re.fullmatch(r"flor: .* newer flor .*: upgrade flor\n", result.stderr)

    def test_while_a_run_goes_on(self, home):
        make_run(home, training(), end=None, name="now")
        assert flor(home, "show", "acc").returncode == 0
        assert " alive " in flor(home, "runs").stdout


class TestTerminal:
    def test_table_fits_80_columns(self, versions):
        shown = on_terminal(versions, "show", "lr", "loss", "acc", "grad_norm")
        assert "\x1b[36m" in shown  # recovered cells have a colour
        lines = ANSI.sub("", shown).splitlines()
        assert lines[0].split() == ["run", "vid", "epoch", "step", "lr", "loss", "acc", "grad_norm"]
        assert max(map(len, lines)) <= 80
        assert not any("…" in line for line in lines)

    @pytest.mark.parametrize("columns", [40, 80, 200])
    def test_wide_tables_come_in_parts(self, home, columns):
        make_run(home, lambda log: [log.append(0, f"metric_{n}", n + 0.5) for n in range(20)], name="r")
        shown = ANSI.sub("", on_terminal(home, "show", "--all", columns=columns))
        assert max(map(len, shown.splitlines())) <= columns
        for number in range(20):
            assert re.search(rf"\bmetric_{number}\b", shown)
            assert re.search(rf"\b{number}\.5\b", shown)
        assert len(re.findall(r"^run ", shown, re.MULTILINE)) > 1  # each part says which run its rows are of

    def test_runs_fit_80_columns(self, versions):
        lines = ANSI.sub("", on_terminal(versions, "runs")).splitlines()
        assert max(map(len, lines)) <= 80
        assert sum("finished" in line for line in lines) == 3

    def test_no_color(self, versions):
        for command in (["show", "grad_norm"], ["runs"]):
            shown = on_terminal(versions, *command, NO_COLOR="1")
            assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


class TestRuns:
    def test_list(self, versions):
        run = flor(versions, "runs")
        lines = run.stdout.splitlines()
        assert lines[0].split() == [
            *("run", "name", "status", "started", "took", "size", "records", "arguments", "recovered")
        ]
        assert [line.split()[1] for line in lines[1:]] == ["v0", "v1", "v2"]
        assert lines[1].endswith("--lr 0.1   grad_norm")
        assert lines[2].endswith("grad_norm~")

    def test_json(self, versions):
        found = json.loads(flor(versions, "runs", "--json").stdout)
        assert [(run["name"], run["status"], run["records"]) for run in found] == [
            *((f"v{number}", "finished", 8) for number in range(3))
        ]
        assert found[0]["names"] == {"lr": 1, "loss": 4, "acc": 2, "best": 1}
        assert [run["recovered"] for run in found] == [{"grad_norm": "exact"}, {"grad_norm": "inexact"}, {}]
        assert json.loads(flor(versions, "runs", "v1", "--json").stdout)["run"] == found[1]["run"]

    def test_details(self, versions):
        text = flor(versions, "runs", "v1").stdout
        assert re.search(r"^status +finished$", text, re.MULTILINE)
        assert re.search(r"^recovered +grad_norm \(inexact\)$", text, re.MULTILINE)
        assert "train.py --lr 1.1" in text

    def test_statuses(self, home):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        make_run(home, name="killed", end=None, pid=gone.pid)
        make_run(home, name="alive", end=None)
        for status in ("finished", "failed", "interrupted"):
            make_run(home, name=status, end=status)
        found = json.loads(flor(home, "runs", "--json").stdout)
        assert [run["status"] for run in found] == [run["name"] for run in found]
        assert len(found) == 5

    def test_only_the_current_project_unless_all(self, home, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            make_run(home, name=name, project=str(tmp_path / name), projid=name)
        inside = flor(home, "runs", "--json", cwd=tmp_path / "one")
        assert [run["name"] for run in json.loads(inside.stdout)] == ["one"]
        everything = flor(home, "runs", "--all", cwd=tmp_path / "one").stdout
        assert "one/train.py" in everything
        assert "two/train.py" in everything

    def test_explain(self, home):
        block = {"name": "train", "start": 12, "code": "FLR201", "reason": "the loop returns"}
        main = {"name": "epoch", "start": 2, "code": "", "role": "main"}
        good = {"name": "ok", "start": 3, "code": "", "role": "train"}
        plan = {"format": 1, "file": "train.py", "loops": [main], "blocks": [block, good]}
        run = make_run(home, name="a", plans={"b.py": plan, "train.py": json.dumps(plan), "c.py": "torn {"})
        run.ckpt.mkdir()
        keys = [{"entry": 0, "turn": turn, "block": block} for turn in (0, 1) for block in ("", "ok")]
        found = [["seen: it was changed"], ["model: a lock can't be saved"], ["seen: it was changed"], []]
        lines = [line({"key": key, "problems": texts}) for key, texts in zip(keys, found, strict=True)] + [b"torn"]
        write_json(run.ckpt / "turns.json", {"checkpoints": {"unaudited": ["train_set.data"]}})
        (run.ckpt / "index.jsonl").write_bytes(b"".join(lines))
        said = flor(home, "runs", "a", "--explain").stdout.splitlines()
        assert said[1:] == [
            "  b.py:12: FLR201 the loop returns",
            "  train.py:12: FLR201 the loop returns",
            "  train.py:2: the main loop: seen: it was changed (turn 1 and 1 more)",
            "  train.py:3: ok: model: a lock can't be saved (turn 1)",
            "  train_set.data: too large to be looked at in the time that a recording may take; it should not change",
        ]
        clean = make_run(home, name="clean")
        clean.ckpt.mkdir()
        (clean.ckpt / "index.jsonl").write_bytes(line({"problems": []}))
        assert "nothing was met" in flor(home, "runs", "clean", "--explain").stdout
        make_run(home, name="loopless")
        assert "no main loop was entered" in flor(home, "runs", "loopless", "--explain").stdout

    def test_unknown_run(self, versions):
        run = flor(versions, "runs", "v9")
        assert run.returncode == 2
        assert run.stderr == f"flor: no run 'v9' in {versions.root}: `flor runs` lists them\n"

    def test_foreign_things_in_the_store_are_said(self, versions):
        (versions.runs / "stranger").mkdir()
        run = flor(versions, "runs")
        assert run.returncode == 0
        assert len(run.stdout.splitlines()) == 4
        assert re.fullmatch(r"flor: .*stranger: not a run, left out\n", run.stderr)


class TestGroup:
    def test_help_names_every_command_and_loads_none(self, home):
        program = (
            "import sys\nfrom flor_runtime.cli import main\n"
            "main(['--help'], standalone_mode=False)\n"
            "print([m for m in ('pandas', 'numpy', 'rich', 'torch', 'libcst', *sys.argv[1:]) if m in sys.modules])"
        )
        modules = [module for module, _ in COMMANDS.values()]
        output = subprocess.check_output([sys.executable, "-c", program, *modules], text=True, env=environment(home))
        for name, (_, text) in COMMANDS.items():
            assert re.search(rf"^  {name} +{re.escape(text)}$", output, re.MULTILINE)
        assert output.splitlines()[-1] == "[]"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_loads_and_has_help(self, name):
        command = main.get_command(None, name)
        assert command.help

    def test_unknown_command(self, home):
        run = flor(home, "shwo")
        assert run.returncode == 2
        assert run.stderr == "flor: no command 'shwo': did you mean 'show'?\n"
        assert flor(home, "xyz").stderr == "flor: no command 'xyz': see flor --help\n"

    def test_version(self, home):
        assert re.search(r"flor.* \d+\.\d+", flor(home, "--version").stdout)

    def test_closed_pipe_is_no_error(self, versions):
        command = subprocess.Popen(
            [*FLOR, "show"], env=environment(versions), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        command.stdout.close()
        stderr = command.stderr.read()
        command.stderr.close()
        command.wait()
        assert b"Traceback" not in stderr
