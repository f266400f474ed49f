"""Replays on a real Ray cluster on this machine, with the store by path and through an object store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flor_runtime.errors import StoreError
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.transport import Receiver, Sender
from flor_runtime.replay.worker import Job
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.remote import Remote, files_below
from tests.replay.slowly import alive, below, check_all, finish, some_turns_done, start, until
from tests.scripts import Project


def test_folders_go_and_come_back(tmp_path: Path) -> None:
    remote = Remote((tmp_path / "far").as_uri())
    large = tmp_path / "large"
    large.write_bytes(b"x" * 300_000)
    remote.put("runs/a", {"empty": b"", "below/large": large, "text": b"first"})
    remote.put("runs/a", {"empty": b"", "below/large": large, "text": b"other"})
    assert remote.get("runs/a", tmp_path / "near", lambda path: path != "empty")
    assert {"below/large", "text"} == set(files_below(tmp_path / "near"))
    assert remote.get("runs/a", tmp_path / "near")
    assert b"other" == (tmp_path / "near/text").read_bytes()
    assert large.read_bytes() == (tmp_path / "near/below/large").read_bytes()
    remote.put("runs/a", {"text": b"third"})
    assert remote.get("runs/a", tmp_path / "near")
    assert b"third" == (tmp_path / "near/text").read_bytes()
    remote.drop("runs/a")
    assert not remote.get("runs/a", tmp_path / "near")


def test_damage_is_found_and_no_file_leaves_the_folder(tmp_path: Path) -> None:
    remote = Remote((tmp_path / "far").as_uri())
    remote.put("a", {"text": b"first"})
    (stored,) = (path for path in (tmp_path / "far/bytes").rglob("*") if path.is_file())
    stored.write_bytes(b"fizzt")
    with pytest.raises(StoreError, match="not what was written"):
        remote.get("a", tmp_path / "near")
    assert {} == files_below(tmp_path / "near")
    listed = tmp_path / "far/folders/a.json"
    listed.write_text(listed.read_text().replace('"text"', '"../text"'))
    with pytest.raises(StoreError, match="not a list of files"):
        remote.get("a", tmp_path / "near")


def test_a_run_is_whole_elsewhere(slow: Project, tmp_path: Path) -> None:
    (run,) = slow.runs()
    remote = Remote((tmp_path / "far").as_uri())
    goal = Goal({0: [6]}, [8], frozenset({"train"}), False, WEAK)
    job = Job(str(run.path), str(tmp_path / "work/replay/weak-0"), goal)
    name = Sender(remote).send(job)
    receiver = Receiver(remote, tmp_path / "cache")
    here = receiver.fetch(job)
    assert run.manifest() == RunFolder(Path(here.run)).manifest()
    there = {path.name for path in (run.path / "ckpt").glob("*.bin")}
    assert {path.name for path in (Path(here.run) / "ckpt").glob("*.bin")} < there
    listed = ["git", f"--git-dir={here.repo}", "ls-tree", "--name-only", run.manifest()["vid"]]
    assert ["train.py"] == subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    (Path(here.folder) / "log").mkdir()
    (Path(here.folder) / "log/x").write_bytes(b"value")
    receiver.send(name, here)
    Sender(remote).fetch(name, Path(job.folder))
    assert b"value" == (Path(job.folder) / "log/x").read_bytes()


@pytest.mark.parametrize(
    ("missing", "options", "extra"),
    [("ray", ["--engine", "ray"], "flor[ray]"), ("obstore", ["--engine", "ray", "--store", "s3://b"], "flor[remote]")],
)
def test_what_is_not_installed_is_said_in_one_line(
    slow: Project,
    tmp_path: Path,
    missing: str,
    options: list[str],
    extra: str,
) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None")
    if missing == "obstore":
        (tmp_path / "hidden/ray.py").write_text("")
    done = slow.run("flor", "replay", "inner", "--script", slow.script, *options, PYTHONPATH=str(tmp_path / "hidden"))
    assert 2 == done.code, done.err
    assert extra in done.err and 1 == done.err.count("\n"), done.err


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Ray cluster of two cores on this machine; gives the variables that lead there."""
    from ray.cluster_utils import Cluster

    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield {"RAY_ADDRESS": started.address, "XDG_CACHE_HOME": str(cache)}
    started.shutdown()


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """An S3 server on this machine, with a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    request = urllib.request.Request(f"{url}/store", method="PUT")
    for _ in range(300):
        try:
            urllib.request.urlopen(request, timeout=5).close()
            break
        except OSError:
            time.sleep(0.2)
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    yield {"AWS_ENDPOINT_URL": url, **keys}
    server.terminate()
    server.wait()


@pytest.mark.proof
def test_on_a_cluster(slow: Project, cluster: dict[str, str]) -> None:
    code, err = finish(start(slow, "--engine", "ray", **cluster))
    assert code == 0, err
    check_all(slow)


@pytest.mark.proof
def test_on_a_cluster_through_an_object_store(
    slow: Project,
    cluster: dict[str, str],
    bucket: dict[str, str],
) -> None:
    code, err = finish(start(slow, "--engine", "ray", FLOR_STORE="s3://store/ours", **cluster, **bucket))
    assert code == 0, err
    run = check_all(slow)
    assert list(Path(cluster["XDG_CACHE_HOME"]).glob(f"flor/*/runs/{run.id}/ckpt/*.bin"))


@pytest.mark.proof
def test_a_store_that_is_not_there_is_said_in_one_line(
    slow: Project,
    cluster: dict[str, str],
    bucket: dict[str, str],
) -> None:
    code, err = finish(start(slow, "--engine", "ray", "--store", "s3://nobodys/ours", **cluster, **bucket))
    assert code == 2
    assert "flor: s3://nobodys/ours: " in err.splitlines()[-1]


@pytest.mark.proof
def test_an_actor_that_is_killed_is_replaced(slow: Project, cluster: dict[str, str]) -> None:
    process = start(slow, "-j", "1", "--engine", "ray", SLEEPS="0.3", **cluster)
    until(lambda: some_turns_done(slow) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    (actor,) = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().startswith(b"ray::Actor") and str(os.getpid()).encode() in _ancestors(path.parent)
    ]
    workers = below(actor)
    os.kill(actor, signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert "its Ray actor was lost" in err and "tried once more" in err
    assert not any(map(alive, workers))
    check_all(slow)


def _ancestors(process: Path) -> Iterator[bytes]:
    """The numbers of the processes that have led to one."""
    while process.name not in ("0", "1"):
        parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1]
        yield parent
        process = process.parent / parent.decode()
