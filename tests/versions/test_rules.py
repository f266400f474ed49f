"""What stays out of a version, why, and how that is changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flor_runtime.coderules import Rules, sounds_secret
from flor_runtime.versions import Snapshot, extend, snapshot
from flor_transform.errors import SettingsError
from flor_transform.settings import Settings
from tests.runtime.processes import Folder
from tests.versions.repos import RAN, SCRIPT, fresh, git

RUN = "d" * 32
KEY = "-----BEGIN PRIVATE " + "KEY-----\nMIIE\n"
TOKEN = "hf_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA"

SECRET = [
    ".env",
    ".env.local",
    "prod.env",
    ".envrc",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    "kubeconfig",
    "deep/.kube/config",
    "x/.aws/config",
    "id_rsa",
    "id_ed25519",
    "server.pem",
    "tls.key",
    "store.p12",
    "vpn.ovpn",
    "aws_credentials",
    "credentials.json",
    "gcp-credentials-2.yaml",
    "secrets.toml",
    "db_secrets.yml",
    "client_secret_1.json",
    "service_account.json",
    "service-account-prod.json",
    "kaggle.json",
    "token",
    "token.json",
    "hf_token.txt",
    ".hf_token",
    "my_api_key.txt",
    "terraform.tfstate",
    ".docker/config.json",
]
PLAIN = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokens.txt",
    "vocab.txt",
    "keys.json",
    "monkey.csv",
    "environment.yml",
    "env.yaml",
    ".env.example",
    "credentials.md",
    "secretary.txt",
    "key_utils.yaml",
    "idmap.json",
    "passage.txt",
    "config.json",
    ".envoy/x",
    "docker/config.json",
    "rsa_id.txt",
]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return fresh(tmp_path / "repo")


def taken(repo: Path, compiled: dict[str, bytes] | None = None, **rules: object) -> tuple[Snapshot, set[str]]:
    ran = {repo / name: data for name, data in {SCRIPT: RAN, **(compiled or {})}.items()}
    made = snapshot(repo / SCRIPT, ran, RUN, home=repo.parent / "home", rules=Rules(**rules))  # type: ignore[arg-type]
    assert made.vid
    return made, set(git(repo, "ls-tree", "-r", "--name-only", made.vid).splitlines())


@pytest.mark.parametrize("name", SECRET)
def test_names_of_secrets(name: str) -> None:
    assert sounds_secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_names_that_only_sound_like_it(name: str) -> None:
    assert not sounds_secret(name)


def test_tracked_code_is_kept_whatever_its_name(repo: Path) -> None:
    names = {"credentials.py", "pkg/secrets.py", "token.cu", "api_keys.ipynb", "id_rsa.h"}
    for name in names:
        (repo / name).write_text("password = 'hunter2hunter2'\n")
    git(repo, "add", "-f", *names)
    made, held = taken(repo, {"credentials.py": b"password = 'hunter2hunter2'\n"})
    assert names <= held
    assert made.notes == ()


def test_a_private_key_under_any_name(repo: Path) -> None:
    (repo / "account.json").write_text('{"type": "service_account", "private_key": "' + KEY.replace("\n", "\\n") + '"}')
    (repo / "test_keys.py").write_text(f"KEY = '''{KEY}'''\n")
    git(repo, "add", ".")
    made, held = taken(repo)
    assert "account.json" not in held and "test_keys.py" in held
    assert "account.json holds a private key: left out" in made.notes


def test_an_untracked_module_full_of_secrets(repo: Path) -> None:
    """Its name alone isn't enough: without an imported module a replay may fail."""
    sources = {"secrets.py": f"TOKEN = '{TOKEN}'\n".encode(), "my_credentials.py": b"def load():\n    return None\n"}
    made, held = taken(repo, sources)
    assert "my_credentials.py" in held and "secrets.py" not in held
    assert made.notes == (
        "secrets.py is untracked and looks like a secret by its name and its contents: left out;"
        " a replay imports it as it is by then",
    )


