"""Parameters and trackers' metrics that a run records by itself; the program stays what it was."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from flor_runtime.integrations.captured import Captured
from flor_runtime.session import Level, Session
from flor_runtime.store.logreader import read
from flor_runtime.store.runlog import RunLog
from tests.runtime.processes import Folder

HEAD = """\
class Optimizer:
    def step(self): pass

optimizer = Optimizer()

def train(n):
    for epoch in range(n):
        for batch in range(2):
            optimizer.step()
        each(epoch)

def each(epoch): pass

"""

ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
parser.add_argument("--api-key", default="secret")
parser.add_argument("--sizes", type=int, nargs="*", default=[1, 2])
parser.add_argument("--quiet", action="store_true")
parser.add_argument("--model", type=lambda text: object(), default=object())
args = parser.parse_args()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def found(folder: Folder) -> dict[tuple[Any, str], Any]:
    """What was captured: {(place, name): value}."""
    run = folder.run()
    return {(path, name): value for path, name, value, _ in read(run.captured).rows()} if run.captured.is_dir() else {}


def parameters(folder: Folder) -> dict[str, object]:
    return {name: value for (path, name), value in found(folder).items() if not path}


def recorded(folder: Folder, source: str, *args: str) -> dict[str, object]:
    """The parameters of a program, which runs as it does without us."""
    folder.write("train.py", HEAD + source)
    raw, ours = folder.both("train.py", *args)
    assert (raw.out, raw.err, raw.code) == (ours.out, ours.err, ours.code)
    return parameters(folder)


def test_argparse(folder: Folder) -> None:
    kept = recorded(folder, ARGPARSE + "train(2)\n", "--lr", "0.25", "--quiet")
    assert kept == {"lr": 0.25, "api_key": "***", "sizes": [1, 2], "quiet": True}


def test_they_are_taken_as_they_are_when_the_loop_begins(folder: Folder) -> None:
    changed = "args.lr /= 2\ntrain(2)\nargs.lr = 7\n"
    assert recorded(folder, ARGPARSE + changed)["lr"] == 0.25


def test_a_program_without_a_main_loop(folder: Folder) -> None:
    folder.write("train.py", "def main():\n    " + ARGPARSE.strip().replace("\n", "\n    ") + "\n\nmain()\n")
    folder.recorded("train.py", "--lr", "3")
    assert parameters(folder)["lr"] == 3.0


def test_a_command_line_that_argparse_refuses(folder: Folder) -> None:
    assert recorded(folder, ARGPARSE + "train(2)\n", "--nonsense")["lr"] == 0.5  # what it had understood


def test_a_parser_of_its_own_kind(folder: Folder) -> None:
    own = ARGPARSE.replace(
        "parser = argparse.ArgumentParser()", "class P(argparse.ArgumentParser):\n    pass\nparser = P()"
    )
    assert recorded(folder, own + "train(1)\n")["lr"] == 0.5


@pytest.mark.parametrize(
    "source",
    [
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    lr: float = 0.5\nconfig = C()\ntrain(1)\n",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    lr: float = 0.5\n"
        "class Trainer:\n    def __init__(self): self.cfg = C()\n"
        "    def fit(self):\n        for epoch in range(2):\n            for b in range(2): optimizer.step()\nTrainer().fit()\n",
        "import click\n@click.command()\n@click.option('--lr', default=0.5)\ndef main(lr): train(1)\nmain()\n",
        "from absl import app, flags\nflags.DEFINE_float('lr', 0.5, '')\ndef main(argv): train(1)\napp.run(main)\n",
        "import argparse\ndef main():\n    opt = argparse.Namespace(lr=0.5)\n    train(1)\nmain()\n",
    ],
    ids=["dataclass", "field", "click", "absl", "namespace"],
)
def test_other_kinds(folder: Folder, source: str) -> None:
    assert recorded(folder, source)["lr"] == 0.5


STAND_IN = """
import sys
from types import ModuleType
config_module = ModuleType("ml_collections")
class ConfigDict:
    def __init__(self, **fields): self.fields = fields
    def to_dict(self): return self.fields
