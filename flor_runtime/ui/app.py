"""`flor ui`. A marimo application: a copy of this file can be changed and shown with `flor ui --app COPY`."""

import marimo

app = marimo.App(width="full", app_title="flor")


@app.cell
def _():
    from pathlib import Path

    import marimo as mo

    from flor_runtime.errors import FlorError
    from flor_runtime.ui import charts, curves, frames, markup, names, plans, runs, versions

    return FlorError, Path, charts, curves, frames, markup, mo, names, plans, runs, versions


@app.cell
def _(markup, mo):
    def shown(inner):
        """Markup in our style; whatever of it comes from runs has been escaped."""
        return mo.Html(markup.wrapped(inner))

    return (shown,)


@app.cell
def _(mo):
    scope = mo.ui.radio({"this project": None, "all projects": "all"}, value="this project", inline=True)
    again = mo.ui.button(label="Read again", tooltip="New runs, and those that go on")
    return again, scope


@app.cell
def _(FlorError, again, runs, scope):
    again.value
    try:
        table, wrong = runs.read(scope.value), ""
        if not table.folders and scope.value is None:
            table = runs.read("all")
    except FlorError as error:
        table, wrong = None, str(error)
    return table, wrong


@app.cell
def _(again, markup, mo, scope, shown, table, wrong):
    _count = len(table.folders) if table is not None else 0
    _said = f"{_count} run{'s' * (_count != 1)}" if not wrong else ""
    _style = f"<style>{markup.STYLE}{markup.PLAIN}</style>"
    mo.hstack(
        [
            shown(f'{_style}<b class="brand">flor</b><span class="soft">{_said}</span>'),
            mo.hstack([scope, again], justify="end"),
        ]
    )
    return


@app.cell
def _(markup, mo, shown, table, wrong):
    if wrong:
        mo.stop(True, shown(f"<p>{markup.text(wrong, 500)}</p>"))
    if not table.folders:
        mo.stop(True, shown("<p>No runs yet: <code>flor run train.py</code> records one.</p>"))
    return


@app.cell
def _(frames, mo, table):
    mo.stop(table is None or not table.folders)
    _grid = frames.of_runs(table)
    chooser = mo.ui.table(
        _grid.frame,
        initial_selection=list(range(min(6, len(_grid.frame)))),
        page_size=12,
        show_column_summaries=False,
        show_data_types=False,
        freeze_columns_left=["run"],
        format_mapping=_grid.formats,
        text_justify_columns=_grid.sides,
        header_tooltip=_grid.tooltips,
        style_cell=_grid.style,
        hover_template=_grid.hover,
        max_columns=frames.MOST_COLUMNS,
    )
    return (chooser,)


@app.cell
def _(chooser, frames, markup, mo, shown, table):
    _labels = [label for column in table.columns for label in column.labels if label]
    mo.vstack(
        [chooser, shown(markup.legend(_labels, marks=False) + markup.notes([*frames.left_out(table), *table.notes]))]
    )
    return


@app.cell
def _(chooser, mo, table):
    _picked = set(chooser.value["run"])  # no two runs have the same title
    _rows = [row for row, title in enumerate(table.titles) if title in _picked]
    selected = [table.folders[row] for row in _rows]
    titles = [table.titles[row] for row in _rows]
    section = mo.ui.tabs(dict.fromkeys(("Curves", "Values", "Code", "Names", "Replay"), ""))
    return section, selected, titles


@app.cell
def _(section):
    section
    return


@app.cell
def _(frames, mo, table):
    _every = frames.drawable(table)
    choice = mo.ui.multiselect(_every, value=list(_every)[:4])
    log = mo.ui.switch(label="logarithmic")
    return choice, log


@app.cell
def _(FlorError, charts, choice, curves, frames, log, markup, mo, section, selected, shown, titles):
    mo.stop(section.value != "Curves")
    mo.stop(not selected, shown('<p class="note">Select runs in the table to see their curves.</p>'))
    _folders, _titles = selected[: frames.MOST_RUNS], titles[: frames.MOST_RUNS]
    try:
        _panels = curves.panels(
            _folders, _titles, choice.value, curves.share(len(_folders) * max(len(choice.value), 1))
        )
    except FlorError as _error:
        _panels = []
    _parts = []
    for _panel in _panels:
        _chart = mo.as_html(charts.chart(_panel, _titles[::-1], log=log.value)).text
        _parts.append(f"<div>{markup.heading(_panel.name)}{_chart}{markup.notes(curves.remarks(_panel))}</div>")
    _said = []
    if len(selected) > len(_folders):
        _said = [f"the first {len(_folders)} of the {len(selected)} runs that are selected"]
    mo.vstack(
        [
            mo.hstack([choice, log], justify="start", align="center", gap=2),
            shown(markup.notes(_said) + markup.dashes(_panels) + markup.grid(_parts)),
        ]
    )
    return


