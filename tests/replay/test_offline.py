"""A replay posts nothing and fetches nothing; what a run had downloaded is read from where it is."""

from __future__ import annotations

import socket
import sys
import types
from pathlib import Path

import pytest

from flor_runtime.replay import silence
from flor_runtime.replay.offline import refusal
from tests.scripts import Project, recovered

HEAD = """
import os, socket, sys

import flor

class Optimizer:
    def zero_grad(self): pass
    def step(self): pass

optimizer = Optimizer()
"""
LOOP = """
for epoch in range(2):
    for k in range(2):
        optimizer.zero_grad()
        optimizer.step()
    # probe: flor.log("value", value)
    print(value)
"""


@pytest.mark.parametrize(
    ("event", "args", "where"),
    [
        ("socket.connect", (None, ("93.184.215.14", 443)), "93.184.215.14:443"),
        ("socket.connect", (None, ("example.org", 80)), "example.org:80"),
        ("socket.connect", (None, ("2001:db8::1", 80, 0, 0)), "2001:db8::1:80"),
        ("socket.sendto", (None, ("192.0.2.7", 8125)), "192.0.2.7:8125"),
        ("socket.getaddrinfo", ("huggingface.co", 443, 0, 0, 0), "huggingface.co"),
        ("socket.getaddrinfo", (b"example.org", "http", 0, 0, 0), "example.org"),
        ("socket.connect", (None, ("127.0.0.1", 29500)), None),
        ("socket.connect", (None, ("::1", 29500, 0, 0)), None),
        ("socket.connect", (None, "/run/some.sock"), None),
        ("socket.connect", (None, b"\0abstract"), None),
        ("socket.getaddrinfo", (socket.gethostname(), 29500, 0, 0, 0), None),
        ("socket.getaddrinfo", ("localhost", 29500, 0, 0, 0), None),
        ("socket.getaddrinfo", (None, 29500, 0, 0, 0), None),
        ("socket.bind", (None, ("0.0.0.0", 29500)), None),
    ],
)
def test_only_this_machine_can_be_reached(event: str, args: tuple[object, ...], where: str | None) -> None:
    assert refusal(event, args) == where


def test_what_the_run_downloaded_is_read(tmp_path: Path) -> None:
    """In the run, the file comes over the network (a stand-in) into the project, where a replay would not see it."""
    user = Project(tmp_path, "steps.py")
    fetch = f"""
if not os.path.exists("data/numbers.txt"):
    if os.path.exists({str(tmp_path / "offline")!r}):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    os.makedirs("data")
    with open("data/numbers.txt", "w") as file:
        file.write("42")
value = int(open("data/numbers.txt").read())
resumed = os.path.exists("data/last.txt")
assert not resumed, "what came later has to stay hidden"
"""
    (user.folder / user.script).write_text(HEAD + fetch + LOOP + "open('data/last.txt', 'w').close()\n")
    (user.folder / ".gitignore").write_text("data\n")
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script).out == "42\n42\n"
    (tmp_path / "offline").touch()
    user.add_probes()
    replay = user.run("flor", "replay", "value", "--yes", "--script", user.script)
    assert replay.code == 0, replay.err
    assert list(recovered(user.runs()[0]).values()) == [42, 42]


def test_the_network_is_refused_in_one_line(tmp_path: Path) -> None:
    user = Project(tmp_path, "steps.py")
    fetch = f"""
value = 1
if os.path.exists({str(tmp_path / "offline")!r}):
    socket.create_connection(("192.0.2.1", 80), timeout=0.2)
"""
    (user.folder / user.script).write_text(HEAD + fetch + LOOP)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script).code == 0
    (tmp_path / "offline").touch()
    user.add_probes()
    replay = user.run("flor", "replay", "value", "--yes", "--script", user.script)
    assert replay.code == 1
    assert "a replay does not use the network, and 192.0.2.1:80 is there: `flor replay --network` lets it" in replay.err
    other = user.run("flor", "replay", "value", "--yes", "--network", "--script", user.script)
    assert "does not use the network" not in other.err


# -- trackers ------------------------------------------------------------------------------------------------------


def test_trackers_are_told_to_keep_quiet_whatever_the_script_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, object] = {}
    for name, functions in {"wandb": ("init", "login"), "swanlab": ("init",), "neptune": ("init_run",)}.items():
        module = types.ModuleType(name)
        for function in functions:

            def call(*args: object, name: str = f"{name}.{function}", **kwargs: object) -> None:
                said[name] = kwargs

            setattr(module, function, call)
        monkeypatch.setitem(sys.modules, name, module)
        silence.patches()[name](module)
    import_module = sys.modules.__getitem__
    import_module("wandb").login(key="x")
    import_module("wandb").init(project="p", mode="online")
    import_module("swanlab").init(mode="cloud")
    import_module("neptune").init_run(mode="async", project="p")
    assert said == {
        "wandb.init": {"project": "p", "mode": "disabled"},
        "swanlab.init": {"mode": "disabled"},
        "neptune.init_run": {"project": "p", "mode": "debug"},
    }


def test_mlflow_stays_in_the_replays_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    utils = types.ModuleType("mlflow.tracking._tracking_service.utils")
    face = types.ModuleType("mlflow")
    where: list[str] = []
    utils.set_tracking_uri = face.set_tracking_uri = where.append  # type: ignore[attr-defined]
    client = types.ModuleType("mlflow.tracking.client")

    class MlflowClient:
        def __init__(self, tracking_uri: str | None = None) -> None:
            where.append(str(tracking_uri))

    client.MlflowClient = MlflowClient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", face)
    silence.patches()[utils.__name__](utils)
    silence.patches()[client.__name__](client)
    face.set_tracking_uri("https://tracking.example.org")  # type: ignore[attr-defined]
    MlflowClient("https://tracking.example.org")
    assert where == ["None"]
    assert silence.environment(tmp_path)["MLFLOW_TRACKING_URI"] == (tmp_path / "mlruns").as_uri()
