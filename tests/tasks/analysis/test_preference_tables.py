"""Units and unit_classes: every number against scipy, scikit-learn and numpy on the stored matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def per_unit(store, statistic, constant):
    """Apply a statistic of the class groups to each unit that varies."""
    units = store.responses.shape[1]
    found = np.full(units, float(constant))
    for unit in np.flatnonzero(~store.constant):
        found[unit] = statistic([group[:, unit] for group in store.groups.values()])
    return found


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
    assert (toy.unit_p > frame.kruskal_p).any()
    q = stats.false_discovery_control(toy.unit_p)
    np.testing.assert_allclose(frame.q_value, q, **CLOSE)
    np.testing.assert_allclose(frame.q_log10, np.log10(q), rtol=1e-9, atol=1e-12)


def test_units__preferred_and_runner_up_have_the_largest_class_means(toy):
    table, names = toy.table("units"), toy.array("class")
    means = np.array([group.mean(axis=0) for group in toy.compared.values()])
    order = np.argsort(-means, axis=0, kind="stable")
    codes = np.array(list(toy.compared))
    for rank, column in enumerate(("preferred_class", "runner_up_class")):
        expected = np.where(toy.constant, None, names[codes[order[rank]]])
        assert table.column(column).to_pylist() == expected.tolist()


def test_units__auroc_is_the_largest_one_against_rest(toy):
    frame, (values, label) = toy.frame("units"), toy.labelled
    names = toy.array("class")
    for unit in range(values.shape[1]):
        area = {code: roc_auc_score(label == code, values[:, unit]) for code in toy.compared}
        assert frame.auroc[unit] == pytest.approx(max(area.values()), rel=1e-9)
        if not toy.constant[unit]:
            assert frame.auroc_class[unit] == names[max(area, key=area.get)]
            preferred = names.tolist().index(frame.preferred_class[unit])
            assert frame.preferred_auroc[unit] == pytest.approx(area[preferred], rel=1e-9)
    assert (frame.preferred_class != frame.auroc_class)[~toy.constant].any()
    assert frame.preferred_auroc[toy.constant].isna().all()


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
        means = sorted(group[:, unit].mean() - shift for group in toy.compared.values())
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
    means = np.array([group.mean(axis=0) for group in toy.compared.values()])
    z = stats.zscore(means[:, ~toy.constant])
    for place, code in enumerate(toy.compared):
        rows = frame[code :: len(toy.array("class"))][~toy.constant]
        np.testing.assert_allclose(rows.z, z[place], rtol=1e-6, atol=1e-9)
    assert (frame[::5][toy.constant].z == 0).all()


def test_unit_classes__auroc_u_and_p_equal_scikit_learn_and_scipy(toy):
    frame, (values, label) = toy.frame("unit_classes"), toy.labelled
    for row in frame[frame.n > 1].itertuples():
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
    frame, (values, label) = toy.frame("unit_classes"), toy.labelled
    p = frame.p_value.to_numpy().copy()
    for at, few in enumerate(toy.too_few.ravel()):
        unit, code = divmod(at, len(toy.array("class")))
        # The lowest of ten bins; equal responses stay together in the bin of their lowest rank.
        rank = stats.rankdata(values[:, unit], method="min") - 1
        above, own = rank * 10 // len(label) > 0, label == code
        if few:
            table = [[(above & own).sum(), (above & ~own).sum()],
                     [(~above & own).sum(), (~above & ~own).sum()]]  # fmt: skip
            sides = [stats.fisher_exact(table, side).pvalue for side in ("less", "greater")]
            p[at] = max(p[at], min(2 * min(sides), 1))
    assert (p > frame.p_value).any()
    tested = (frame.n > 1).to_numpy()
    q = stats.false_discovery_control(p[tested])
    np.testing.assert_allclose(frame.q_value[tested], q, **CLOSE)
    assert frame.q_value[~tested].isna().all()


def test_unit_classes__hedges_g_equals_its_formula(toy):
    frame, (values, label) = toy.frame("unit_classes"), toy.labelled
    n = len(label)
    for row in frame[frame.n > 1].itertuples():
        unit, code = divmod(row.Index, len(toy.array("class")))
        of, rest = values[label == code, unit], values[label != code, unit]
        squares = ((of - of.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
        if toy.constant[unit]:
            assert row.hedges_g == 0
            continue
        g = (of.mean() - rest.mean()) / np.sqrt(squares / (n - 2)) * (1 - 3 / (4 * (n - 2) - 1))
        assert row.hedges_g == pytest.approx(g, rel=1e-6)


@pytest.mark.parametrize("images", [0, 1])
def test_unit_classes__class_below_two_images_is_not_compared(images, toy):
    table = toy.table("unit_classes")
    few = table.filter(np.array(table.column("n")) == images)
    assert few.num_rows == toy.responses.shape[1]
    null = [
        "response_sd", "z", "auroc", "auroc_low", "auroc_high", "u", "p_value", "log10p", "q_value",
        "hedges_g", "hedges_g_low", "hedges_g_high",
    ]  # fmt: skip
    for column in (*null, *(["response_mean"] if images == 0 else [])):
        assert few.column(column).null_count == few.num_rows, column
    assert set(few.column("class_rank").to_pylist()) == {0}
    if images:
        assert few.column("response_mean").null_count == 0


def test_unit_classes__detection_equals_scikit_learn(toy):
    frame, (values, label) = toy.frame("unit_classes"), toy.labelled
    names, units = toy.array("class").tolist(), toy.array("unit").tolist()
    kept = frame[frame.auroc.notna()]
    for row in kept.itertuples():
        x, mask = values[:, units.index(row.unit)], label == names.index(row[4])
        assert row.average_precision == pytest.approx(average_precision_score(mask, x), rel=1e-9)
        precision, recall, threshold = (
            each[: len(np.unique(x))] for each in precision_recall_curve(mask, x)
        )
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        assert row.best_f1 == pytest.approx(f1.max(), rel=1e-9)
        assert row.best_f1_threshold == threshold[np.isclose(f1, f1.max(), rtol=1e-12)].max()
        r = stats.pointbiserialr(mask, x).statistic if np.ptp(x) else 0.0
        assert row.point_biserial == pytest.approx(r, rel=1e-7, abs=1e-9)
    assert len(kept) > 50
    assert frame.average_precision[frame.auroc.isna()].isna().all()
