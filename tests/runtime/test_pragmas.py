"""`flor run` respects what a script's comments ask for."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.processes import HEAD, TRAIN, Folder


def plan(folder: Folder) -> dict[str, list[dict[str, object]]]:
    return folder.run().manifest()["plans"]["train.py"]  # type: ignore[no-any-return]


def test_a_block_that_is_skipped(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + TRAIN.replace("enumerate([1.0, 2.0]):", "enumerate([1.0, 2.0]):  # flor: skip"))
    ended = folder.recorded("train.py")
    assert (ended.code, ended.ours) == (0, [])
    assert [entry["code"] for entry in plan(folder)["blocks"]] == ["FT501"]
    assert [entry["code"] for entry in plan(folder)["loops"]] == [""]


def test_the_main_loop_that_is_marked(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    text = "for part in range(3):  # flor: main-loop\n" + "".join(f"    {line}\n" for line in TRAIN.splitlines())
    folder.write("train.py", HEAD + text)
    ended = folder.recorded("train.py")
    assert (ended.code, ended.ours) == (0, [])
    [loop] = plan(folder)["loops"]
    assert (loop["start"], loop["code"]) == (HEAD.count("\n") + 1, "")


def test_a_file_that_is_skipped(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", "# flor: skip-file\n" + HEAD + TRAIN)
    ended = folder.recorded("train.py")
    assert ended.code == 0
    assert ended.out == b"0 3.0\n1 3.0\n"
    assert len(ended.ours) == 1
    assert ended.ours[0].endswith("only what the script logs itself is recorded")
