"""Tables that keep some classes of each unit alone: what is kept is what there was, q-values too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import analyse, analysis_inputs
from activarium.tasks.analysis.class_rows import first_classes
from activarium.tasks.reporting.report import write_report

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=9, exemplars=3, class_exemplars=2)
KEY = ["layer", "channel", "class"]


@pytest.fixture(scope="module")
def limited(tmp_path_factory, make_raw, write_recording, stored):
    """Tables of one recording, by how many classes are kept; None is all."""
    found = {}
    for top in (None, 0, 2, 99):
        atlas = Atlas(tmp_path_factory.mktemp("limited"))
        recording = write_recording(atlas, make_raw(), "toy")
        analyse(atlas, recording, config=CONFIG.model_copy(update={"top_classes": top}))
        found[top] = stored(atlas)
    return found


@pytest.mark.parametrize("top", [2, 99])
def test_top_classes__rows_are_those_of_the_whole_table(limited, top):
    whole, part = (limited[each].frame("unit_classes") for each in (None, top))
    ranked = whole[whole["class_rank"] > 0].sort_values(
        ["depth" if "depth" in whole else "layer", "channel", "class_rank"], kind="stable"
    )
    expected = ranked.groupby(["layer", "channel"], sort=False).head(top)
    pd.testing.assert_frame_equal(*(_sorted(each) for each in (part, expected)))


def _sorted(frame):
    return frame.sort_values(KEY, ignore_index=True)


def test_top_classes__none_leaves_the_table_empty(limited):
    assert limited[0].table("unit_classes").num_rows == 0
    assert limited[0].frame("exemplars")["class"].isna().all()


@pytest.mark.parametrize("top", [0, 2, 99])
def test_top_classes__exemplars_of_all_classes_together_stay(limited, top):
    whole, part = (limited[each].frame("exemplars") for each in (None, top))
    kept = limited[top].frame("unit_classes")[KEY].apply(tuple, axis=1).tolist() if top else []
    is_kept = whole["class"].isna() | whole[KEY].apply(tuple, axis=1).isin(kept)
    pd.testing.assert_frame_equal(part, whole[is_kept].reset_index(drop=True))


@pytest.mark.parametrize("top", [0, 2, 99])
@pytest.mark.parametrize("table", ["units", "layers", "class_pairs", "images", "recordings"])
def test_top_classes__change_no_other_table(limited, top, table):
    assert limited[top].table(table).equals(limited[None].table(table))


def test_first_classes__of_equal_means_are_the_lower_codes():
    rank = np.array([[1, 1, 1, 0], [2, 0, 1, 3], [0, 0, 0, 0]])
    for most in range(6):
        kept = first_classes(rank, most)
        assert kept.sum(axis=1).tolist() == [min(most, 3), min(most, 3), 0]
    assert first_classes(rank, 2).tolist() == [
        [True, True, False, False],
        [True, False, True, False],
        [False] * 4,
    ]


def test_top_classes__tables_of_before_stay_current(limited, monkeypatch):
    atlas, recording = limited[None].atlas, _opened(limited[None])
    now = analysis_inputs(atlas, recording, CONFIG)
    assert not analyse(atlas, recording, config=CONFIG).made
    fields = {name: each for name, each in CONFIG.model_dump().items() if name != "top_classes"}
    monkeypatch.setattr(
        AnalyseConfig, "model_dump", lambda *_, exclude, **__: _but(fields, exclude)
    )
    assert analysis_inputs(atlas, recording, CONFIG) == now


def _but(fields, exclude):
    return {
        name: list(each) if isinstance(each, tuple) else each
        for name, each in fields.items()
        if name not in exclude
    }


def _opened(stored):
    from activarium.tasks.stores.recording import open_recording

    return open_recording(stored.atlas, stored.name)


@pytest.mark.parametrize("top", [0, 2])
def test_report__is_drawn_of_what_is_kept(limited, top):
    atlas = limited[top].atlas
    page = write_report(atlas, ["toy"], name="page").path.read_text()
    assert "Which</span> unit prefers which class?" in page