config_module.ConfigDict = ConfigDict
sys.modules["ml_collections"] = config_module
config = ConfigDict(lr=0.5, model={"depth": 3})
train(1)
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("config = {'lr': 0.5, 'model': {'depth': 3}}\ntrain(1)\n", {"lr": 0.5, "model.depth": 3}),
        ("class CFG:\n    lr = 0.5\n    def f(self): pass\ntrain(1)\n", {"lr": 0.5}),
        (
            "class Config:\n    lr = 0.5\n    depth = 3\n"
            "def main():\n    config = Config()\n    config.lr = 0.25\n    train(1)\nmain()\n",
            {"lr": 0.25, "depth": 3},
        ),
        ("class Args:\n    lr = 0.5\nargs = Args()\nargs.lr = 0.25\ntrain(1)\n", {"lr": 0.25}),
        ("class Net:\n    lr = 0.5\n    def __call__(self): pass\nopt = Net()\ntrain(1)\n", {}),
        (
            "from types import SimpleNamespace as N\nmodel_args, data_args = N(depth=3), N(path='x', deep=N(a=1))\ntrain(1)\n",
            {"depth": 3, "path": "x", "deep.a": 1},
        ),
        (
            "import enum, pathlib\nclass P(enum.Enum):\n    A = 1\n"
            "opts = {'p': P.A, 'at': pathlib.Path('x'), 'o': object(), 'two': (1, P.A), 'long': [0] * 1000}\ntrain(1)\n",
            {"p": "P.A", "at": "x", "two": [1, "P.A"]},
        ),
        ("import attr\n@attr.s\nclass C:\n    lr = attr.ib(default=0.5)\ncfg = C()\ntrain(1)\n", {"lr": 0.5}),
        (
            "from dataclasses import dataclass\n@dataclass\nclass Opt:\n    lr: float = 0.5\n"
            "def main(opt): train(1)\nmain(Opt(0.25))\n",
            {"lr": 0.25},
        ),
        (
            "import click\n@click.group()\n@click.option('--seed', default=1)\ndef cli(seed): pass\n"
            "@cli.command()\n@click.option('--lr', default=0.5)\ndef fit(lr): train(1)\ncli(['fit'])\n",
            {"lr": 0.5, "seed": 1},
        ),
        (STAND_IN, {"lr": 0.5, "model.depth": 3}),
        ("config = {'a': {'b': 'x'}, 'c': '${a.b}', 'd': '${c}', 'e': '${env:HOME}'}\ntrain(1)\n",
         {"a.b": "x", "c": "x", "d": "x", "e": "${env:HOME}"}),
        ("params = dict.fromkeys(map(str, range(5000)), 0)\ntrain(1)\n", dict.fromkeys(map(str, range(500)), 0)),
    ],
)  # fmt: skip
def test_configuration_of_any_kind(folder: Folder, source: str, expected: dict[str, object]) -> None:
    assert recorded(folder, source) == expected


def test_a_module_of_constants(folder: Folder) -> None:
    folder.write("conf.py", "import os\nLR = 0.5\nNAMES = ['a']\n")
    assert recorded(folder, "import conf as config\ntrain(1)\n") == {"LR": 0.5, "NAMES": ["a"]}


def test_the_arguments_of_a_function_that_a_command_line_calls(folder: Folder) -> None:
    (folder.path / "fire").mkdir()
    folder.write("fire/__init__.py", "from fire.core import Fire\n")
    folder.write("fire/core.py", "def Fire(function): function(lr=0.25)\n")
    source = "import fire\ndef main(lr=0.5, *, depth=3, data=object()):\n    train(1)\nfire.Fire(main)\n"
    assert recorded(folder, source) == {"lr": 0.25, "depth": 3}


