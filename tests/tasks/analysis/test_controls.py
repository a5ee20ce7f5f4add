"""What stands beside the real thing in layers: permuted labels, and the untrained model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layer_tables import CONTRASTED, CONTROLLED
from activarium.tasks.analysis import analyse as module
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.selected import select
from activarium.tasks.analysis.untrained import untrained_recording
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording

from ..conftest import Raw

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


def test_layers__one_untrained_recording_is_one_draw(studied, stored, study):
    found = studied.frame("layers").set_index("layer")
    control = stored(study, "untrained").frame("layers").set_index("layer")
    np.testing.assert_allclose(found.eta2_mean_untrained, control.eta2_mean, rtol=1e-9)
    np.testing.assert_allclose(found.probe_accuracy_untrained, control.probe_accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.eta2_mean_sampled, found.eta2_mean, rtol=1e-9)
    assert found.draws.tolist() == [1, 1, 1]
    assert set(found.architecture_verdict) == {"undecided"}
    assert found.eta2_mean_untrained_p.isin([0.5, 1.0]).all()
    assert found.eta2_mean_gain_low.isna().all()


DRAWS = 19


class Drawn(Raw):
    """Images of a recording under draws, one draw after the other."""

    @property
    def image_names(self):
        count = len(self.label) // DRAWS
        return [
            f"draw-{row // count:04d}/set/{row % count:04d}.png" for row in range(DRAWS * count)
        ]


@pytest.fixture
def drawn(atlas, make_raw, write_recording):
    """Return a recording, the responses of untrained networks, and the id of their recording."""
    raw = make_raw()
    rng = np.random.default_rng(5)
    responses = rng.normal(size=(DRAWS, *raw.responses.shape)).astype(np.float32)
    responses += 0.3 * rng.normal(size=(DRAWS, 1, 1)) * raw.label[:, None]
    responses[:, ~raw.valid] = np.nan
    rows = {
        each: np.concatenate([getattr(raw, each)] * DRAWS)
        for each in ("active", "logits", "pooled", "label", "valid", "thumbnail")
    }
    whole = Drawn(**(vars(raw) | rows | {"responses": np.concatenate([*responses])}))
    place = write_recording(atlas, whole, "toy-untrained-19-draws").place
    main = write_recording(atlas, raw)
    attributes = zarr.open_group(place.path, mode="r+").attrs
    attributes.update(draws=DRAWS, sampled_from_sha256=main.attributes["images_sha256"])
    return raw, responses, CONFIG.model_copy(update={"controls": ("toy-untrained-19-draws",)})


def test_layers__draws_are_a_distribution(atlas, drawn, stored):
    raw, responses, config = drawn
    analyse(atlas, Recording(place_at(atlas.recording("toy"))), config=config)
    frame = stored(atlas).frame("layers").set_index("layer")
    used = raw.valid & (raw.label >= 0)
    label = raw.label[used]

    def eta2(values):
        groups = [values[label == each] for each in np.unique(label)]
        within = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups)
        total = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
        return np.where(total > 0, 1 - within / np.where(total > 0, total, 1), 0).mean()

    for layer, columns in zip(frame.index, (slice(0, 6), slice(6, 15), slice(15, 20)), strict=True):
        draws = np.array([eta2(each[used][:, columns].astype(float)) for each in responses])
        row = frame.loc[layer]
        assert row.eta2_mean_sampled == pytest.approx(row.eta2_mean, rel=1e-9)
        found = row[[f"eta2_mean_untrained{end}" for end in ("", "_sd", "_low", "_high", "_p95")]]
        expected = (draws.mean(), draws.std(ddof=1), draws.min(), draws.max())
        np.testing.assert_allclose(
            found.astype(float), [*expected, np.quantile(draws, 0.95)], rtol=1e-6
        )
        reached = (draws >= row.eta2_mean_sampled).sum()
        assert row.eta2_mean_untrained_p == pytest.approx((1 + reached) / (DRAWS + 1))
        assert (row.draws, row.draw_images) == (DRAWS, used.sum())
        assert row.eta2_mean_gain_low < row.eta2_mean_gain < row.eta2_mean_gain_high
        decided = "beyond" if row.eta2_mean_untrained_fwer_p <= 0.05 else "not beyond"
        assert row.architecture_verdict == decided


def test_layers__what_is_compared_does_not_hang_on_a_units_scale(
    atlas, drawn, stored, write_recording
):
    raw, _, config = drawn
    analyse(atlas, Recording(place_at(atlas.recording("toy"))), config=config)
    before = stored(atlas).frame("layers")
    raw.responses[:, 7] *= 30
    analyse(atlas, write_recording(atlas, raw), config=config)
    after = stored(atlas).frame("layers")
    for name in CONTRASTED:
        for part in ("sampled", "untrained_p", "untrained_fwer_p"):
            np.testing.assert_allclose(after[f"{name}_{part}"], before[f"{name}_{part}"], rtol=1e-6)
    assert after.architecture_verdict.tolist() == before.architecture_verdict.tolist()


def test_depth_trends__p_is_the_place_among_draws(atlas, drawn, stored):
    analyse(atlas, Recording(place_at(atlas.recording("toy"))), config=drawn[2])
    frame = stored(atlas).frame("depth_trends").set_index("measure")
    row = frame.loc["eta2"]
    assert row.spearman_p in {each / 20 for each in range(1, 21)}
    assert row.spearman_rho_sampled == row.spearman_rho
    ends = row[["spearman_rho_untrained_low", "spearman_rho_untrained_high"]]
    assert ends.iloc[0] <= row.spearman_rho_untrained <= ends.iloc[1]
    assert row.spearman_verdict == ("beyond" if row.spearman_p <= 0.05 else "not beyond")


def test_layers__without_controls_their_columns_are_null(toy):
    table = toy.table("layers")
    columns = [
        name
        for name in table.column_names
        if name.endswith(("_shuffled", "_sampled")) or "_untrained" in name
    ] + ["architecture_verdict", "draws", "draw_images", "eta2_mean_gain"]
    assert len(columns) == len(CONTROLLED) + 10 * len(CONTRASTED) + 4
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
    for column in ("eta2_mean_untrained", "eta2_mean_untrained_p", "architecture_verdict"):
        assert frame[column].isna().tolist() == [False, True, False], column


def test_layers__control_that_is_the_same_is_not_exceeded(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    config = CONFIG.model_copy(update={"controls": ("untrained",)})
    analyse(atlas, write_recording(atlas, raw, "untrained"), config=CONFIG)
    analyse(atlas, write_recording(atlas, raw), config=config)
    frame = stored(atlas).frame("layers")
    assert (frame.eta2_mean_untrained_p == 1).all()
    assert (frame.eta2_mean_untrained_fwer_p == 1).all()
    assert (frame.architecture_verdict == "undecided").all()


def test_layers__constant_units_in_both_are_not_beyond(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    raw.responses[raw.valid] = 1.0
    analyse(atlas, write_recording(atlas, raw, "untrained"), config=CONFIG)
    analyse(atlas, write_recording(atlas, raw), config=BOTH)
    frame = stored(atlas).frame("layers")
    assert frame.eta2_mean_untrained_p.tolist() == [1, 1, 1]
    assert frame.selective_fraction_shuffled.tolist() == [0, 0, 0]


def test_analyse__control_that_is_not_there_is_told_before_anything_is_computed(
    atlas, make_raw, write_recording, monkeypatch
):
    recording = write_recording(atlas, make_raw())
    monkeypatch.setattr(module, "run_pieces", None)
    with pytest.raises(UserError, match="untrained") as caught:
        analyse(atlas, recording, config=BOTH)
    assert "\n" not in str(caught.value)
    assert not list(atlas.tables.rglob("*.parquet"))


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


def test_analyse__another_control_makes_the_tables_anew(atlas, make_raw, write_recording):
    raw = make_raw()
    write_recording(atlas, raw, "untrained")
    write_recording(atlas, replace(raw, responses=make_raw(seed=1).responses), "other")
    recording = write_recording(atlas, raw)
    assert analyse(atlas, recording, config=BOTH).made
    assert not analyse(atlas, recording, config=BOTH).made
    other = CONFIG.model_copy(update={"controls": ("shuffle", "other")})
    assert analyse(atlas, recording, config=other).made


def test_analyse__too_few_shared_images_are_told(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    write_recording(atlas, raw, "untrained")
    few = {"where": "image_index < 2", "name": "few"}
    found = analyse(atlas, write_recording(atlas, raw), config=BOTH.model_copy(update=few))
    assert stored(atlas, "toy~few").frame("layers").draws.isna().all()
    assert found.notices
