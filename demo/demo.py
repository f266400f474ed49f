"""The main job, from beginning to end, on real data: `make demo`.

In a temporary git repository: five versions of a raw training script are run and recorded; then two statements are
added to the newest one only; `flor-backport --replay` recovers their values for every version; at last every version is
retrained with the statements in it, and the recovered values are compared with what retraining gives, bit for bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.logreader import Key
from flor_runtime.store.runlog import keyed, read, same_bits

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
NAMES = "accuracy,grad_norm"


def replace(text: str, old: str, new: str) -> str:
    """An edit that must apply."""
    if old not in text:
        raise SystemExit(f"demo: the script has no {old!r}")
    return text.replace(old, new)


def move_function(text: str) -> str:
    """`load_data` moves to the end of the file."""
    start, stop = text.index("def load_data"), text.index("def main")
    guard = text.index('if __name__ == "__main__":')
    return text[:start] + text[stop:guard] + text[start:stop] + text[guard:]


EVALUATE = """def evaluate(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in loader:
            correct += (model(images).argmax(1) == labels).sum().item()
    return correct / len(loader.dataset)


"""


def split_evaluation(text: str) -> str:
    """The evaluation becomes a function."""
    start, stop = text.index("        net.eval()\n"), text.index("        scheduler.step()\n")
    text = text[:start] + "        acc = evaluate(net, test_loader)\n" + text[stop:]
    return replace(text, "def main():", EVALUATE + "def main():")


def rename(text: str) -> str:
    """`model` is called `net` in main."""
    start = text.index("    model = Net()")
    return text[:start] + text[start:].replace("model", "net")


def versions(text: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the script), five times."""
    text = replace(text, "default=3e-3", "default=1e-3")
    yield "a lower learning rate", text
    text = rename(text)
    yield "a variable renamed", text
    text = move_function(text)
    yield "a function moved", text
    clip = "        nn.utils.clip_grad_norm_(model.parameters(), 5.0)\n        optimizer.step()\n"
    text = replace(text, "        optimizer.step()\n", clip)
    yield "the training loop extended", text
    text = split_evaluation(text)
    yield "the evaluation split off", text


def add_statements(text: str) -> str:
    """What the user wants to know now, in the newest version only."""
    text = replace(text, "import argparse\n", "import argparse\n\nimport flor\n")
    norm = "sum(p.grad.pow(2).sum() for p in model.parameters()).sqrt())"
    text = replace(
        text, "        loss.backward()\n", f'        loss.backward()\n        flor.log("grad_norm", {norm}\n'
    )
    after = "        acc = evaluate(net, test_loader)\n"
    return replace(text, after, f'{after}        flor.log("accuracy", acc)\n')


class Demo:
    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="flor-demo-"))
        self.repo = self.root / "digits"
        self.repo.mkdir()
        self.env = {**os.environ, "FLOR_HOME": str(self.root / "flor")}
        self.home = Home(self.root / "flor")

    def do(self, *command: str, show: bool = True, **env: str) -> float:
        """Run a command in the repository; gives the seconds that it took."""
        print(f"$ {' '.join(command)}", flush=True)
        program, *rest = command
        own = BIN / program
        began = time.perf_counter()
        out = None if show else subprocess.DEVNULL
        done = subprocess.run(
            [str(own) if own.exists() else program, *rest], cwd=self.repo, env={**self.env, **env}, stdout=out
        )
        if done.returncode:
            raise SystemExit(f"demo: {program} ended with {done.returncode}")
        return time.perf_counter() - began

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=demo", "-c", "user.email=demo@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.repo, check=True, capture_output=True)

    def record(self) -> list[RunFolder]:
        """Five versions, each committed and run."""
        text = (HERE / "train.py").read_text()
        script = self.repo / "train.py"
        self.git("init", "-q", "-b", "main")
        (self.repo / ".gitignore").write_text("*.pt\n")
        script.write_text(text)
        self.git("add", ".")
        self.git("commit", "-q", "-m", "digits")
        for number, (change, version) in enumerate(versions(text), 1):
            script.write_text(version)
            self.git("commit", "-q", "-a", "-m", change)
            print(f"\nVersion {number}: {change}")
            # 5 % instead of 1 %: an epoch takes less than half a second here, and should have its checkpoint.
            self.do("flor", "run", "--name", f"v{number}", "--epsilon", "0.05", "train.py")
        return self.home.all_runs()

    def retrain(self, patched: Path, runs: list[RunFolder]) -> tuple[float, dict[str, dict[Key, object]]]:
        """Every version with the statements in it, run anew: plain for the time, recorded for the values."""
        home = Home(self.root / "retrained")
        seconds = 0.0
        values: dict[str, dict[Key, object]] = {}
        for run in runs:
            name = str(run.manifest()["name"])
            script = next(patched.rglob(f"*{run.manifest()['vid'][:7]}*/train.py"), None) or next(
                patched.rglob(f"*{name}*/train.py")
            )
            where = str(script.relative_to(self.repo) if script.is_relative_to(self.repo) else script)
            seconds += self.do("python", where, show=False)
            self.do("flor", "run", "--name", name, where, show=False, FLOR_HOME=str(home.root))
        for run in home.all_runs():
            values[str(run.manifest()["name"])] = keyed(read(run.log))
        return seconds, values


