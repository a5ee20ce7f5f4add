"""Analysis: every number of every table against scipy, scikit-learn and numpy on the stored matrix."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property

import distributed
import numpy as np
import pytest
import zarr
from scipy import special, stats
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks import analyse as module
from activarium.tasks import scheduling
from activarium.tasks.analyse import analyse
from activarium.tasks.layers import Layer
from activarium.tasks.parquet_files import read_table
from activarium.tasks.recording import open_recording

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
SYNCHRONOUS = AnalyseConfig(scheduler="synchronous")


@dataclass(frozen=True)
class Stored:
    """A recording as plain zarr arrays, and its tables as data frames."""

    path: object
    atlas: object
    name: str

    def array(self, name):
        return zarr.open_group(self.path, mode="r")[name][:]

    def table(self, name):
        return read_table(self.atlas.tables / name / f"recording={self.name}" / f"{name}.parquet")

    def frame(self, name):
        return self.table(name).to_pandas()

    @cached_property
    def valid(self):
        return self.array("valid")

    @cached_property
    def responses(self):
        """Valid images x units."""
        return self.array("channel_mean")[self.valid].astype(np.float64)

    @cached_property
    def label(self):
        return self.array("label")[self.valid]

    @cached_property
    def labelled(self):
        """Responses and labels of the images that have one."""
        known = self.label >= 0
        return self.responses[known], self.label[known]

    @cached_property
    def groups(self):
        """Responses of each class that has images."""
        values, label = self.labelled
        return {code: values[label == code] for code in np.unique(label)}

    @cached_property
    def constant(self):
        return np.ptp(self.responses, axis=0) == 0


def stored(analysed, name="toy"):
    return Stored(analysed.atlas.recording(name), analysed.atlas, name)


@pytest.fixture(scope="session")
def toy(analysed):
    return stored(analysed)


def per_unit(store, statistic, constant):
    """Apply a statistic of the class groups to each unit that varies."""
    units = store.responses.shape[1]
    found = np.full(units, float(constant))
    for unit in np.flatnonzero(~store.constant):
        found[unit] = statistic([group[:, unit] for group in store.groups.values()])
    return found


def tables_of(atlas, name="toy"):
    """Return all tables of an analysis, to compare two runs."""
    store = Stored(atlas.recording(name), atlas, name)
    return {table.name: store.table(table.name) for table in module.WRITTEN}


def assert_same_tables(first, second):
    for name, table in first.items():
        assert table.equals(second[name]), name


def test_units__one_row_per_unit_in_order_of_the_columns(toy):
    frame = toy.frame("units")
    assert frame.unit.tolist() == toy.array("unit").tolist()
    assert frame.layer.tolist() == toy.array("unit_layer").tolist()
    assert frame.channel.tolist() == toy.array("unit_channel").tolist()
    assert frame.depth.tolist() == [0] * 6 + [1] * 9 + [2] * 5


def test_units__responses_equal_numpy(toy):
    frame, values = toy.frame("units"), toy.responses
    np.testing.assert_allclose(frame.response_mean, values.mean(axis=0), **CLOSE)
    np.testing.assert_allclose(frame.response_sd, values.std(axis=0, ddof=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(frame.response_min, values.min(axis=0))
    np.testing.assert_array_equal(frame.response_max, values.max(axis=0))
    active = toy.array("channel_active")[toy.valid].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(frame.active_fraction, active, **CLOSE)


def test_units__dead_are_the_constant_and_those_a_relu_never_lets_through(toy):
    frame = toy.frame("units")
    assert frame.unit[frame.is_dead].tolist() == ["conv1/0", "conv1/1", "conv1/3"]


def test_units__anova_equals_scipy(toy):
    frame = toy.frame("units")
    f = per_unit(toy, lambda groups: stats.f_oneway(*groups).statistic, constant=0)
    p = per_unit(toy, lambda groups: stats.f_oneway(*groups).pvalue, constant=1)
    np.testing.assert_allclose(frame.anova_f, f, rtol=1e-7)
    np.testing.assert_allclose(frame.anova_p, p, rtol=1e-7)
    np.testing.assert_allclose(frame.anova_log10p, np.log10(p), rtol=1e-7)


def test_units__eta2_is_the_share_of_the_sum_of_squares_between_classes(toy):
    def eta2(groups):
        everything = np.concatenate(groups)
        between = sum(len(group) * (group.mean() - everything.mean()) ** 2 for group in groups)
        return between / ((everything - everything.mean()) ** 2).sum()

    np.testing.assert_allclose(toy.frame("units").eta2, per_unit(toy, eta2, 0), rtol=1e-7)


def test_units__kruskal_equals_scipy(toy):
    frame = toy.frame("units")
    h = per_unit(toy, lambda groups: stats.kruskal(*groups).statistic, constant=0)
    p = per_unit(toy, lambda groups: stats.kruskal(*groups).pvalue, constant=1)
    n = len(toy.labelled[1])
    np.testing.assert_allclose(frame.kruskal_h, h, **CLOSE)
    np.testing.assert_allclose(frame.kruskal_p, p, **CLOSE)
    np.testing.assert_allclose(frame.kruskal_log10p, np.log10(p), **CLOSE)
    np.testing.assert_allclose(frame.epsilon2, h * (n + 1) / (n**2 - 1), **CLOSE)


def test_units__q_is_benjamini_hochberg_over_all_units(toy):
    frame = toy.frame("units")
    q = stats.false_discovery_control(frame.kruskal_p)
    np.testing.assert_allclose(frame.q_value, q, **CLOSE)
    np.testing.assert_allclose(frame.q_log10, np.log10(q), rtol=1e-9, atol=1e-12)


def test_units__preferred_and_runner_up_have_the_largest_class_means(toy):
    table, names = toy.table("units"), toy.array("class")
    means = np.array([group.mean(axis=0) for group in toy.groups.values()])
    order = np.argsort(-means, axis=0, kind="stable")
    codes = np.array(list(toy.groups))
    for rank, column in enumerate(("preferred_class", "runner_up_class")):
        expected = np.where(toy.constant, None, names[codes[order[rank]]])
        assert table.column(column).to_pylist() == expected.tolist()


def test_units__auroc_is_the_largest_one_against_rest(toy):
    frame, (values, label) = toy.frame("units"), toy.labelled
    names = toy.array("class")
    for unit in range(values.shape[1]):
        area = {code: roc_auc_score(label == code, values[:, unit]) for code in toy.groups}
        assert frame.auroc[unit] == pytest.approx(max(area.values()), rel=1e-9)
        if not toy.constant[unit]:
            assert frame.auroc_class[unit] == names[max(area, key=area.get)]


def test_units__constant_unit_has_no_preference_and_null_classes(toy):
    row = toy.frame("units").set_index("unit").loc["conv1/1"]
    assert row.response_mean == np.float64(np.float32(0.1))
    assert (row.auroc, row.anova_p, row.kruskal_p, row.selectivity, row.response_sd) == (
        0.5, 1, 1, 0, 0,
    )  # fmt: skip
    assert row[["preferred_class", "runner_up_class", "auroc_class"]].isna().all()


def test_units__selectivity_and_sparseness_equal_their_formulas(toy):
    frame, values = toy.frame("units"), toy.responses
    for unit in np.flatnonzero(~toy.constant):
        known = toy.labelled[0][:, unit]
        shift = min(known.min(), 0)
        means = sorted(group[:, unit].mean() - shift for group in toy.groups.values())
        rest = np.mean(means[:-1])
        expected = (means[-1] - rest) / (means[-1] + rest)
        assert frame.selectivity[unit] == pytest.approx(expected, rel=1e-7)
        r = values[:, unit] - min(values[:, unit].min(), 0)
        sparse = (1 - r.mean() ** 2 / (r**2).mean()) / (1 - 1 / len(r))
        assert frame.sparseness[unit] == pytest.approx(sparse, rel=1e-6, abs=1e-9)


def test_unit_classes__one_row_per_unit_and_class_with_counts(toy):
    frame, names = toy.frame("unit_classes"), toy.array("class").tolist()
    units = toy.array("unit").tolist()
    assert frame.unit.tolist() == [unit for unit in units for _ in names]
    assert frame["class"].tolist() == names * len(units)
    counts = np.bincount(toy.labelled[1], minlength=len(names))
    assert frame.n.tolist() == counts.tolist() * len(units)
    assert counts[3] == 0
    assert counts[4] == 1


def test_unit_classes__moments_equal_numpy(toy):
    frame = toy.frame("unit_classes")
    classes = len(toy.array("class"))
    for code, group in toy.groups.items():
        rows = frame[code::classes]
        np.testing.assert_allclose(rows.response_mean, group.mean(axis=0), **CLOSE)
        if len(group) > 1:
            np.testing.assert_allclose(
                rows.response_sd, group.std(axis=0, ddof=1), rtol=1e-9, atol=1e-9
            )
        else:
            assert rows.response_sd.isna().all()


def test_unit_classes__z_is_across_the_units_class_means(toy):
    frame = toy.frame("unit_classes")
    means = np.array([group.mean(axis=0) for group in toy.groups.values()])
    z = stats.zscore(means[:, ~toy.constant])
    for place, code in enumerate(toy.groups):
        rows = frame[code :: len(toy.array("class"))][~toy.constant]
        np.testing.assert_allclose(rows.z, z[place], rtol=1e-6, atol=1e-9)
    assert (frame[::5][toy.constant].z == 0).all()


def test_unit_classes__auroc_u_and_p_equal_scikit_learn_and_scipy(toy):
    frame, (values, label) = toy.frame("unit_classes"), toy.labelled
    for row in frame[frame.n > 0].itertuples():
        unit, code = divmod(row.Index, len(toy.array("class")))
        of, rest = values[label == code, unit], values[label != code, unit]
        assert row.auroc == pytest.approx(roc_auc_score(label == code, values[:, unit]), rel=1e-9)
        if toy.constant[unit]:
            assert (row.u, row.p_value) == (len(of) * len(rest) / 2, 1)
            continue
        found = stats.mannwhitneyu(of, rest, method="asymptotic")
        assert row.u == found.statistic
        assert row.p_value == pytest.approx(found.pvalue, rel=1e-9)
        assert row.log10p == pytest.approx(np.log10(found.pvalue), rel=1e-9, abs=1e-12)


def test_unit_classes__q_is_benjamini_hochberg_over_all_units_and_classes(toy):
    frame = toy.frame("unit_classes")
    q = stats.false_discovery_control(frame.p_value)
    np.testing.assert_allclose(frame.q_value, q, **CLOSE)


def test_unit_classes__hedges_g_equals_its_formula(toy):
    frame, (values, label) = toy.frame("unit_classes"), toy.labelled
    n = len(label)
    for row in frame[frame.n > 0].itertuples():
        unit, code = divmod(row.Index, len(toy.array("class")))
        of, rest = values[label == code, unit], values[label != code, unit]
        squares = ((of - of.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
        if toy.constant[unit]:
            assert row.hedges_g == 0
            continue
        g = (of.mean() - rest.mean()) / np.sqrt(squares / (n - 2)) * (1 - 3 / (4 * (n - 2) - 1))
        assert row.hedges_g == pytest.approx(g, rel=1e-6)


def test_unit_classes__empty_class_is_defined_and_its_moments_are_null(toy):
    table = toy.table("unit_classes")
    empty = table.filter(np.array(table.column("n")) == 0)
    assert empty.num_rows == toy.responses.shape[1]
    for column in ("response_mean", "response_sd", "z"):
        assert empty.column(column).null_count == empty.num_rows, column
    assert set(empty.column("auroc").to_pylist()) == {0.5}
    assert set(empty.column("p_value").to_pylist()) == {1.0}


def test_exemplars__are_the_first_of_a_stable_sort(toy):
    frame, valid = toy.frame("exemplars"), np.flatnonzero(toy.valid)
    overall = frame[frame["class"].isna()]
    ids = toy.array("image")
    for unit, name in enumerate(toy.array("unit")):
        for extreme, sign in (("most", -1), ("least", 1)):
            rows = overall[(overall.unit == name) & (overall.extreme == extreme)]
            order = np.argsort(sign * toy.responses[:, unit], kind="stable")[:8]
            assert rows.exemplar_rank.tolist() == list(range(1, 9))
            assert rows.image_index.tolist() == valid[order].tolist()
            assert rows.image.tolist() == ids[valid[order]].tolist()
            assert rows.response.tolist() == toy.responses[order, unit].tolist()


def test_exemplars__within_a_class_hold_only_its_images(toy):
    frame = toy.frame("exemplars")
    frame = frame[frame["class"].notna()]
    names = dict(enumerate(toy.array("class")))
    label = toy.array("label")
    assert (frame["class"] == frame.image_index.map(lambda row: names[label[row]])).all()
    sizes = frame.groupby(["unit", "extreme", "class"]).size()
    assert set(sizes.xs("eel", level="class")) == {1}
    assert set(sizes.xs("bee", level="class")) == {3}
    assert "dodo" not in set(frame["class"])


def test_layers__summaries_are_means_over_their_units(toy):
    frame, units = toy.frame("layers"), toy.frame("units")
    assert frame.layer.tolist() == ["conv1", "layer1.0", "fc:2"]
    assert frame.units.tolist() == [6, 9, 5]
    assert frame[["kind", "height", "width"]].to_numpy().tolist() == [
        ["conv", 8, 8], ["block", 4, 4], ["linear", 1, 1],
    ]  # fmt: skip
    by_layer = units.groupby("depth")
    assert (frame.fdr == 0.05).all()
    selective = (units.q_value <= 0.05).groupby(units.depth).mean()
    np.testing.assert_allclose(frame.selective_fraction, selective)
    np.testing.assert_allclose(frame.dead_fraction, by_layer.is_dead.mean())
    for column in ("selectivity", "auroc", "eta2", "epsilon2"):
        np.testing.assert_allclose(frame[f"{column}_mean"], by_layer[column].mean())


def test_layers__knn_purity_equals_scikit_learn(analysed, write_recording, atlas):
    recording = write_recording(atlas, analysed.raw)
    analyse(atlas, recording, config=SYNCHRONOUS)
    store = Stored(recording.path, atlas, "toy")
    frame, (values, label) = store.frame("layers"), store.labelled
    stops = np.cumsum(frame.units)
    for row, stop in zip(frame.itertuples(), stops, strict=True):
        points = values[:, stop - row.units : stop]
        near = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(points)
        neighbours = near.kneighbors(return_distance=False)
        # Ties in distance may be taken in either order.
        purity = np.mean(label[neighbours] == label[:, None])
        assert row.knn_purity == pytest.approx(purity, abs=0.01)
        assert (row.knn_neighbours, row.knn_queries) == (10, len(label))


def test_layers__declare_the_sample_of_labelled_queries(toy):
    assert set(toy.frame("layers").knn_queries) == {20}


def test_layers__effective_dimension_is_the_participation_ratio(toy):
    frame = toy.frame("layers")
    stops = np.cumsum(frame.units)
    for row, stop in zip(frame.itertuples(), stops, strict=True):
        values = np.linalg.eigvalsh(np.cov(toy.responses[:, stop - row.units : stop].T))
        expected = values.sum() ** 2 / (values**2).sum()
        assert row.effective_dimension == pytest.approx(expected, rel=1e-6)


def test_images__answers_equal_scipy(toy):
    frame = toy.frame("images")
    logits, label = toy.array("logits").astype(float), toy.array("label")
    names, valid = toy.array("class"), toy.valid
    p = special.softmax(logits[valid], axis=1)
    rows = frame[valid]
    assert frame.image.tolist() == toy.array("image").tolist()
    assert frame.image_index.tolist() == list(range(len(label)))
    assert frame.label.tolist() == label.tolist()
    assert frame.valid.tolist() == valid.tolist()
    assert rows.predicted.tolist() == names[p.argmax(axis=1)].tolist()
    np.testing.assert_allclose(rows.confidence, p.max(axis=1), **CLOSE)
    np.testing.assert_allclose(rows.entropy, stats.entropy(p, axis=1), rtol=1e-9)
    top = np.sort(logits[valid], axis=1)
    np.testing.assert_allclose(rows.margin, top[:, -1] - top[:, -2], **CLOSE)
    known = label[valid] >= 0
    loss = -np.log(p[known, label[valid][known]])
    np.testing.assert_allclose(rows.loss[known], loss, rtol=1e-9)
    assert (rows.correct[known] == (p.argmax(axis=1) == label[valid])[known]).all()


def test_images__without_image_or_label_is_null_not_nan(toy):
    table = toy.table("images")
    invalid, unlabelled = ~toy.valid, toy.array("label") < 0
    expected = {
        "predicted": invalid,
        "confidence": invalid,
        "margin": invalid,
        "entropy": invalid,
        "loss": invalid | unlabelled,
        "correct": invalid | unlabelled,
        "class": unlabelled,
    }
    for column, missing in expected.items():
        assert np.array(table.column(column).is_null()).tolist() == missing.tolist(), column


def test_recordings__row_describes_the_recording(toy):
    row, images = toy.table("recordings").to_pylist()[0], toy.frame("images")
    assert row["images"] == 61
    assert row["invalid_images"] == 2
    assert (row["classes"], row["layers"], row["units"], row["features"]) == (5, 3, 20, 40)
    assert row["accuracy"] == pytest.approx(images.correct.dropna().astype(float).mean())
    chunks = [
        file
        for name in ("channel_mean", "channel_active", "pooled", "logits", "thumbnail", "valid")
        for file in (toy.path / name / "c").rglob("*")
        if file.is_file()
    ]
    assert row["stored_bytes"] == sum(file.stat().st_size for file in chunks)
    assert row["seconds"] == 3.0
    assert row["device"] == "cpu"
    assert json.loads(row["preprocessing"]) == {"size": 8, "mean": [0.5]}


def wide(make_raw):
    """300 units: more than one block."""
    return make_raw(layers=(Layer("a", "conv", 0, 290, 2, 2, "relu"), Layer("b", "linear", 1, 10, 1, 1, "")))  # fmt: skip


def test_analyse__does_not_depend_on_the_block_size(atlas, make_raw, write_recording, monkeypatch):
    recording = write_recording(atlas, wide(make_raw))
    analyse(atlas, recording, config=SYNCHRONOUS)
    first = tables_of(atlas)
    for size in (101, 300):
        monkeypatch.setattr(module, "BLOCK_UNITS", size)
        atlas.table_file(module.UNITS, "toy").unlink()
        assert analyse(atlas, recording, config=SYNCHRONOUS).made
        second = tables_of(atlas)
        # Exemplars are kept block by block.
        keys = [(name, "ascending") for name in ("unit", "extreme", "class", "exemplar_rank")]
        for tables in (first, second):
            tables["exemplars"] = tables["exemplars"].sort_by(keys)
        assert_same_tables(first, second)


def test_analyse__compression_and_shards_change_nothing(atlas, analysed, write_recording):
    packed = write_recording(atlas, analysed.raw, shard_images=61, compression="zstd")
    config = AnalyseConfig(scheduler="synchronous", fdr=0.05, knn_queries=20)
    analyse(atlas, packed, config=config)
    expected, found = tables_of(analysed.atlas), tables_of(atlas)
    for name in ("units", "unit_classes", "exemplars", "layers", "images"):
        assert found[name].equals(expected[name]), name


def test_analyse__unlabelled_recording_has_null_class_statistics(atlas, make_raw, write_recording):
    raw = make_raw()
    unlabelled = replace(raw, label=np.full_like(raw.label, -1))
    analyse(atlas, write_recording(atlas, unlabelled), config=SYNCHRONOUS)
    tables = tables_of(atlas)
    units = tables["units"]
    for column in ("preferred_class", "selectivity", "auroc", "anova_p", "kruskal_h", "q_value"):
        assert units.column(column).null_count == 20, column
    assert units.column("response_mean").null_count == 0
    assert tables["unit_classes"].num_rows == 0
    assert set(tables["exemplars"].column("class").to_pylist()) == {None}
    assert tables["layers"].column("knn_purity").null_count == 3
    assert set(tables["layers"].column("knn_queries").to_pylist()) == {0}
    assert tables["layers"].column("selective_fraction").null_count == 3
    assert tables["recordings"].column("accuracy").to_pylist() == [None]
    assert tables["images"].column("correct").null_count == 61


def test_analyse__no_classes_at_all(atlas, make_raw, write_recording):
    raw = make_raw()
    label = np.full_like(raw.label, -1)
    analyse(
        atlas, write_recording(atlas, replace(raw, label=label, class_names=())), config=SYNCHRONOUS
    )
    tables = tables_of(atlas)
    assert tables["units"].column("auroc").null_count == 20
    assert tables["images"].column("predicted").null_count == 61


def test_analyse__one_class_is_nothing_to_tell_apart(atlas, make_raw, write_recording):
    raw = make_raw()
    one = replace(raw, label=np.zeros_like(raw.label), class_names=("only",))
    analyse(atlas, write_recording(atlas, one), config=SYNCHRONOUS)
    units = Stored(atlas.recording("toy"), atlas, "toy").frame("units")
    assert (units.kruskal_p == 1).all()
    assert (units.anova_p == 1).all()
    assert (units.auroc == 0.5).all()
    assert (units.selectivity == 0).all()
    assert units.runner_up_class.isna().all()


def test_analyse__constant_units_give_defined_results(atlas, make_raw, write_recording):
    raw = make_raw()
    responses = np.where(raw.valid[:, None], np.float32(2.5), np.float32(np.nan))
    constant = replace(raw, responses=np.repeat(responses, 20, axis=1))
    analyse(atlas, write_recording(atlas, constant), config=SYNCHRONOUS)
    store = Stored(atlas.recording("toy"), atlas, "toy")
    units, layers = store.frame("units"), store.table("layers")
    assert units.is_dead.all()
    assert (units.q_value == 1).all()
    assert (units.eta2 == 0).all()
    assert set(layers.column("dead_fraction").to_pylist()) == {1.0}
    assert layers.column("effective_dimension").null_count == 3


def test_analyse__without_the_active_fraction_it_is_null(atlas, make_raw, write_recording):
    recording = write_recording(atlas, replace(make_raw(), active=None))
    analyse(atlas, recording, config=SYNCHRONOUS)
    units = tables_of(atlas)["units"]
    assert units.column("active_fraction").null_count == 20
    assert sum(units.column("is_dead").to_pylist()) == 2


def test_analyse__another_number_of_outputs_gives_no_predictions(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, logits=np.repeat(raw.logits, 2, axis=1)))
    analyse(atlas, recording, config=SYNCHRONOUS)
    images = tables_of(atlas)["images"]
    for column in ("predicted", "correct", "loss"):
        assert images.column(column).null_count == 61, column
    assert images.column("confidence").null_count == 2


def test_analyse__invalid_images_change_no_statistic(atlas, make_raw, write_recording):
    raw = make_raw()
    kept = np.flatnonzero(raw.valid)
    names = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
    clean = replace(raw, **{name: getattr(raw, name)[kept] for name in names})
    analyse(atlas, write_recording(atlas, raw), config=SYNCHRONOUS)
    analyse(atlas, write_recording(atlas, clean, "clean"), config=SYNCHRONOUS)
    with_invalid, without = tables_of(atlas), tables_of(atlas, "clean")
    for name in ("units", "unit_classes", "layers"):
        assert with_invalid[name].equals(without[name]), name


def test_analyse__no_valid_image_is_an_error_that_says_so(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, valid=np.zeros_like(raw.valid)))
    with pytest.raises(UserError, match="recording toy has no image that could be decoded"):
        analyse(atlas, recording, config=SYNCHRONOUS)


def test_analyse__missing_chunk_is_an_error_that_names_it(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    (recording.path / "channel_mean" / "c" / "1" / "0").unlink()
    with pytest.raises(UserError, match="channel_mean lacks values"):
        analyse(atlas, recording, config=SYNCHRONOUS)


def test_analyse__flipped_bit_is_an_error_that_names_the_array(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    chunk = recording.path / "channel_mean" / "c" / "1" / "0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UserError, match=r"toy\.zarr/channel_mean cannot be read"):
        analyse(atlas, recording, config=SYNCHRONOUS)


def test_analyse__second_time_makes_nothing_anew(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    first = analyse(atlas, recording, config=SYNCHRONOUS)
    before = [path.stat().st_mtime_ns for path in first.files]
    again = analyse(atlas, recording, config=AnalyseConfig(scheduler="threads"))
    assert (first.made, again.made) == (True, False)
    assert again.files == first.files
    assert [path.stat().st_mtime_ns for path in again.files] == before
    assert not list(atlas.work.glob("*"))


@pytest.mark.parametrize(
    "change", [{"fdr": 0.2}, {"exemplars": 2}, {"class_exemplars": 0}, {"knn_neighbours": 3}]
)
def test_analyse__changed_setting_makes_the_tables_anew(change, atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    first = analyse(atlas, recording, config=SYNCHRONOUS)
    before = {path: path.stat().st_ino for path in first.files}
    again = analyse(atlas, recording, config=SYNCHRONOUS.model_copy(update=change))
    assert again.made
    assert all(path.stat().st_ino != before[path] for path in again.files)


def test_analyse__killed_analysis_goes_on_from_its_blocks(
    atlas, make_raw, write_recording, monkeypatch
):
    recording = write_recording(atlas, wide(make_raw))
    expected = tables_of_other_atlas(atlas, make_raw, write_recording)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_merge", killed)
        with pytest.raises(KeyboardInterrupt):
            analyse(atlas, recording, config=SYNCHRONOUS)
    (work,) = atlas.work.iterdir()
    parts = sorted(work.iterdir())
    assert len(parts) == 6
    parts[0].unlink()
    (work / f".{parts[1].name}.12345678.partial").write_bytes(b"half")
    kept = {part: part.stat().st_mtime_ns for part in parts if "0000256" in part.name}
    seen = []
    monkeypatch.setattr(module, "_merge", lambda *given: seen.append(
        {part: part.stat().st_mtime_ns for part in kept}
    ) or MERGE(*given))  # fmt: skip
    assert analyse(atlas, recording, config=SYNCHRONOUS).made
    assert seen == [kept]
    assert_same_tables(expected, tables_of(atlas))
    assert not work.exists()


MERGE = module._merge


def tables_of_other_atlas(atlas, make_raw, write_recording):
    other = replace(atlas, root=atlas.root / "other")
    analyse(other, write_recording(other, wide(make_raw)), config=SYNCHRONOUS)
    return tables_of(other)


def test_analyse__one_missing_table_is_made_again(atlas, make_raw, write_recording):
    recording = write_recording(atlas, make_raw())
    files = analyse(atlas, recording, config=SYNCHRONOUS).files
    expected = tables_of(atlas)
    files[0].unlink()
    assert analyse(atlas, recording, config=SYNCHRONOUS).made
    assert_same_tables(expected, tables_of(atlas))


@pytest.fixture
def address():
    """Return the address of a running Dask cluster."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def test_analyse__running_cluster_gives_the_same_tables(address, atlas, make_raw, write_recording):
    recording = write_recording(atlas, wide(make_raw))
    expected = tables_of_other_atlas(atlas, make_raw, write_recording)
    analyse(atlas, recording, config=AnalyseConfig(scheduler=address))
    assert_same_tables(expected, tables_of(atlas))


