"""One worker: re-executes a part of one recorded run in a process of its own; leaves records and an outcome behind."""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from flor_runtime import secrets, surroundings
from flor_runtime import session as sessions
from flor_runtime.errors import ReplayError
from flor_runtime.importing import when_imported
from flor_runtime.inputs import loop_began, read_inputs
from flor_runtime.literals import orders_of
from flor_runtime.replay.claims import Claims, Place
from flor_runtime.replay.leaveout import Part, guarded, whole_turns
from flor_runtime.replay.reads import CHANGED, LOOKED, NETWORK, SKIPPED, Reads
from flor_runtime.replay.recorded import read_facts
from flor_runtime.replay.replayer import Goal, Replayer
from flor_runtime.session import Session
from flor_runtime.state import codec, rng
from flor_runtime.state.compare import Origin
from flor_runtime.stopping import with_stops
from flor_runtime.store.checked import read_bytes
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.runlog import RunLog, keyed, read

OUTCOME = "outcome.json"
FOREIGN = "this user did not record it here, and a replay runs its code: --trust says that it may"
_SHORTEST = 3  # of a given secret that is masked: `x` would be in every word
_SAVING = 0.01  # share of the time that goes into noting how far it is
_PREAMBLE = 600.0  # seconds that a program may have taken to come to its main loop


@dataclass(frozen=True)
class Job:
    """All that a worker needs, as plain data.

    Attributes:
        run: folder of the recorded run.
        folder: the worker's own; gets `log/`, `work/`, `output.txt` and, last, the outcome.
        patched: texts of the files with new statements, by path relative to the project.
        trust: restore also what this user has not signed.
        env: variables of the slot that it runs in, over those of the run.
        repo: where the run's code is, if not where the run says.
        left_out: statements that the new ones don't need, by file: (first line, last line, always).
        network: let the program use it.
        downloads: let the program find what the run had put into the project when its main loop began.
    """

    run: str
    folder: str
    goal: Goal
    patched: dict[str, str] = field(default_factory=dict)
    trust: bool = False
    env: dict[str, str] = field(default_factory=dict)
    repo: str = ""
    left_out: dict[str, list[tuple[int, int, bool]]] = field(default_factory=dict)
    network: bool = False
    downloads: bool = False

    def to_json(self) -> str:
        data = asdict(self)
        data["goal"]["probed"] = sorted(self.goal.probed)
        data["goal"]["turns"] = sorted(self.goal.turns.items())
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Job:
        data = json.loads(text)
        goal = data.pop("goal")
        turns = {int(entry): list(wanted) for entry, wanted in goal.pop("turns")}
        return cls(goal=Goal(turns=turns, **{**goal, "probed": frozenset(goal["probed"])}), **data)


def _parameters(run: RunFolder) -> dict[str, Any]:
    """The historical values for `flor.arg`; one with a secret masked in it is read from the command line again."""
    kept = keyed(read(run.captured)) if run.captured.is_dir() else {}
    found = {name: value for (path, name, _), value in kept.items() if not path}
    return {name: value for name, value in found.items() if secrets.MASK not in repr(value)}


def work(job: Job) -> NoReturn:
    """Do the job; ends the process: 0 done, 3 the program failed, 4 we did."""
    folder = Path(job.folder)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        _Worker(job).run()
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(4)