@app.cell
def _(FlorError, choice, frames, markup, mo, section, selected, shown, titles):
    mo.stop(section.value != "Values")
    mo.stop(not selected, shown('<p class="note">Select runs in the table to see their values.</p>'))
    try:
        _grid = frames.of_values(selected[: frames.MOST_RUNS], titles[: frames.MOST_RUNS])
    except FlorError as _error:
        mo.stop(True, shown(markup.notes([str(_error)])))
    _shown = mo.ui.table(
        _grid.frame,
        selection=None,
        page_size=20,
        show_column_summaries=False,
        show_data_types=False,
        freeze_columns_left=["run"],
        format_mapping=_grid.formats,
        text_justify_columns=_grid.sides,
        header_tooltip=_grid.tooltips,
        style_cell=_grid.style,
        hover_template=_grid.hover,
        max_columns=frames.MOST_COLUMNS,
    )
    mo.vstack([_shown, shown(markup.legend(_grid.labels, marks=False) + markup.notes(_grid.notes))])
    return


@app.cell
def _(mo, table, titles):
    _codes = {title: row for row, title in enumerate(table.titles)}
    _two = [*titles[:2], *table.titles][:2] if len(titles) < 2 else titles[:2]
    newer = mo.ui.dropdown(_codes, value=_two[0], searchable=True)
    older = mo.ui.dropdown(_codes, value=_two[-1], searchable=True)
    return newer, older


@app.cell
def _(FlorError, markup, mo, newer, older, section, shown, table, versions):
    mo.stop(section.value != "Code")
    try:
        _manifests = [table.folders[each.value].manifest() for each in (older, newer) if each.value is not None]
        _body = markup.difference(versions.difference(*_manifests)) if len(_manifests) == 2 else ""
    except FlorError as _error:
        _body = markup.notes([str(_error)])
    mo.vstack([mo.hstack([older, shown('<span class="soft">→</span>'), newer], justify="start"), shown(_body)])
    return


@app.cell
def _(mo):
    wanted = mo.ui.text(placeholder="grad_norm", label="Where would the statements of today's script go?")
    look = mo.ui.run_button(label="Look")
    return look, wanted


@app.cell
def _(look, markup, mo, names, section, shown, table, wanted):
    mo.stop(section.value != "Names")
    _asked = [part.strip() for part in wanted.value.split(",") if part.strip()]
    _body = ""
    if look.value and _asked:
        try:
            _body = markup.places(names.places(_asked))
        except Exception as _error:
            _body = markup.notes([str(_error)])
    mo.vstack(
        [
            shown(markup.coverage(names.coverage(table), len(table.folders))),
            mo.hstack([wanted, look], justify="start", align="end"),
            shown(_body),
        ]
    )
    return


@app.cell
def _(mo):
    recover = mo.ui.text(placeholder="grad_norm, lr", label="Names that today's script logs")
    make_plan = mo.ui.run_button(label="Plan a replay")
    return make_plan, recover


@app.cell
def _(FlorError, make_plan, markup, mo, plans, recover, section, selected, shown, titles):
    mo.stop(section.value != "Replay")
    _names = [part.strip() for part in recover.value.split(",") if part.strip()]
    _body = ""
    if make_plan.value:
        try:
            _ids = {folder.id: title for folder, title in zip(selected, titles, strict=True)}
            _body = markup.plan(plans.plan(_names, _ids))
        except FlorError as _error:
            _body = markup.notes([str(_error)])
    _hint = f"of the {len(selected)} selected runs" if selected else "of all runs of the script"
    mo.vstack(
        [
            mo.hstack([recover, make_plan, shown(f'<span class="soft">{_hint}</span>')], justify="start", align="end"),
            shown('<p class="note">Only the plan is made: this page runs nothing, and writes nothing.</p>' + _body),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
