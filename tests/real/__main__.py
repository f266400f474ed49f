"""`python -m tests.real`: run the cases, print a table; exit code 1 if a run was not the raw run."""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import Home, RunFolder
from flor_transform.siblings import read_siblings
from tests.real import cases, observe
from tests.real.cases import Case
from tests.real.observe import Seen

_BIN = Path(sys.executable).parent
_WATCH = Path(__file__).with_name("watch")
_LIMIT = 600  # seconds of one run


@dataclass
class Outcome:
    """What came of a case: differences of the off and of the recorded run, facts of the recorded one."""

    case: Case
    off: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    unstable: int = 0
    facts: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.off and not self.recorded


class Workshop:
    """One folder in which every run of a case takes place, so that paths in outputs are the same.

    Args:
        path: entries for PYTHONPATH, of what the scripts need.
        replay: False: no statement is added and recovered.
    """

    def __init__(self, folder: Path, corpus: Path, data: Path, path: str, *, replay: bool = True) -> None:
        self._folder = folder
        self._corpus = corpus
        self._data = data
        self._replays = replay
        self._env = {
            **os.environ,
            "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_WATCH), path])),
            "FLOR_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "CORPUS_SEED": "1",
            "MPLBACKEND": "Agg",
            "SOURCE_DATE_EPOCH": "0",
            "WANDB_MODE": "disabled",
            "HF_HUB_OFFLINE": "1",
            "TQDM_MININTERVAL": "0",  # each update is shown: what a progress bar prints hangs on the clock otherwise
            "TQDM_MINITERS": "1",
            "TQDM_MAXINTERVAL": "1000",
            "CUDA_VISIBLE_DEVICES": "",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }

    def try_case(self, case: Case) -> Outcome:
        """All runs of a case."""
        for name in ("template", "home", "run"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        env = {**self._env, **dict(pair.split("=", 1) for pair in case.env.split())}
        outcome = Outcome(case)
        repository = next(self._corpus.glob(f"*/{case.repo.replace('/', '+')}"), None)
        if repository is None:
            outcome.notes.append("not in the corpus")
            return outcome
        cases.prepare(case, repository, self._data, self._folder / "template", env)
        raw = self._run(case, env, [sys.executable])
        again = self._run(case, env, [sys.executable])
        off = self._run(case, env, [sys.executable], instrumented=True)
        recorded = self._run(case, env, [str(_BIN / "flor"), "run"])
        outcome.off, outcome.unstable = observe.differences(raw, again, off, moved=True)
        outcome.recorded, _ = observe.differences(raw, again, recorded, moved=False)
        outcome.facts = {
            "exit": raw.parts["exit"][0],
            "stdout": len(raw.parts["stdout"]),
            "files": sum(name.startswith("file ") for name in raw.parts),
            "state": len(raw.parts["state"]),
            "cpu": round(min(raw.cpu, again.cpu), 2),
            "overhead": round(recorded.cpu - min(raw.cpu, again.cpu), 2),
            "raw spread": round(abs(raw.cpu - again.cpu), 2),
            "launch": round(recorded.launch, 2),
        }
        if raw.parts["exit"] != ["0"]:
            outcome.notes.append(f"the raw run fails: {raw.parts['stderr'][-2:]}")
        runs = Home(self._folder / "home").all_runs()
        if len(runs) != 1:
            outcome.recorded.append(f"{len(runs)} runs recorded")
            return outcome
        outcome.facts |= _facts_of(runs[0])
        outcome.notes += self._explained(runs[0].id, env)
        if case.probe and self._replays:
            self._replay(case, env, runs[0], outcome)
        return outcome

    def _run(self, case: Case, env: dict[str, str], program: list[str], *, instrumented: bool = False) -> Seen:
        """Run the script in a fresh copy."""
        root, watch = self._folder / "run", self._folder / "watched"
        for folder in (root, watch):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._folder / "template", root, symlinks=True)
        watch.mkdir()
        folder = root / case.cwd
        if instrumented:
            script = folder / case.script
            files = [script, *(script.parent / name for name in read_siblings(script, script.read_bytes()))]
            done = subprocess.run(
                [_BIN / "flor-transform", *files], cwd=folder, env=env, capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(f"{case.name}: flor-transform: {done.stderr}")
        before = observe.stamps(root)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                code = subprocess.run(
                    [*program, *case.command],
                    cwd=folder,
                    env={**env, "FLOR_WATCH": str(watch)},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    timeout=_LIMIT,
                ).returncode
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{case.name}: still running after {_LIMIT} s") from None
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(observe.normal(stream.read().decode(errors="replace"), case.noise).split("\n"))
        state, cpu, launch = observe.watched(watch)
        parts = {"exit": [str(code)], "stdout": texts[0], "stderr": texts[1], "state": state}
        parts |= {f"file {name}": lines for name, lines in observe.written(root, before, case.noise)}
        return Seen(parts, cpu, launch)

    def _explained(self, run: str, env: dict[str, str]) -> list[str]:
        done = subprocess.run([_BIN / "flor", "runs", run, "--explain"], env=env, capture_output=True, text=True)
        return [line.strip() for line in (done.stdout + done.stderr).splitlines()[1:]]

    def _replay(self, case: Case, env: dict[str, str], run: RunFolder, outcome: Outcome) -> None:
        """Log the probe in today's script and recover it."""
        name, line, expression = case.probe.split(":", 2)
        folder = self._folder / "run" / case.cwd
        path = folder / name
        path.write_text(_with_probe(path.read_text(), int(line), expression))
        done = subprocess.run(
            [_BIN / "flor", "replay", "probe", "--script", case.script, "--yes", "-j", "1"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
        )
        labels = [replay.manifest["label"] for replay in run.replays()]
        outcome.facts["replay"] = ", ".join(map(str, labels)) or "none"
        if labels != ["exact"]:
            outcome.notes.append(f"replay: {(done.stdout + done.stderr)[-800:]}")


def _with_probe(text: str, line: int, expression: str) -> str:
    """The log statement after the statement that begins at a line, the import before the first that can have it before it."""
    tree = ast.parse(text)
    statement = next((n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno == line), None)
    if statement is None:
        raise RuntimeError(f"no statement begins at line {line}")
    lines = text.split("\n")
    assert statement.end_lineno is not None
    lines.insert(statement.end_lineno, f'{" " * statement.col_offset}flor.log("probe", {expression})')
    imports = (n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom))
    first = next(n for n in imports if not (isinstance(n, ast.ImportFrom) and n.module == "__future__"))
    lines.insert(first.lineno - 1, "import flor")
    return "\n".join(lines)


def _facts_of(run: RunFolder) -> dict[str, object]:
    entries = Reader(run.ckpt).entries
    turns = json.loads((run.ckpt / "turns.json").read_text())["entries"]
    saved = [entry for entry in entries.values() if entry.graph is not None]
    blocks = sorted({entry.key.block for entry in saved if entry.key.block})
    return {
        "turns": "+".join(map(str, turns)) if len(turns) < 6 else f"{len(turns)} x {max(turns)}",
        "blocks": [
            f"{b}{'' if all(e.usable for e in saved if e.key.block == b) else ' (not skippable)'}" for b in blocks
        ],
        "boundaries": f"{sum(e.usable for e in saved if not e.key.block)}/{sum(not e.key.block for e in saved)}",
        "checkpoints": len(saved),
        "kB": round(run.size() / 1000),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CASE", help="only these")
    parser.add_argument("--corpus", type=Path, required=True, help="holds SPLIT/OWNER+NAME folders")
    parser.add_argument("--data", type=Path, required=True, help="holds the data sets")
    parser.add_argument("--path", default="", help="PYTHONPATH of what the scripts need")
    parser.add_argument("--no-replay", action="store_true", help="record only")
    parser.add_argument("--cases", type=Path, default=cases.CASES)
    parser.add_argument("--json", type=Path, help="write all that was found here")
    options = parser.parse_args()
    chosen = [case for case in cases.read(options.cases) if not options.names or case.name in options.names]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(
            Path(folder), options.corpus.resolve(), options.data.resolve(), options.path, replay=not options.no_replay
        )
        for case in chosen:
            try:
                outcome = shop.try_case(case)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                outcome = Outcome(case, off=["not run"], recorded=["not run"], notes=[str(error)])
            outcomes.append(outcome)
            _show(outcome)
    if options.json:
        rows = [{**vars(o), "case": o.case.name} for o in outcomes]
        options.json.write_text(json.dumps(rows, indent=1))
    print(f"{sum(o.good for o in outcomes)} of {len(outcomes)} scripts: raw = off = recorded, bit for bit")
    return 0 if all(outcome.good for outcome in outcomes) else 1


def _show(outcome: Outcome) -> None:
    facts = " ".join(f"{key}={value}" for key, value in outcome.facts.items())
    verdict = ", ".join(
        f"{label} {'same' if not found else 'DIFFERENT'}"
        for label, found in (("off", outcome.off), ("recorded", outcome.recorded))
    )
    print(f"{outcome.case.name}: {verdict}; {outcome.unstable} lines not comparable; {facts}")
    for label, found in (("off", outcome.off), ("recorded", outcome.recorded), ("note", outcome.notes)):
        for line in found:
            print(f"    {label}: {line}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
