"""The user's key: made once, read by nobody else, never in a store; a signature fits one thing at one place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flor_runtime import recording
from flor_runtime.errors import CheckpointError
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store import signing
from flor_runtime.store.checked import line, read_lines
from flor_runtime.store.checkpoints import INDEX, Key, Reader
from flor_runtime.store.layout import Home, read_json, write_json
from flor_runtime.store.writer import Writer
from tests.stores import make_run


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(signing, "_known", {})
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    path = tmp_path / "key"
    monkeypatch.setenv("FLOR_KEY", str(path))
    return path


def test_the_key_is_made_once_and_is_the_users_alone(own_key: Path) -> None:
    assert not signing.is_signed(signing.sign("run", "r", b"a"), "run", "r", b"b")
    first = own_key.read_text()
    assert own_key.stat().st_mode & 0o777 == 0o600 and len(first) == 65
    signing._known.clear()
    signing.sign("run", "r", b"a")
    assert own_key.read_text() == first and [p.name for p in own_key.parent.iterdir()] == ["key"]


def test_by_default_it_lies_with_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOR_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert signing.key_path() == tmp_path / ".config/flor/key"
    assert signing.can_sign() and (tmp_path / ".config/flor/key").is_file()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert signing.key_path() == tmp_path / "other/flor/key"


def test_processes_that_begin_at_once_have_one_key(own_key: Path) -> None:
    code = "from flor_runtime.store.signing import sign; print(sign('run', 'r', b'a'))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(8)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [p.name for p in own_key.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_that_others_may_read_is_none(own_key: Path, mode: int) -> None:
    signature = signing.sign("run", "r", b"a")
    own_key.chmod(mode)
    signing._known.clear()
    assert not signing.is_signed(signature, "run", "r", b"a")
    assert signing.sign("run", "r", b"a") == ""


@pytest.mark.parametrize("content", [b"", b"\0" * 65, b"ab" * 31, b"zz" * 32, "é".encode() * 32])
def test_a_damaged_key_is_none(own_key: Path, content: bytes) -> None:
    own_key.write_bytes(content)
    own_key.chmod(0o600)
    assert not signing.can_sign() and own_key.read_bytes() == content


def test_a_key_in_the_store_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ships a whole store could put one in."""
    signing.sign("run", "r", b"a")
    inside = tmp_path / "home" / "key"
    inside.parent.mkdir()
    (tmp_path / "key").rename(inside)
    signing._known.clear()
    monkeypatch.setenv("FLOR_KEY", str(inside))
    assert not signing.can_sign()
    (tmp_path / "link").symlink_to(inside)
    monkeypatch.setenv("FLOR_KEY", str(tmp_path / "link"))
    assert not signing.can_sign()


def test_a_signature_fits_one_thing() -> None:
    signature = signing.sign("run", "r", b"a", b"b")
    assert signing.is_signed(signature, "run", "r", b"a", b"b")
    for kind, run, *parts in (("checkpoint", "r", b"a", b"b"), ("run", "s", b"a", b"b"), ("run", "r", b"ab", b""),
                              ("run", "r", b"a"), ("run", "r", b"b", b"a")):  # fmt: skip
        assert not signing.is_signed(signature, kind, run, *parts)  # type: ignore[arg-type]
    for other in ("", None, 1, "é", signature[:-1], signature.upper()):
        assert not signing.is_signed(other, "run", "r", b"a", b"b")


def test_a_manifest_is_signed_as_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    run = make_run(home, argv=["--lr", "0.1"], epsilon=float("nan"), env={"A": "\udc80"}, plans={1: (2, 3)})
    assert run.is_own()
    path = run.path / "run.json"
    text, known = path.read_bytes(), read_json(path)
    assert known is not None
    write_json(path, dict(reversed(known.items())))  # says the same
    assert run.is_own()
    for change in ({"argv": ["x"]}, {"vid": "1" * 40}, {"more": 1}, {"signature": ""}, {"signature": None}):
        write_json(path, {**known, **change})
        assert not run.is_own(), change
    path.write_bytes(text)
    assert run.is_own()
    other = home.create_run()
    write_json(other.path / "run.json", {**known, "run": other.id})
    assert not other.is_own()


def test_a_run_of_somebody_else(tmp_path: Path, own_key: Path) -> None:
    run = make_run(Home(tmp_path / "home"))
    own_key.unlink()
    signing._known.clear()
    assert not run.is_own() and not own_key.exists()  # to look makes none
    signing.can_sign()
    assert not run.is_own()


