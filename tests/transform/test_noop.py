"""What must stay as it was. First, because a transformer is trusted for what it leaves alone."""

from __future__ import annotations

import textwrap

import pytest

from flor_transform import instrument
from flor_transform.errors import SourceError

from .support import check_same

TRAIN = "for e in range(3):\n    for x in loader:\n        optimizer.step()\n"

NOOP = {
    "empty": "",
    "no newline": "x = 1",
    "comment only": "# nothing here\n",
    "a loop that only prints": "for i in range(3):\n    print(i)\n",
    "a scheduler steps, nothing else does": "for e in range(3):\n    scheduler.step()\n",
    "an environment steps": "for e in range(3):\n    obs, reward = env.step(0)\n",
    "a progress bar steps": "for e in range(3):\n    bar.step()\n",
    "evaluation only": "model.eval()\nfor x in loader:\n    print(model(x))\n",
    "parameters changed one by one": "for p in model.parameters():\n    p.data.add_(p.grad)\n",
    "optimizers stepped one by one": "for opt in optimizers:\n    opt.step()\n",
    "a class body": "class A:\n    for e in range(3):\n        optimizer.step()\n",
    "async for": "async def main():\n    async for x in loader:\n        optimizer.step()\n",
    "an async function": "async def main():\n    for x in loader:\n        optimizer.step()\n        await tick()\n",
    "a generator": "def batches():\n    for x in loader:\n        optimizer.step()\n        yield x\n",
    "a walrus in the test": "while (loss := step()) > 0.1:\n    optimizer.step()\n",
    "a compiler's decorator": "@torch.jit.script\ndef f(x):\n    for i in range(3):\n        optimizer.step()\n",
    "an unknown decorator": "@magic\ndef f(x):\n    for i in range(3):\n        optimizer.step()\n",
    "compiled by a call": "def f(x):\n    for i in range(3):\n        optimizer.step()\nf = torch.compile(f)\n",
    "exec in the loop": "for e in range(3):\n    exec('x = 1')\n    optimizer.step()\n",
    "globals() in the loop": "for e in range(3):\n    globals()['x'] = 1\n    optimizer.step()\n",
    "global in the loop": "def f():\n    for e in r:\n        global n\n        n = 1\n        optimizer.step()\n",
    "flor is a variable": "flor = 1\n" + TRAIN,
    "flor is a parameter": "def f(flor):\n    pass\n" + TRAIN,
    "flor is a function": "def flor():\n    pass\n" + TRAIN,
    "flor is another module": "import numpy as flor\n" + TRAIN,
    "flor is imported from elsewhere": "from tools import flor\n" + TRAIN,
    "flor may be missing": "try:\n    import flor\nexcept ImportError:\n    flor = None\n" + TRAIN,
    "flor is used without an import": TRAIN + "flor.log('a', 1)\n",
    "flor is imported in the function": "def f():\n    import flor\n" + textwrap.indent(TRAIN, "    "),
    "instrumented by hand": "import flor\nfor e in flor.loop('mine', range(3)):\n    optimizer.step()\n",
    "blocks by hand": "import flor\nfor e in r:\n    if flor.SkipBlock.step_into('a'):\n        optimizer.step()\n",
    "managed by keras": "import keras\nmodel.fit(x, y, epochs=3)\n",
    "tabs and form feeds": "\f\nif x:\n\tpass\n",
}


@pytest.mark.parametrize("source", [pytest.param(text, id=name) for name, text in NOOP.items()])
def test_noop(source: str) -> None:
    check_same(source)


REASONS = {
    "loop-in-class": NOOP["a class body"],
    "loop-async": NOOP["an async function"],
    "loop-generator": NOOP["a generator"],
    "walrus-test": NOOP["a walrus in the test"],
    "decorator": NOOP["a compiler's decorator"],
    "dynamic-names": NOOP["exec in the loop"],
    "late-declaration": NOOP["global in the loop"],
    "flor-taken": NOOP["flor is a variable"],
    "flor-not-imported": NOOP["flor is used without an import"],
    "instrumented": NOOP["instrumented by hand"],
    "no-main-loop": NOOP["a loop that only prints"],
    "managed-loop": NOOP["managed by keras"],
}


@pytest.mark.parametrize(("slug", "source"), REASONS.items())
def test_reason(slug: str, source: str) -> None:
    assert slug in [note.slug for note in instrument(source.encode()).diagnostics]


def test_a_managed_loop_names_the_callback() -> None:
    [note] = instrument(b"from transformers import Trainer\ntrainer = Trainer()\ntrainer.train()\n").diagnostics
    assert note.line == 3
    assert "callbacks=[FlorCallback()]), from flor_runtime.integrations.transformers" in note.message


@pytest.mark.parametrize(
    "text",
    [
        "from sklearn.preprocessing import StandardScaler\nscale = StandardScaler()\nscale.fit(x)\n",
        "from sklearn import preprocessing\nx = preprocessing.LabelEncoder().fit(x)\n",
        "import sklearn.feature_extraction.text as text\nwords = text.TfidfVectorizer()\nwords.fit(x)\n",
        "from sklearn.cluster import KMeans as Groups\ngroups = Groups(3)\ngroups.fit(x)\n",
        "from sklearn.model_selection import GridSearchCV\nGridSearchCV(svc, grid).fit(x, y)\n",
        "import sklearn\n\ndef scaled(scaler, x):\n    scaler.fit(x)\n",
    ],
)
def test_preparing_data_is_no_managed_loop(text: str) -> None:
    assert [note.slug for note in instrument(text.encode()).diagnostics] == ["no-main-loop"]


def test_a_managed_loop_is_found_behind_the_preparation_of_data() -> None:
    head = "import keras\nfrom sklearn.preprocessing import MinMaxScaler\nscaler = MinMaxScaler()\nscaler.fit(x)\n"
    for line in ("model.fit(x, y)\n", "AutoEncoder().fit(x, x)\n", "net = VisionTransformer()\nnet.fit(x)\n"):
        [note] = instrument((head + line).encode()).diagnostics
        assert note.slug == "managed-loop"
        assert note.line > 4


BAD = {
    "print statement": (b"x = 1\nprint 'a'\n", "FT002", 2),
    "except with a comma": (b"try:\n    pass\nexcept ValueError, e:\n    pass\n", "FT002", 3),
    "async as a name": (b"x.cuda(async=True)\n", "FT002", 1),
    "backticks": (b"x = `1`\n", "FT002", 1),
    "plain mistake": (b"for x in\n", "FT001", 1),
    "notebook magic": (b"%matplotlib inline\n", "FT005", 1),
    "null byte": (b"x = 1\x00\n", "FT001", 1),
    "not utf-8": (b"x = 1\ny = '\xe9'\n", "FT003", 2),
    "unknown cookie": (b"# coding: klingon\n", "FT003", 1),
    "too deep": (b"x = " + b"(" * 300 + b"1" + b")" * 300 + b"\n", "FT004", 1),
    "a long sum": (b"x = " + b"1+" * 900 + b"1\nfor e in r:\n    optimizer.step()\n", "FT004", 1),
    "a very long sum": (b"x = " + b"1+" * 20000 + b"1\n", "FT004", 1),
}


@pytest.mark.parametrize(("source", "code", "line"), [pytest.param(*row, id=name) for name, row in BAD.items()])
def test_bad_input_is_one_clear_error(source: bytes, code: str, line: int) -> None:
    with pytest.raises(SourceError) as caught:
        instrument(source, filename="train.py")
    assert (caught.value.code, caught.value.line) == (code, line)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"train.py:{line}:")
