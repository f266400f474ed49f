"""Comments that say what is to be left alone, and which loop is the main loop."""

from __future__ import annotations

import textwrap

import pytest

from flor_transform import Result, instrument, instrument_project
from flor_transform.analysis import pragmas
from tests.transform.support import check_laws, check_same, check_transform

TWO_BLOCKS = """\
for epoch in range(3):{main}
    for batch in loader:{first}
        optimizer.step()
    for batch in loader:{second}
        optimizer.step()
"""


def written(text: str) -> tuple[Result, list[str]]:
    """What becomes of a script, and the statements in it that were edited, without their comments."""
    result = check_laws(textwrap.dedent(text).encode())
    return result, [line.partition("#")[0].strip() for line in result.code.decode().splitlines() if "flor." in line]


def codes(result: Result) -> list[tuple[int, str]]:
    return [(note.line, note.slug) for note in result.diagnostics]


def test_skip_leaves_one_block() -> None:
    result, lines = written(TWO_BLOCKS.format(main="", first="  # flor: skip", second=""))
    assert lines == [
        'for epoch in flor.loop("epoch", range(3)):',
        'for batch in flor.SkipBlock.loop("train", loader):',
        "flor.SkipBlock.end()",
    ]
    assert result.diagnostics == ()
    left = result.plan.blocks[0]
    assert (left.code, left.reason, left.line) == ("FT501", "left alone by '# flor: skip'", 2)


def test_skip_on_the_main_loop_leaves_all_of_it() -> None:
    source = TWO_BLOCKS.format(main="  # flor: skip", first="", second="")
    result = check_same(source)
    assert [loop.code for loop in result.plan.loops] == ["FT501"]
    assert result.diagnostics == ()


def test_the_users_reason_comes_before_ours() -> None:
    result = check_laws(b"for e in range(3):\n    for b in loader:  # flor: skip\n        opt.step(); exit()\n")
    assert [block.code for block in result.plan.blocks] == ["FT501"]
    assert result.diagnostics == ()


@pytest.mark.parametrize(
    "comment",
    [
        "# flor: skip",
        "#flor:skip",
        "# noqa: B007  # flor: skip",
        "# flor: skip (it is short)",
        "# flor: skip, it is short",
    ],
)
def test_ways_of_writing(comment: str) -> None:
    check_same(f"for epoch in range(3):  {comment}\n    optimizer.step()\n")


def test_a_header_of_several_lines() -> None:
    check_same("for epoch in range(\n    3  # flor: skip\n):\n    optimizer.step()\n")
    check_same("for epoch in range(\n    3\n):  # flor: skip\n    optimizer.step()\n")
    check_same("for epoch in range(3): optimizer.step()  # flor: skip\n")
    check_same("while epoch < 3:  # flor: skip\n    optimizer.step()\n")


def test_newlines_of_all_kinds_and_a_byte_order_mark() -> None:
    for newline in ("\r\n", "\r", "\n"):
        source = "\ufeffx = 1\nfor epoch in range(3):  # flor: skip\n    optimizer.step()\n".replace("\n", newline)
        assert not instrument(source.encode()).changed


def test_off_and_on() -> None:
    check_transform(
        """\
        import os
        # flor: off
        for epoch in range(3):
            optimizer.step()
        # flor: on
        for epoch in range(3):
            optimizer.step()
        # flor: off
        for epoch in range(3):
            optimizer.step()
        """,
        """\
        import flor
        import os
        # flor: off
        for epoch in range(3):
            optimizer.step()
        # flor: on
        for epoch in flor.loop("step", range(3)):
            optimizer.step()
        # flor: off
        for epoch in range(3):
            optimizer.step()
        """,
    )


def test_off_in_a_loop_is_about_what_begins_after_it() -> None:
    _, lines = written(
        """\
        for epoch in range(3):
            # flor: off
            for batch in loader:
                optimizer.step()
            # flor: on
            for batch in loader:
                optimizer.step()
        """
    )
    assert lines[:2] == [
        'for epoch in flor.loop("epoch", range(3)):',
        'for batch in flor.SkipBlock.loop("train", loader):',
    ]
    assert len(lines) == 3


def test_skip_file() -> None:
    result = check_same("# flor: skip-file\n" + TWO_BLOCKS.format(main="", first="", second=""))
    assert [(loop.code, loop.reason) for loop in result.plan.loops] == [
        ("FT501", "left alone by '# flor: skip-file' in line 1")
    ]
    assert check_same("# flor: skip-file\nx = 1\n").diagnostics == ()


