"""What the command line prints: summaries and tables for people, JSON for programs."""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import MOST_LINE, shortened, shown
from activarium.schemas.layer_tables import UNDECIDED, VERDICTS
from activarium.tasks.entry_points import LOADING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import ConsoleOptions, RenderableType

    from activarium.flows.pipeline import RunReceipt
    from activarium.tasks.stores.verify import Verification

WIDE = None if sys.stdout.isatty() else 200
"""Columns of a file or pipe, so that tables do not wrap there."""


class SafeConsole(Console):
    """A console that shows what it prints as letters: nothing in a name steers the terminal.

    Whatever is printed comes through here: text, tables and progress bars.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield the segments of what is printed, their text as it may be shown."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text, kept="\n"), style, control)


# Names and messages may hold what Rich reads as markup or emoji: style is given as Text only.
out = SafeConsole(highlight=False, markup=False, emoji=False, soft_wrap=True, width=WIDE)
err = SafeConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

EXAMPLE_QUERY = (
    "SELECT unit, average_precision_class, average_precision_crossfit, eta2 FROM trained_units "
    "WHERE q_value < 0.01 ORDER BY crossfit_gain DESC LIMIT 5"
)


def print_json(value: Any) -> None:
    """Print one JSON document, which every reader of JSON accepts."""
    write_out(as_json(value) + "\n")


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Return a value as JSON that every reader accepts: null for NaN, infinity and NULL."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return the value as JSON knows it: null for NaN, infinity and NULL."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        # A column of decimals has one scale: all of its values become int, or all float.
        return int(value) if value.as_tuple().exponent == 0 else _plain(float(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def print_error(error: BaseException, message: str, *, verbose: bool) -> None:
    """Print an error as one line, and where it came from if that was asked for."""
    err.print(Text.assemble(("error: ", "red"), " ".join(shortened(message, MOST_LINE).split())))
    if verbose:
        err.print("".join(traceback.format_exception(error)), end="")


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things, in the plural where they are not one.

    >>> counted(1, "output"), counted(1_200, "class", "classes")
    ('1 output', '1,200 classes')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def small(value: float, log10: float) -> str:
    """Return a probability, by its logarithm where a double cannot hold it."""
    return f"{value:.1e}" if value > 0 else f"1e{log10:.0f}"


def print_summary(summary: dict[str, Any], receipt: RunReceipt, atlas: Atlas, query: str) -> None:
    """Print what a run found, where everything is, and what to ask next."""
    from activarium.tasks.reporting.summary import held_out

    out.print(Text(summary["recording"], "bold"))
    share = summary["accuracy"]
    accuracy = "" if share is None else f"accuracy {percent(share, 2)} on "
    analysed, images = summary["analysed_images"], summary["images"]
    of = "" if analysed == images else f"{analysed:,} of "
    out.print(
        f"{accuracy}{of}{counted(analysed if not of else images, 'image')}; "
        f"{counted(summary['units'], 'unit')} in {counted(len(summary['layers']), 'layer')}"
    )
    _print_outputs(summary["outputs"], summary["classes"])
    print_invalid(summary["invalid_images"])
    out.print(_layer_table(summary))
    out.print(Text(summary["answer"], "bold"))
    if summary["strongest"]:
        out.print("strongest units:")
    for unit in summary["strongest"]:
        out.print(
            f"  {shown(unit['unit']):<20} detects {shown(unit['average_precision_class'])}: "
            f"{held_out(unit)}, q {small(unit['q_value'], unit['q_log10'])}"
        )
    out.print(
        f"\nreport      {receipt.report.path}\n"
        f"tables      {atlas.tables}\n"
        f"recordings  {atlas.recordings}\n"
        f"next        {query}"
    )


def _print_outputs(outputs: int, classes: int) -> None:
    if outputs != classes or outputs == 1:
        message = (
            f"the model has {counted(outputs, 'output')}, the test set "
            f"{counted(classes, 'class', 'classes')}: predictions cannot be compared, accuracy is left "
            "out"
        )
        if outputs == 1:
            message += "; one output gives no confidence, margin or entropy"
        out.print(Text(message, "yellow"))


def print_notices(lines: Sequence[str]) -> None:
    """Tell what the user should know, beside the result."""
    for line in dict.fromkeys(lines):
        err.print(Text.assemble(("note: ", "yellow"), shown(line)))


class _Loading(logging.Handler):
    """Prints which files of others are loaded, each once."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        line = record.getMessage()
        if line not in self._told:
            self._told.add(line)
            print_notices([line])


