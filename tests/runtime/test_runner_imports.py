"""`flor run`: the modules that a script imports, the processes that it starts, the encodings that it is written in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.processes import FLOR, HEAD, TRAIN, Folder, assert_same

ENGINE = (
    HEAD
    + "def train(n):\n    total = 0\n    for x in range(n):\n        optimizer.zero_grad(); Loss().backward(); optimizer.step()\n        total += x\n    return total\n"
)


def caches(folder: Folder) -> list[str]:
    return sorted(str(p.relative_to(folder.path)) for p in folder.path.rglob("*.pyc"))


def test_modules_beside_the_script(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("engine.py", ENGINE)
    folder.write("pkg/__init__.py", "from . import a\n")
    folder.write("pkg/a.py", "from .b import B\nNAME = 'a'\n")
    folder.write("pkg/b.py", "import sys\nfrom . import a\nprint(hasattr(a, 'NAME'))\nB = sys._getframe().f_lineno\n")
    folder.write("late.py", ENGINE.replace("total += x", "total += 10 * x"))
    folder.write("space/inner.py", "WHERE = __spec__.origin\n")
    folder.write(
        "train.py",
        "import importlib, inspect, sys\nimport engine, pkg, space.inner\nfrom pkg.b import B\n"
        "def later():\n    import late\n    return late.train(2)\n"
        "for epoch in range(2):\n    print(epoch, engine.train(3), later())\n"
        "for m in (engine, pkg, pkg.a, space.inner, sys.modules['late']):\n"
        "    s = m.__spec__\n    print(m.__file__, m.__cached__, m.__name__, m.__package__, s.origin, type(s.loader), type(m.__loader__), s.cached, sorted(k for k in vars(m) if k != 'flor'))\n"
        "print(inspect.getsource(engine.train), engine.train.__code__.co_filename, B)\n"
        "engine.x = 1; print(importlib.reload(engine) is engine, engine.x, engine.train(2))\n"
        "print(importlib.import_module('pkg.a') is pkg.a)\n",
    )
    raw = folder.end(folder.start(sys.executable, "train.py"))
    written = caches(folder)
    for path in folder.path.rglob("*.pyc"):
        path.unlink()
    recorded = folder.recorded("train.py")
    assert_same(raw, recorded)
    assert recorded.ours == []
    assert caches(folder) == written
    assert_same(raw, folder.recorded("train.py"))  # with the caches there
    plans = folder.run().manifest()["plans"]
    assert [b["code"] for name in ("engine.py", "late.py") for b in plans[name]["blocks"]] == ["", ""]


SHADOWING = ["random", "tempfile", "select", "json", "errors", "session", "record", "versions", "state", "store", "types",
             "subprocess", "msgpack", "xxhash", "numpy", "click", "platform", "runner", "cli", "ctypes", "dis", "mmap"]  # fmt: skip


def test_modules_named_like_others(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for name in SHADOWING:
        folder.write(f"{name}.py", f"WHO = {name!r}\n")
    names = "".join(
        f"try:\n    import {n}\n    print({n!r}, getattr({n}, 'WHO', None))\nexcept BaseException as e:\n    print({n!r}, repr(e))\n"
        for n in SHADOWING
    )
    folder.write("train.py", HEAD + names + TRAIN)
    for number in range(3):
        if number == 0:
            raw, recorded = folder.both("train.py")
        elif number == 1:
            raw, recorded = folder.both("project/train.py", cwd=folder.path.parent)
        else:
            (folder.path / "types.py").unlink()  # `python -m` itself does not get by that one
            raw = folder.end(folder.start(sys.executable, "train.py"))
            recorded = folder.end(folder.start(sys.executable, "-m", "flor", "run", "train.py"))
        assert_same(raw, recorded)
        assert recorded.ours == []
        assert folder.run().end()["status"] == "finished"


@pytest.mark.parametrize("own", ["flor.py", "flor/__init__.py"])
def test_a_module_named_flor(tmp_path: Path, own: str) -> None:
    folder = Folder(tmp_path)
    folder.write(own, "WHO = 'mine'\n")
    folder.write("train.py", HEAD + TRAIN + "import flor; print(flor.WHO)\n")
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    assert len(recorded.ours) >= 1
    assert "has the name" in recorded.ours[0]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(b"\xef\xbb\xbf# mark\nx = '\xc3\xa4'; print(x, len(x))\n", id="BOM"),
        pytest.param(b"# -*- coding: latin-1 -*-\nx = '\xe4'; print(x, len(x))\n", id="latin-1"),
        pytest.param(b"x = '''a\r\nb'''\r\nprint(repr(x))\r\n", id="CRLF"),
        pytest.param(b"if 1:\n\tx = 2\n\tprint(x)\n", id="tabs"),
        pytest.param(
            b'"""Doc."""\nfrom __future__ import annotations, division\nx: not_there = 1\nprint(__annotations__)\n',
            id="future",
        ),
        pytest.param(b"x = 1 \\\n    + 2; print(x)\n\x0c\nprint('form feed')", id="no newline at the end"),
        pytest.param(b"", id="empty"),
        pytest.param(b'"""Doc."""', id="docstring only"),
        pytest.param(b"from __future__ import annotations", id="future only"),
        pytest.param(b"print(" + b"+".join([b"1"] * 2000) + b")\n", id="deep"),
    ],
)
def test_texts(tmp_path: Path, source: bytes) -> None:
    folder = Folder(tmp_path)
    newline = b"\r\n" if b"\r\n" in source else b"\n"
    body = (HEAD + TRAIN + "print(__doc__)\n1 / 0  # \u00e4\n").encode("latin-1" if b"latin" in source else "utf-8")
    folder.write("train.py", source.rstrip(b"\n") + newline + body.replace(b"\n", newline) if source else b"")
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    assert [line for line in recorded.ours if "FT104" not in line and "nested too deeply" not in line] == []


def test_streams(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(
        "train.py",
        HEAD
        + TRAIN
        + "import sys\nprint(len(sys.stdin.buffer.read()))\nsys.stdout.write('x' * 3_000_000)\nsys.stderr.write('y' * 300_000)\n",
    )
    assert_same(*folder.both("train.py", stdin=b"in" * 500_000))


def test_a_closed_pipe(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + TRAIN + "for n in range(100_000): print(n)\n")
    found = []
    for command in (f"{sys.executable} train.py", f"{FLOR} run train.py"):
        done = subprocess.run(
            ["bash", "-c", f"{command} | head -n 3; echo ${{PIPESTATUS[0]}}"],
            cwd=folder.path,
            env=folder.env,
            capture_output=True,
            check=False,
        )
        found.append((done.stdout, done.stderr))
    assert found[0] == found[1]
    assert folder.run().end()["status"] == "failed"


WORKERS = (
    HEAD
    + """
