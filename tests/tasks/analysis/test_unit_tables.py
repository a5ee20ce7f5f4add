"""The newer columns of units and unit_classes against slow references on the stored matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, mutual_info_score, roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.oneway import anova_oneway

from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.statistics.testing.label_permutations import permuted_labels

from ..statistics.intervals.slow_intervals import slow_auroc, slow_hedges

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
LEVELS = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
CLASSES = 5


def varying(store):
    """Return each unit that varies, and its responses to labelled images."""
    values, _ = store.labelled
    return [(unit, values[:, unit]) for unit in np.flatnonzero(~store.constant)]


def by_class(store, values):
    """Return the values of each class that has images."""
    label = store.labelled[1]
    return [values[label == code] for code in np.unique(label)]


def share_of_variance(values, label):
    """Return eta squared of each column by scipy's analysis of variance."""
    codes = np.unique(label)
    f = stats.f_oneway(*(values[label == code] for code in codes), axis=0).statistic
    between, within = len(codes) - 1, len(label) - len(codes)
    return f * between / (f * between + within)


@pytest.fixture(scope="module")
def effects(studied):
    """Return observed and permuted eta squared of all units, permutation by permutation."""
    values, label = studied.labelled
    kept = np.flatnonzero(~studied.constant)
    permutations = permuted_labels(label, seed=0, first=0, size=199)
    observed, permuted = np.zeros(values.shape[1]), np.zeros((199, values.shape[1]))
    observed[kept] = share_of_variance(values[:, kept], label)
    for row, labels in zip(permuted, permutations, strict=True):
        row[kept] = share_of_variance(values[:, kept], labels)
    return observed, permuted


def as_large(observed, permuted):
    """Return whether permuted effects reach the observed one, equal but for rounding included."""
    return permuted >= observed * (1 - 1e-5)


@pytest.mark.parametrize("name", LEVELS)
def test_units__quantiles_equal_numpy(name, studied):
    expected = np.quantile(studied.responses, LEVELS[name], axis=0)
    np.testing.assert_allclose(studied.frame("units")[f"response_{name}"], expected, **CLOSE)


def test_units__treves_rolls_is_one_less_the_share_of_the_squared_mean(studied):
    frame, values = studied.frame("units"), studied.responses
    shifted = values - np.minimum(values.min(axis=0), 0)
    kept = ~studied.constant
    expected = 1 - shifted.mean(axis=0)[kept] ** 2 / (shifted**2).mean(axis=0)[kept]
    # The reference subtracts from 1: it has no more digits than these.
    np.testing.assert_allclose(frame.treves_rolls[kept], expected, rtol=1e-9, atol=1e-13)
    assert (frame.treves_rolls[~kept] == 0).all()


def test_units__morcos_index_is_null_where_a_response_is_negative(studied):
    frame = studied.frame("units")
    negative = studied.labelled[0].min(axis=0) < 0
    assert frame.selectivity_morcos.isna().tolist() == negative.tolist()
    assert negative.any()
    kept = ~negative
    assert (frame.selectivity_morcos[kept] == frame.selectivity[kept]).all()


def test_units__ccmas_compares_with_the_mean_over_all_other_images(studied):
    frame, label = studied.frame("units"), studied.labelled[1]
    for unit, values in varying(studied):
        shifted = values - min(values.min(), 0)
        means = {code: shifted[label == code].mean() for code in studied.compared}
        best = max(means, key=means.get)
        rest = shifted[np.isin(label, list(studied.compared)) & (label != best)].mean()
        expected = (means[best] - rest) / (means[best] + rest)
        assert frame.ccmas[unit] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (frame.ccmas[studied.constant] == 0).all()


def test_units__top_precision_is_over_as_many_images_as_the_class_has(studied):
    frame, (values, label) = studied.frame("units"), studied.labelled
    names = studied.array("class")
    top = studied.table("units").column("top_class").to_pylist()
    for unit in range(values.shape[1]):
        precision = {}
        for code in studied.compared:
            taken = min(10, (label == code).sum())
            last = np.sort(values[:, unit])[-taken]
            above, tied = values[:, unit] > last, values[:, unit] == last
            weight = above + tied * (taken - above.sum()) / tied.sum()
            precision[code] = weight[label == code].sum() / taken
        most = max(precision.values())
        assert frame.top_precision[unit] == pytest.approx(most, rel=1e-9)
        best = [code for code, value in precision.items() if np.isclose(value, most, rtol=1e-9)]
        assert top[unit] == (names[best[0]] if len(best) == 1 else None)
    assert None in top