def test_nested_ones_have_dotted_names(folder: Folder) -> None:
    source = (
        "from dataclasses import dataclass, field\n@dataclass\nclass O:\n    lr: float = 0.5\n"
        "@dataclass\nclass C:\n    optim: O = field(default_factory=O)\n    extra: dict = field(default_factory=lambda: {'a': 1})\n"
        "cfg = C()\ntrain(1)\n"
    )
    assert recorded(folder, source) == {"optim.lr": 0.5, "extra.a": 1}


TENSORBOARD = """
import torch
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter("events")
def each(epoch):
    writer.add_scalar("loss", torch.tensor(epoch / 2), epoch)
    writer.add_scalars("both", {"a": epoch, "b": 1.5}, epoch)
    writer.add_text("note", "fine", epoch)
    writer.add_image("image", torch.zeros(1, 2, 3), epoch)
    writer.add_histogram(tag="weights", values=torch.zeros(4), global_step=epoch)
    writer.add_histogram("many", torch.zeros(400_000), epoch)
train(2)
writer.add_hparams({"lr": 0.5}, {"hparam/acc": 0.75})
writer.close()
"""


def test_tensorboard(folder: Folder) -> None:
    folder.write("train.py", HEAD + TENSORBOARD)
    ours = folder.recorded("train.py")
    assert ours.code == 0, ours.err
    kept = found(folder)
    assert kept[(("epoch", 2),), "loss"] == 0.5
    assert kept[(("epoch", 1),), "both/b"] == 1.5
    assert kept[(("epoch", 2),), "note"] == "fine"
    assert kept[(("epoch", 2),), "image"].shape == (1, 2, 3)
    assert kept[(("epoch", 2),), "weights"].shape == (4,)
    assert str(kept[(("epoch", 2),), "many"]) == "not kept: 2 MB"
    assert kept[(), "hparam/acc"] == 0.75
    assert parameters(folder)["lr"] == 0.5
    assert len(kept) == 16


#: as those libraries are laid out: what is listened to is found by module and name
STAND_INS = {
    "wandb/__init__.py": "from wandb.sdk.wandb_run import Run\nrun = None\ndef init(config):\n    global run, log\n"
    "    run = Run(config)\n    log = run.log\n    return run\n",
    "wandb/sdk/__init__.py": "",
    "wandb/sdk/wandb_run.py": "class Config(dict):\n    def as_dict(self): return dict(self)\n"
    "class Run:\n    def __init__(self, config): self.config = Config(config)\n"
    "    def log(self, data, step=None, commit=None): print('sent', data)\n",
    "mlflow/__init__.py": "from mlflow.tracking.fluent import log_metric, log_metrics, log_param\n",
    "mlflow/tracking/__init__.py": "",
    "mlflow/tracking/fluent.py": "def log_metrics(metrics, step=None):\n    for k, v in metrics.items(): log_metric(k, v)\n"
    "def log_metric(key, value, step=None): print('sent', key)\ndef log_param(key, value): return value\n",
}


def test_other_trackers(folder: Folder) -> None:
    for name, text in STAND_INS.items():
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        folder.write(name, text)
    kept = recorded(
        folder,
        "import wandb, mlflow\nwandb.init({'depth': 3})\nprint(mlflow.log_param('width', 4))\n"
        "def each(epoch):\n    wandb.log({'loss': epoch, 'deep': {'x': 2.5}, 'image': b'...'}, step=epoch)\n"
        "    mlflow.log_metrics({'acc': epoch, 'f1': 1})\ntrain(2)\n",
    )
    assert kept == {"depth": 3, "width": 4}
    per_turn = {name: value for (path, name), value in found(folder).items() if path == (("epoch", 2),)}
    assert per_turn == {"loss": 1, "deep.x": 2.5, "acc": 1, "f1": 1}


