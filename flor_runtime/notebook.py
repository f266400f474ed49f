"""`%load_ext flor` in IPython: `%%flor` records the training in a cell, `%flor_show` shows the table.

All `%%flor` cells of a kernel are one run, until one gives another name. Its code is what the kernel has executed so
far, as one script in Jupyter's percent format: kept when the run begins, when its first turn begins, and when the
kernel ends, not once a cell.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

from flor_runtime import cells
from flor_runtime.boot import warn
from flor_runtime.errors import FlorError

_NAME = re.compile(r"[\w.,=+@-]+")


class Magics:
    """The magics of one shell, and the run that it records.

    Args:
        shell: the `InteractiveShell`.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._recording: Any = None
        self._name: str | None = None

    # -- magics --------------------------------------------------------------------------------------------------

    def flor(self, line: str, cell: str) -> None:
        """`%%flor [NAME]`: instrument this cell, run it, and record what it trains; a new NAME begins a new run."""
        __tracebackhide__ = True
        name = line.strip() or None
        if name is not None and not _NAME.fullmatch(name):
            self._usage(f"%%flor {name}: a name has letters, digits and _.,=+@- only")
        import flor

        self._shell.user_ns.setdefault("flor", flor)
        source = cell
        try:
            if self._recording is None or (name is not None and name != self._name):
                self._begin(name)
            self._recording.add_module(self._script(), self._code())
            source = self._instrumented(cell)
        except Exception as error:  # whatever it was: the cell runs
            warn(f"this cell is not recorded: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        try:
            self._run(source)
        finally:
            if self._recording is not None:
                self._recording.session.leave_all()

    def show(self, line: str) -> Any:
        """`%flor_show [NAMES] [--runs RUNS]`: the table, as `flor show` has it."""
        import click

        @click.command(add_help_option=False)
        @click.argument("names", nargs=-1)
        @click.option("--runs")
        def parse(names: tuple[str, ...], runs: str | None) -> Any:
            from flor_runtime.query import dataframe

            return dataframe(*names, runs=runs.split(",") if runs and runs != "all" else runs)

        if self._recording is not None:
            self._recording.session.settle()
        try:
            return parse.main(shlex.split(line), prog_name="%flor_show", standalone_mode=False)
        except (FlorError, ValueError) as error:
            self._usage(str(error))
        except click.ClickException as error:
            self._usage(f"%flor_show: {error.format_message()}")

    def _usage(self, text: str) -> None:
        """One line, without a traceback."""
        from IPython.core.error import UsageError

        raise UsageError(text)

    # -- the run -------------------------------------------------------------------------------------------------

    def _begin(self, name: str | None) -> None:
        from flor_runtime.recording import Prepared, Recording
        from flor_runtime.runner import settings_of

        self.end()
        script, code = self._script(), {self._script(): self._code()}
        settings = settings_of(script)
        prepared = Prepared.create(
            script,
            [],
            code,
            name=name,
            settings=settings.changed() if settings is not None else None,
            typed=script.name,
            hash_seed=os.environ.get("PYTHONHASHSEED"),
        )
        self._recording, self._name = Recording(prepared, code), name

    def end(self) -> None:
        """The run has ended, if there is one."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.add_module(self._script(), self._code())
            recording.finish("finished", 0)

    # -- cells ---------------------------------------------------------------------------------------------------

    def _script(self) -> Path:
        """What the cells are called as one script: beside the notebook, and no file that is there."""
        known = self._shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "notebook.ipynb"
        return Path.cwd() / f"{Path(str(known)).name.removesuffix('.ipynb')}{cells.SUFFIX}"

    def _executed(self) -> list[str]:
        """The sources of the cells that were executed, in that order."""
        return [cells.without_flor(str(cell)) for cell in self._shell.history_manager.input_hist_raw[1:]]

    def _code(self) -> bytes:
        return cells.script_of(self._executed())

    def _instrumented(self, cell: str) -> str:
        """The cell with its instrumentation, analysed together with those that were executed before."""
        import flor_transform
        from flor_transform.errors import TransformError

        sources = ["import flor", *self._executed()[:-1], cell]
        made: list[dict[str, Any]] = [
            {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
            for source in sources
        ]
        notebook = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        try:
            result = flor_transform.instrument(json.dumps(notebook).encode(), filename=self._script().stem)
        except TransformError:
            return cell  # Python says what is wrong with it
        for found in result.diagnostics:
            if found.severity == "refused" and found.cell == len(made):
                warn(f"line {found.line} of this cell: {found.code} {found.message}")
        source = json.loads(result.code)["cells"][-1]["source"]
        return source if isinstance(source, str) else "".join(source)

    def _run(self, source: str) -> None:
        """Run a cell as the shell does; what it raises is shown once, as that of the cell."""
        __tracebackhide__ = True
        shown = self._shell.showtraceback
        self._shell.showtraceback = lambda *args, **kwargs: None
        try:
            done = self._shell.run_cell(source, store_history=False)
        finally:
            self._shell.showtraceback = shown
        error = done.error_before_exec or done.error_in_exec
        if error is not None:
            raise error


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext flor`."""
    magics = Magics(shell)
    shell.register_magic_function(magics.flor, "cell", "flor")
    shell.register_magic_function(magics.show, "line", "flor_show")
    atexit.register(magics.end)


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext flor`: the run ends."""
    known = shell.magics_manager.magics
    magics = getattr(known["cell"].pop("flor", None), "__self__", None)
    known["line"].pop("flor_show", None)
    if isinstance(magics, Magics):
        magics.end()
        atexit.unregister(magics.end)
