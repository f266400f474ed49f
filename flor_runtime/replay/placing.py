"""The statements of today's files, put at their places in the files of an old version."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flor_runtime import cells
from flor_runtime.errors import ReplayError
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.runlog import keyed, read


@dataclass
class Placed:
    """The statements of today's files in one version.

    Attributes:
        patched: texts with the statements in them, by path relative to the project.
        lines: of the new statements, by the same paths.
        names: found a place. `refused`: reasons by name. `recorded`: the run logged them itself. `recovered`: an
            earlier replay has their values, from the same statements.
        texts: of the new statements, by name.
    """

    patched: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    recorded: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)


def project_files(folder: Path, script: str) -> dict[str, bytes]:
    """The script and the modules beside it that it imports, by path relative to the project's root."""
    from flor_transform.siblings import read_siblings

    path = folder / script
    try:
        is_notebook = script.endswith(cells.SUFFIX) and not path.is_file()
        source = cells.script_of_notebook(path.with_suffix("")) if is_notebook else path.read_bytes()
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from None
    beside = Path(script).parent
    return {script: source} | {(beside / name).as_posix(): text for name, text in read_siblings(path, source).items()}


def check_names(files: dict[str, bytes], names: list[str]) -> None:
    """See to it that today's files log all the names.

    Raises:
        ReplayError: one of them is logged nowhere, or a file does not parse.
    """
    from flor_transform import backport

    for name in names:
        refusals = [backport(text, text, [name]).refusals for text in files.values()]
        for path, found in zip(files, refusals, strict=True):
            if found and found[0].code == "SYNTAX":
                raise ReplayError(f"{path}: {found[0].message}")
        if all(found and found[0].code == "NOT-LOGGED" for found in refusals):
            raise ReplayError(f"{next(iter(files))} logs no {name!r}: add flor.log({name!r}, ...) to it first")


def place(run: RunFolder, old: dict[str, bytes], new: dict[str, bytes], names: list[str], again: bool) -> Placed:
    """Put the statements for `names` of today's files into a version's files.

    Args:
        again: also those whose values an earlier replay has recovered.
    """
    placed = _place(run, old, new, names)
    known = {} if again else _recovered_texts(run)
    placed.recovered = [name for name in placed.names if known.get(name) == placed.texts[name]]
    if placed.recovered:
        rest = _place(run, old, new, [name for name in names if name not in placed.recovered])
        rest.recorded, rest.refused, rest.recovered = placed.recorded, placed.refused, placed.recovered
        return rest
    return placed


def _recovered_texts(run: RunFolder) -> dict[str, list[str]]:
    """The statements whose values were recovered and can be trusted, by name."""
    found: dict[str, list[str]] = {}
    for replay in run.replays():
        if replay.manifest.get("label") != "inexact" and not replay.manifest.get("partial"):
            found |= replay.manifest.get("texts") or {}
    return found


def _place(run: RunFolder, old: dict[str, bytes], new: dict[str, bytes], names: list[str]) -> Placed:
    from flor_transform import backport_project
    from flor_transform.backport.byhand import remembered
    from flor_transform.backport.history import ScriptVersion

    placed = Placed()
    logged = {name for _, name, _ in keyed(read(run.log))}
    placed.recorded = [name for name in names if name in logged]
    wanted = [name for name in names if name not in logged]
    result = backport_project(old, new, wanted)
    manifest = run.manifest()
    if result.refusals and manifest.get("repo"):
        beside = {path: text for path, text in old.items() if path != manifest["script"]}
        version = ScriptVersion(
            manifest["vid"], manifest["script"], old[manifest["script"]], (), manifest["repo"], siblings=beside
        )
        by_hand = {at.name: (at.path, at.line) for at in remembered(manifest["repo"], [version])}
        places = {r.name: by_hand[r.name] for _, r in result.refusals if r.name in by_hand}
        result = backport_project(old, new, wanted, places) if places else result
    for path, placement in result.placements:
        placed.lines.setdefault(path, []).append(placement.line)
        placed.texts.setdefault(placement.name, []).append(placement.text.strip())
        if placement.name not in placed.names:
            placed.names.append(placement.name)
    placed.patched = result.changed
    for _, refusal in result.refusals:
        if refusal.name not in placed.names:
            placed.refused[refusal.name] = f"{refusal.code}: {refusal.message}"
    return placed
