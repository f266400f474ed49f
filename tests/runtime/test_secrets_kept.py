"""Nothing that a run keeps holds a secret of its command line or its parameters, but for its checkpoints: they are the
program's state as it is. And it can be replayed."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

from flor_runtime.store.logreader import keyed, read
from tests.runtime.processes import Folder

FLOR = str(Path(sys.executable).with_name("flor"))
CANARIES = [f"canary{n}QwErTy0123456789zxcv" for n in range(5)]
TRAIN = """\
import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--api-key")
parser.add_argument("--db")
parser.add_argument("--tokens", type=int)
args, rest = parser.parse_known_args()
password = os.environ["DB_PASSWORD"]

class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1

opt = Optimizer()
for epoch in range(3):
    for batch in range(2):
        opt.step()
    print(epoch, opt.n, len(args.api_key))
if "--fail" in rest:
    raise SystemExit(f"401 for {args.db}")
"""
ARG = """\
import flor
key = flor.arg("api-key", "")
lr = flor.arg("lr", 0.5)
url = flor.arg("url", "https://h")
class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1

opt = Optimizer()
for epoch in range(2):
    for batch in range(2):
        opt.step()
    print(epoch, len(key), lr, url)
"""
PROBED = TRAIN.replace("    print(", '    import flor; flor.log("n", opt.n * len(args.api_key))\n    print(')


def test_a_run_and_its_replay(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", TRAIN)
    key, password, token, environment = CANARIES[:4]
    line = [
        "--api-key",
        key,
        "--db",
        f"postgres://me:{password}@h/d",
        "--tokens",
        "512",
        f"hub.token={token}",
        "--fail",
    ]
    ended = folder.recorded("train.py", *line, env={"DB_PASSWORD": environment, "FLOR_EPSILON": "1"})
    assert (ended.code, ended.ours) == (1, [])
    manifest = folder.run().manifest()
    assert manifest["argv"] == [
        "--api-key",
        "***",
        "--db",
        "postgres://me:***@h/d",
        "--tokens",
        "512",
        "hub.token=***",
        "--fail",
    ]
    files = [path for path in folder.home.root.rglob("*") if path.is_file() and path.parent.name != "ckpt"]
    kept = b"".join(path.read_bytes() for path in files)
    for path in folder.home.root.rglob("objects/*/*"):
        kept += zlib.decompress(path.read_bytes())
    assert b"def step" in kept and b"512" in kept
    assert [canary for canary in CANARIES if canary.encode() in kept] == []

    folder.write("train.py", PROBED)
    replay = (FLOR, "replay", "n", "--yes")
    done = folder.end(folder.start(*replay, env={"DB_PASSWORD": environment}))
    assert done.code == 1
    assert b"set FLOR_SECRET_API_KEY, FLOR_SECRET_DB, FLOR_SECRET_HUB_TOKEN" in done.err
    given = {"FLOR_SECRET_API_KEY": key, "FLOR_SECRET_DB": password, "FLOR_SECRET_HUB_TOKEN": "anything"}
    done = folder.end(folder.start(*replay, env={"DB_PASSWORD": environment, **given}))
    assert b"3 values of n: exact" in done.err, done.err
    shown = folder.end(folder.start(FLOR, "show", "n", "--format", "csv"))
    assert [line.rsplit(b",", 1)[1] for line in shown.out.splitlines()[1:]] == [
        b"%d" % (n * len(key)) for n in (2, 4, 6)
    ]


def test_flor_arg(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", ARG)
    ended = folder.recorded(
        "train.py", "--api-key", CANARIES[0], "--lr", "0.25", "--url", f"https://me:{CANARIES[1]}@h",
        env={"FLOR_EPSILON": "1"},
    )  # fmt: skip
    assert (ended.code, ended.ours) == (0, [])
    values = {name: value for (path, name, _), value in keyed(read(folder.run().captured)).items() if not path}
    assert values == {"api-key": "***", "lr": 0.25, "url": "https://me:***@h"}
    folder.write(
        "train.py", ARG.replace("    print(", '    flor.log("seen", f"{len(key)} {lr} {url[-8:]}")\n    print(')
    )
    for key, password, label in [("four", "secret", b"verified"), (CANARIES[0], CANARIES[1], b"exact")]:
        given = {"FLOR_SECRET_API_KEY": key, "FLOR_SECRET_URL": password}
        done = folder.end(folder.start(FLOR, "replay", "seen", "--yes", "--again", env=given))
        assert b"2 values of seen: " + label in done.err, done.err
        assert (b"key: another value" in done.err) == (b"url: another value" in done.err) == (label == b"verified")
        # what the run was given as a secret, what the replay was, and pieces of these
        assert [secret for secret in (b"four", b"secret@", b"456789", b"canary") if secret in done.err] == []
        shown = folder.end(folder.start(FLOR, "show", "seen", "--format", "csv"))
        expected = f"{len(key)} 0.25 {f'{password}@h'[-8:]}".encode()
        assert [line.rsplit(b",", 1)[1] for line in shown.out.splitlines()[1:]] == [expected] * 2