def saved(folder: Path) -> Path:
    writer = Writer(folder / "ckpt", patient=True)
    for n in range(2):
        blob = Blob.of(bytes([n]) * 100)
        graph = Graph({"L:x": [0]}, [["memory", 0]], [blob], [0], [0], [(-1, "L:x")], named=1)
        writer.save(Key(0, n), 1.0, {"python": [3, [1], None]}, graph)
    writer.close()
    return folder / "ckpt"


def test_a_checkpoint_is_used_where_it_was_signed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "run")
    reader = Reader(folder)
    for entry in reader.entries.values():
        reader.load(entry)
    copied = tmp_path / "other"
    folder.parent.rename(copied)
    reader = Reader(copied / "ckpt")
    with pytest.raises(CheckpointError, match="--trust"):
        reader.load(reader.entries[Key(0, 0)])
    trusting = Reader(copied / "ckpt", trust=True)
    trusting.load(trusting.entries[Key(0, 0)])


CHANGES: dict[str, Any] = {
    "another turn": lambda line: line["key"].update(turn=5),
    "another name": lambda line: line["key"].update(block="train"),
    "problems": lambda line: line.update(problems=["none"]),
    "another random state": lambda line: line.update(ambient="0" * 32),
    "another time": lambda line: line.update(when=2.0),
    "fewer names": lambda line: line.update(named=0),
    "no signature": lambda line: line.pop("signature"),
    "another's signature": lambda line: line.update(signature="0" * 64),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_line_that_was_changed_is_not_used(tmp_path: Path, change: str) -> None:
    folder = saved(tmp_path / "run")
    head, first, *_ = read_lines(folder / INDEX).values
    CHANGES[change](first)
    (folder / INDEX).write_bytes(line(head) + line(first))
    reader = Reader(folder)
    (entry,) = reader.entries.values()
    with pytest.raises(CheckpointError, match="--trust"):
        reader.load(entry)


def test_a_graph_with_the_right_digest_is_not_enough(tmp_path: Path) -> None:
    """The digests of the index find damage; who means harm can make others."""
    import xxhash

    folder = saved(tmp_path / "run")
    head, data, *_ = read_lines(folder / INDEX).values
    assert isinstance(data, dict)
    name, offset, length, _ = data["graph"]
    with open(folder / name, "r+b") as file:
        file.seek(offset)
        packed = file.read(length)
        assert b"L:x" in packed
        packed = packed.replace(b"L:x", b"L:y")
        file.seek(offset)
        file.write(packed)
    data["graph"][3] = xxhash.xxh3_128_hexdigest(packed)
    (folder / INDEX).write_bytes(line(head) + line(data))
    reader = Reader(folder)
    with pytest.raises(CheckpointError, match="--trust"):
        reader.load(reader.entries[Key(0, 0)])
    graph, _, _ = (trusting := Reader(folder, trust=True)).load(trusting.entries[Key(0, 0)])
    assert list(graph.roots) == ["L:y"]


def test_a_pickle_that_was_planted_is_not_loaded(tmp_path: Path) -> None:
    import xxhash

    from flor_runtime.state import codec

    folder = saved(tmp_path / "run")
    lines = read_lines(folder / INDEX).values
    data = next(one for one in lines if isinstance(one, dict) and one.get("graph"))
    name, offset, length, _ = data["graph"]
    packed = codec.pack([*codec.unpack((folder / name).read_bytes()[offset : offset + length])[:2], b"cos\nsystem\n."])
    (folder / "9.bin").write_bytes(packed)
    data["graph"] = ["9.bin", 0, len(packed), xxhash.xxh3_128_hexdigest(packed)]
    (folder / INDEX).write_bytes(b"".join(map(line, lines)))
    reader = Reader(folder)
    with pytest.raises(CheckpointError, match="--trust"):
        reader.load(reader.entries[Key(0, 0)])
    graph, _, _ = (trusting := Reader(folder, trust=True)).load(trusting.entries[Key(0, 0)])
    assert graph.pickle == b"cos\nsystem\n."  # as bytes: only a restoration reads it


def test_where_there_is_no_home_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FLOR_KEY")
    monkeypatch.setattr(Path, "expanduser", nobody)
    assert not signing.can_sign() and signing.sign("run", "r", b"a") == ""
    (note,) = recording.unsigned()
    assert "--trust" in note


def test_where_there_is_no_key_the_run_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLOR_KEY", str(tmp_path / "file" / "key"))
    run = make_run(Home(tmp_path / "home"))
    assert run.manifest()["signature"] == "" and not run.is_own()
    reader = Reader(saved(tmp_path / "run"))
    assert len(reader.entries) == 2
