"""The library: siblings, the plan, insertions, what an import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flor_transform import instrument, instrument_project, strip
from flor_transform.errors import SettingsError, SourceError
from flor_transform.plan import Plan
from flor_transform.settings import Settings
from flor_transform.source import splice

from .support import check_transform

SCRIPT = b"from lib.engine import Trainer\ntrainer = Trainer()\nfor epoch in range(3):\n    trainer.fit()\n"
ENGINE = b"class Trainer:\n    def fit(self):\n        for batch in self.loader:\n            self.optimizer.step()\n"


def test_blocks_in_a_package_beside_the_script() -> None:
    results = instrument_project("train.py", {"train.py": SCRIPT, "lib/engine.py": ENGINE, "unused.py": b"nope nope"})
    assert results["train.py"].changed
    assert results["unused.py"].code == b"nope nope"
    engine = results["lib/engine.py"]
    assert [block.name for block in engine.plan.blocks] == ["Trainer.fit"]
    assert b'flor.SkipBlock.loop("Trainer.fit", self.loader)' in engine.code
    assert strip(engine.code) == ENGINE


def test_a_sibling_that_does_not_parse_is_left_out() -> None:
    results = instrument_project("train.py", {"train.py": SCRIPT, "lib/engine.py": b"class"})
    [note] = results["lib/engine.py"].diagnostics
    assert note.code == "FT001"
    assert not results["lib/engine.py"].changed


def test_a_sibling_that_is_too_deep_is_left_out() -> None:
    deep = b"x = " + b"1+" * 900 + b"1\n" + ENGINE
    results = instrument_project("train.py", {"train.py": SCRIPT, "lib/engine.py": deep})
    [note] = results["lib/engine.py"].diagnostics
    assert note.code == "FT004"


def test_siblings_inform_and_are_not_returned() -> None:
    alone = instrument(SCRIPT, filename="train.py")
    assert "unseen-step" in {note.slug for note in alone.diagnostics} or not alone.changed
    together = instrument(SCRIPT, filename="train.py", siblings={"lib/engine.py": ENGINE})
    assert [loop.name for loop in together.plan.loops] == ["epoch"]
    assert together.plan.blocks == ()


def test_an_instrumented_script_still_leads_to_its_engine() -> None:
    first = instrument_project("train.py", {"train.py": SCRIPT, "lib/engine.py": ENGINE})
    later = instrument_project("train.py", {"train.py": first["train.py"].code, "lib/engine.py": ENGINE})
    assert later["lib/engine.py"].code == first["lib/engine.py"].code
    assert not later["train.py"].changed


def test_unique_names() -> None:
    inner = b"    for b in loader:\n        optimizer.step()\n"
    plan = instrument((b"for epoch in range(3):\n" + inner + inner) * 2).plan
    assert [entry.name for entry in plan.loops] == ["epoch", "epoch"]
    assert [entry.name for entry in plan.blocks] == ["train", "train_2", "train_3", "train_4"]


def test_insertions_make_the_code() -> None:
    source = b"\xef\xbb\xbf# \xc3\xa9t\xc3\xa9\r\nfor epoch in range(3):\r\n    optimizer.step() # \xc3\xa9"
    result = instrument(source)
    assert splice(source, result.insertions) == result.code
    offsets = [insertion.offset for insertion in result.insertions]
    assert offsets == sorted(offsets)
    assert result.code.count(b"\r\n") == result.code.count(b"\n")


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"])
def test_new_lines_end_as_the_others(newline: bytes) -> None:
    source = (
        b"import torch\nmodel = torch.nn.Linear(2, 1)\noptimizer = torch.optim.SGD(model.parameters())\nbest = 0\n"
        b"for epoch in range(3):\n    total = 0\n    for x in loader:\n        optimizer.step()\n        total += x\n"
        b"    while total > 9:\n        optimizer.step()\n        total -= 1\n    best = max(best, total)\n    print(best)\n"
    )
    code = instrument(source).code
    assert len([line for line in code.splitlines() if b"flor" in line]) > 6
    assert instrument(source.replace(b"\n", newline)).code == code.replace(b"\n", newline)


def test_plan_there_and_back() -> None:
    plan = instrument(SCRIPT + ENGINE.replace(b"Trainer", b"T"), filename="train.py").plan
    source = (
        b"def main():\n    best = 0\n    for e in r:\n        for b in l:\n            opt.step()\n        best += e\n"
    )
    plan = instrument(source, filename="train.py").plan
    assert plan.loops[0].carry == ("best",)
    assert (plan.loops[0].start, plan.loops[0].stop, plan.loops[0].function) == (3, 6, "main")
    assert Plan.from_json(plan.to_json()) == plan
    for text in ("{}", "[]", '{"format": 99}', "null"):
        with pytest.raises(ValueError):
            Plan.from_json(text)


def test_our_import_joins_the_imports() -> None:
    check_transform(
        """\
        # licence

        import torch
        for step in range(3):
            optimizer.step()
        """,
        """\
        # licence

        import flor
        import torch
        for step in flor.loop("step", range(3)):
            optimizer.step()
        """,
    )


@pytest.mark.parametrize(
    "head",
    [
        b"import flor\n",
        b"import flor\n\n",
        b"import flor\nimport flor\n",
        b"'''doc'''\nimport flor\n",
        b"import os\nimport flor\nflor.log('a', 1)\n",
        b"import flor, os\nflor.arg('a', 1)\n",
        b"import flor; import os\n",
        b"'doc'\n'a second string'\n",
        b"'''doc'''; import flor\n",
        b"import flor as f\nf.log('a', 1)\n",
        b"from flor import log\nlog('a', 1)\n",
        b"def f():\n    import flor\n    flor.log('a', 1)\n",
        b"# import flor\n",
        b"from __future__ import annotations; import os\n",
    ],
)
def test_the_users_own_import_stays(head: bytes) -> None:
    source = head + b"for step in range(3):\n    optimizer.step()\n"
    result = instrument(source)
    assert result.changed
    assert strip(result.code) == source
    assert instrument(result.code).code == result.code


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_strip_takes_the_blank_lines_that_are_left_after_our_import(blank: int) -> None:
    source = b"def train():\n    for step in range(3):\n        optimizer.step()\n"
    head = b"import flor\n\n\n"
    code = instrument(source).code
    assert code.startswith(head + b"def train")
    assert strip(b"import flor\n" + b"\n" * blank + code.removeprefix(head)) == source


def test_strip_leaves_what_was_written_by_hand() -> None:
    source = b"import flor\nfor x in flor.loop('mine', y):\n    flor.log('a', x)\n    a = flor.carry(b)\n"
    assert strip(source) == source


def test_settings() -> None:
    assert Settings.from_mapping({"optimizers": ["walker"]}).optimizers == ("walker",)
    for table in ({"optimisers": []}, {"blocks": 1}, {"models": "net"}, {"epsilon": "x"}):
        with pytest.raises(SettingsError):
            Settings.from_mapping(table)


def test_an_unknown_script_is_a_clear_error() -> None:
    with pytest.raises(SourceError, match="not among the files"):
        instrument_project("train.py", {})


def test_the_names_are_functions_whatever_was_imported_before() -> None:
    import flor_transform.strip  # a module of the same name

    assert callable(flor_transform.strip) and callable(flor_transform.instrument)


def test_what_an_import_loads() -> None:
    code = (
        "import sys, flor_transform; heavy = {'libcst', 'click', 'torch', 'pandas', 'flor_runtime', 'flor', 'apted'};"
        "print(heavy & set(sys.modules)); flor_transform.instrument(b'x = 1'); print(heavy & set(sys.modules));"
        "flor_transform.instrument(b'for e in r: optimizer.step()'); print(heavy & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:3] == ["set()", "set()", "{'libcst'}"]


@pytest.mark.parametrize(
    ("script", "reached"),
    [
        ("import tools\nprint(tools.SIZE)\n", False),
        ("from tools import SIZE\ndef main():\n    print(SIZE)\nmain()\n", False),
        ("import tools\ntools.main()\n", True),
        ("from tools import fit\nfit(3)\n", True),
        ("from tools import main as other\nother()\n", True),
        ("from tools import *\nmain()\n", True),
        ("import tools\ngetattr(tools, 'main')()\n", True),
        ("import tools\nrun(target='tools.main')\n", True),
    ],
)
def test_what_only_an_imported_file_runs_by_itself_is_left_alone(script: str, reached: bool) -> None:
    tools = (
        b"SIZE = 3\ndef fit(n):\n    for epoch in range(n):\n        optimizer.step()\n\n"
        b"def main():\n    fit(3)\n\nif __name__ == '__main__':\n    main()\n"
    )
    loop = b"for epoch in range(3):\n    optimizer.step()\n"
    results = instrument_project("train.py", {"train.py": script.encode() + loop * (not reached), "tools.py": tools})
    assert results["tools.py"].changed is reached
    assert instrument(tools).changed


def test_what_nobody_mentions_may_run_unseen() -> None:
    script = b"import tools\nfor epoch in range(3):\n    optimizer.step()\n"
    tools = b"def fit(n):\n    for epoch in range(n):\n        optimizer.step()\n"
    assert instrument_project("train.py", {"train.py": script, "tools.py": tools})["tools.py"].changed