@pytest.mark.parametrize(
    "scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_analyse__local_schedulers_give_the_same_tables(
    scheduler, atlas, make_raw, write_recording
):
    recording = write_recording(atlas, wide(make_raw))
    expected = tables_of_other_atlas(atlas, make_raw, write_recording)
    analyse(atlas, recording, config=AnalyseConfig(scheduler=scheduler))
    assert_same_tables(expected, tables_of(atlas))


def test_analyse__unknown_scheduler_is_an_error_that_says_what_there_is(
    atlas, make_raw, write_recording
):
    recording = write_recording(atlas, make_raw())
    with pytest.raises(UserError, match=r"expected one of threads, processes.*got 'gpu'"):
        analyse(atlas, recording, config=AnalyseConfig(scheduler="gpu"))


@pytest.mark.parametrize("scheduler", ["tcp://127.0.0.1:9", "nothing://here"])
def test_analyse__unreachable_cluster_is_an_error_that_names_it(
    scheduler, atlas, make_raw, write_recording, monkeypatch
):
    monkeypatch.setattr(scheduling, "WAIT_SECONDS", 1)
    recording = write_recording(atlas, make_raw())
    with pytest.raises(UserError, match=f"no Dask scheduler answers at {scheduler}"):
        analyse(atlas, recording, config=AnalyseConfig(scheduler=scheduler))


def test_analyse__cluster_without_workers_is_an_error(
    atlas, make_raw, write_recording, monkeypatch
):
    monkeypatch.setattr(scheduling, "WAIT_SECONDS", 1)
    recording = write_recording(atlas, make_raw())
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        pytest.raises(UserError, match="has no workers"),
    ):
        analyse(atlas, recording, config=AnalyseConfig(scheduler=cluster.scheduler_address))


def test_open_recording__begins_with_is_enough_where_it_is_one(analysed):
    assert open_recording(analysed.atlas, "to").name == "toy"
    with pytest.raises(UserError, match="there are: toy, untrained"):
        open_recording(analysed.atlas, "nothing")


def test_open_recording__incomplete_recording_is_refused(atlas, make_raw, write_recording):
    write_recording(atlas, make_raw(), complete=False)
    with pytest.raises(UserError, match="recording toy is not complete"):
        open_recording(atlas, "toy")
