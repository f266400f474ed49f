"""What a run did, as lines of text that can be compared: output, files, trained state."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Stamps = dict[str, tuple[int, int]]

_NOISE = [
    (re.compile(r"\d{4}-\d\d-\d\d[ T_]\d\d[:.-]\d\d[:.-]\d\d([.,]\d+)?"), "<date>"),
    (re.compile(r"\b\d{4}_\d{6}\b"), "<date>"),
    (re.compile(r"(?<!\d)1[6-9]\d{8}(\.\d+)?(?!\d)"), "<date>"),
    (re.compile(r"\[\s*[\d?:]+<[\d?:]+,\s*[\d?.]+\s?\S+?/s\b|\[\s*[\d?:]+<[\d?:]+,\s*[\d?.]+s/\w+"), "[<time>"),
    (re.compile(r"ms/batch +[\d.]+"), "ms/batch <time>"),
    (re.compile(r"\b\d[\d.]*(e-?\d+)?\s?(ns|us|ms|s|m|h|sec|secs|seconds|it/s|img/s|s/it|s/img)\b"), "<time>"),
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "<address>"),
]
_LINE_NUMBER = re.compile(r"(\.py[\"']?(:|, line ))\d+")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass
class Seen:
    """What a run did.

    Attributes:
        parts: what can be compared, by name; each a list of lines.
        cpu: seconds of the processes that trained, from where their interpreter was ready to their end.
        launch: seconds of CPU that `flor run` took before.
    """

    parts: dict[str, list[str]] = field(default_factory=dict)
    cpu: float = 0.0
    launch: float = 0.0


def stamps(folder: Path) -> Stamps:
    """Size and time of each file."""
    found = {}
    for path in _files(folder):
        stat = path.stat()
        found[path.relative_to(folder).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return found


def written(folder: Path, before: Stamps, noise: str) -> Iterator[tuple[str, list[str]]]:
    """The files that are new or changed, by name, times in the names removed."""
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        stat = path.stat()
        if before.get(name) != (stat.st_size, stat.st_mtime_ns):
            shown = ".tfevents" if "tfevents" in name else ""
            yield normal(name.partition("events.out.tfevents")[0] + shown, noise), lines_of(path, noise)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not {".git", "__pycache__"} & set(path.relative_to(folder).parts):
            yield path


def lines_of(path: Path, noise: str) -> list[str]:
    """A file as lines: what is in an archive (torch's are archives of storages), the events of a TensorBoard log, a text, else
    a digest."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [f"{_inner(name)} {_digest(archive.read(name))}" for name in archive.namelist()]
    data = path.read_bytes()
    if "tfevents" in path.name:
        return [_digest(event) + _shown(event) for event in _events(data)]
    if _BINARY.search(data):
        return [_digest(data)]
    return normal(data.decode(errors="replace"), noise).split("\n")


def _inner(name: str) -> str:
    """torch names the folder in an archive after the file."""
    return name.partition("/")[2] or name


def _shown(event: bytes) -> str:
    return " " + " ".join(part.decode() for part in re.findall(rb"[A-Za-z_/]{4,}", event)[:2])


def _events(data: bytes) -> Iterator[bytes]:
    """Records of a TensorBoard log, without the time at the beginning of each."""
    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = data[at + 12 : at + 12 + length]
        yield event[9:] if event[:1] == b"\x09" else event
        at += 16 + length


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def normal(text: str, noise: str) -> str:
    """Text without times, dates and addresses.

    Args:
        noise: a pattern of what else the script prints of the clock or the machine; may be empty.
    """
    text = text.replace("\r", "\n")
    for pattern, instead in [*([(re.compile(noise, re.MULTILINE), "<noise>")] if noise else []), *_NOISE]:
        text = pattern.sub(instead, text)
    return text


def watched(folder: Path) -> tuple[list[str], float, float]:
    """(digests of modules, optimizers and random states, CPU seconds, of `flor run`) of all processes."""
    lines: list[str] = []
    cpu = launch = 0.0
    for path in sorted(folder.glob("*.json")):
        facts = json.loads(path.read_text())
        if facts["state"]:
            lines += facts["state"] + [f"{name} {digest}" for name, digest in sorted(facts["random"].items())]
        cpu += facts["cpu"]
        launch += facts["launch"]
    return sorted(lines), cpu, launch


def differences(raw: Seen, again: Seen, other: Seen, *, moved: bool) -> tuple[list[str], int]:
    """(what of `other` is not as in `raw`, number of lines that can't be compared since two raw runs differ in them).

    Args:
        moved: `other` ran a file in which lines have moved: their numbers are not compared.
    """
    found: list[str] = []
    unstable = 0
    for name in sorted(raw.parts.keys() | other.parts.keys()):
        if (name in raw.parts) != (name in again.parts):
            unstable += 1
            continue
        if name not in raw.parts or name not in other.parts:
            found.append(f"{name}: only in {'raw' if name in raw.parts else 'this'}")
            continue
        first, second, mine = (_comparable(run.parts[name], moved) for run in (raw, again, other))
        if len(first) != len(second):
            unstable += len(first)
            continue
        if len(first) != len(mine):
            found.append(f"{name}: {len(first)} lines, here {len(mine)}: {_first_odd(first, mine)}")
            continue
        unstable += sum(a != b for a, b in zip(first, second, strict=True))
        odd = [(a, c) for a, b, c in zip(first, second, mine, strict=True) if a == b != c]
        if odd:
            found.append(
                f"{name}: {len(odd)} of {len(first)} lines differ: {odd[0][0][:150]!r}, here {odd[0][1][:150]!r}"
            )
    return found, unstable


def _comparable(lines: list[str], moved: bool) -> list[str]:
    return [_LINE_NUMBER.sub(r"\g<1>N", line) for line in lines] if moved else lines


def _first_odd(first: list[str], mine: list[str]) -> str:
    pairs = zip([*first, "<end>"], [*mine, "<end>"], strict=False)
    return next((f"{a[:150]!r}, here {b[:150]!r}" for a, b in pairs if a != b), "")