class _Worker:
    def __init__(self, job: Job) -> None:
        from flor_runtime.replay import committed
        from flor_runtime.replay.workspace import Workspace

        self._job = job
        self._folder = Path(job.folder)
        run = RunFolder(Path(job.run))
        self._run = run
        self._manifest = run.manifest()
        if not job.trust and not run.is_own(self._manifest):
            raise ReplayError(FOREIGN)
        for name, value in self._manifest["env"].items():
            os.environ[name] = value
        if "PYTHONHASHSEED" not in self._manifest["env"]:
            os.environ.pop("PYTHONHASHSEED", None)  # it was set for the interpreter only
        os.environ.update(job.env)
        self._place = Workspace.create(
            job.repo or self._manifest["repo"],
            self._manifest["vid"],
            Path(self._manifest["project"]),
            self._manifest["script"],
            Path(self._manifest["cwd"]),
            self._folder / "work",
            {name: text.encode("utf-8", "surrogateescape") for name, text in job.patched.items()},
            read_inputs(run.path),
            began=float(self._manifest["started"]),
            settled=loop_began(run.path),
            downloads=job.downloads,
            store=run.path.parent.parent.resolve(),
        )
        if self._manifest.get("commit"):
            committed.settle(self._place, self._manifest["repo"], self._manifest["vid"])
        masked = self._manifest.get("masked")
        self._argv = secrets.unmask_arguments(self._manifest["argv"], masked, os.environ)
        given = [os.environ.pop(name) for name in list(os.environ) if name.startswith(secrets.VARIABLE)]
        self._given = sorted((value for value in given if len(value) >= _SHORTEST), key=len, reverse=True)
        self._stale: set[str] = set()
        self._outlived: set[str] = set()  # files that have changed, and led the state at a boundary nowhere else
        self._reads: Reads | None = None
        self._skipped: set[str] = set()  # files that were read, and that skipped turns may have written to
        self._looked: set[str] = set()  # the same of names that were looked for
        self._seen: set[str] = set()  # those that led the state at a boundary nowhere else
        self._refused: set[str] = set()  # where the program wanted to connect to
        self._log = RunLog(self._folder / "log")
        self._session = Session(self._log, self._failed, _parameters(run))
        self._replayer: Replayer | None = None
        self._claims = Claims(self._folder)
        self._next_save = 0.0
        self._error: str | None = None

    def run(self) -> NoReturn:
        from flor_runtime.recording import Project
        from flor_runtime.replay import guard
        from flor_runtime.replay.imports import use_version
        from flor_runtime.runner import Program, execute, without_our_frames

        began_in = str(Path.cwd())
        place, manifest = self._place, self._manifest
        project = Project(place.root)
        source = place.script.read_bytes()
        program = Program.of_run(place.script, source, manifest.get("settings") or {})
        seed = {"PYTHONHASHSEED": manifest.get("hash_seed") or "random"}
        parts = {path: [Part(*part) for part in parts] for path, parts in self._job.left_out.items()}
        stops: dict[str, list[tuple[int, int]]] = {}
        for file, first, last in self._job.goal.stops:
            stops.setdefault(file, []).append((first, last))
        program.reshape = lambda name, tree: guarded(with_stops(tree, stops.get(name, ())), parts.get(name, ()))
        program.reshaped = {*parts, *stops}
        whole_turns(True)
        program.orders = orders_of(source, [sys.executable], {**os.environ, **seed})
        reader = Reader(self._run.ckpt, trust=self._job.trust)
        facts = read_facts(self._run)
        self._replayer = Replayer(
            self._session, reader, self._job.goal, project, self._done, self._then(facts), self._now(), facts
        )
        self._session.keeper = self._replayer
        self._seed()
        surroundings.show_cores(facts)
        when_imported("torch", partial(surroundings.use_threads, facts))
        overlay = guard.install(place, allowed=[self._folder], network=self._job.network).overlay
        self._replayer.when_skipped = overlay.reads.skipped
        self._reads = overlay.reads
        self._replayer.when_same = self._outlive
        self._replayer.claim = self._claim
        use_version(place.user_root, place.root, program.folder, Path(manifest["cwd"]), began_in)
        sessions.use(self._session)
        try:
            typed = manifest["typed"]
            execute(
                program,
                [str(place.script) if Path(typed).is_absolute() else typed, *self._argv],
                project,
                lambda path, text: None,
            )
        except SystemExit:
            self._done()
        except BaseException as error:
            without_our_frames(error)
            traceback.print_exception(error)
            self._error = f"{type(error).__name__}: {error}"
            self._leave(3)
        self._done()

    def _then(self, facts: dict[str, Any]) -> Origin:
        """The recorded process; `clock` of the facts was read when its main loop began."""
        clock, pid = facts.get("clock"), self._manifest.get("pid")
        first = clock - _PREAMBLE if isinstance(clock, float) else math.inf
        return Origin(
            pid if isinstance(pid, int) else 0,
            (first, first),
            str(self._manifest.get("place") or self._manifest.get("project") or ""),
            bool(self._manifest.get("masked")),
        )

    def _now(self) -> Origin:
        return Origin(os.getpid(), (time.perf_counter(), 0.0), str(self._place.root))

    def _seed(self) -> None:
        """The random states that the run began with."""
        state = codec.unpack(read_bytes(self._run.path / "random.bin"))
        random.setstate((state[0], tuple(state[1]), state[2]))
        for module, _, write in rng.SELF_SEEDED:
            kept = self._run.path / f"random-{module}.bin"
            if kept.exists():
                when_imported(module, partial(write, codec.unpack(read_bytes(kept))))

    def _failed(self, error: Exception) -> None:
        traceback.print_exception(error)
        self._error = f"{type(error).__name__}: {error}"
        self._leave(4)

    def _done(self) -> NoReturn:
        self._leave(0)

    def _outlive(self) -> None:
        """A state that is the recorded one was not led astray by what was read before it. What of that is in names that
        the loop has nothing to do with, nobody has compared: a doubt remains."""
        self._look()
        self._outlived |= self._stale
        self._seen |= self._looked
        self._stale.clear()
        self._looked.clear()

    def _claim(self, entry: int, turn: int) -> bool:
        """At a boundary: what is done up to here is not lost if this worker dies."""
        began = time.monotonic()
        if began >= self._next_save:
            self._log.settle()
            self._write(None, (entry, turn))
            now = time.monotonic()
            self._next_save = now + (now - began) / _SAVING
        return self._claims.claim((entry, turn))

    def _look(self) -> None:
        """What has been read."""
        if self._reads is None:
            return
        found = self._reads.taken()
        self._stale |= found[CHANGED]
        self._skipped |= found[SKIPPED]
        self._looked |= found[LOOKED]
        self._refused |= found[NETWORK]

    def _shown(self, text: str) -> str:
        """A text for the user, without the secrets that this worker was given."""
        for value in self._given:
            text = text.replace(value, secrets.MASK)
        return secrets.mask_text(text)

    def _leave(self, code: int) -> NoReturn:
        """End here and now: nothing of the program that is left may run."""
        sessions.use(None)
        assert self._replayer is not None
        self._replayer.ended()
        self._log.close()
        sys.stdout.flush()
        sys.stderr.flush()
        self._write(code, None)
        os._exit(code)

    def _write(self, code: int | None, upto: Place | None) -> None:
        """What is known so far."""
        assert self._replayer is not None
        found = self._replayer.outcome
        self._look()
        left = [
            f"{path}: was read, and has changed since the run; the loop's state is the recorded one"
            for path in sorted(self._outlived - self._stale)
        ]
        left += [
            f"{path}: was looked for, and turns that were skipped may have written it"
            for path in sorted(self._seen - self._skipped - self._looked)
        ]
        left += [f"{where} was wanted: a replay does not use the network" for where in sorted(self._refused)]
        text = json.dumps(
            {
                **asdict(found),
                "notes": list(map(self._shown, found.notes)),
                "doubts": list(map(self._shown, [*found.doubts, *left])),
                "stale": sorted(self._stale),
                "skipped": sorted(self._skipped | self._looked),
                "offline": bool(self._refused),
                "error": self._error and self._shown(self._error),
                "code": code,
                "upto": upto,
                "open": self._replayer.open,
            }
        )
        path = self._folder / OUTCOME
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, text.encode())
        os.close(descriptor)
        temporary.replace(path)