def main() -> None:
    demo = Demo()
    runs = demo.record()
    print("\nAll five are done. What was the accuracy after each epoch, and the gradient norm at each step?")
    print("Two statements are added to today's script:\n")
    script = demo.repo / "train.py"
    script.write_text(add_statements(script.read_text()))
    demo.do("git", "--no-pager", "diff", "-U1")
    print()
    demo.do("flor-backport", "--vars", NAMES, "--out", str(demo.root / "patched"), "train.py", show=False)
    shutil.copytree(demo.root / "flor", demo.root / "flor-before")
    replay = demo.do("flor-backport", "--vars", NAMES, "--replay", "train.py")
    print()
    demo.do("flor", "show", *NAMES.split(","))
    print()
    demo.do("flor", "show", "accuracy")
    print("\nHow long would the accuracy alone have taken? (From a copy of the store as it was before.)")
    before = str(demo.root / "flor-before")
    accuracy = demo.do("flor-backport", "--vars", "accuracy", "--replay", "train.py", FLOR_HOME=before)
    print("\nIs it right? Every version is retrained with the statements in it:")
    retraining, truth = demo.retrain(demo.root / "patched", runs)
    recovered = equal = 0
    for run in runs:
        for done in run.replays():
            for part in done.parts:
                for key, value in keyed(read(part)).items():
                    recovered += 1
                    expected = truth[str(run.manifest()["name"])]
                    equal += key in expected and same_bits(expected[key], value)
    total = sum(1 for values in truth.values() for key in values if key[1] in NAMES.split(","))
    print(f"\nreplay of five versions     {replay:6.1f} s  (`flor-backport --vars {NAMES} --replay`, start to end)")
    print(f"  for the accuracy alone    {accuracy:6.1f} s  (`flor-backport --vars accuracy --replay`)")
    print(f"retraining of five versions {retraining:6.1f} s  (`python train.py`, one after the other)")
    print(f"recovered values equal to retraining, bit for bit: {equal} of {recovered}; retraining logged {total}")
    print(f"\nThe repository is in {demo.repo}, its runs in {demo.root / 'flor'}. To look at it:")
    print(f"  cd {demo.repo} && export FLOR_HOME={demo.root / 'flor'} PATH={BIN}:$PATH")
    print("  flor runs ; flor show accuracy ; git log --oneline --all ; git diff")
    if not recovered == equal == total:
        raise SystemExit("demo: the recovered values are not those of retraining")


if __name__ == "__main__":
    main()
