"""The examples of docs/tables.md, the README and the command line: each gives the rows that it claims."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from activarium.flows.output import EXAMPLE_QUERY
from activarium.tasks.reporting.query import query

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = re.compile(r"activarium query (.+)")
RUN = ("docs/tables.md", "README.md", "flows/cli_atlas.py")
"""Files whose examples ask tables that every analysed atlas has."""


def arguments_of(command):
    """Return the query of an example, and the recordings that it names."""
    words = shlex.split(command.replace("[/]", ""))
    recordings = []
    while "--recording" in words:
        place = words.index("--recording")
        recordings.append(words[place + 1])
        del words[place : place + 2]
    return words[0], recordings


def examples(path):
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    return [arguments_of(found) for found in EXAMPLE.findall(text)]


EXAMPLES = [each for path in RUN for each in examples(path)] + [(EXAMPLE_QUERY, [])]


def asked(atlas, start):
    """Return the rows of the example of docs/tables.md whose query begins so."""
    (found,) = [each for each in examples("docs/tables.md") if each[0].startswith(start)]
    return query(atlas, found[0], recordings=found[1]).to_pandas()


def test_examples__there_are_some():
    assert len(EXAMPLES) > 7


@pytest.mark.parametrize("example", EXAMPLES, ids=[sql[:60] for sql, _ in EXAMPLES])
def test_examples__run_and_do_not_mix_what_is_untrained(example, study, analysed):
    sql, recordings = example
    # A unit of the demo's network, and one of the same rank here.
    sql = sql.replace("conv1/2", "conv1/4")
    found, other = (query(each, sql, recordings=recordings) for each in (study, analysed.atlas))
    assert max(found.num_rows, other.num_rows) > 0
    of_recordings = "recording" in found.column_names
    assert of_recordings or "trained_" in sql, "rows of controls look like any other"
    assert "LIMIT" in sql or "GROUP BY" in sql


def test_examples__auroc_is_that_of_the_class_beside_it(analysed, toy):
    values, label = toy.labelled
    names, unit_names = toy.array("class").tolist(), toy.array("unit").tolist()

    def area(unit, name):
        return roc_auc_score(label == names.index(name), values[:, unit_names.index(unit)])

    clear = asked(analysed.atlas, "SELECT unit, preferred_class, preferred_auroc, eta2")
    assert (np.diff(clear.preferred_auroc) <= 0).all()
    for row in clear.itertuples():
        assert row.preferred_auroc == pytest.approx(area(row.unit, row.preferred_class), rel=1e-9)
    other = asked(analysed.atlas, "SELECT unit, preferred_class, preferred_auroc, auroc_class")
    assert len(other)
    for row in other.itertuples():
        assert row.preferred_class != row.auroc_class
        assert row.auroc == pytest.approx(area(row.unit, row.auroc_class), rel=1e-9)
        assert row.preferred_auroc == pytest.approx(area(row.unit, row.preferred_class), rel=1e-9)
        assert row.preferred_auroc <= row.auroc


def test_examples__layers_stand_beside_their_controls(study, studied):
    found = asked(study, "SELECT layer, eta2_mean")
    assert found.layer.tolist() == studied.frame("layers").layer.tolist()
    assert found.notna().all(axis=None)


def test_examples__python_of_the_page_keeps_the_trained_rows(study, monkeypatch):
    text = (REPOSITORY / "docs/tables.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.+?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(study.root.parent)
    names: dict[str, object] = {}
    exec(snippet.replace("atlas/tables", f"{study.root}/tables"), names)  # noqa: S102 - ours
    assert set(names["units"].recording) == {"toy"}
