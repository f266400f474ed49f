"""The whole road: versions of a raw script are run and recorded, today's gets two statements, and their values come out
for all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from flor_runtime.store.runlog import same_bits
from tests.scripts import Project, recorded, recovered

NAMES = ["accuracy", "grad_norm"]


def versions(text: str) -> list[str]:
    """Real edits: a learning rate, a renamed variable, a function moved, a loop body extended, the evaluation split
    off."""
    found = [text.replace("default=0.003", "default=0.001")]
    found.append(
        found[-1].replace("mean, last = train", "average, last = train").replace("mean {mean", "mean {average")
    )
    start, stop = found[-1].index("def make_data"), found[-1].index("def train")
    moved = found[-1][:start] + found[-1][stop:]
    found.append(moved.replace("def main():", found[-1][start:stop] + "def main():"))
    clip = "        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)\n        optimizer.step()\n"
    found.append(found[-1].replace("        optimizer.step()\n", clip))
    split = "def right(model, x, y):\n    return model(x).argmax(1).eq(y).sum().item()\n\n\ndef test("
    found.append(
        found[-1]
        .replace("def test(", split)
        .replace("correct += model(x).argmax(1).eq(y).sum().item()", "correct += right(model, x, y)")
    )
    assert len(set(found)) == 5
    return found


def fingerprint(project: Project) -> dict[str, str]:
    """Everything of the user's: files, HEAD, index, branches, stash, configuration, reflogs."""
    found: dict[str, str] = {}
    for path in sorted(project.folder.rglob("*")):
        inside = path.relative_to(project.folder).as_posix()
        if path.is_file() and not inside.startswith((".git/objects/", ".git/refs/flor/")):
            found[inside] = hashlib.sha256(path.read_bytes()).hexdigest() + oct(path.stat().st_mode)
    return found


def test_from_five_raw_versions_to_a_table(tmp_path: Path) -> None:
    project = Project(tmp_path, "callee.py")
    script = project.folder / project.script
    outputs = []
    for number, text in enumerate(versions(script.read_text()), 1):
        script.write_text(text)
        project.commit(f"version {number}")
        done = project.run("flor", "run", "--name", f"v{number}", "--epsilon", "1", project.script, "--epochs", "4")
        assert (done.code, done.err) == (0, "")
        outputs.append(done.out)
    project.add_probes()
    before = fingerprint(project)
    patched = tmp_path / "patched"
    assert project.run("flor-backport", "--vars", ",".join(NAMES), "--out", str(patched), project.script).code == 0
    replay = project.run("flor-backport", "--vars", ",".join(NAMES), "--replay", "--yes", project.script)
    assert replay.code == 0, replay.err
    assert before == fingerprint(project)

    old = project.runs()
    truth = Project(tmp_path / "truth", "callee.py")
    for run, out in zip(old, outputs, strict=True):
        manifest = run.manifest()
        (script,) = patched.rglob(f"{manifest['vid'][:8]}*/train.py")
        (truth.folder / truth.script).write_bytes(script.read_bytes())
        again = truth.run("flor", "run", truth.script, "--epochs", "4")
        assert out == again.out
        expected = {key: value for key, value in recorded(truth.runs()[-1]).items() if key[1] in NAMES}
        found = recovered(run)
        assert expected.keys() == found.keys()
        assert [key for key in expected if not same_bits(expected[key], found[key])] == []
        assert [r.manifest["label"] for r in run.replays()] == ["exact"]

    table = project.run("flor", "show", "accuracy", "--format", "json")
    rows = json.loads(table.out)
    assert len(rows) == 5 * 4
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] * 5

    twice = project.run("flor-backport", "--vars", ",".join(NAMES), "--replay", "--yes", project.script)
    assert "values recovered" in twice.err or "already" in twice.err or "recovered" in twice.err
    unknown = project.run("flor-backport", "--vars", "acuracy", project.script)
    assert unknown.code == 2
    assert "accuracy" in unknown.err
