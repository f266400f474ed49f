"""Where things lie in the store, and the small JSON manifests that say what a run is.

A manifest is written whole or not at all (temporary file, fsync, rename), and its last member is a crc32 of the rest.
What can't be understood in a store (a torn or damaged file, another program's folder) is left out with a note; only a
newer format is an error, as its meaning can't be guessed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flor_runtime.errors import StoreError
from flor_runtime.store import plainfiles, signing
from flor_runtime.store.checked import line, read_lines

FORMAT = 2
Status = Literal["alive", "elsewhere", "finished", "failed", "interrupted", "killed"]
#: of a run that has not said how it ended, and may go on
OPEN: tuple[Status, ...] = ("alive", "elsewhere")

_ENDS = ("finished", "failed", "interrupted")
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_MAX_MANIFEST = 64 << 20  # a larger one is not ours
_MOMENTS = 0, 1e11  # unix time
_SILENCE = 7 * 86400  # seconds without a sign after which a run elsewhere counts as killed
_NUMBER = int, float
#: What a manifest may hold, as far as it is read; None stands for what is not known.
_RUN_KINDS: dict[str, tuple[type, ...]] = {
    "started": _NUMBER, "pid": (int,), "argv": (list,), "env": (dict,), "plans": (dict,), "settings": (dict,),
    "notes": (list,), "name": (str,), "projid": (str,), "project": (str,), "script": (str,), "typed": (str,),
    "cwd": (str,), "vid": (str,), "repo": (str,), "executable": (str,), "hash_seed": (str,), "python": (str,),
    "signature": (str,), "commit": (dict,), "place": (str,), "host": (str,), "process_place": (str,),
    "imported": (dict,),
}  # fmt: skip
_END_KINDS: dict[str, tuple[type, ...]] = {"status": (str,), "ended": _NUMBER, "exit": (int,), "error": (str,)}
_REPLAY_KINDS: dict[str, tuple[type, ...]] = {
    "ended": _NUMBER, "started": _NUMBER, "label": (str,), "vars": (list,), "parts": (list,), "texts": (dict,),
    "notes": (list,), "checked": (int,), "mismatched": (int,), "labels": (dict,),
}  # fmt: skip
_CHECK = re.compile(rb'"check": "([0-9a-f]{8})"\n?}\n\Z')
_NO_CHECK = "00000000"


def write_json(path: Path, data: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a JSON file atomically: after a crash the old one is there, or the new one, never a part.

    Args:
        data: a member `check` is added to it.

    Raises:
        StoreError: it could not be written; the old file, if any, is untouched.
    """
    bare = json.dumps({**data, "check": _NO_CHECK}, indent=indent, ensure_ascii=True) + "\n"
    head, _, tail = bare.rpartition(_NO_CHECK)
    text = f"{head}{zlib.crc32(bare.encode('ascii')):08x}{tail}"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "x", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: can't be written: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file.

    Raises:
        StoreError: the file is torn, damaged or no JSON object, or can't be read.
    """
    try:
        raw = plainfiles.read(path, _MAX_MANIFEST)
        data = json.loads(raw)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not a manifest: torn or foreign") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path}: not a manifest: no JSON object")
    found = _CHECK.search(raw)
    if found is None:
        raise StoreError(f"{path}: not a manifest: no check")
    if b"%08x" % zlib.crc32(_NO_CHECK.encode().join((raw[: found.start(1)], raw[found.end(1) :]))) != found[1]:
        raise StoreError(f"{path}: damaged: it is not what was written")
    del data["check"]
    return data


def wall_clock() -> float:
    """Unix time; a clock that was never set may be before its beginning."""
    return max(0.0, time.time())


def check_format(path: Path, data: Mapping[str, Any]) -> None:
    """Refuse what a newer flor wrote, in one line."""
    version = data.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise StoreError(f"{path}: not a manifest: no format number")
    if version > FORMAT:
        raise StoreError(f"{path}: written by a newer flor (format {version}, this one reads {FORMAT}): upgrade flor")


def process_mark(pid: int) -> str | None:
    """What tells this process from a later one with the same number; None if there is no such process.

    On Linux the boot and the start time in ticks; elsewhere what `ps` says about the start; where that fails, ""
    (the process exists, nothing more is known).
    """
    if pid <= 0:
        return None
    if sys.platform == "linux":
        try:
            # The command name stands in parentheses and may hold anything; the fields after it are plain.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            if Path("/proc/self/stat").exists():
                return None
        except OSError:
            pass
        else:
            dead = fields[0] in (b"Z", b"X")
            return None if dead else f"{boot}:{fields[19].decode()}"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    import subprocess

    try:
        asked = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip()


def process_place() -> str:
    """Equal in two processes exactly if the one's number means the same process to the other: the boot of a machine,
    and the process namespace of a container."""
    if sys.platform == "linux":
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
        except OSError:
            pass
    return host_name()


def host_name() -> str:
    """What this machine, or container, calls itself."""
    return os.uname().nodename if hasattr(os, "uname") else ""


class Replay(NamedTuple):
    """A finished replay job of a run.

    Attributes:
        path: its folder; `parts` in the manifest names the folders of its records.
        manifest: what its replay.json says.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def parts(self) -> list[Path]:
        """The folders of its records; a name that would lead out of the replay's folder is left out."""
        names = self.manifest.get("parts")
        if not isinstance(names, list):
            return []
        plain = [name for name in names if isinstance(name, str) and re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name)]
        return [self.path / name for name in plain if not {".", ".."} & set(name.split("/"))]


