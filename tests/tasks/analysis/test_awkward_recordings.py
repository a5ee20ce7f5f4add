"""Recordings at the edge: few images, few classes, extreme responses, interrupted work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis import analyse as module
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.unit_block import analyse_block
from activarium.tasks.reporting.report_data import report_payload
from activarium.tasks.reporting.summary import summarise

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=49, controls=("shuffle",))
FIELDS = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")


def few(raw, rows, label):
    kept = {field: getattr(raw, field)[rows].copy() for field in FIELDS}
    kept["label"] = np.array(label, np.int32)
    return replace(raw, **kept)


def assert_numbers_are_defined(tables):
    """No value is NaN or infinite where the format knows null."""
    for name, table in tables.items():
        for field in table.schema:
            if pa.types.is_floating(field.type) and "log10" not in field.name:
                values = table.column(field.name).drop_null().to_numpy()
                assert not np.isnan(values).any(), (name, field.name)


@pytest.mark.parametrize(
    ("rows", "label"),
    [
        ([0], [0]),
        ([0], [-1]),
        ([0, 1], [0, 0]),
        ([0, 1], [0, 1]),
        ([0, 1], [0, -1]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 2], [0, 0, 1]),
    ],
)
def test_analyse__few_images_have_defined_tables(
    rows, label, atlas, make_raw, write_recording, stored
):
    analyse(atlas, write_recording(atlas, few(make_raw(), rows, label)), config=CONFIG)
    tables = stored(atlas).tables()
    assert_numbers_are_defined(tables)
    units = tables["units"].to_pandas()
    assert len(units) == 20
    labelled = sum(code >= 0 for code in label)
    assert tables["unit_classes"].num_rows == (100 if labelled else 0)
    # No two classes of two images in any of them.
    assert_nothing_is_said_of_classes(tables)
    assert units.response_sd.isna().all() == (len(rows) == 1)
    assert tables["layers"].column("redundant_fraction").null_count == (3 if len(rows) < 3 else 0)


def assert_nothing_is_said_of_classes(tables):
    """Every column that compares classes is null, in every table."""
    compare = {
        "units": (
            "preferred_class", "preferred_auroc", "runner_up_class", "selectivity",
            "selectivity_morcos", "ccmas", "auroc", "auroc_class", "top_precision", "top_class",
            "mutual_information", "anova_f", "anova_p", "eta2", "omega2", "welch_f", "welch_p",
            "kruskal_h", "kruskal_p", "epsilon2", "permutation_p", "q_value", "q_log10",
            "by_q_value", "fwer_p", "average_precision", "average_precision_class",
            "average_precision_crossfit", "crossfit_gain", "auroc_crossfit", "class_agreement",
            "preferred_p", "suppressed_auroc", "suppressed_class", "strongest_effect",
        ),
        "unit_classes": (
            "z", "auroc", "auroc_low", "auroc_high", "u", "p_value", "log10p", "q_value",
            "hedges_g", "hedges_g_low", "hedges_g_high", "average_precision",
            "average_precision_chance", "best_f1", "best_f1_threshold", "point_biserial",
        ),
        "layers": (
            "selective_fraction", "familywise_fraction", "selectivity_mean", "selectivity_low",
            "auroc_mean", "eta2_mean", "epsilon2_mean", "within_similarity", "between_similarity",
            "permanova_f", "permanova_r2", "permanova_p", "anosim_r", "silhouette", "knn_purity",
            "probe_accuracy", "probe_chance", "eta2_mean_shuffled", "knn_purity_shuffled",
            "chance_verdict", "architecture_verdict", "eta2_mean_untrained",
        ),
    }  # fmt: skip
    for name, columns in compare.items():
        for column in columns:
            assert tables[name].column(column).null_count == tables[name].num_rows, (name, column)
    assert tables["class_pairs"].num_rows == 0
    assert set(tables["depth_trends"].column("measure").to_pylist()) <= {"sparseness"}


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([0, 1, 2], "1 image per class: classes cannot be tested"),
        ([0, 0, 1], "only ant has two images or more"),
        ([2, 2, 2], "all images with a class are of one, cat's"),
        ([0, 0, -1], "all images with a class are of one, ant"),
        ([-1, -1, -1], "no image has a class"),
    ],
)
def test_analyse__classes_that_cannot_be_tested_are_said_once(
    label, said, atlas, make_raw, write_recording
):
    recording = write_recording(atlas, few(make_raw(), [0, 1, 2], label))
    (notice,) = analyse(atlas, recording, config=CONFIG).notices
    assert notice.startswith(said)
    summary = summarise(atlas, ["toy"])
    assert (summary["answer"], summary["strongest"]) == (notice, [])
    page = report_payload(atlas, ["toy"])
    assert page["answer"] == [f"{notice[0].upper()}{notice[1:]}."]
    assert not page["verdicts"]["measured"]
    (own,) = page["recordings"]
    assert own["figures"]["significant_share"] is None
    assert own["images"]["chance_purity"] is None
    assert page["pairs"] is None


def test_analyse__classes_of_one_image_among_others_are_named(atlas, make_raw, write_recording):
    (notice,) = analyse(atlas, write_recording(atlas, make_raw()), config=CONFIG).notices
    assert notice == "1 class has one image and cannot be told from the others (null): eel"


def test_analyse__strongest_class_has_more_than_one_image(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    alone = np.flatnonzero(raw.label == 4)
    # What is strongest for the one image of its class would be an AUROC of 1.
    raw.responses[alone, 2] = 99
    analyse(atlas, write_recording(atlas, raw), config=CONFIG)
    unit = stored(atlas).frame("units").set_index("unit").loc["conv1/2"]
    assert unit.preferred_class != "eel"
    assert unit.auroc_class != "eel"
    assert unit.auroc < 1
    assert unit.eta2 > 0, "tests of all classes together take it"


def test_units__one_image_cannot_tell_that_a_unit_is_dead(atlas, make_raw, write_recording, stored):
    analyse(atlas, write_recording(atlas, few(make_raw(), [0], [0])), config=CONFIG)
    units = stored(atlas).frame("units")
    # Units 0 and 3 feed a ReLU and are nowhere above zero.
    assert units.unit[units.is_dead].tolist() == ["conv1/0", "conv1/3"]


def test_analyse__two_images_of_each_of_two_classes_by_hand(
    atlas, make_raw, write_recording, stored
):
    raw = few(make_raw(), [0, 1, 2, 3], [0, 1, 0, 1])
    raw.responses[:] = 0
    raw.responses[[1, 3], 2] = 2
    raw.responses[[0, 2], 19] = 1
    analyse(atlas, write_recording(atlas, raw), config=CONFIG)
    units = stored(atlas).frame("units").set_index("unit")
    first, last = units.loc["conv1/2"], units.loc["fc:2/4"]
    assert (first.preferred_class, first.runner_up_class, first.selectivity) == ("bee", "ant", 1)
    assert (last.preferred_class, last.auroc_class, last.auroc) == ("ant", "ant", 1)
    assert (first.response_mean, first.response_sd) == (1, np.sqrt(4 / 3))
    assert (first.anova_p, first.eta2, first.preferred_auroc) == (0, 1, 1)
    assert units.is_dead.sum() == 18
    pairs = stored(atlas).frame("class_pairs").set_index(["layer", "class", "other_class"])
    row = pairs.loc["conv1", "ant", "bee"]
    assert (row.best_auroc, row.best_unit, row.centroid_cosine) == (1, "conv1/2", -1)


def test_analyse__one_class_of_many_has_all_images(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    one = replace(raw, label=np.full_like(raw.label, 2))
    analyse(atlas, write_recording(atlas, one), config=CONFIG)
    tables = stored(atlas).tables()
    assert_numbers_are_defined(tables)
    assert_nothing_is_said_of_classes(tables)
    rows = tables["unit_classes"].to_pandas()
    own = rows[rows["class"] == "cat's"]
    assert own.response_mean.notna().all()
    assert own.response_sd.notna().all()


def test_analyse__single_class_name_has_no_pairs(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    one = replace(
        raw, label=np.zeros_like(raw.label), class_names=("only",), logits=raw.logits[:, :1]
    )
    analyse(atlas, write_recording(atlas, one), config=CONFIG)
    tables = stored(atlas).tables()
    assert_numbers_are_defined(tables)
    assert tables["class_pairs"].num_rows == 0
    assert tables["unit_classes"].num_rows == 20
    assert_nothing_is_said_of_classes(tables)


def test_analyse__constant_units_have_defined_layers(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    raw.responses[raw.valid] = np.float32(-0.7)
    analyse(atlas, write_recording(atlas, raw), config=CONFIG)
    tables = stored(atlas).tables()
    assert_numbers_are_defined(tables)
    layers, pairs = tables["layers"].to_pandas(), tables["class_pairs"].to_pandas()
    assert (layers.permanova_p == 1).all()
    assert (layers.permanova_f == 0).all()
    for column in ("within_similarity", "anosim_r", "silhouette", "knn_purity"):
        assert layers[column].isna().all(), column
    assert (layers.sufficient_dimensions == 0).all()
    assert (layers.redundant_fraction == 0).all()
    assert pairs.best_unit.isna().all()
    assert (pairs.separating_units.dropna() == 0).all()
    assert (tables["units"].to_pandas().fwer_p == 1).all()
    assert tables["depth_trends"].to_pandas().spearman_rho.isna().all()


def test_analyse__without_labels_only_what_needs_none_is_there(
    atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    unlabelled = replace(raw, label=np.full_like(raw.label, -1))
    analyse(atlas, write_recording(atlas, unlabelled), config=CONFIG)
    tables = stored(atlas).tables()
    assert_numbers_are_defined(tables)
    assert tables["depth_trends"].column("measure").to_pylist() == ["sparseness"]
    assert tables["class_pairs"].num_rows == 0
    layers = tables["layers"]
    for column in (
        "permanova_f",
        "permanova_p",
        "probe_accuracy",
        "within_similarity",
        "eta2_mean_shuffled",
    ):
        assert layers.column(column).null_count == 3, column
    for column in ("effective_dimension", "redundant_fraction", "dead_fraction"):
        assert layers.column(column).null_count == 0, column


def test_units__extreme_responses_stay_apart(atlas, make_raw, write_recording, stored):
    raw = make_raw()
    rng, known = np.random.default_rng(0), raw.valid & (raw.label >= 0)
    noise = rng.normal(size=len(raw.label)) + raw.label
    raw.responses[:, 2] = 1e30 * noise
    raw.responses[:, 4] = 1e-40 * noise
    raw.responses[:, 6] = np.where(rng.random(len(noise)) < 0.5, -0.0, 0.0)
    raw.responses[:, 7] = 1e4 + 0.01 * noise
    raw.responses[~raw.valid] = np.nan
    analyse(atlas, write_recording(atlas, raw), config=CONFIG)
    units = stored(atlas).frame("units")
    exact = raw.responses[known].astype(np.float64)
    label = raw.label[known]
    for unit in (2, 4, 7):
        groups = [exact[label == code, unit] for code in np.unique(label)]
        centred = exact[:, unit] - exact[:, unit].mean()
        between = sum(len(group) * (group.mean() - exact[:, unit].mean()) ** 2 for group in groups)
        scale = np.abs(centred).max()
        eta2 = (between / scale**2) / ((centred / scale) ** 2).sum()
        assert units.eta2[unit] == pytest.approx(eta2, rel=1e-7)
        assert units.kruskal_p[unit] == pytest.approx(stats.kruskal(*groups).pvalue, rel=1e-9)
        assert units.auroc[unit] > 0.6
    assert (units.eta2[6], units.kruskal_p[6], units.is_dead[6]) == (0, 1, True)


def test_analyse__failing_block_is_repeated_alone(
    atlas, wide, write_recording, monkeypatch, stored
):
    recording = write_recording(atlas, wide)
    config = CONFIG.model_copy(update={"permutations": 9})
    begun, done = [], []

    def failing(place, work, block, settings):
        # The blocks run in any order.
        begun.append(block)
        if len(begun) > 1:
            raise MemoryError
        analyse_block(place, work, block, settings)

    def counting(place, work, block, settings):
        if not block.part(work, "units").exists():
            done.append(block)
        analyse_block(place, work, block, settings)

    with monkeypatch.context() as patch:
        patch.setattr(module, "analyse_block", failing)
        with pytest.raises(MemoryError):
            analyse(atlas, recording, config=config)
    assert not list(atlas.tables.rglob("*.parquet"))
    monkeypatch.setattr(module, "analyse_block", counting)
    assert analyse(atlas, recording, config=config).made
    assert done == begun[1:]
    assert sorted(block.start for block in begun) == [0, 256]
    assert stored(atlas).table("units").num_rows == 300


def test_analyse__work_of_a_recording_whose_id_goes_on_stays(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    other = atlas.work / "toy-untrained-0123456789ab"
    own = atlas.work / "toy-0123456789ab"
    for folder in (other, own):
        folder.mkdir(parents=True)
        (folder / "units-0000000-0000020.arrow").write_bytes(b"kept")
    analyse(atlas, recording, config=CONFIG)
    assert [folder.name for folder in atlas.work.iterdir()] == [other.name]
    assert [file.read_bytes() for file in other.iterdir()] == [b"kept"]
