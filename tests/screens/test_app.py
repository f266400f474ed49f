"""`flor ui`: the application as a program, and as a server that lets nobody else in."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.errors import FlorError
from flor_runtime.store.layout import Home
from flor_runtime.ui import server
from tests.screens import scenes

FLOR = [sys.executable, "-c", "from flor_runtime.cli import main; main(prog_name='flor')"]


def test_the_application_runs_without_a_browser(tmp_path, monkeypatch):
    from flor_runtime.ui.app import app

    home = Home(tmp_path / "home")
    scenes.project(home, 9)
    monkeypatch.setenv("FLOR_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)
    outputs, found = app.run()
    assert len(found["table"].folders) == 9
    assert found["titles"][0] == found["table"].titles[0]
    assert list(found["choice"].options) == ["loss", "val/acc", "grad_norm"]
    shown = "".join(output.text for output in outputs if hasattr(output, "text"))
    assert shown.count("marimo-mime-renderer") >= 3
    assert "recovered by replay" in shown


@pytest.mark.parametrize("scene", ["hostile", None])
def test_the_application_runs_over_anything(tmp_path, monkeypatch, scene):
    from flor_runtime.ui.app import app

    home = Home(tmp_path / "home")
    if scene is not None:
        getattr(scenes, scene)(home)
    monkeypatch.setenv("FLOR_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)
    outputs, _ = app.run()
    shown = "".join(output.text for output in outputs if hasattr(output, "text"))
    assert ("No runs yet" in shown) == (scene is None)
    assert "<script>" not in shown


def test_the_next_free_port_is_taken():
    with server.listen(28_650) as first, server.listen(28_650) as second:
        assert first.getsockname()[0] == "127.0.0.1"
        assert second.getsockname()[1] > first.getsockname()[1]


def test_no_free_port_is_one_line(monkeypatch):
    monkeypatch.setattr(server, "_TRIES", 1)
    with server.listen(28_700) as taken, pytest.raises(FlorError, match="no free port from"):
        server.listen(taken.getsockname()[1])


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "marimo", None)
    with pytest.raises(FlorError, match=r'marimo is not installed: pip install "flor\[ui\]"'):
        server.application(server.APP)


def test_configuration_of_others_stays_where_it_is_looked_for(tmp_path, monkeypatch):
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "config").write_text("[user]\n")
    (tmp_path / "marimo").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with server.alone():
        config = Path(os.environ["XDG_CONFIG_HOME"])
        assert (config / "git" / "config").read_text() == "[user]\n"
        assert "system" in (config / "marimo" / "marimo.toml").read_text()
    assert os.environ["XDG_CONFIG_HOME"] == str(tmp_path)
    assert not config.exists()
    assert not any((tmp_path / "marimo").iterdir())


def ask(port: int, path: str = "/", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return (
        answer.status,
        {name.lower(): value for name, value in answer.getheaders()},
        answer.read().decode("utf-8", "replace"),
    )


def test_the_server(tmp_path):
    """One process for all of it: starting one takes its time."""
    home, project, user = Home(tmp_path / "home"), tmp_path / "project", tmp_path / "user"
    project.mkdir()
    user.mkdir()
    scenes.project(home, 2)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    environment |= {
        "FLOR_HOME": str(home.root),
        "HOME": str(user),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DISPLAY": "",
    }
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = subprocess.Popen(
            [*FLOR, "ui", "--port", str(port)],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        address = running.stdout.readline().strip()
    try:
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{32})", address)
        assert found, running.stderr.read()
        own, token = int(found[1]), found[2]
        assert own > port
        assert ask(own)[0] == 401
        assert ask(own, "/assets/")[0] == 401
        assert ask(own, "/?token=wrong")[0] == 401
        status, headers, _ = ask(own, f"/?token={token}")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"].partition(";")[0]
        status, headers, text = ask(own, cookie=cookie)
        assert status == 200
        assert "<title>flor</title>" in text
        assert "from flor_runtime" not in text  # the code is not sent
        assert "default-src 'self'" in headers["content-security-policy"]
        assert ask(own, cookie=cookie, host=f"evil.example:{own}")[0] == 403
        assert ask(own, cookie=cookie, origin="http://evil.example")[0] == 403
        assert (
            ask(
                own,
                "/ws?session_id=a",
                upgrade="websocket",
                connection="Upgrade",
                sec_websocket_key="a" * 22 + "==",
                sec_websocket_version="13",
            )[0]
            == 403
        )
    finally:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, "")
    assert err.splitlines() == [f"flor: port {port} is in use: {own} is taken", "flor: Ctrl-C ends it"]
    assert [*project.iterdir(), *user.iterdir()] == []


def test_a_copy_of_the_application_can_be_changed(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from flor_runtime.cli import main

    copy = tmp_path / "mine.py"
    assert CliRunner().invoke(main, ["ui", "--copy", str(copy)]).exit_code == 0
    assert copy.read_text() == server.APP.read_text()
    again = CliRunner().invoke(main, ["ui", "--copy", str(copy)])
    assert (again.exit_code, again.stderr) == (2, f"flor: {copy}: File exists\n")