def test_skip_file_in_a_file_that_does_not_parse() -> None:
    for source in (
        b"# flor: skip-file\nprint 'x'\n",
        b"# flor: skip-file\nx = '\xff'\n",
        b"x = 1 # flor: skip-file\nfor\n",
    ):
        result = instrument(source)
        assert (result.code, result.diagnostics) == (source, ())


def test_a_string_is_no_pragma() -> None:
    result, lines = written(
        '"""\n# flor: skip-file\n"""\ns = "# flor: skp"\nfor e in range(3):\n    optimizer.step()\n'
    )
    assert lines == ['for e in flor.loop("step", range(3)):']
    assert result.diagnostics == ()


def test_without_the_word_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pragmas, "_scan", None)
    assert instrument(b"# flor skip\nx = 'flor:'\nfor e in range(3):\n    optimizer.step()\n").changed


def test_main_loop_above_ours() -> None:
    _, lines = written(
        """\
        for fold in [1, 2]:  # flor: main-loop
            for epoch in range(3):
                for batch in loader:
                    optimizer.step()
        """
    )
    assert lines[0] == 'for fold in flor.loop("epoch", [1, 2]):'


def test_main_loop_where_we_see_none() -> None:
    _, lines = written("for part in parts:  # flor: main-loop\n    work(part)\n")
    assert lines == ['for part in flor.loop("epoch", parts):']
    _, lines = written("while more():  # flor: main-loop\n    work()\n")
    assert lines == ["while flor.it(more()):"]


def test_a_marked_loop_is_the_only_one_of_its_file() -> None:
    _, lines = written(
        """\
        for epoch in range(3):
            optimizer.step()
        for part in parts:  # flor: main-loop
            work(part)
        """
    )
    assert lines == ['for part in flor.loop("epoch", parts):']


def test_a_marked_loop_in_a_function_that_a_main_loop_calls() -> None:
    _, lines = written(
        """\
        def train():
            for epoch in range(3):  # flor: main-loop
                optimizer.step()
        for epoch in range(2):
            train()
        """
    )
    assert lines == ['for epoch in flor.loop("step", range(3)):']


def test_a_marked_loop_in_another_file() -> None:
    sources = {
        "train.py": b"from engine import fit\nfor epoch in range(2):\n    fit(optimizer)\n",
        "engine.py": b"def fit(optimizer):\n    for epoch in range(3):  # flor: main-loop\n        optimizer.step()\n",
    }
    results = instrument_project("train.py", sources)
    assert not results["train.py"].changed
    assert b'flor.loop("step", range(3))' in results["engine.py"].code


def test_a_marked_loop_has_its_hazards() -> None:
    result = check_same("def f():\n    for part in parts:  # flor: main-loop\n        yield part\n")
    assert codes(result) == [(2, "loop-generator")]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("# flor: skpi", "unknown pragma '# flor: skpi'; did you mean 'skip'?"),
        ("# flor: mainloop", "unknown pragma '# flor: mainloop'; did you mean 'main-loop'?"),
        ("# flor: x", "unknown pragma '# flor: x'; known: skip, off, on, skip-file, main-loop"),
        ("# flor:", "unknown pragma '# flor: '; known: skip, off, on, skip-file, main-loop"),
        ("# flor: skip", "'# flor: skip' has no effect here; it goes at the end of a loop's header line"),
        (
            "y = 1  # flor: main-loop",
            "'# flor: main-loop' has no effect here; it goes at the end of a loop's header line",
        ),
        ("# flor: on", "'# flor: on' has no effect here; nothing is off here"),
        ("# flor: off\n# flor: off", "'# flor: off' has no effect here; it is off since line 1"),
    ],
)
def test_what_means_nothing_is_said_at_its_place(comment: str, message: str) -> None:
    source = f"{comment}\nfor e in range(3):\n    optimizer.step()\n"
    result = check_laws(source.encode())
    [note] = result.diagnostics
    lines = comment.split("\n")
    assert (note.line, note.column) == (len(lines), lines[-1].index("#") + 1)
    assert (note.message, note.severity) == (message, "warning")


def test_of_two_marked_loops_in_one_another_the_outer_one_counts() -> None:
    result, lines = written(
        "for a in x:  # flor: main-loop\n    for b in y:  # flor: main-loop\n        optimizer.step()\n"
    )
    assert lines[0] == 'for a in flor.loop("epoch", x):'
    assert codes(result) == [(2, "misplaced-pragma")]
