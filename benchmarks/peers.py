"""flor beside flordb 2.7.1 and 4.0.1, each in an environment of its own: one small script, recorded and replayed.

Only when it is asked for: `python -m benchmarks peers` installs both from the package registry, once, into a cache
folder (`$XDG_CACHE_HOME/flor-peers`); torch is that of this environment. They change the repository that they run in,
so every run has a repository and a home folder to be thrown away. Times are CPU seconds of whole processes or of the
training loop; the least of some rounds in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ROUNDS = 3
_EPOCHS = 6
_LOGS = 20_000
_SUBREAPER = 36  # prctl, Linux: who loses its parent becomes a child of this process

#: What nobody had thought of when the run was recorded: of the state of the model, and of the random state.
ASKED = {"weight": "model[0].weight.sum().item()", "random": "int(torch.get_rng_state().sum())"}


@dataclass(frozen=True)
class Tool:
    """How a tool is used, as its README says.

    Attributes:
        needs: what is installed.
        imports, before, outer, inner, log: what the user writes: at the top, before the main loop, round what the two
            loops go over, and to log a value.
        branch: that it wants to be on.
        record, replay: words behind the interpreter.
        count: a program that prints how many records of `x` there are.
        values: one that prints the recovered values; without it, a replay prints them itself.
    """

    name: str
    needs: tuple[str, ...] = ()
    module: str = ""
    imports: str = ""
    before: str = ""
    outer: str = "{}"
    inner: str = "{}"
    log: str = ""
    branch: str = "main"
    record: tuple[str, ...] = ("train.py",)
    replay: tuple[str, ...] = ()
    count: str = ""
    values: str = ""

    def train(self, asked: str = "") -> str:
        """A training script that logs its loss; `asked`: lines at the end of an epoch."""
        lines = f"""\
            import time
            import torch

            torch.manual_seed(0)
            torch.set_num_threads(1)
            model = torch.nn.Sequential(
                torch.nn.Linear(784, 2000), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(2000, 784)
            )
            optimizer = torch.optim.Adam(model.parameters())
            x = torch.randn(1600, 784)
            loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=64, shuffle=True)
            began = time.process_time()
            BEFORE
            for epoch in {self.outer.format(f"range({_EPOCHS})", name="epoch")}:
                for (batch,) in {self.inner.format("loader", name="step")}:
                    loss = (model(batch) - batch).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    LOG
                ASKED
            print("loop", time.process_time() - began)
            """
        log = self.log.format("loss", "loss.item()")
        return self.imports + _filled(lines, BEFORE=self.before, LOG=log, ASKED=asked)

    def many(self, *, die: bool) -> str:
        """A script that logs many values, and dies by SIGKILL if it is told to."""
        lines = f"""\
            import os, signal, time
            began = time.process_time()
            for epoch in {self.outer.format("range(20)", name="epoch")}:
                for step in {self.inner.format(f"range({_LOGS // 20})", name="step")}:
                    LOG
                if epoch == 19 and {die}: os.kill(os.getpid(), signal.SIGKILL)
            print("loop", time.process_time() - began)
            """
        return self.imports + _filled(lines, LOG=self.log.format("x", 0.5) or "pass")


def _filled(text: str, **lines: str) -> str:
    text = textwrap.dedent(text)
    for word, line in lines.items():
        text = re.sub(
            rf"(?m)^( *){word}\n", lambda m, line=line: textwrap.indent(f"{line}\n", m[1]) if line else "", text
        )
    return text


_COUNT = "import sys, {0} as flor; sys.stderr.write('COUNT %d\\n' % {1})"
_PRINT = """\
import flor
for row in flor.dataframe(*%r).dropna(subset=['weight']).itertuples():
    print('asked', row.epoch - 1, float(row.weight), int(row.random))
