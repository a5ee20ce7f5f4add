from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from activarium.flows import output
from activarium.flows.progress_bars import current_progress, progress_bars

ODD = "[/b] [red]x :smile:"


@pytest.fixture
def printed(monkeypatch):
    """What is printed to the standard output from here on."""
    stream = io.StringIO()
    monkeypatch.setattr(output.out, "file", stream)
    return stream


@pytest.mark.parametrize(
    ("fdr", "shown"), [(0.01, "1%"), (0.001, "0.1%"), (0.07, "7%"), (1e-6, "0.0001%")]
)
def test_layer_table__caption_tells_small_rates(fdr, shown):
    layer = {
        "layer": ODD, "units": 3, "selective_fraction": 0.5, "dead_fraction": 0.0,
        "knn_purity": None, "probe_accuracy": None, "eta2_mean": 0.1,
        "eta2_mean_shuffled": None, "eta2_mean_untrained": None,
        "chance_verdict": "beyond", "architecture_verdict": None,
    }  # fmt: skip
    table = output._layer_table({"fdr": fdr, "layers": [layer], "classes_present": 2})
    assert f"at FDR {shown};" in table.caption


@pytest.mark.parametrize(
    ("chance", "architecture", "said"),
    [
        ("beyond", "beyond", "chance, untrained"),
        ("not beyond", "not beyond", "nothing"),
        (None, "beyond", "untrained"),
        ("beyond", "undecided", "chance, untrained?"),
        ("undecided", None, "chance?"),
        (None, None, "-"),
    ],
)
def test_beyond__says_nothing_of_what_was_not_tested(chance, architecture, said):
    layer = {"chance_verdict": chance, "architecture_verdict": architecture}
    assert output._beyond(layer) == said


@pytest.mark.parametrize("tty", [False, True])
def test_progress__description_is_no_markup(tty):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=tty, width=200, color_system=None)
    with progress_bars(console), current_progress()(ODD, 3) as advance:
        advance(1)
    assert ODD in stream.getvalue()


def test_print_rows__lists_and_headings_are_no_markup(printed):
    output.print_rows([{ODD: [ODD, None]}], [ODD])
    assert [line.strip() for line in printed.getvalue().splitlines()] == [ODD, f"{ODD} None"]


def test_print_json__odd_numbers_and_letters(printed):
    output.print_json({1: float("inf"), "x": (float("nan"), 2), "letters": "caf\u00e9\udcff"})
    found = json.loads(printed.getvalue())
    assert found == {"1": None, "x": [None, 2], "letters": "caf\u00e9\udcff"}


def test_print_error__is_one_line_also_where_a_name_has_a_line_break(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(output.err, "file", stream)
    output.print_error(ValueError(), f"no file a\nb {ODD}", verbose=False)
    assert stream.getvalue() == f"error: no file a b {ODD}\n"
