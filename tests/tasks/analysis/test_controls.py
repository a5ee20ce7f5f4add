"""What stands beside the real thing in layers: permuted labels, and the untrained model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layer_tables import CONTROLLED
from activarium.tasks.analysis import analyse as module
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.selected import select
from activarium.tasks.analysis.untrained import untrained_recording
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=0, fdr=0.05)
BOTH = CONFIG.model_copy(update={"controls": ("shuffle", "untrained")})


def test_layers__shuffled_columns_equal_an_analysis_of_the_permuted_labels(
    atlas, study, studied, study_config, make_raw, write_recording, stored
):
    recording = Recording(place_at(study.recording("toy")))
    chosen = select(recording, study_config).chosen
    label = recording.labels.copy()
    label[chosen.row[: chosen.labelled]] = chosen.shuffled
    raw = replace(
        make_raw(images=83), responses=studied.array("channel_mean"), label=label,
        valid=studied.valid, active=studied.array("channel_active"),
    )  # fmt: skip
    config = study_config.model_copy(update={"controls": (), "permutations": 0})
    analyse(atlas, write_recording(atlas, raw), config=config)
    shuffled, found = stored(atlas).frame("layers"), studied.frame("layers")
    for name in CONTROLLED:
        np.testing.assert_allclose(
            found[f"{name}_shuffled"], shuffled[name], rtol=1e-9, err_msg=name
        )


def test_layers__shuffled_labels_are_a_permutation_that_keeps_class_sizes(study, study_config):
    chosen = select(Recording(place_at(study.recording("toy"))), study_config).chosen
    assert np.bincount(chosen.shuffled).tolist() == np.bincount(chosen.code).tolist()
    assert (chosen.shuffled != chosen.code).sum() > chosen.labelled / 3


def test_layers__shuffled_columns_are_about_chance(atlas, make_raw, write_recording, stored):
    raw = make_raw(seed=6, images=300)
    raw.responses[:, 4] += 5 * raw.label
    config = CONFIG.model_copy(update={"controls": ("shuffle",)})
    analyse(atlas, write_recording(atlas, raw), config=config)
    frame = stored(atlas).frame("layers")
    assert (frame.selective_fraction_shuffled <= 0.2).all()
    assert (frame.eta2_mean_shuffled < 0.03).all()
    assert (frame.knn_purity_shuffled - 1 / 3).abs().max() < 0.06
    assert (frame.probe_accuracy_shuffled - 1 / 3).abs().max() < 0.12
    first = frame.iloc[0]
    assert first.eta2_mean > 4 * first.eta2_mean_shuffled
    assert first.knn_purity > first.knn_purity_shuffled + 0.2
    assert first.probe_accuracy > first.probe_accuracy_shuffled + 0.3


def test_layers__untrained_columns_are_the_controls_own_rows(studied, stored, study):
    found = studied.frame("layers").set_index("layer")
    control = stored(study, "untrained").frame("layers").set_index("layer")
    for name in CONTROLLED:
        assert found[f"{name}_untrained"].tolist() == control[name].tolist(), name


def test_layers__architecture_p_compares_the_units_of_both(studied, stored, study):
    stores = studied, stored(study, "untrained")
    own, control = (each.frame("units") for each in stores)
    tables = [each.frame("layers") for each in stores]
    for row in studied.frame("layers").itertuples():
        first, second = (each.eta2[each.layer == row.layer] for each in (own, control))
        pairs = first.to_numpy()[:, None] - second.to_numpy()
        u = (pairs > 0).sum() + 0.5 * (pairs == 0).sum()
        n, m = (
            min(max(layers.effective_dimension[row.layer], 1), row.units)
            for layers in (each.set_index("layer") for each in tables)
        )
        z = (u / pairs.size - 0.5) / np.sqrt((n + m + 1) / (12 * n * m))
        assert row.architecture_p == pytest.approx(stats.norm.sf(z), rel=1e-9)
        assert row.beyond_architecture == (row.architecture_p <= 0.05)


def test_layers__without_controls_their_columns_are_null(toy):
    table = toy.table("layers")
    columns = [
        name for name in table.column_names if name.endswith(("_shuffled", "_untrained"))
    ] + ["beyond_architecture", "architecture_p"]
    assert len(columns) == 2 * len(CONTROLLED) + 2
    for column in columns:
        assert table.column(column).null_count == 3, column


def test_layers__layer_that_the_control_lacks_is_null(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    first, second, last = raw.layers
    other = replace(raw, layers=(first, replace(second, name="layer9"), last))
    config = CONFIG.model_copy(update={"controls": ("untrained",)})
    analyse(atlas, write_recording(atlas, other, "untrained"), config=CONFIG)
    analyse(atlas, write_recording(atlas, raw), config=config)
    frame = stored(atlas).frame("layers")
    for column in ("eta2_mean_untrained", "architecture_p", "beyond_architecture"):
        assert frame[column].isna().tolist() == [False, True, False], column


def test_layers__control_that_is_the_same_is_not_exceeded(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    config = CONFIG.model_copy(update={"controls": ("untrained",)})
    analyse(atlas, write_recording(atlas, raw, "untrained"), config=CONFIG)
    analyse(atlas, write_recording(atlas, raw), config=config)
    frame = stored(atlas).frame("layers")
    assert (frame.architecture_p > 0.4).all()
    assert not frame.beyond_architecture.any()


def test_layers__control_without_classes_gives_null(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    unlabelled = replace(raw, label=np.full_like(raw.label, -1))
    analyse(atlas, write_recording(atlas, unlabelled, "untrained"), config=CONFIG)
    analyse(atlas, write_recording(atlas, raw), config=BOTH)
    frame = stored(atlas).frame("layers")
    for column in ("eta2_mean_untrained", "architecture_p", "beyond_architecture"):
        assert frame[column].isna().all(), column


def test_layers__constant_units_in_both_are_not_beyond(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    raw.responses[raw.valid] = 1.0
    analyse(atlas, write_recording(atlas, raw, "untrained"), config=CONFIG)
    analyse(atlas, write_recording(atlas, raw), config=BOTH)
    frame = stored(atlas).frame("layers")
    assert frame.architecture_p.tolist() == [1, 1, 1]
    assert frame.selective_fraction_shuffled.tolist() == [0, 0, 0]


def test_analyse__control_without_tables_says_what_to_do_before_anything_is_computed(
    atlas, make_raw, write_recording, monkeypatch
):
    recording = write_recording(atlas, make_raw())
    monkeypatch.setattr(module, "run_pieces", None)
    with pytest.raises(UserError, match="run `activarium analyse untrained` first") as caught:
        analyse(atlas, recording, config=BOTH)
    assert "\n" not in str(caught.value)
    assert not atlas.tables.exists()


def test_analyse__target_needs_no_control(atlas, make_raw, write_recording):
    config = BOTH.model_copy(update={"target": "confidence"})
    assert analyse(atlas, write_recording(atlas, make_raw()), config=config).made


def test_analyse__two_recordings_as_controls_are_an_error(atlas, make_raw, write_recording):
    config = CONFIG.model_copy(update={"controls": ("shuffle", "one", "other")})
    with pytest.raises(UserError, match="expected shuffle and one recording, got one, other"):
        analyse(atlas, write_recording(atlas, make_raw()), config=config)


@pytest.mark.parametrize(
    ("controls", "expected"), [((), None), (("shuffle",), None), (("a", "shuffle"), "a")]
)
def test_untrained_recording__is_the_control_that_is_not_shuffle(controls, expected):
    assert untrained_recording(CONFIG.model_copy(update={"controls": controls})) == expected


def test_analyse__changed_tables_of_the_control_make_the_tables_anew(
    atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    control = write_recording(
        atlas, replace(raw, responses=make_raw(seed=1).responses), "untrained"
    )
    recording = write_recording(atlas, raw)
    analyse(atlas, control, config=CONFIG)
    assert analyse(atlas, recording, config=BOTH).made
    assert not analyse(atlas, recording, config=BOTH).made
    analyse(atlas, control, config=CONFIG.model_copy(update={"fdr": 0.5}))
    assert analyse(atlas, recording, config=BOTH).made
    found = stored(atlas).frame("layers").selective_fraction_untrained.tolist()
    assert found == stored(atlas, "untrained").frame("layers").selective_fraction.tolist()


def test_analyse__control_beside_a_selection_is_the_same_selection_of_it(
    atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    control = write_recording(atlas, raw, "untrained")
    analyse(atlas, control, config=CONFIG)
    few = {"where": "image_index < 40", "name": "few"}
    beside = BOTH.model_copy(update=few)
    with pytest.raises(UserError, match="--where-of toy --name few` first"):
        analyse(atlas, write_recording(atlas, raw), config=beside)
    analyse(atlas, control, config=CONFIG.model_copy(update=few))
    analyse(atlas, write_recording(atlas, raw), config=beside)
    found = stored(atlas, "toy~few").frame("layers")
    control_rows = stored(atlas, "untrained~few").frame("layers")
    assert found.eta2_mean_untrained.tolist() == control_rows.eta2_mean.tolist()
    assert found.eta2_mean_shuffled.notna().all()
