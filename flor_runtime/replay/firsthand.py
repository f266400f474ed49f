"""One version of git's history, run for the first time and recorded: in a process of its own, from its own export.

Started by `commits`, by path, with a `Work` as JSON on stdin; what the script prints goes to `output.txt` in the run's
folder. The end of the process is that of the script: its exit code, with `end.json` written.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flor_runtime.replay.workspace import Workspace
    from flor_runtime.runner import Program

_DEATH_SIGNAL = 1  # of prctl, on Linux
OUTPUT = "output.txt"
REFUSED = 125  # exit code, with the reason on stderr: nothing of the script has run


@dataclass(frozen=True)
class Work:
    """A version to run, as plain data.

    Attributes:
        folder: of the run that it becomes; exists. `place`: of its files and what it writes; made.
        repo: git directory that has the commit `vid`.
        project: the user's folder that its root stands for; `script` is relative to it, `cwd` absolute.
        patched: texts of the files with the new statements, by path relative to the project.
        hash_seed: that this process has been started with; hidden from the script if `pinned`, which sees `seen`.
        title, date: of the commit; `names`: of the new statements.
    """

    folder: str
    place: str
    repo: str
    vid: str
    project: str
    script: str
    cwd: str
    argv: list[str]
    patched: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    title: str = ""
    date: float = 0.0
    hash_seed: str = ""
    pinned: bool = False
    seen: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    """Run it; the interpreter ends as it would have ended behind the script."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    work = Work(**json.loads(sys.stdin.buffer.read()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        output = os.open(Path(work.folder, OUTPUT), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        place, program, end = _prepare(work)
    except Exception as error:
        print(str(error).partition("\n")[0] or type(error).__name__, file=sys.stderr)
        sys.exit(REFUSED)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _run(work, place, program, end)


def _prepare(work: Work) -> tuple[Workspace, Program, Any]:
    """The version's files beside the user's data, and a run that records; no write leaves its folder from here on."""
    from flor_runtime import inputs
    from flor_runtime.boot import End
    from flor_runtime.errors import ReplayError
    from flor_runtime.literals import orders_of
    from flor_runtime.recording import Prepared, Recording, describe, unsigned
    from flor_runtime.replay import committed, guard
    from flor_runtime.replay.workspace import Workspace
    from flor_runtime.runner import program_of, settings_of
    from flor_runtime.store.layout import RunFolder
    from flor_runtime.versions import Snapshot

    folder, project = Path(work.folder), Path(work.project)
    place = Workspace.create(
        work.repo,
        work.vid,
        project,
        work.script,
        Path(work.cwd),
        Path(work.place),
        {name: text.encode("utf-8", "surrogateescape") for name, text in work.patched.items()},
    )
    hidden = committed.settle(place, work.repo, work.vid)
    inputs.keep(project, folder, leave=hidden)
    if (place.root / ".git").is_dir():
        (place.root / ".git" / "HEAD").write_text(f"{work.vid}\n")
    typed = os.path.relpath(place.script, place.cwd)
    source = place.script.read_bytes()
    settings = settings_of(place.script)
    program = program_of(place.script, source, typed, settings) if settings is not None else None
    if settings is None or program is None:
        raise ReplayError("it can't be read, or is no Python of today")
    program.orders = orders_of(source, [sys.executable], os.environ)
    if work.pinned:
        os.environ.pop("PYTHONHASHSEED", None)
        if work.seen is not None:
            os.environ["PYTHONHASHSEED"] = work.seen
    pickles = settings.pickle if "FLOR_PICKLE" not in os.environ else None
    epsilon = settings.epsilon if "FLOR_EPSILON" not in os.environ else None
    commit = {"id": work.vid, "title": work.title, "date": work.date, "names": work.names}
    manifest = {
        **describe(work.argv, hash_seed=work.hash_seed, epsilon=epsilon, capture=None, pickles=pickles),
        "projid": project.name,
        "project": work.project,
        "script": work.script,
        "typed": typed,
        "name": work.title[:60] or None,
        "cwd": work.cwd,
        "vid": work.vid,
        "repo": work.repo,
        "branch": None,
        "commit": commit,
        "place": str(place.root),  # paths that the script knows of itself are below it
        "notes": unsigned(),
        "plans": program.plans,
        "settings": settings.changed(),
    }
    run = RunFolder(folder)
    run.begin(manifest)
    # Without a version of its own: the commit is there, and a recording would look for what has changed since.
    taken = Snapshot(None, None, place.root, (), work.script, run.id)
    recording = Recording(Prepared(run, manifest, taken), {place.script: source})
    end = End(recording, False)
    atexit.register(end.finish)  # before any of the program's, so that it comes after them
    guard.install(place, allowed=[folder])
    return place, program, (recording, end)


def _run(work: Work, place: Workspace, program: Program, begun: Any) -> None:
    from flor_runtime.boot import ending_of, forget_shadowed, without_our_frames
    from flor_runtime.runner import execute

    recording, end = begun
    forget_shadowed(str(program.folder))
    try:
        typed = os.path.relpath(place.script, place.cwd)
        execute(program, [typed, *work.argv], recording.project, recording.add_module)
    except SystemExit as error:
        end.ending = ending_of(error)
        raise
    except BaseException as error:
        end.ending = ending_of(error)
        without_our_frames(error)
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except Exception:
            traceback.print_exc()
        sys.exit(end.ending[1])


if __name__ == "__main__":
    main()
