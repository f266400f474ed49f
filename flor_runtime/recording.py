"""The life of a recorded run: what is written when it begins, when its first turn begins, and when it ends."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from flor_runtime import inputs, knobs, ranks, secrets, surroundings, versions
from flor_runtime import session as sessions
from flor_runtime.boot import warn as warn
from flor_runtime.coderules import Rules
from flor_runtime.errors import FlorError, StoreError
from flor_runtime.gitobjects import Entry
from flor_runtime.importing import when_imported
from flor_runtime.integrations import trackers
from flor_runtime.integrations.captured import Captured
from flor_runtime.integrations.parameters import Parameters
from flor_runtime.record import Recorder
from flor_runtime.session import Session
from flor_runtime.state import codec, rng
from flor_runtime.store import retention, signing
from flor_runtime.store.checked import write_bytes
from flor_runtime.store.layout import Home, RunFolder, Status, wall_clock, write_json
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.turncount import TurnCount
from flor_runtime.store.writer import Writer

#: Variables that a result may hang on; a replay runs under the recorded ones.
ENVIRONMENT = (
    "PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "KMP_AFFINITY", "OMP_PROC_BIND", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTHONPATH",
)  # fmt: skip
#: Libraries whose import is slow and does nothing else.
HEAVY = frozenset(
    [
        "numpy",
        "scipy",
        "pandas",
        "sklearn",
        "torch",
        "torchvision",
        "torchaudio",
        "transformers",
        "datasets",
        "accelerate",
        "timm",
        "PIL",
        "tqdm",
    ]
)
_INSTALLED = {"site-packages", "dist-packages"}
_OURS = frozenset({"flor", "flor_runtime", "flor_transform"})
_HERE = str(Path(__file__).parent) + os.sep


def loaded_libraries() -> list[str]:
    """Modules that take long to import and are loaded, in the order of their import: a replay imports them once."""
    found = [name for name in sys.modules if name.partition(".")[0] in HEAVY and name.count(".") < 2]
    return [
        name for name in found if not any(part.startswith("_") for part in name.split(".")) or name == "torch._dynamo"
    ]


def _is_link(path: str | Path) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


class Project:
    """Tells the user's own modules from others: by where their file lies."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._below = str(self.root) + os.sep
        self._known: dict[str, bool] = {}
        self._real: dict[str, str] = {}  # folders, as they are called without links
        self._folders: dict[str, bool] = {}
        prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
        self._elsewhere = [
            p for p in prefixes if p != self.root and p.is_relative_to(self.root)
        ]  # an interpreter in the project

    def owns(self, path: str | Path) -> bool:
        """True for a file of the project: below its root, and not installed there."""
        folder, name = os.path.split(path)
        if folder.startswith(os.sep) and not _is_link(path):  # asked of every module that is loaded
            real = self._real.get(folder)
            if real is None:
                real = self._real[folder] = os.path.realpath(folder) + os.sep
            if not (real + name + os.sep).startswith(self._below):
                return False
        path = Path(path).resolve()
        if not path.is_relative_to(self.root) or _INSTALLED & set(path.parts):
            return False
        return not any(path.is_relative_to(prefix) for prefix in self._elsewhere)

    def holds(self, folder: str) -> bool:
        """True if an entry of `sys.path` is a folder of the project."""
        if folder not in self._folders:
            self._folders[folder] = bool(folder) and self.owns(folder)
        return self._folders[folder]

    def __call__(self, namespace: dict[str, Any]) -> bool:
        name = namespace.get("__name__", "")
        if name == "__main__":  # of a process of ours, it is one of our own modules as well
            return not str(namespace.get("__file__")).startswith(_HERE)
        if name not in self._known:
            file = namespace.get("__file__")
            ours = name.partition(".")[0] in _OURS
            self._known[name] = isinstance(file, str) and not ours and self.owns(file)
        return self._known[name]