def test_units__what_detects_a_class_equals_scikit_learn(studied):
    frame, (values, label) = studied.frame("units"), studied.labelled
    names = studied.array("class").tolist()
    for unit in np.flatnonzero(~studied.constant):
        row, x = frame.iloc[unit], values[:, unit]
        code = names.index(row.average_precision_class)
        found = average_precision_score(label == code, x)
        assert row.average_precision == pytest.approx(found, rel=1e-9)
        area = {each: roc_auc_score(label == each, x) for each in studied.compared}
        assert row.suppressed_auroc == pytest.approx(min(area.values()), rel=1e-9)
        least = names.index(row.suppressed_class)
        assert area[least] == pytest.approx(min(area.values()), rel=1e-9)
        farthest = max(area.values(), key=lambda each: abs(each - 0.5))
        assert abs(row.strongest_effect) == pytest.approx(abs(2 * farthest - 1), rel=1e-9)
        strongest = area[names.index(row.strongest_class)]
        assert row.strongest_effect == pytest.approx(2 * strongest - 1, rel=1e-9, abs=1e-12)
    constant = frame[studied.constant]
    assert constant.average_precision.isna().all()
    assert constant.average_precision_class.isna().all()
    assert (constant.preferred_p == 1).all()
    assert (constant.auroc_crossfit == 0.5).all()
    assert (constant.strongest_effect == 0).all()


def test_units__mutual_information_equals_scikit_learn_with_millers_correction(studied):
    frame, (values, label) = studied.frame("units"), studied.labelled
    images = len(label)
    edges = np.ceil(np.arange(1, 5) * images / 4)
    for unit in range(values.shape[1]):
        lowest = stats.rankdata(values[:, unit], method="min") - 1
        bins = np.searchsorted(edges, lowest, side="right")
        cells = len({*zip(bins, label, strict=True)})
        excess = (len({*bins}) + len({*label}) - cells - 1) / (2 * images)
        expected = max(mutual_info_score(bins, label) + excess, 0)
        assert frame.mutual_information[unit] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_units__omega2_equals_its_formula(studied):
    frame = studied.frame("units")
    for unit, values in varying(studied):
        groups = by_class(studied, values)
        between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
        total = ((values - values.mean()) ** 2).sum()
        square = (total - between) / (len(values) - len(groups))
        expected = (between - (len(groups) - 1) * square) / (total + square)
        assert frame.omega2[unit] == pytest.approx(expected, rel=1e-7, abs=1e-10)
    assert (frame.omega2[studied.constant] == 0).all()


def test_units__welch_equals_statsmodels_over_classes_of_two_images_or_more(studied):
    frame = studied.frame("units")
    compared = 0
    for unit, values in varying(studied):
        groups = [group for group in by_class(studied, values) if len(group) > 1]
        if any(np.ptp(group) == 0 for group in groups):
            assert np.isnan(frame.welch_f[unit])
            continue
        found = anova_oneway(groups, use_var="unequal")
        assert frame.welch_f[unit] == pytest.approx(found.statistic, rel=1e-7)
        assert frame.welch_p[unit] == pytest.approx(found.pvalue, rel=1e-7)
        assert frame.welch_log10p[unit] == pytest.approx(np.log10(found.pvalue), rel=1e-7)
        compared += 1
    assert compared > 10
    assert (frame.welch_p[studied.constant] == 1).all()


def test_units__by_q_equals_statsmodels(studied):
    frame = studied.frame("units")
    expected = multipletests(frame.kruskal_p, method="fdr_by")[1]
    np.testing.assert_allclose(frame.by_q_value, expected, **CLOSE)
    assert (frame.by_q_value >= frame.q_value).all()


def test_units__copies_name_the_earlier_unit_of_largest_correlation(studied):
    frame = studied.frame("units").set_index("unit")
    values = studied.responses
    expected = {"layer1.0/5": 11, "layer1.0/7": 13}
    copies = frame.copies_unit.dropna()
    assert copies.to_dict() == dict.fromkeys(expected, "layer1.0/3")
    for unit, column in expected.items():
        r = stats.pearsonr(values[:, 9], values[:, column]).statistic
        assert frame.copies_r[unit] == pytest.approx(r, rel=1e-9)
        assert abs(r) > 0.9
    groups = frame.redundancy_group
    assert groups[["layer1.0/3", "layer1.0/5", "layer1.0/7"]].tolist() == [3, 3, 3]
    alone = groups.drop(list(expected))
    assert (alone == frame.channel[alone.index]).all()


def test_units__permutation_p_counts_permutations_that_reach_the_effect(studied, effects):
    observed, permuted = effects
    expected = (1 + as_large(observed, permuted).sum(axis=0)) / 200
    frame = studied.frame("units")
    np.testing.assert_allclose(frame.permutation_p, expected, rtol=1e-12)
    assert frame.permutation_p.min() == 1 / 200
    assert (frame.permutation_p[studied.constant] == 1).all()


def test_units__fwer_p_is_step_down_max_t(studied, effects):
    observed, permuted = effects
    order = np.argsort(-observed, kind="stable")
    expected, before = np.empty(len(observed)), 0.0
    for place, unit in enumerate(order):
        largest = permuted[:, order[place:]].max(axis=1)
        before = max(before, (1 + as_large(observed[unit], largest).sum()) / 200)
        expected[unit] = before
    frame = studied.frame("units")
    np.testing.assert_allclose(frame.fwer_p, expected, rtol=1e-12)
    assert (frame.fwer_p >= frame.permutation_p).all()


