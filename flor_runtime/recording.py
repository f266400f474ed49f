"""The life of a recorded run: what is written when it begins, when its first turn begins, and when it ends."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flor_runtime import knobs, versions
from flor_runtime import session as sessions
from flor_runtime.errors import FlorError
from flor_runtime.record import Recorder
from flor_runtime.session import Session
from flor_runtime.state import codec, rng
from flor_runtime.store.checkpoints import Writer
from flor_runtime.store.layout import Home, RunFolder, Status, write_json
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog

#: Variables that a result may hang on; a replay runs under the recorded ones.
ENVIRONMENT = (
    "PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "KMP_AFFINITY",
    "OMP_PROC_BIND", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTHONPATH",
)  # fmt: skip
_INSTALLED = {"site-packages", "dist-packages"}


def warn(text: str) -> None:
    """One line on stderr, marked as ours."""
    print(f"flor: {text}", file=sys.stderr, flush=True)


class Project:
    """Tells the user's own modules from others: by where their file lies."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known: dict[str, bool] = {}

    def owns(self, path: str | Path) -> bool:
        """True for a file of the project: below its root, and not installed there."""
        path = Path(path).resolve()
        return path.is_relative_to(self.root) and not _INSTALLED & set(path.parts)

    def __call__(self, namespace: dict[str, Any]) -> bool:
        name = namespace.get("__name__", "")
        if name == "__main__":
            return True
        if name not in self._known:
            file = namespace.get("__file__")
            ours = name.partition(".")[0] in ("flor", "flor_runtime", "flor_transform")
            self._known[name] = isinstance(file, str) and not ours and self.owns(file)
        return self._known[name]


class Recording:
    """A run that is being recorded. Make one with `begin`."""

    def __init__(self, folder: RunFolder, manifest: dict[str, Any], taken: versions.Snapshot, compiled: dict[Path, bytes], hooked: bool) -> None:
        self.folder = folder
        self._manifest = manifest
        self._taken = taken
        self._compiled = compiled
        self._pid = os.getpid()
        self._hooked = hooked
        self._trouble: str | None = None
        self.project = Project(taken.root)
        self.notes = taken.notes
        self.session = Session(RunLog(folder.log), self._stopped)
        self._writer = Writer(folder.ckpt)
        policy = Policy(float(manifest["epsilon"]), int(knobs.get("DISK_BUDGET_MB") * 1_000_000))
        self.session.keeper = Recorder(self.session, self._writer, policy, self.project, self._first_turn)

    @classmethod
    def begin(
        cls,
        script: Path,
        argv: list[str],
        compiled: Mapping[Path, bytes],
        *,
        name: str | None = None,
        epsilon: float | None = None,
        plans: Mapping[str, Any] | None = None,
        typed: str | None = None,
        hooked: bool = True,
    ) -> Recording:
        """Start recording in this process: the run's code, its manifest, its session.

        Args:
            script: absolute path.
            argv: the script's arguments, without its name.
            compiled: the bytes that Python compiles of it and of project modules loaded so far.
            typed: the script's path as it was typed.
            hooked: an import hook calls `add_module`; else loaded modules are looked for.
            plans: what was instrumented, by file; kept for the replay.

        Raises:
            FlorError, OSError: the store can't be written.
        """
        home = Home()
        folder = home.create_run()
        taken = versions.snapshot(script, compiled, folder.id, home=home.root)
        manifest: dict[str, Any] = {
            "projid": taken.root.name,
            "project": str(taken.root),
            "script": taken.script,
            "typed": typed or str(script),
            "name": name,
            "argv": argv,
            "cwd": os.getcwd(),
            "started": time.time(),
            "python": platform.python_version(),
            "executable": sys.executable,
            "hash_seed": os.environ.get("PYTHONHASHSEED"),
            "env": {key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
            "vid": taken.vid,
            "repo": taken.repo,
            "notes": list(taken.notes),
            "epsilon": knobs.get("EPSILON") if epsilon is None else epsilon,
            "plans": dict(plans or {}),
        }
        folder.begin(manifest)
        (folder.path / "random.bin").write_bytes(codec.pack(rng.capture()["python"]))
        recording = cls(folder, manifest, taken, dict(compiled), hooked)
        for module, read, _ in rng.SELF_SEEDED:
            rng.when_imported(module, partial(recording._seeded, module, read))
        sessions.use(recording.session)
        return recording

    def add_module(self, path: Path, source: bytes) -> None:
        """A project module was compiled: it belongs to the version of the run."""
        self._compiled[path] = source

    def _seeded(self, module: str, read: Callable[[], Any]) -> None:
        try:
            (self.folder.path / f"random-{module}.bin").write_bytes(codec.pack(read()))
        except OSError as error:
            self.session.fail(error)

    def _first_turn(self) -> None:
        """What is known once a main loop begins: the libraries in use, and all modules that it took to get there."""
        torch: Any = sys.modules.get("torch")
        facts: dict[str, Any] = {"platform": platform.platform(), "loaded": [m for m in ("numpy", "torch", "pandas") if m in sys.modules]}
        if torch is not None:
            facts |= {
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "deterministic": torch.are_deterministic_algorithms_enabled(),
                "cuda": torch.version.cuda if torch.cuda.is_available() and torch.cuda.is_initialized() else None,
            }
        write_json(self.folder.path / "environment.json", facts)
        self._extend()

    def add_loaded_modules(self) -> None:
        """Find the project modules that are loaded, where no import hook has seen them compiled."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.endswith(".py") and Path(file) not in self._compiled and self.project.owns(file):
                try:
                    self._compiled[Path(file)] = Path(file).read_bytes()
                except OSError:
                    continue

    def _extend(self) -> None:
        if not self._hooked:
            self.add_loaded_modules()
        taken = versions.extend(self._taken, self._compiled)
        if taken.vid != self._taken.vid:
            self._taken = taken
            self._manifest = {**self._manifest, "vid": taken.vid, "notes": list(taken.notes)}
            self.folder.begin(self._manifest)

    def _stopped(self, error: Exception) -> None:
        """An error of ours: the training goes on, unrecorded."""
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        self._trouble = f"recording stopped: {text}"
        try:
            warn(f"{self._trouble}; the program goes on, what was recorded up to here is kept")
        except (OSError, ValueError):
            pass

    def finish(self, status: Status, exit: int | None, error: str | None = None) -> None:
        """The program has ended. Nothing here may fail for the user."""
        if os.getpid() != self._pid:
            return
        try:
            write_json(self.folder.ckpt / "turns.json", {"entries": self.session.entries})
            self._extend()
            self.folder.finish(status, exit, error or self._trouble)
        except (OSError, FlorError) as problem:
            self._stopped(problem)