class Prepared(NamedTuple):
    """A run that has its folder, its code and its manifest, and no process yet that records it.

    `flor run` prepares it; the program, in the same process by `exec`, takes it over.
    """

    folder: RunFolder
    manifest: dict[str, Any]
    taken: versions.Snapshot

    @classmethod
    def create(
        cls,
        script: Path,
        argv: list[str],
        compiled: Mapping[Path, bytes],
        *,
        run: str | None = None,
        name: str | None = None,
        epsilon: float | None = None,
        capture: bool | None = None,
        pickles: bool | None = None,
        plans: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        typed: str | None = None,
        hash_seed: str | None = None,
    ) -> Prepared:
        """Write down what runs, and how.

        Args:
            script: absolute path.
            argv: the script's arguments, without its name.
            compiled: the bytes that Python compiles of it and of project modules loaded so far.
            run: its id, if one was chosen.
            capture: keep parameters and what trackers are given; None: as the settings have it.
            pickles: keep objects of compiled code as signed pickles; None: as the settings have it.
            plans: what was instrumented, by file; kept for the replay.
            settings: as [tool.flor] has them, where they are not the defaults; kept for the replay.
            typed: the script's path as it was typed.
            hash_seed: PYTHONHASHSEED of the run, whoever set it.

        Raises:
            FlorError, OSError: the store can't be written.
        """
        home = Home()
        _make_room(home)
        folder = home.create_run(run)
        try:
            rules = Rules.from_settings(settings or {})
            taken = versions.snapshot(script, compiled, folder.id, home=home.root, rules=rules)
            manifest = {
                **describe(argv, hash_seed=hash_seed, epsilon=epsilon, capture=capture, pickles=pickles),
                "projid": taken.root.name,
                "project": str(taken.root),
                "script": taken.script,
                "typed": typed or str(script),
                "name": name,
                "cwd": str(Path.cwd()),
                "vid": taken.vid,
                "repo": taken.repo,
                "branch": taken.branch,
                "notes": [*taken.notes, *unsigned()],
                "plans": dict(plans or {}),
                "settings": dict(settings or {}),
            }
            inputs.keep(taken.root, folder.path)
            folder.begin(manifest)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        return cls(folder, manifest, taken)

    def to_plain(self) -> dict[str, Any]:
        """As dictionaries, lists and atoms."""
        taken = {field.name: getattr(self.taken, field.name) for field in fields(self.taken)}
        held = {path: tuple(entry) for path, entry in self.taken.held.items()}
        return {
            "folder": str(self.folder.path),
            "manifest": self.manifest,
            "taken": {**taken, "root": str(self.taken.root), "rules": asdict(self.taken.rules), "held": held},
        }

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Prepared:
        """What `to_plain` gave."""
        taken = data["taken"]
        held = {path: Entry(*entry) for path, entry in taken["held"].items()}
        rules = Rules(**taken["rules"])
        snapshot = versions.Snapshot(**{**taken, "root": Path(taken["root"]), "rules": rules, "held": held})
        return cls(RunFolder(Path(data["folder"])), data["manifest"], snapshot)


