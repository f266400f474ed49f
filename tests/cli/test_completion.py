"""Completion: what it says, how quickly, and that real shells understand it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flor_runtime.cli import COMMANDS, main
from flor_runtime.query.catalog import rebuild
from flor_runtime.store.layout import Home
from tests.cli.running import call
from tests.stores import make_run, training

ROOT = Path(__file__).parents[2]
HEAVY = ["torch", "pandas", "numpy", "git", "libcst", "rich"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for name in ("plain", "plus", "--help", "two words", "$(touch x)", "line\nend", "wide"):
        make_run(home, training(1, 1), name=name)
    return home


def completed(home: Home, text: str) -> list[str]:
    """What may stand in the place of the last word."""
    words = text.split(" ")
    env = {"FLOR_HOME": str(home.root), "_FLOR_COMPLETE": "bash_complete", "COMP_WORDS": text,
           "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
    result = CliRunner().invoke(main, [], prog_name="flor", env=env)
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flor sh", ["show", "share"]),
        ("flor runs pl", ["plus", "plain"]),  # newest first
        ("flor runs plain pl", ["plus"]),
        ("flor diff plain w", ["wide"]),
        ("flor show --runs plain,pl", ["plain,plus"]),
        ("flor show l", ["loss", "lr"]),
        ("flor show loss l", ["lr"]),
        ("flor log plain ac", ["acc"]),
        ("flor gc pl", ["plus", "plain"]),
        ("flor show --prov", ["--provenance"]),
        ("flor show --format p", ["parquet"]),
        ("flor nonsense x", []),
        ("flor runs --he", ["--help"]),
        ("flor runs t", []),  # a shell would take two words, or run a command
        ("flor runs $", []),
    ],
)
@pytest.mark.parametrize("indexed", [False, True])
def test_what_it_says(home, text, expected, indexed):
    if indexed:
        rebuild(home)
    assert completed(home, text) == expected


def test_without_a_store(tmp_path):
    assert completed(Home(tmp_path / "none"), "flor show l") == completed(Home(tmp_path / "none"), "flor runs l") == []


def test_ids(home):
    run = home.find("plain")
    assert completed(home, f"flor runs {run.id[:3]}") == [run.id[:8]]


@pytest.mark.parametrize("damage", ["missing", "file", "torn", "foreign"])
def test_nothing_is_said_of_what_cannot_be_read(home, damage):
    if damage == "missing":
        shutil.rmtree(home.root)
    elif damage == "file":
        shutil.rmtree(home.root)
        home.root.write_text("x")
    elif damage == "torn":
        for path in home.runs.glob("*/run.json"):
            path.write_bytes(path.read_bytes()[:40])
        (home.root / "main.db").write_bytes(b"SQLite format 3\0nonsense")
    else:
        for path in home.runs.glob("*/run.json"):
            path.write_text(json.dumps([1]))
    assert completed(home, "flor runs pl") == []
    completed(home, "flor show l")


def test_it_loads_little(home):
    code = f"""if True:
        import os, sys
        os.environ |= {{"_FLOR_COMPLETE": "bash_complete", "COMP_WORDS": "flor show --runs pl", "COMP_CWORD": "3"}}
        os.environ["FLOR_HOME"] = {str(home.root)!r}
        from flor_runtime.cli import main
        try:
            main(prog_name="flor")
        finally:
            print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == ("plain,plus\nplain,plain\n", "[]\n")


def test_every_command_has_an_example():
    for name in COMMANDS:
        command = main.get_command(None, name)
        assert f"flor {name}" in command.help, name


_PROGRAM = '#!/bin/sh\nexec {python} -P -c "{code}" "$@"\n'
_CODES = {
    "flor": "import sys; sys.argv[0] = 'flor'; from flor_runtime.cli import main; main()",
    "flor-backport": "import sys; sys.argv[0] = 'flor-backport'; from flor_transform.cli import *; backport_command()",
    "flor-transform": "import sys; sys.argv[0] = 'flor-transform'; from flor_transform.cli import *; transform_command()",
}


@pytest.fixture
def shell(home, tmp_path):
    """Runs a program of a shell, which finds flor's commands."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, code in _CODES.items():
        (folder / name).write_text(_PROGRAM.format(python=sys.executable, code=code))
        (folder / name).chmod(0o755)
    for name in ("bash", "zsh", "fish"):
        (tmp_path / f"completion.{name}").write_text(call(home, "completion", name).out)
    (tmp_path / "train.py").write_text("import flor\nflor.log('grad_norm', 1)\n")
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path),
           "FLOR_HOME": str(home.root), "TERM": "dumb"}  # fmt: skip

    def run(*command: str) -> str:
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        return done.stdout

    return run


def test_in_bash(shell):
    program = r"""source completion.bash
ask() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')" "$1"
    echo "${COMPREPLY[*]}"
}
ask flor sho
ask flor show --runs pl
ask flor-backport --vars grad
ask flor-transform --expl
"""
    assert shell("bash", "-c", program).splitlines() == [
        "show", "plus plain", "grad_norm", "--explain --explain-code",
    ]  # fmt: skip


@pytest.mark.proof
def test_in_zsh(shell):
    """By zsh's own capture of what it would list. `apt-get install zsh fish`."""
    program = r"""zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; autoload -U compinit; compinit -u; source completion.zsh; bindkey "^I" complete-word'
zpty -w z 'compadd() { [[ $1 == -* ]] || { :; }; builtin compadd -O got "$@"; print -r -- "GOT:${got[*]}"; builtin compadd "$@" }'
sleep 3
zpty -n -w z $'flor runs pl\t'
sleep 4
zpty -r -t z out; while zpty -r -t z more; do out+=$more; done
print -r -- $out
"""
    out = shell("zsh", "-f", "-c", program)
    assert "plus" in out
    assert "plain" in out


@pytest.mark.proof
def test_in_fish(shell):
    program = "source completion.fish; complete -C 'flor runs pl'; complete -C 'flor-backport --vars grad'"
    assert {line.partition("\t")[0] for line in shell("fish", "-c", program).splitlines()} == {
        "plain",
        "plus",
        "grad_norm",
    }