@contextmanager
def telling_what_is_loaded() -> Iterator[None]:
    """Print meanwhile which files of others a command loads: code of theirs may run."""
    before = LOADING.level, LOADING.propagate
    handler = _Loading()
    LOADING.addHandler(handler)
    LOADING.setLevel(logging.INFO)
    LOADING.propagate = False
    try:
        yield
    finally:
        LOADING.removeHandler(handler)
        level, LOADING.propagate = before
        LOADING.setLevel(level)


def print_invalid(names: Sequence[str]) -> None:
    """Name the images that could not be decoded."""
    if names:
        some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        what = f"{counted(len(names), 'image')} could not be decoded: "
        out.print(Text.assemble((what, "yellow"), shown(some)))


CONTROL_HEADINGS = {
    "eta2_mean_shuffled": "shuffled",
    "eta2_mean_untrained": "untrained",
}
"""Columns of `layers` that hold the controls' eta squared, and what they are called."""


def _layer_table(summary: dict[str, Any]) -> Table:
    layers = summary["layers"]
    controls = [key for key in CONTROL_HEADINGS if any(row[key] is not None for row in layers)]
    caption = (
        f"selective: share of units that differ between classes at FDR {100 * summary['fdr']:g}%; "
        "eta2: share of a unit's variance that is associated with the class, mean over units"
    )
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
        caption=caption,
        caption_style="dim",
        caption_justify="left",
    )
    table.add_column("layer", no_wrap=True)
    headings = ("units", "selective", "dead", "k-NN purity", "probe", "eta2")
    for heading in (*headings, *(CONTROL_HEADINGS[key] for key in controls), "beyond"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        dead = round(layer["dead_fraction"] * layer["units"])
        table.add_row(
            shown(layer["layer"]),
            str(layer["units"]),
            percent(layer["selective_fraction"]),
            str(dead),
            percent(layer["knn_purity"]),
            percent(layer["probe_accuracy"]),
            percent(layer["eta2_mean"]),
            *(percent(layer[key]) for key in controls),
            _beyond(layer),
        )
    return table


def _beyond(layer: dict[str, Any]) -> str:
    """Return what a layer's class preference goes beyond, and what could not be decided."""
    told = {"chance": layer["chance_verdict"], "untrained": layer["architecture_verdict"]}
    beyond = [what for what, verdict in told.items() if verdict == VERDICTS[0]]
    beyond += [f"{what}?" for what, verdict in told.items() if verdict == UNDECIDED]
    return ", ".join(beyond) or ("nothing" if any(told.values()) else "-")


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a plain table."""
    print_table(columns, [[row.get(column) for column in columns] for row in rows])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print cells below their headings; only a terminal's table is folded to its width."""
    headings = [shown(column) for column in columns]
    cells = [[_cell(value) for value in row] for row in rows]
    if not out.is_terminal:
        _print_unfolded([headings, *cells])
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    out.print(table)


def _print_unfolded(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        parts = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        )
        write_out("  ".join(parts).rstrip() + "\n")


def _cell(value: Any) -> str:
    """Return a value as one line that a terminal may show."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return shown(" ".join(str(each) for each in value))
    # Before the table is laid out, so that its columns are as wide as what is printed.
    return "" if value is None else shown(str(value))


def write_out(text: str) -> None:
    """Write to the standard output; ends quietly where nobody reads it any more, as with `head`."""
    try:
        out.file.write(text)
        out.file.flush()
    except BrokenPipeError:
        out.on_broken_pipe()


def print_verification(found: Verification) -> None:
    """Print what is damaged, what is unfinished, and what could not be checked."""
    for fault in found.faults:
        name = (f"{fault.recording} ", "red") if fault.recording else ""
        remedy = f" ({fault.remedy})" if fault.remedy else ""
        out.print(Text.assemble(name, f"{fault.where}: {fault.problem}{remedy}"))
    for each in found.unfinished:
        out.print(Text.assemble((each.name, "yellow"), f" is unfinished: {each.problem}"))
    for name in found.tables_only:
        out.print(f"{name}: the recording is gone, its tables were checked", markup=False)
    for name in found.unknown:
        out.print(Text.assemble((name, "yellow"), " is unknown: no checksum covers it"))
    for name in found.checked_less:
        what = " was written by an earlier version: checked less"
        out.print(Text.assemble((name, "yellow"), what))
    out.print(
        f"{found.objects} objects, {counted(found.recordings, 'recording')}: "
        f"{len(found.faults)} damaged, {len(found.unfinished)} unfinished, "
        f"{len(found.unknown)} unknown"
    )


def print_receipt(receipt: Any, *, json: bool, text: str) -> None:
    """Print what one stage made, or that it was there."""
    if json:
        print_json(receipt.model_dump(mode="json"))
    else:
        out.print(text if receipt.made else f"{text} (was there already, nothing made anew)")