def test_units__planted_unit_has_the_smallest_p_there_can_be(studied):
    row = studied.frame("units").set_index("unit").loc["fc:2/2"]
    assert row.permutation_p == row.fwer_p == 1 / 200
    assert row.q_value < 1e-6
    assert row.auroc > 0.9


def test_units__without_permutations_their_columns_are_null(
    atlas, make_raw, write_recording, stored
):
    config = AnalyseConfig(scheduler="synchronous", permutations=0)
    analyse(atlas, write_recording(atlas, make_raw()), config=config)
    tables = stored(atlas).tables()
    for table, columns in {
        "units": ("permutation_p", "fwer_p"),
        "layers": ("permanova_p", "chance_verdict"),
    }.items():
        for column in (*columns, *(["familywise_fraction"] if table == "layers" else [])):
            assert tables[table].column(column).null_count == tables[table].num_rows, column
    assert tables["units"].column("anova_p").null_count == 0


def test_layers__without_permutations_only_the_p_of_permanova_is_null(
    atlas, make_raw, write_recording, stored
):
    recording = write_recording(atlas, make_raw())
    found = []
    for permutations in (19, 0):
        config = AnalyseConfig(scheduler="synchronous", permutations=permutations)
        analyse(atlas, recording, config=config)
        found.append(stored(atlas).frame("layers"))
    permuted, plain = found
    assert permuted.permanova_f.notna().all()
    for column in ("permanova_f", "permanova_r2"):
        np.testing.assert_allclose(plain[column], permuted[column], rtol=1e-6, err_msg=column)


def class_of(row):
    return row.Index % CLASSES, row.Index // CLASSES


def test_unit_classes__rank_is_that_of_the_class_mean(studied):
    frame = studied.frame("unit_classes")
    means = frame.response_mean.to_numpy().reshape(-1, CLASSES)
    ranks = frame.class_rank.to_numpy().reshape(-1, CLASSES)
    for mean, rank in zip(means, ranks, strict=True):
        filled = np.isin(np.arange(CLASSES), list(studied.compared))
        assert rank[filled].tolist() == stats.rankdata(-mean[filled], method="min").tolist()
        assert (rank[~filled] == 0).all()


def active(values, label, code):
    """Return how many images of a class and of the rest activate a unit."""
    lowest = values == values.min()
    above = ~lowest if lowest.sum() > 1 else np.ones(len(values), bool)
    return (above & (label == code)).sum(), (above & (label != code)).sum()


def test_unit_classes__few_active_images_have_no_interval(studied):
    frame, (values, label) = studied.frame("unit_classes"), studied.labelled
    expected = []
    for row in frame.itertuples():
        code, unit = class_of(row)
        expected.append(min(active(values[:, unit], label, code)) < 10)
    assert frame.few_active.tolist() == expected
    for name in ("auroc_low", "auroc_high", "hedges_g_low", "hedges_g_high"):
        assert frame[name].isna().tolist() == expected
    assert 20 < sum(expected) < len(expected) - 20


def test_unit_classes__intervals_are_those_of_the_images(studied):
    frame, (values, label) = studied.frame("unit_classes"), studied.labelled
    for row in frame[~frame.few_active].itertuples():
        code, unit = class_of(row)
        own, rest = (values[side, unit].astype(float) for side in (label == code, label != code))
        found = (row.hedges_g_low, row.hedges_g_high)
        np.testing.assert_allclose(found, slow_hedges(own, rest, 0.9), rtol=1e-9, atol=1e-9)
        if row.auroc not in {0, 1}:
            found = (row.auroc_low, row.auroc_high)
            np.testing.assert_allclose(found, slow_auroc(own, rest, 0.9), **CLOSE)


def test_units__layer_of_more_than_one_block_equals_scipy(wide_store):
    frame, (values, label) = wide_store.frame("units"), wide_store.labelled
    assert frame.layer.value_counts().to_dict() == {"a": 290, "b": 10}
    kept = np.flatnonzero(~wide_store.constant)
    groups = [values[label == code][:, kept] for code in np.unique(label)]
    for found, test in (("anova", stats.f_oneway), ("kruskal", stats.kruskal)):
        expected = test(*groups, axis=0).pvalue
        np.testing.assert_allclose(frame[f"{found}_p"][kept], expected, rtol=1e-6)
    np.testing.assert_allclose(
        frame.q_value, stats.false_discovery_control(wide_store.unit_p), **CLOSE
    )
    np.testing.assert_allclose(
        frame.response_p75, np.quantile(wide_store.responses, 0.75, axis=0), **CLOSE
    )


def test_units__copies_are_found_across_the_blocks_of_a_layer(wide_store):
    row = wide_store.frame("units").set_index("unit").loc["a/280"]
    assert (row.copies_unit, row.redundancy_group) == ("a/4", 4)
    assert row.copies_r == pytest.approx(-1, rel=1e-9)