import concurrent.futures, multiprocessing, os, pickle, sys
class Thing:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return self.n == other.n
def work(thing):
    return Thing(thing.n + 1), __name__, sys.argv, 'flor' in globals(), __spec__ is None
def show(found):
    print([(t.n, *rest) for t, *rest in found], flush=True)
if __name__ == "__main__":
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    for epoch in range(2):
        for x in range(2):
            optimizer.zero_grad(); Loss().backward(); optimizer.step()
        print(epoch, x, flush=True)
    with context.Pool(1) as pool:
        show(pool.map(work, [Thing(1), Thing(2)]))
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        show(pool.map(work, [Thing(3)]))
    queue = context.Queue()
    process = context.Process(target=lambda: None) if method == "fork" else context.Process(target=queue.put, args=(Thing(5),))
    process.start()
    if method != "fork": print(queue.get().n)
    process.join(); print(process.exitcode)
    failing = context.Process(target=work, args=(None,)); failing.start(); failing.join(); print(failing.exitcode)
"""
)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(tmp_path: Path, method: str) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", WORKERS)
    raw, recorded = folder.both("train.py", method)
    if method == "fork":  # the children run what their parent has loaded: the reserved name is there
        recorded.out = recorded.out.replace(b"True, True", b"False, True")
    for ended in (raw, recorded):
        ended.err = b"".join(line for line in ended.err.splitlines(keepends=True) if b"Process-" not in line)
    assert_same(raw, recorded)
    assert len(folder.home.all_runs()) == 1
    assert folder.run().end()["status"] == "finished"


def test_data_loaders(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(
        "train.py",
        "import sys, torch\nfrom torch.utils.data import DataLoader, Dataset\n"
        "class Data(Dataset):\n    def __len__(self): return 4\n    def __getitem__(self, n): return torch.tensor([float(n)]) + torch.rand(1)\n"
        "def main():\n    torch.manual_seed(0)\n    model = torch.nn.Linear(1, 1)\n    opt = torch.optim.SGD(model.parameters(), 0.01)\n"
        "    for method in ('fork', 'spawn'):\n        loader = DataLoader(Data(), 2, shuffle=True, num_workers=1, multiprocessing_context=method)\n"
        "        for epoch in range(2):\n            for x in loader:\n                opt.zero_grad(); loss = model(x).sum(); loss.backward(); opt.step()\n            print(method, epoch, loss.item())\n"
        "if __name__ == '__main__':\n    main()\n",
    )
    raw, recorded = folder.both("train.py", env={"OMP_NUM_THREADS": "1"})
    assert raw.code == 0
    assert_same(raw, recorded)
    assert recorded.ours == []