def describe(
    argv: list[str], *, hash_seed: str | None, epsilon: float | None, capture: bool | None, pickles: bool | None
) -> dict[str, Any]:
    """What a manifest says of this process and of how it records; what is None is as the settings have it."""
    masked = secrets.mask_arguments(argv)
    return {
        "argv": masked.argv,
        "masked": masked.variables,
        "started": wall_clock(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),  # here: it may import, and the program's folder is not in the way yet
        "executable": sys.executable,
        "hash_seed": hash_seed,
        "processes": ranks.place()[1],
        "env": {key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
        "epsilon": knobs.get("EPSILON") if epsilon is None else epsilon,
        "allowance": knobs.get("ALLOWANCE"),
        "capture": bool(knobs.get("CAPTURE")) if capture is None else capture,
        "pickles": bool(knobs.get("PICKLE")) if pickles is None else pickles,
    }


def unsigned() -> list[str]:
    """What is to be said where a run can't be signed."""
    if signing.can_sign():
        return []
    return ["there is no key to sign with, and none can be made (docs/security.md): a replay of this run needs --trust"]


def _make_room(home: Home) -> None:
    """Thin out old runs if their checkpoints take too much of the disk, and if that is found out at once."""
    from flor_runtime.store import cleaning

    with contextlib.suppress(FlorError):
        cleaning.keep_within(home, limit=0.05)


class Recording:
    """A run that is being recorded, by this process.

    Args:
        prepared: the run.
        compiled: as for `Prepared.create`.

    Raises:
        FlorError, OSError: the store can't be written.
    """

    def __init__(self, prepared: Prepared, compiled: Mapping[Path, bytes]) -> None:
        self.folder, self._manifest, self._taken = prepared
        self._compiled = dict(compiled)
        self.pid = os.getpid()
        self._trouble: str | None = None
        self._log = RunLog(self.folder.log)
        self.project = Project(self._taken.root)
        self.session = Session(self._log, self._stopped)
        epsilon = float(self._manifest["epsilon"])
        self._writer = Writer(self.folder.ckpt, patient=epsilon >= 1, budget=retention.run_budget(self.folder.path))
        self._count = TurnCount(self.folder.ckpt)
        self.session.count_turn = self._count.begun
        self._policy = Policy(epsilon, float(self._manifest.get("allowance", 0)))
        self._recorder = Recorder(
            self.session,
            self._writer,
            self._policy,
            self.project,
            self._first_turn,
            bool(self._manifest["pickles"]),
        )
        self.session.keeper = self._recorder
        write_bytes(self.folder.path / "random.bin", codec.pack(rng.capture()["python"]))
        for module, read, _ in rng.SELF_SEEDED:
            when_imported(module, partial(self._seeded, module, read))
        self._captured = Captured(self.session, self.folder.captured)
        self.session.keep_parameter = self._captured.parameters
        self.session.keep_metric = self._captured.metrics
        self._parameters = Parameters(self.project) if self._manifest["capture"] else None
        if self._manifest["capture"]:
            trackers.listen(self._captured)
        sessions.use(self.session)

    def add_module(self, path: Path, source: bytes) -> None:
        """A project module was compiled: it belongs to the version of the run."""
        self._compiled[path] = source

    def _seeded(self, module: str, read: Callable[[], Any]) -> None:
        try:
            write_bytes(self.folder.path / f"random-{module}.bin", codec.pack(read()))
        except OSError as error:
            self.session.fail(error)

    def _first_turn(self, frame: FrameType) -> None:
        """What is known once a main loop begins: parameters, libraries in use, modules that it took to get there."""
        self._take_parameters(frame)
        facts = {"platform": self._manifest["platform"], "loaded": loaded_libraries(), **surroundings.facts()}
        write_json(self.folder.path / "environment.json", facts)
        self._extend()

    def _take_parameters(self, frame: FrameType | None) -> None:
        if self._parameters is not None:
            found = self._parameters.collect(frame)
            self._parameters = None
            self._captured.parameters(found.items())

    def add_loaded_modules(self) -> None:
        """Find the project modules that are loaded and that no import hook has seen compiled."""
        root = str(self.project.root) + os.sep
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str) or not file.endswith(".py") or not file.startswith(root):
                continue
            if Path(file) not in self._compiled and self.project.owns(file):
                try:
                    self._compiled[Path(file)] = Path(file).read_bytes()
                except OSError:
                    continue

    def _extend(self, last: bool = False) -> None:
        self.add_loaded_modules()
        taken = versions.extend(self._taken, self._compiled)
        if last:
            with contextlib.suppress(Exception):  # a program may have broken anything, and this is but a second look
                taken = versions.mend(taken, self._compiled)
        if taken is not self._taken:
            self._taken = taken
            self._manifest = {**self._manifest, "vid": taken.vid, "notes": [*taken.notes, *unsigned()]}
            self.folder.begin(self._manifest)

    def _stopped(self, error: Exception) -> None:
        """An error of ours: the training goes on, unrecorded."""
        if self._trouble is not None:
            return
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        self._trouble = f"recording stopped: {text}"
        warn(f"{self._trouble}; the program goes on, what was recorded up to here is kept")

    def _sum_up(self) -> None:
        writer = self._writer
        account = {
            "seconds": round(self._policy.spent, 6), "behind": round(writer.cpu_behind, 6),
            "skipped": writer.skipped, "dropped": writer.dropped,
            "direct": writer.direct, "unfinished": not writer.closed,
            "audited": round(self._recorder.audit.seconds, 6), "unaudited": sorted(self._recorder.audit.missed)[:20],
        }  # fmt: skip
        write_json(self.folder.ckpt / "turns.json", {"entries": self.session.entries, "checkpoints": account})
        self._count.remove()

    def finish(self, status: Status, exit: int | None, error: str | None = None) -> None:
        """The program has ended. Nothing here may fail for the user."""
        if os.getpid() != self.pid:
            return
        self.session.guard(self._take_parameters, None)
        self.session.stop()
        if not (self.folder.path / "run.json").exists():
            self._stopped(StoreError(f"{self.folder.path} is gone"))
            return
        for step in (
            partial(self._extend, last=True),
            self._log.close,
            self._captured.close,
            self._writer.close,
            self._sum_up,
        ):
            try:
                step()
            except Exception as problem:
                self._stopped(problem)
        try:
            said = error and secrets.mask_text(error)
            self.folder.finish(status, exit, said or self._trouble, stopped=self._trouble)
        except Exception as problem:
            self._stopped(problem)