class RunFolder:
    """One run's folder in the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.log = path / "log"
        self.captured = path / "captured"  # parameters and what trackers were given; missing if there was nothing
        self.ckpt = path / "ckpt"
        self.stamp: str | None = None  # of its files, where it was listed by a query (see `index`)
        self.notes: list[str] = []

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Write run.json: the run exists from here on. Format, run, process and start are added where missing, and the
        user's signature."""
        pid = os.getpid()
        known = {"format": FORMAT, "run": self.id, "started": wall_clock(), "pid": pid}
        data = {**known, **manifest}
        data.setdefault("process", process_mark(data["pid"]))
        data.setdefault("host", host_name())
        data.setdefault("process_place", process_place())
        data.pop("signature", None)
        data["signature"] = signing.sign("run", self.id, signing.canonical(data))
        write_json(self.path / "run.json", data)

    def is_own(self, manifest: Mapping[str, Any] | None = None) -> bool:
        """True if this user has written run.json, as it is: what it says to run may run.

        Args:
            manifest: what was read of it, if it was.

        Raises:
            StoreError: as for `manifest`.
        """
        data = dict(self.manifest() if manifest is None else manifest)
        signature = data.pop("signature", None)
        return signing.is_signed(signature, "run", self.id, signing.canonical(data))

    def finish(
        self, status: Status, exit: int | None = 0, error: str | None = None, *, stopped: str | None = None
    ) -> None:
        """Write end.json: how the run ended, and why recording had stopped before."""
        end = {"format": FORMAT, "status": status, "ended": wall_clock(), "exit": exit, "error": error}
        if stopped is not None:
            end["stopped"] = stopped
        write_json(self.path / "end.json", end)

    def manifest(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            StoreError: it is missing, torn, foreign or of a newer format.
        """
        path = self.path / "run.json"
        data = read_json(path)
        if data is None:
            raise StoreError(f"{path}: missing: not a run, or one that was killed while it began")
        check_format(path, data)
        if data.get("run") != self.id:
            raise StoreError(f"{path}: belongs to another run")
        _check_kinds(path, data, _RUN_KINDS)
        if not all(isinstance(item, str) for item in (*(data.get("argv") or ()), *(data.get("env") or {}).values())):
            raise StoreError(f"{path}: not a manifest: arguments or variables that are no text")
        if any("\0" in str(data.get(key)) for key in ("project", "script", "typed", "cwd", "repo", "executable")):
            raise StoreError(f"{path}: not a manifest: a path that can be none")
        script = Path(data.get("script") or "")
        if script.is_absolute() or ".." in script.parts:
            raise StoreError(f"{path}: not a manifest: a script outside of its project")
        if data.get("started") is None:
            raise StoreError(f"{path}: not a manifest: no start time")
        return data

    def end(self) -> dict[str, Any] | None:
        """What end.json says; None while there is none. A torn one counts as none, with a note."""
        try:
            end = read_json(self.path / "end.json")
            _check_kinds(self.path / "end.json", end or {}, _END_KINDS)
        except StoreError as error:
            self._note(str(error))
            return None
        if end is not None and end.get("status") not in _ENDS:
            self._note(f"{self.path / 'end.json'}: unknown status")
            return None
        return end

    def status(self, manifest: dict[str, Any] | None = None, end: dict[str, Any] | None = None) -> Status:
        """Whether the run is alive or how it ended, decided by its process, not by a flag.

        Processes of another machine or container can't be seen: a run of such a one that has not said how it ended is
        `elsewhere`, until it has given no sign for a week.

        Args:
            manifest, end: where they have been read just now.
        """
        end = end or self.end()
        if end is not None:
            status: Status = end["status"]
            return status
        manifest = manifest or self.manifest()
        if self._is_elsewhere(manifest):
            return "elsewhere" if wall_clock() - self.last_sign() < _SILENCE else "killed"
        pid = manifest.get("pid")
        mark = process_mark(pid) if isinstance(pid, int) else None
        if mark is None:
            return "killed"
        recorded = manifest.get("process")
        if isinstance(recorded, str) and recorded and mark:
            return "alive" if recorded == mark else "killed"
        return "alive" if _started_before(mark, float(manifest["started"])) else "killed"

    def _is_elsewhere(self, manifest: Mapping[str, Any]) -> bool:
        place = manifest.get("process_place")
        if not place or place == process_place():
            return False
        rebooted = place.partition(" ")[0] != process_place().partition(" ")[0]
        return not (rebooted and manifest.get("host") == host_name())

    def last_sign(self) -> float:
        """When the run last wrote something, as far as files tell."""
        latest = 0.0
        for path in (self.path / "run.json", *self.path.glob("log/*"), *self.path.glob("ckpt/*")):
            with contextlib.suppress(OSError):
                latest = max(latest, path.stat().st_mtime)
        return latest

    def replays(self) -> list[Replay]:
        """The finished replay jobs, oldest first. One without a replay.json does not exist; a bad one is noted."""
        found = []
        for folder in _folders(self.path / "replays"):
            path = folder / "replay.json"
            try:
                manifest = read_json(path)
                if manifest is None:
                    continue
                check_format(path, manifest)
                _check_kinds(path, manifest, _REPLAY_KINDS)
            except StoreError as error:
                self._note(str(error))
                continue
            found.append(Replay(folder, manifest))
        return sorted(found, key=lambda replay: (_number(replay.manifest.get("ended")), replay.path.name))

    def size(self) -> int:
        """Bytes that the run takes on the disk."""
        return _disk_blocks(str(self.path)) * 512

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class Home:
    """The store: `FLOR_HOME`, else `~/.flor`. Making one touches no disk."""

    def __init__(self, root: str | Path | None = None) -> None:
        chosen = root or os.environ.get("FLOR_HOME") or "~/.flor"
        self.root = Path(chosen).expanduser().absolute()
        self.runs = self.root / "runs"
        self.code = self.root / "code"
        self.jobs = self.root / "jobs"
        self.work = self.root / "work"  # of replays that are not finished
        self.indexed = True  # False: it won't last, so that no index is worth its making
        self.notes: list[str] = []

    def new_run_id(self) -> str:
        """A fresh identifier: 32 hexadecimal digits."""
        return os.urandom(16).hex()

    def hash_seed(self) -> int:
        """The seed of string hashes for runs whose user set none: drawn once a store.

        One for all, and not one a run, so that replays of many runs can share a process that has loaded their
        libraries.
        """
        path = self.root / "hash_seed"
        drawn = int.from_bytes(os.urandom(4), "big") % 0xFFFFFFFF or 1
        with contextlib.suppress(OSError, ValueError):
            kept = read_lines(path).values
            if len(kept) != 1 or not isinstance(kept[0], int):  # none yet, or a damaged one
                self.root.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".hash_seed.{os.getpid()}.tmp")
                temporary.write_bytes(line(drawn))
                temporary.rename(path)
                kept = read_lines(path).values
            if len(kept) == 1 and isinstance(kept[0], int):
                return kept[0]
        return drawn

    def create_run(self, run: str | None = None) -> RunFolder:
        """Make the folder of a new run. The run exists only when its run.json does.

        Raises:
            StoreError: the home can't be written.
        """
        folder = self.runs / (run or self.new_run_id())
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise StoreError(f"{folder}: can't be made: {error.strerror or error}") from error
        return RunFolder(folder)

    def run(self, run: str) -> RunFolder:
        """The folder of the run with this whole id.

        Raises:
            StoreError: there is none.
        """
        if not _RUN_ID.fullmatch(run) or not plainfiles.is_folder(self.runs / run):
            raise StoreError(f"no run {run!r} in {self.root}")
        return RunFolder(self.runs / run)

    def code_repository(self, key: str) -> Path:
        """The bare repository that holds the code of scripts outside any repository."""
        return self.code / f"{key}.git"

    def folders(self) -> list[RunFolder]:
        """The folders of all runs, also of those that can't be read; what is no run is named in `notes`."""
        self.notes = []
        found = []
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root}: the store is no folder: FLOR_HOME says where it is")
        for path in _folders(self.runs):
            if _RUN_ID.fullmatch(path.name):
                found.append(RunFolder(path))
            else:
                self.note(f"{path}: not a run, left out")
        return found

    def leave_out(self, folder: RunFolder, error: StoreError) -> None:
        """Note that a run can't be read; one that never began is not worth a word.

        Raises:
            StoreError: it was written by a newer flor.
        """
        if "newer flor" in str(error):
            raise error
        if (folder.path / "run.json").exists():
            self.note(str(error))

    def note(self, text: str) -> None:
        """Something that a command should say."""
        if text not in self.notes:
            self.notes.append(text)

    def all_runs(self) -> list[RunFolder]:
        """All runs whose manifest can be read, oldest first; the others are named in `notes`.

        Raises:
            StoreError: a run was written by a newer flor.
        """
        found: list[tuple[float, str, RunFolder]] = []
        for folder in self.folders():
            try:
                manifest = folder.manifest()
            except StoreError as error:
                self.leave_out(folder, error)
                continue
            found.append((_number(manifest["started"]), folder.id, folder))
        return [folder for *_, folder in sorted(found, key=lambda item: item[:2])]

    def find(self, text: str) -> RunFolder:
        """The one run that `text` means: a name (the newest of that name), or 4 to 32 digits of an id.

        Raises:
            StoreError: none, or several.
        """
        return self.meant(text, [(run, str(run.manifest().get("name") or "")) for run in self.all_runs()])

    def meant(self, text: str, runs: Sequence[tuple[RunFolder, str]]) -> RunFolder:
        """As `find`, among these runs with their names, oldest first."""
        named = [run for run, name in runs if name == text]
        if text and named:
            return named[-1]
        matching = [run for run, _ in runs if len(text) >= 4 and run.id.startswith(text)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise StoreError(f"{text!r} is the beginning of {len(matching)} runs: give more digits")
        import difflib

        near = difflib.get_close_matches(text, {name for _, name in runs if name}, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`flor runs` lists them"
        raise StoreError(f"no run {text!r} in {self.root}: {hint}")


def _disk_blocks(folder: str) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += _disk_blocks(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks
    return total


def _check_kinds(path: Path, data: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> None:
    for key, allowed in kinds.items():
        value = data.get(key)
        if value is not None and type(value) not in allowed:
            raise StoreError(f"{path}: not a manifest: {key} is {type(value).__name__}")
        if allowed is _NUMBER and value is not None and not _MOMENTS[0] <= value <= _MOMENTS[1]:
            raise StoreError(f"{path}: not a manifest: {key} is no time")


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if plainfiles.is_folder(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{parent}: can't be read: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    # Without this the rename may be undone by a power cut. Some file systems refuse it; the file itself is safe then.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _started_before(mark: str, moment: float) -> bool:
    """True unless the process of this mark began after `moment` (for manifests without a mark)."""
    ticks = mark.rpartition(":")[2]
    if sys.platform != "linux" or not ticks.isdigit():
        return True
    try:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return True
    began = time.time() - uptime + int(ticks) / os.sysconf("SC_CLK_TCK")
    return began <= moment + 2  # the clock may have been set meanwhile
