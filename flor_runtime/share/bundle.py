"""What of a run may leave the machine: a copy without paths of this machine, processes, checkpoints and secrets."""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flor_runtime import secrets
from flor_runtime.share.layout import FILE, LOGS, NAME, REPLAYS
from flor_runtime.store.layout import RunFolder, write_json
from flor_runtime.store.logformat import FRAME, TEXT
from flor_runtime.store.logreader import read

#: Of run.json: what tables and replays need, and nothing else.
_MANIFEST = (
    "format", "run", "projid", "script", "name", "cwd", "argv", "masked", "started", "python", "platform", "hash_seed",
    "env", "vid", "branch", "epsilon", "capture", "plans", "settings",
)  # fmt: skip
_END = ("format", "status", "ended", "exit", "error")
_REPLAY = (
    "format", "id", "vars", "started", "ended", "checked", "mismatched", "label", "mode", "texts", "parts", "labels",
)  # fmt: skip
_PATHS = frozenset({"PYTHONPATH"})  # variables that name folders of this machine
_FACTS = ("torch", "threads", "deterministic", "cuda", "platform", "loaded")


@dataclass
class Bundle:
    """A run, as it may be shared.

    Attributes:
        files: by path below the run's folder on the branch.
        names: under which something was logged or captured.
        records: how many it has. `masked`: how many values had something secret in them.
    """

    run: str
    name: str | None
    script: str
    argv: list[str]
    vid: str | None
    repo: str | None
    names: list[str] = field(default_factory=list)
    records: int = 0
    masked: int = 0
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its files, without the code."""
        return sum(map(len, self.files.values()))


def bundle(folder: RunFolder) -> Bundle:
    """The run as it may be shared.

    Raises:
        StoreError: it can't be read.
    """
    manifest = folder.manifest()
    known = secrets.mask_arguments([str(item) for item in manifest.get("argv") or []])
    if known.variables:  # of a run that was recorded when secrets were not masked yet
        manifest |= {"argv": known.argv, "masked": known.variables}
    made = Bundle(
        folder.id,
        manifest.get("name"),
        str(manifest.get("script")),
        known.argv,
        manifest.get("vid"),
        manifest.get("repo"),
    )
    for log in LOGS:
        records = read(folder.path / log)
        made.records += len(records)
        made.names += [records.names[code] for code in dict.fromkeys(records.name.tolist())]
    with tempfile.TemporaryDirectory(prefix="flor-") as scratch:

        def add(path: str, data: Mapping[str, Any]) -> None:
            write_json(Path(scratch) / "x.json", secrets.mask("", data))
            made.files[path] = (Path(scratch) / "x.json").read_bytes()

        env = {key: value for key, value in (manifest.get("env") or {}).items() if key not in _PATHS}
        add("run.json", _only(manifest | {"env": env, "cwd": _below(manifest)}, _MANIFEST))
        if (end := folder.end()) is not None:
            add("end.json", _only(end, _END))
        if facts := _facts(folder.path / "environment.json"):
            add("environment.json", facts)
        for replay in folder.replays():
            if NAME.fullmatch(replay.path.name):
                add(f"{REPLAYS}/{replay.path.name}/replay.json", _only(replay.manifest, _REPLAY))
                for part in replay.parts:
                    _add_log(made, part, f"{REPLAYS}/{replay.path.name}/{part.relative_to(replay.path).as_posix()}")
    for path in folder.path.glob("random*.bin"):
        if FILE.fullmatch(path.name):
            made.files[path.name] = path.read_bytes()
    for log in LOGS:
        _add_log(made, folder.path / log, log)
    return made


def _below(manifest: Mapping[str, Any]) -> str:
    """The folder that the run began in, from the project's root; that itself if it was elsewhere."""
    try:
        return Path(str(manifest["cwd"])).relative_to(str(manifest["project"])).as_posix()
    except (KeyError, ValueError):
        return "."


def _only(data: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: data[key] for key in keys if key in data}


def _facts(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return _only(data, _FACTS) if isinstance(data, dict) else {}


def _add_log(made: Bundle, folder: Path, name: str) -> None:
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        if NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if path.name == "blobs.bin":
                data, masked = mask_blobs(data, _secret_texts(folder))
                made.masked += masked
            made.files[f"{name}/{path.name}"] = data


def _secret_texts(folder: Path) -> set[int]:
    """Where the texts lie that were logged under a secret's name."""
    records = read(folder)
    named = [secrets.is_secret(name) for name in records.names]
    if not any(named):
        return set()
    rows = zip(records.name.tolist(), records.kind.tolist(), records.raw.tolist(), strict=True)
    return {offset for name, kind, offset in rows if kind == TEXT and named[name]}


def mask_blobs(data: bytes, secret: Collection[int] = ()) -> tuple[bytes, int]:
    """The values of a log with what is secret in them overwritten, at the same offsets; and how many there were.

    Args:
        secret: offsets of values that are secret as a whole.
    """
    masked = bytearray(data)
    count = offset = 0
    while offset + FRAME.size <= len(data):
        length, crc = FRAME.unpack_from(data, offset)
        payload = data[offset + FRAME.size : offset + FRAME.size + length]
        if len(payload) != length or zlib.crc32(payload) != crc:
            break  # torn by a kill, or damaged: nothing can be read there
        plain = b"*" * length if offset in secret else secrets.mask_bytes(payload)
        if plain != payload:
            masked[offset : offset + FRAME.size + length] = FRAME.pack(length, zlib.crc32(plain)) + plain
            count += 1
        offset += FRAME.size + length
    del masked[offset:]
    return bytes(masked), count