def test_a_token_in_the_script(repo: Path) -> None:
    (repo / "new.py").write_text("")
    code = f"import os\nos.environ['X'] = '{TOKEN}'\n".encode()
    made, held = taken(repo, {"new.py": code})
    assert "new.py" in held
    assert made.notes == ("new.py:2: a Hugging Face token, it seems: kept with the code, never shared",)
    assert taken(fresh(repo.parent / "other"), {"new.py": code}, keep=("new.py",))[0].notes == ()


def test_what_was_left_out_late_is_said_too(repo: Path) -> None:
    made, _ = taken(repo)
    more = extend(made, {repo / "secrets.py": f"T = '{TOKEN}'\n".encode()})
    assert more.vid == made.vid and more.notes[-1].startswith("secrets.py is untracked")


def test_rules_of_the_user(repo: Path) -> None:
    for name in ("data.csv", "pkg/data.csv", "pkg/big.txt", "prod.env", "pkg/x.env"):
        (repo / name).write_text("x" * 100)
    git(repo, "add", "-f", ".")
    made, held = taken(repo, leave_out=("pkg/*.csv", "mod.py"), keep=("*.env",), limit=99)
    assert held >= {SCRIPT, "helper.py"}
    assert not held & {"pkg/data.csv", "pkg/mod.py", "pkg/big.txt"}
    made, held = taken(fresh(repo.parent / "b"), leave_out=("*.py",))
    assert SCRIPT in held and "helper.py" not in held
    assert "helper.py is left out, as [tool.flor] says" in made.notes


def test_many_that_are_left_out(tmp_path: Path) -> None:
    """Each is noted, and can be found; no list is longer than a screen."""
    folder = Folder(tmp_path)
    git(folder.path, "init", "-q")
    for number in range(60):
        folder.write(f"images/{number:03}.dat", "x" * 99)
    folder.write("train.py", "print(1)\n")
    git(folder.path, "add", ".")
    assert folder.recorded("train.py", env={"FLOR_CODE_LIMIT": "50"}).out == b"1\n"
    flor = (sys.executable, "-m", "flor", "runs", folder.run().id)
    shown = folder.end(folder.start(*flor)).out.decode()
    assert shown.count("over the limit of 50: left out") == 20 and "40 more notes: --json has them" in shown
    notes = json.loads(folder.end(folder.start(*flor, "--json")).out)["notes"]
    assert len(notes) == 60 and "images/059.dat has 99 bytes, over the limit of 50: left out" in notes


def test_settings() -> None:
    table = {"code-limit": 1_000, "leave-out": ["*.csv"], "keep": ["prod.env"]}
    settings = Settings.from_mapping(table).changed()
    assert Rules.from_settings(settings) == Rules(1_000, ("*.csv",), ("prod.env",))
    assert Rules.from_settings({}) == Rules() == Rules(5_000_000)
    with pytest.raises(SettingsError, match="did you mean 'leave_out'"):
        Settings.from_mapping({"leave-ou": []})


@pytest.mark.parametrize("attached", [False, True], ids=["flor run", "--flor"])
def test_from_pyproject_to_flor_runs(tmp_path: Path, attached: bool) -> None:
    folder = Folder(tmp_path)
    repo = folder.path
    git(repo, "init", "-q", "-b", "topic")
    folder.write("pyproject.toml", '[tool.flor]\nleave-out = ["data.csv"]\ncode-limit = 50\n')
    folder.write("data.csv", "private")
    folder.write("large.txt", "x" * 51)
    folder.write("train.py", "import flor\nprint(1)\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "one")
    python = sys.executable
    command = [python, "train.py", "--flor", "x"] if attached else [python, "-m", "flor", "run", "train.py"]
    done = folder.end(folder.start(*command))
    assert (done.code, done.out) == (0, b"1\n")
    manifest = folder.run().manifest()
    assert manifest["branch"] == "topic"
    assert git(repo, "ls-tree", "-r", "--name-only", manifest["vid"]).splitlines() == ["train.py"]
    shown = folder.end(folder.start(python, "-m", "flor", "runs", folder.run().id))
    assert b"note       data.csv is left out, as [tool.flor] says\n" in shown.out
    assert b"           large.txt has 51 bytes, over the limit of 50: left out\n" in shown.out