#: the same for further ones: what a script does, how they are laid out, what is kept of a turn, and as parameters
OTHERS: dict[str, tuple[str, dict[str, str], dict[str, object], dict[str, object]]] = {
    "wandb summary": (
        "from wandb.sdk.wandb_summary import Summary\ns = Summary()\n"
        "def each(epoch):\n    s['best'] = epoch\n    s.update({'at': {'epoch': 1}, 'image': b''})\n",
        {
            "wandb/__init__.py": "", "wandb/sdk/__init__.py": "",
            "wandb/sdk/wandb_summary.py": "class SummaryDict:\n    def __setitem__(self, key, val): self.update({key: val})\n"
            "    def update(self, d): print(d)\nclass Summary(SummaryDict): pass\n",
        },
        {"best": 1, "at.epoch": 1},
        {},
    ),
    "mlflow client": (
        "from mlflow.tracking.client import MlflowClient\nclient = MlflowClient()\nclient.log_param('run', 'depth', 3)\n"
        "def each(epoch):\n    client.log_metric('run', 'loss', 0.5, step=epoch)\n",
        {
            "mlflow/__init__.py": "", "mlflow/tracking/__init__.py": "",
            "mlflow/tracking/client.py": "class MlflowClient:\n    def log_metric(self, run_id, key, value, step=None): pass\n"
            "    def log_param(self, run_id, key, value): pass\n",
        },
        {"loss": 0.5},
        {"depth": 3},
    ),
    "comet": (
        "from comet_ml import CometExperiment\ne = CometExperiment()\ne.log_parameters({'lr': 0.5, 'deep': {'a': 1}})\n"
        "def each(epoch):\n    e.log_metric('loss', 0.5, step=epoch)\n    e.log_metrics({'acc': 1}, prefix='val')\n",
        {
            "comet_ml/__init__.py": "from comet_ml.experiment import CometExperiment\n",
            "comet_ml/experiment.py": "class CometExperiment:\n    def log_metric(self, name, value, step=None): pass\n"
            "    def log_metrics(self, dic, prefix=None): pass\n    def log_parameter(self, name, value): pass\n"
            "    def log_parameters(self, parameters, prefix=None):\n"
            "        for k, v in parameters.items(): self.log_parameter(k, v)\n",
        },
        {"loss": 0.5, "val_acc": 1},
        {"lr": 0.5, "deep.a": 1},
    ),
    "clearml": (
        "from clearml.logger import Logger\nlogger = Logger()\n"
        "def each(epoch):\n    logger.report_scalar(title='loss', series='train', value=0.5, iteration=epoch)\n"
        "    logger.report_scalar('acc', 'acc', 1, epoch)\n    logger.report_single_value('best', value=2)\n",
        {
            "clearml/__init__.py": "",
            "clearml/logger.py": "class Logger:\n    def report_scalar(self, title, series, value, iteration): pass\n"
            "    def report_single_value(self, name, value): pass\n",
        },
        {"loss/train": 0.5, "acc": 1, "best": 2},
        {},
    ),
    "aim": (
        "from aim.sdk.run import Run\nrun = Run()\n"
        "def each(epoch):\n    run.track(0.5, name='loss', step=epoch)\n    run.track({'acc': 1}, epoch=1)\n",
        {
            "aim/__init__.py": "", "aim/sdk/__init__.py": "",
            "aim/sdk/run.py": "class BasicRun:\n    def track(self, value, name=None, step=None, epoch=None): pass\n"
            "class Run(BasicRun): pass\n",
        },
        {"loss": 0.5, "acc": 1},
        {},
    ),
    "neptune": (
        "from neptune.handler import Handler\n"
        "def each(epoch):\n    Handler('train/loss').append(0.5, step=epoch)\n    Handler('val').append({'acc': 1})\n",
        {
            "neptune/__init__.py": "",
            "neptune/handler.py": "class Handler:\n    def __init__(self, path): self._path = path\n"
            "    def append(self, value, *, step=None): pass\n    log = append\n",
        },
        {"train/loss": 0.5, "val/acc": 1},
        {},
    ),
    "trackio": (
        "from trackio.run import Run\nrun = Run()\ndef each(epoch):\n    run.log({'loss': 0.5, 'deep': {'a': 1}})\n",
        {"trackio/__init__.py": "", "trackio/run.py": "class Run:\n    def log(self, metrics, step=None): print(metrics)\n"},
        {"loss": 0.5, "deep.a": 1},
        {},
    ),
    "swanlab": (
        "from swanlab.sdk.internal.run import Run\nrun = Run()\ndef each(epoch):\n    run.log({'loss': 0.5, 'deep': {'a': 1}})\n",
        {
            "swanlab/__init__.py": "", "swanlab/sdk/__init__.py": "", "swanlab/sdk/internal/__init__.py": "",
            "swanlab/sdk/internal/run.py": "class Run:\n    def log(self, data, step=None): print(data)\n",
        },
        {"loss": 0.5, "deep.a": 1},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_further_trackers(folder: Folder, name: str) -> None:
    source, files, metrics, given = OTHERS[name]
    for path, text in files.items():
        (folder.path / path).parent.mkdir(parents=True, exist_ok=True)
        folder.write(path, text)
    assert recorded(folder, source + "train(2)\n") == given
    assert {name: value for (path, name), value in found(folder).items() if path == (("epoch", 2),)} == metrics


def test_what_a_tracker_refuses(folder: Folder) -> None:
    for name, text in STAND_INS.items():
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        folder.write(name, text)
    source = "import mlflow\nmlflow.log_metric('only a key')\n"
    folder.write("train.py", HEAD + source)
    raw, ours = folder.both("train.py")
    assert raw.code == ours.code == 1
    assert raw.err == ours.err  # not one frame of ours


def test_it_can_be_turned_off(folder: Folder) -> None:
    folder.write("train.py", HEAD + ARGPARSE + "train(1)\n")
    folder.end(folder.start(str(Path(sys.executable).with_name("flor")), "run", "--no-capture", "train.py"))
    assert not folder.run().captured.exists()


def test_the_table_shows_parameters_that_differ(folder: Folder) -> None:
    folder.write("train.py", HEAD + ARGPARSE + "import flor\ndef each(epoch): flor.log('loss', epoch)\ntrain(1)\n")
    folder.recorded("train.py")
    folder.recorded("train.py", "--lr", "2")
    flor = str(Path(sys.executable).with_name("flor"))
    table = folder.end(folder.start(flor, "show", "--format", "csv")).out.decode().splitlines()
    assert table[0].endswith("loss,lr") and [line.rpartition(",")[2] for line in table[1:]] == ["0.5", "2.0"]
    asked = folder.end(folder.start(flor, "show", "sizes", "--format", "csv")).out.decode()
    assert re.search(r'"\[1, 2\]"', asked)


def test_a_table_of_nothing_but_parameters_shows_them(folder: Folder) -> None:
    folder.write("train.py", HEAD + ARGPARSE + "train(1)\n")
    folder.recorded("train.py")
    flor = str(Path(sys.executable).with_name("flor"))
    table = folder.end(folder.start(flor, "show", "--format", "csv")).out.decode().splitlines()
    assert table[0].endswith("lr,api_key,sizes,quiet") and len(table) == 2


def test_places(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    session = Session(log, lambda error: pytest.fail(str(error)))
    captured = Captured(session, tmp_path / "captured")
    captured.parameters([("p", 1)])
    for epoch in (1, 2):
        outer: Level = session.open_level("epoch")
        outer.advance(epoch)
        for step in (1, 2):
            inner = session.open_level("step")
            inner.advance(step)
            captured.metrics([("m", 10 * epoch + step)])
            session.close_level(inner)
        captured.metrics([("n", epoch)])
        session.close_level(outer)
    captured.close()
    rows = [(path, name, value) for path, name, value, _ in read(tmp_path / "captured").rows()]
    assert rows == [
        ((), "p", 1),
        *[
            row
            for epoch in (1, 2)
            for row in (
                ((("epoch", epoch), ("step", 1)), "m", 10 * epoch + 1),
                ((("epoch", epoch), ("step", 2)), "m", 10 * epoch + 2),
                ((("epoch", epoch),), "n", epoch),
            )
        ],
    ]
    assert [read(tmp_path / "captured").parent.tolist().count(parent) for parent in (0,)] == [3]
