"""`python train.py --flor NAME` on an instrumented script; mode off is light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.processes import FLOR, HEAD, TRAIN, Folder, assert_same

TRANSFORM = str(Path(FLOR).with_name("flor-transform"))
ARGUMENTS = '"""Doc."""\nimport argparse, sys\n' + HEAD + (
    "parser = argparse.ArgumentParser(); parser.add_argument('--epochs', type=int, default=1); parser.add_argument('rest', nargs='*')\n"
    "print(parser.parse_args(), sys.argv)\n"
)  # fmt: skip


def instrumented(tmp_path: Path, source: str) -> Folder:
    folder = Folder(tmp_path)
    folder.write("train.py", source)
    done = subprocess.run([TRANSFORM, "train.py"], cwd=folder.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("arguments", "rest", "name"),
    [
        (["--flor", "one", "--epochs", "3"], ["--epochs", "3"], "one"),
        (["--epochs", "3", "--flor=two", "a"], ["--epochs", "3", "a"], "two"),
        (["--flor", "--epochs", "3"], ["--epochs", "3"], None),
        (["a", "--flor"], ["a"], None),
        (["--flor="], [], None),
        (["--flor", "x", "0.5", "a"], ["a"], "x"),
        (["--flor=name:my_exp,maxb:5", "a"], ["a"], "my_exp"),
    ],
)
def test_the_option_is_ours(tmp_path: Path, arguments: list[str], rest: list[str], name: str | None) -> None:
    folder = instrumented(tmp_path, ARGUMENTS + TRAIN)
    raw = folder.end(folder.start(sys.executable, "train.py", *rest))
    recorded = folder.end(folder.start(sys.executable, "train.py", *arguments))
    assert raw.code == 0
    assert_same(raw, recorded)
    assert recorded.ours == []
    manifest = folder.run().manifest()
    assert (manifest["name"], manifest["argv"]) == (name, rest)
    assert manifest["epsilon"] == (0.5 if "0.5" in arguments else 0.01)


@pytest.mark.parametrize(
    ("source", "end"),
    [
        ("pass", ("finished", 0, None)),
        ("1 / 0", ("failed", 1, "ZeroDivisionError: division by zero")),
        ("sys.exit(3)", ("failed", 3, None)),
        ("sys.exit()", ("finished", 0, None)),
        ("def f(): sys.exit('text')\nf()", ("failed", 1, "text")),
        ("raise SystemExit(3)", ("failed", None, None)),
        ("raise KeyboardInterrupt", ("interrupted", 130, None)),
        ("try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", ("finished", 0, None)),
        (
            "def hook(*a): print('hooked', a[1])\nsys.excepthook = hook\n1 / 0",
            ("failed", 1, "ZeroDivisionError: division by zero"),
        ),
        ("import os; os._exit(4)", None),
        (
            "import atexit, flor; atexit.register(lambda: print('late')); 1 / 0",
            ("failed", 1, "ZeroDivisionError: division by zero"),
        ),
    ],
)
def test_how_it_ended(tmp_path: Path, source: str, end: tuple[str, int | None, str | None] | None) -> None:
    folder = instrumented(tmp_path, "import sys\n" + HEAD + TRAIN + source + "\n")
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.end(folder.start(sys.executable, "train.py", "--flor", "x"))
    assert_same(raw, recorded)
    found = folder.run().end()
    assert (found and (found["status"], found["exit"], found["error"])) == end


def test_children_do_not_record(tmp_path: Path) -> None:
    folder = instrumented(
        tmp_path,
        "import multiprocessing, sys\n" + HEAD + "def work(n): return sys.argv, __name__\n"
        "def main():\n" + "".join(f"    {line}\n" for line in TRAIN.splitlines()) +
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        print(pool.map(work, [1]))\n"
        "if __name__ == '__main__':\n    main()\n",
    )  # fmt: skip
    raw = folder.end(folder.start(sys.executable, "train.py", "a"))
    assert_same(raw, folder.end(folder.start(sys.executable, "train.py", "a", "--flor", "x")))
    assert len(folder.home.all_runs()) == 1


def test_a_store_that_can_not_be_written(tmp_path: Path) -> None:
    folder = instrumented(tmp_path, HEAD + TRAIN + "1 / 0\n")
    folder.home.root.write_text("x")
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.end(folder.start(sys.executable, "train.py", "--flor", "x"))
    assert_same(raw, recorded)
    assert len(recorded.ours) == 1


def test_under_flor_run_the_option_is_the_scripts(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", "import sys\n" + HEAD + TRAIN + "print(sys.argv)\n")
    assert_same(*folder.both("train.py", "--flor", "x"))


HEAVY = [
    "torch",
    "pandas",
    "git",
    "libcst",
    "click",
    "rich",
    "numpy",
    "subprocess",
    "msgpack",
    "xxhash",
    "multiprocessing",
    "platform",
]


def test_mode_off_is_light(tmp_path: Path) -> None:
    code = (
        "import json, resource, sys\n"
        "def cpu():\n    r = resource.getrusage(resource.RUSAGE_SELF)\n    return r.ru_utime + r.ru_stime\n"
        "before = cpu(); import flor\n"
        "flor.log('a', 1); list(flor.loop('epoch', range(2))); flor.SkipBlock.end()\n"
        f"print(json.dumps([cpu() - before, [m for m in {HEAVY} if m in sys.modules]]))\n"
    )
    found = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        found.append(json.loads(done.stdout))
    assert found[0][1] == []
    assert min(cost for cost, _ in found) <= 0.030
