"""A copy of the packages and their tests with one fault in it, and an interpreter that imports that copy alone."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COPIED = ("flor.py", "flor_runtime", "flor_transform", "tests", "fixtures", "docs", "benchmarks", "setup.cfg")
_COMMANDS = {
    "flor": "flor_runtime.cli:main",
    "flor-transform": "flor_transform.cli:transform_command",
    "flor-backport": "flor_transform.cli:backport_command",
}
_LIMIT = 600  # seconds; a fault may well make a test wait for ever


@dataclass(frozen=True)
class Fault:
    """What an engineer could get wrong.

    Attributes:
        file: relative to the root.
        old: a text that is in it once.
        new: what stands there instead.
        tests: node ids; with the fault, each of them fails.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def text(self) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: it doesn't apply.
        """
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text is {text.count(self.old)} times in {self.file}, not once")
        wrong = text.replace(self.old, self.new)
        if ast.dump(ast.parse(wrong)) == ast.dump(ast.parse(text)):
            raise ValueError(f"{self.name}: it changes nothing")
        return wrong


@dataclass(frozen=True)
class Outcome:
    """What became of a fault. `verdict`: "caught", "survived" or "broken", where the tests could not be run."""

    verdict: str
    output: str


def run(fault: Fault | None, tests: Iterable[str] = (), arguments: Iterable[str] = ("-x",)) -> Outcome:
    """Run tests, by default its own, where a fault is in place (None: without any)."""
    chosen = list(tests) or list(fault.tests if fault is not None else ())
    with tempfile.TemporaryDirectory(prefix="flor-seeded-") as folder:
        root = Path(folder) / "tree"
        _copy(root)
        if fault is not None:
            (root / fault.file).write_text(fault.text(), encoding="utf-8")
        python = _interpreter(root)
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
        env = {name: value for name, value in env.items() if not name.startswith(("FLOR_", "PYTEST_XDIST"))}
        command = [python, "-m", "pytest", "-q", "--basetemp", f"{folder}/tmp", *arguments, *chosen]
        with open(f"{folder}/output", "w+", errors="replace") as output:
            process = subprocess.Popen(
                command,
                cwd=root,
                env={**env, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                code = process.wait(_LIMIT)
            except subprocess.TimeoutExpired:
                code = -1
            finally:
                with contextlib.suppress(ProcessLookupError):  # also of what a test has left behind
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            text = output.read()
    return Outcome({0: "survived", 1: "caught"}.get(code, "broken"), text)


def missing(test: str) -> str:
    """Why there is no such test; "" if there is one. Parameters are not looked at."""
    path, *names = re.sub(r"\[.*", "", test, flags=re.DOTALL).split("::")
    if not names or not (ROOT / path).is_file():
        return f"{test}: no such file"
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for name in names:
        found = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name]
        if not found:
            return f"{test}: no {name}"
        body = found[0].body
    return ""


def _copy(root: Path) -> None:
    root.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, symlinks=True)  # with what was compiled: it saves seconds
        else:
            shutil.copy2(source, root / name)


def _interpreter(root: Path) -> Path:
    """A virtual environment that has the libraries of this one, and the packages of `root` before them."""
    folder = root / ".venv"
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    elsewhere = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "seeded.pth").write_text("\n".join([str(root), *elsewhere]) + "\n")
    python = folder / "bin" / "python"
    for name, target in _COMMANDS.items():
        module, _, function = target.partition(":")
        script = folder / "bin" / name
        script.write_text(f"#!{python}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        script.chmod(0o755)
    return python