"""
TOOLS = (
    Tool("plain", log="{1}"),
    Tool(
        "flor",
        module="flor",
        imports="import flor\n",
        log='flor.log("{}", {})',
        record=("-m", "flor", "run", "train.py"),
        replay=("-m", "flor", "replay", *ASKED, "--script", "train.py", "--yes"),
        count=_COUNT.format("flor", "(flor.log_records()['name'] == 'x').sum()"),
        values=_PRINT % (tuple(ASKED),),
    ),
    Tool(
        "flordb 2.7.1",
        needs=("flordb==2.7.1", "seaborn==0.13.2", "ipython", "tqdm"),  # three that it does not name
        module="flor",
        imports="import flor\nfrom flor import MTK as Flor\n",
        before="Flor.checkpoints(model, optimizer)",
        outer="Flor.loop({})",
        inner="Flor.loop(iter({}))",
        log='flor.log("{}", {})',
        branch="flor.shadow.main",
        record=("train.py", "--flor", "bench"),
        replay=("train.py", "--replay_flor"),
        count=_COUNT.format("flor", "(flor.log_records()['name'] == 'x').sum()"),
    ),
    Tool(
        "flordb 4.0.1",
        needs=("flordb==4.0.1",),
        module="flordb",
        imports="import flordb as flor\n",
        outer='flor.loop("{name}", {})',
        inner='flor.loop("{name}", {})',
        log='flor.log("{}", {})',
        replay=("train.py", "--replay_flor", "--apply", ",".join(ASKED), "--iter", "epoch=all"),
        count=_COUNT.format("flordb", "flor.dataframe('x')['x'].notna().sum()"),
    ),
)


@dataclass
class Result:
    """What was found out about a tool. `python` is its interpreter."""

    python: str
    numbers: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def least(self, name: str, value: float) -> None:
        self.numbers[name] = min(value, self.numbers.get(name, value))


def run() -> Iterator[str]:
    """A table: one column a tool."""
    results = {tool: Result(environment(tool)) for tool in TOOLS}
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    for _ in range(_ROUNDS):
        for tool, result in results.items():
            with tempfile.TemporaryDirectory(prefix="flor-peers-") as folder:
                _recorded(tool, result, _Place(Path(folder), tool))
    truth: list[str] = []
    for tool, result in results.items():
        with tempfile.TemporaryDirectory(prefix="flor-peers-") as folder:
            truth = _replayed(tool, result, _Place(Path(folder), tool), truth)
        _logged(tool, result)
    return _table(results)


class _Place:
    """A repository and a home folder, to be thrown away."""

    def __init__(self, folder: Path, tool: Tool) -> None:
        self.home, self.repository = folder / "home", folder / "repository"
        self.home.mkdir()
        self.repository.mkdir()
        (self.home / ".flor").mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOR", "GIT_", "PYTHON"))}
        self.env = {**kept, "HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        self._git("init", "-q", "-b", tool.branch)
        self._git("config", "user.name", "nobody")
        self._git("config", "user.email", "nobody@example.org")

    def _git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.repository, env=self.env, check=True, capture_output=True)

    def put(self, text: str) -> None:
        """Write and commit the script."""
        (self.repository / "train.py").write_text(text)
        self._git("add", "train.py")
        self._git("commit", "-q", "-m", "a version")

    def call(self, *command: str) -> tuple[int, str, float]:
        """(exit code, output, CPU seconds) of a process and all that it has started."""
        with tempfile.TemporaryFile("w+", errors="replace") as out:
            process = subprocess.Popen(
                command, cwd=self.repository, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            seconds = 0.0
            with contextlib.suppress(ChildProcessError):
                while True:  # those that it has left behind, too
                    pid, status, usage = os.wait3(0)
                    seconds += usage.ru_utime + usage.ru_stime
                    if pid == process.pid:
                        process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            return process.returncode, out.read(), seconds

    def nbytes(self) -> int:
        """Of all files in both folders."""
        files = [path for top in (self.home, self.repository) for path in top.rglob("*")]
        return sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())


def _recorded(tool: Tool, result: Result, place: _Place) -> None:
    place.put(tool.train())
    before = place.nbytes()
    code, out, seconds = place.call(result.python, *tool.record)
    assert code == 0, out
    result.least("process", seconds)
    result.least("loop", float(re.findall(r"^loop (\S+)", out, re.MULTILINE)[0]))
    result.numbers["bytes"] = place.nbytes() - before
    changes = difflib.ndiff(TOOLS[0].train().splitlines(), tool.train().splitlines())
    result.numbers["lines"] = sum(line.startswith("+ ") for line in changes)
    if tool.module:
        program = f"import sys, time; t = time.process_time(); import {tool.module}; t = time.process_time() - t\n"
        _, out, _ = place.call(result.python, "-c", program + "sys.stderr.write(f'took {t}')")
        result.least("import", float(re.findall(r"took (\S+)", out)[0]))


def _replayed(tool: Tool, result: Result, place: _Place, truth: list[str]) -> list[str]:
    """The truth: what the plain script prints with the questions in it."""
    place.put(tool.train())
    if tool.replay:
        code, out, _ = place.call(result.python, *tool.record)
        assert code == 0, out
    values = [tool.log.format(name, what) or what for name, what in ASKED.items()]
    place.put(tool.train("\n".join(values) if tool.values else f"print('asked', epoch, {', '.join(values)})"))
    code, out, seconds = place.call(result.python, *(tool.replay or tool.record))
    if tool.values:
        _, out, _ = place.call(result.python, "-c", tool.values)
    found = re.findall(r"asked \S+ \S+ \S+", out)
    result.numbers["replay"] = seconds
    if not tool.replay:
        return found
    for n, name in enumerate(ASKED):
        wanted = {line.split()[1]: line.split()[2 + n] for line in truth}
        right = sum(line.split()[2 + n] == wanted.get(line.split()[1]) for line in found)
        result.texts[f"right {name}"] = f"{right} of {len(truth)}" + (f", exit code {code}" if code else "")
    return truth


def _logged(tool: Tool, result: Result) -> None:
    for die in (False, True):
        with tempfile.TemporaryDirectory(prefix="flor-peers-") as folder:
            place = _Place(Path(folder), tool)
            place.put(tool.many(die=die))
            before = place.nbytes()
            code, out, _ = place.call(result.python, *tool.record)
            if not die:
                assert code == 0, out[-2000:]
                result.least("log", float(re.findall(r"loop (\S+)", out)[-1]) / _LOGS)
                result.numbers["record"] = (place.nbytes() - before) / _LOGS
            if tool.count:
                _, out, _ = place.call(result.python, "-c", tool.count)
                found = int((re.findall(r"COUNT (\d+)", out) or "0")[0])
                assert die or found == _LOGS, out[-2000:]  # else the count would tell nothing
                result.texts["kill"] = f"{_LOGS - found:,} of {_LOGS:,}"


def _table(results: dict[Tool, Result]) -> Iterator[str]:
    plain = next(iter(results.values()))

    def row(what: str, cells: list[str]) -> str:
        return f"| {what} | {' | '.join(cells)} |"

    def ratio(name: str, unit: str = "x") -> list[str]:
        return [f"{r.numbers[name] / plain.numbers[name]:.2f}" for r in results.values()]

    tools = list(results)
    yield row("", [tool.name for tool in tools])
    yield row("---", ["---"] * len(tools))
    numbers = [result.numbers for result in results.values()]
    yield row("training loop, CPU, against plain", ratio("loop"))
    yield row("whole process, CPU, against plain", ratio("process"))
    yield row("import, CPU", [f"{1e3 * n['import']:.0f} ms" if "import" in n else "" for n in numbers])
    yield row("one `log`, CPU", [f"{1e6 * n['log']:.2f} µs" for n in numbers])
    yield row("bytes on the disk, a run", [f"{n['bytes'] / 1e6:.1f} MB" for n in numbers])
    yield row("bytes on the disk, a record", [f"{n['record']:.0f}" for n in numbers])
    yield row("lines that the user writes", [f"{n['lines']:.0f}" for n in numbers])
    yield row("records lost to `kill -9`", [result.texts.get("kill", "") for result in results.values()])
    yield row("asked afterwards, CPU, against plain", ratio("replay"))
    for name in ASKED:
        yield row(f"asked afterwards, {name}: right", [r.texts.get(f"right {name}", "") for r in results.values()])


def environment(tool: Tool) -> str:
    """The interpreter of a tool's environment, which is made if need be."""
    if not tool.needs:
        return sys.executable
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flor-peers"
    folder = cache / "-".join([*tool.needs[0].split("=="), f"{sys.version_info[0]}.{sys.version_info[1]}"])
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
        (packages,) = folder.glob("lib/python*/site-packages")
        beside = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (packages / "beside.pth").write_text("\n".join(beside) + "\n")  # for torch, numpy and pandas
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *tool.needs], check=True)
        ready.touch()
    return str(python)
