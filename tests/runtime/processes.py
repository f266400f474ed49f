"""Small scripts as real processes: raw beside recorded, compared byte for byte."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.logreader import Key
from flor_runtime.store.runlog import keyed, read

FLOR = str(Path(sys.executable).with_name("flor"))

#: What makes a main loop of a loop, without torch.
HEAD = """\
class Optimizer:
    def zero_grad(self): pass
    def step(self): pass
class Loss:
    def backward(self): pass
optimizer = Optimizer()
"""

#: A main loop with a training loop in it.
TRAIN = """\
for epoch in range(2):
    total = 0.0
    for i, x in enumerate([1.0, 2.0]):
        optimizer.zero_grad()
        Loss().backward()
        optimizer.step()
        total += x
    print(epoch, total)
"""

_ADDRESS = re.compile(rb"0x[0-9a-f]{6,}")


@dataclass
class Ended:
    """A process that has ended; the lines that flor says are apart."""

    code: int
    out: bytes
    err: bytes
    ours: list[str] = field(default_factory=list)


class Folder:
    """A user's folder without git, with a store beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "project"
        self.path.mkdir()
        self.home = Home(path / "home")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("FLOR_", "PYTHON"))}
        self.env |= {"FLOR_HOME": str(self.home.root), "FLOR_KEY": os.environ["FLOR_KEY"]}

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def start(self, *command: str, cwd: Path | None = None, **options: object) -> subprocess.Popen[bytes]:
        env = {**self.env, **options.pop("env", {})}  # type: ignore[dict-item]
        defaults = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            # Tests that run in a shell's background inherit an ignored SIGINT.
            "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        }
        return subprocess.Popen(command, cwd=cwd or self.path, env=env, **{**defaults, **options})  # type: ignore[call-overload, no-any-return]

    def end(self, process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Ended:
        out, err = process.communicate(stdin, timeout=120)
        lines = err.splitlines(keepends=True)
        return Ended(
            process.returncode,
            _ADDRESS.sub(b"0x", out),
            _ADDRESS.sub(b"0x", b"".join(line for line in lines if not line.startswith(b"flor: "))),
            [line.decode().rstrip("\n") for line in lines if line.startswith(b"flor: ")],
        )

    def both(self, *command: str, stdin: bytes | None = None, **options: object) -> tuple[Ended, Ended]:
        """A command line of `python`, raw and recorded."""
        if stdin is not None:
            options["stdin"] = subprocess.PIPE
        raw = self.end(self.start(sys.executable, *command, **options), stdin)
        return raw, self.end(self.start(FLOR, "run", *command, **options), stdin)

    def recorded(self, *command: str, **options: object) -> Ended:
        return self.end(self.start(FLOR, "run", *command, **options))

    def run(self) -> RunFolder:
        """The newest run."""
        return self.home.all_runs()[-1]

    def log(self) -> dict[Key, object]:
        return keyed(read(self.run().log))


def assert_same(raw: Ended, recorded: Ended) -> None:
    """Output, errors and exit code are equal; else shows where not."""
    different: list[str] = []
    for name, a, b in (("stdout", raw.out, recorded.out), ("stderr", raw.err, recorded.err)):
        lines = [text.decode(errors="replace").splitlines(keepends=True) for text in (a, b)]
        different += unified_diff(*lines, f"{name} raw", f"{name} recorded", n=1)
    if raw.code != recorded.code:
        different.append(f"exit code {raw.code} raw, {recorded.code} recorded")
    if different:
        raise AssertionError("".join(different) + "\n".join(recorded.ours))
