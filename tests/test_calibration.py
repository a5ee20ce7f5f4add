"""The calibration command: what it simulates, how it judges, and the page that it writes into."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from activarium.schemas.tables import (
    CLASS_PAIRS,
    DEPTH_TRENDS,
    LAYERS,
    UNIT_CLASSES,
    UNIT_TARGETS,
    UNITS,
)

REPOSITORY = Path(__file__).parents[1]
sys.path.append(str(REPOSITORY / "benchmarks"))
import calibration  # noqa: E402 - a script, found by the path above
import simulated_recordings as simulated  # noqa: E402

sys.path.pop()

COORDINATES = {"layer", "channel", "unit", "depth", "class", "other_class", "kind"}


@pytest.fixture(scope="module")
def tallies():
    return calibration.measure(4)


def test_simulate__one_seed_is_one_recording_and_another_seed_another():
    first, again, other = (simulated.simulate(seed) for seed in (3, 3, 4))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first.responses != other.responses).any(axis=1).all()
    assert (first.label != other.label).any()


def test_simulate__units_are_of_their_kinds_and_classes_of_their_sizes():
    recordings = [simulated.simulate(seed) for seed in range(30)]
    responses = np.concatenate([each.responses for each in recordings], axis=1)
    zeros = (responses.reshape(simulated.LAYERS, len(simulated.KINDS), -1) == 0).mean(axis=(0, 2))
    by_kind = dict(zip(simulated.KINDS, zeros, strict=True))
    assert by_kind["linear"] == 0
    for share in (16, 50, 90, 98):
        assert by_kind[f"ReLU, {share} % zeros"] == pytest.approx(share / 100, abs=0.01)
    assert np.bincount(recordings[0].label).tolist() == list(simulated.CLASS_SIZES)
    assert np.bincount(recordings[0].equal).tolist() == [60] * 10
    assert len(np.unique(responses[7])) == 5


def test_simulate__units_depend_on_each_other_within_a_layer_only():
    before = [
        simulated._before_activation(np.random.default_rng(seed), 8).reshape(5, 8, -1)
        for seed in range(20)
    ]
    within = [np.corrcoef(layer)[np.triu_indices(8, 1)] for each in before for layer in each]
    between = [np.corrcoef(each[0], each[1])[:8, 8:] for each in before]
    assert np.sqrt(np.mean(np.square(within))) > 0.3
    assert np.sqrt(np.mean(np.square(between))) < 0.06
    assert np.std(before) == pytest.approx(1, abs=0.01)


def test_simulate__only_planted_units_prefer_and_only_their_class():
    recording = simulated.simulate(11)
    same = recording.preferring == recording.responses[recording.planted]
    own = recording.label == recording.preferred[:, None]
    assert same[~own].all()
    linear = [
        simulated.kind_of(unit) in {"linear", "heavy tails (cube)"} for unit in recording.planted
    ]
    assert not same[linear][own[linear]].any()


@pytest.mark.parametrize("kind", ["linear", "skewed (lognormal)", "heavy tails (cube)"])
def test_true_auroc__a_rising_function_keeps_that_of_normal_values(kind):
    expected = stats.norm.cdf(0.5 / np.sqrt(2))
    assert simulated.true_auroc(kind, 0.5) == pytest.approx(expected, abs=1e-6)


def test_true_values__equal_those_of_many_draws():
    rng = np.random.default_rng(0)
    rest, own = rng.standard_normal(200_000), rng.standard_normal(200_000) + 1
    for kind in ("ReLU, 50 % zeros", "ReLU, 98 % zeros", "five levels"):
        activated = [simulated.KINDS[kind](each) for each in (own, rest)]
        u = stats.mannwhitneyu(*activated).statistic
        assert simulated.true_auroc(kind, 1.0) == pytest.approx(u / 200_000**2, abs=0.004)
        a, b = activated
        pooled = np.sqrt((23 * a.var() + 575 * b.var()) / 598)
        gap = (a.mean() - b.mean()) / pooled
        assert simulated.true_difference(kind, 1.0, 24) == pytest.approx(gap, rel=0.02)


def test_true_values__linear_units_have_the_planted_difference():
    assert simulated.true_difference("linear", 2.0, 6) == pytest.approx(2, abs=1e-6)
    assert simulated.true_auroc("linear", 0.0) == pytest.approx(0.5, abs=1e-9)


def test_share__of_independent_tests_is_clopper_and_pearsons():
    hits = np.repeat([1.0, 0.0], [60, 940])
    found = calibration.share_over_recordings(hits, np.ones(1000, int))
    expected = stats.binomtest(60, 1000).proportion_ci(0.99, "exact")
    assert (found.share, found.tests) == (0.06, 1000)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.01)


def test_share__tests_that_agree_within_a_recording_count_once():
    rng = np.random.default_rng(1)
    one = (rng.random(500) < 0.1).astype(float)
    apart = calibration.share_over_recordings(one, np.ones(500, int))
    together = calibration.share_over_recordings(40 * one, np.full(500, 40))
    assert together[:3] == pytest.approx(apart[:3], rel=1e-12)
    free = calibration.share_over_recordings(
        rng.binomial(40, 0.1, size=500).astype(float), np.full(500, 40)
    )
    assert free.high - free.low < 0.25 * (together.high - together.low)


def test_share__no_hits_are_bounded_by_the_number_of_recordings():
    found = calibration.share_over_recordings(np.zeros(2000), np.full(2000, 40))
    assert (found.share, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.005 ** (1 / 2000), rel=0.01)


def test_share__interval_holds_the_true_share_of_dependent_tests():
    rng = np.random.default_rng(2)
    held = []
    for _ in range(300):
        rate = rng.beta(0.5, 9.5, size=200)
        found = calibration.share_over_recordings(
            rng.binomial(20, rate).astype(float), np.full(200, 20)
        )
        held.append(found.low <= 0.05 <= found.high)
    assert np.mean(held) > 0.96


def test_share__without_two_recordings_is_unknown():
    found = calibration.share_over_recordings(np.array([1.0, 0.0]), np.array([3, 0]))
    assert np.isnan(found.share)
    assert calibration.with_interval(found) == "none"
    assert not calibration.verdict(found, 0.05, calibration.LEVEL_WORDS)


@pytest.mark.parametrize(("power", "word"), [(1.0, 1), (2.0, 2), (0.5, 0)])
def test_verdict__tells_p_values_that_are_too_small_and_too_large(power, word):
    rng = np.random.default_rng(5)
    tally = calibration.Tally()
    for _ in range(400):
        tally.add((rng.random(40) ** power <= 0.05).sum(), 40)
    words = calibration.LEVEL_WORDS
    assert calibration.verdict(tally.share(), 0.05, words) == words[word]


def test_measure__counts_every_test_once(tallies):
    assert tallies["Kruskal-Wallis", 0.05].share().tests == 4 * simulated.UNITS
    assert tallies["Mann-Whitney", 0.05].share().tests == 4 * simulated.UNITS * 10
    assert tallies["pairs", 0.001].share().tests == 4 * simulated.UNITS * 45
    assert tallies["PERMANOVA", 0.05].share().tests == 4 * simulated.LAYERS
    kinds = [tallies[f"Kruskal-Wallis: {kind}", 0.05].share() for kind in simulated.KINDS]
    assert sum(each.tests for each in kinds) == 4 * simulated.UNITS
    whole = tallies["Kruskal-Wallis", 0.05].share().share
    assert np.mean([each.share for each in kinds]) == pytest.approx(whole, rel=1e-12)


def test_measure__large_preferences_are_found_and_small_ones_are_not(tallies):
    found = {effect: tallies["power", "BH at 1 %", effect].share().share for effect in (0.25, 2.0)}
    assert found[0.25] < 0.3
    assert found[2.0] > 0.5


def test_report__names_every_test_and_repeats(tallies):
    text = calibration.report(tallies, 4, 0.0)
    for name in calibration.TESTS.values():
        assert text.count(f"| {name} |") == 1, name
    for kind in simulated.KINDS:
        assert text.count(f"| {kind} |") == 2
    assert "nan" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 60
    assert (
        calibration.report(calibration.measure(4), 4, 0.0).splitlines()[4:] == text.splitlines()[4:]
    )


def test_written__replaces_what_stands_between_the_comments_only():
    page = f"before\n{calibration.BEGIN}\nold\n{calibration.END}\nafter\n"
    once = calibration.written(page, "new")
    assert once == f"before\n{calibration.BEGIN}\n\nnew\n\n{calibration.END}\nafter\n"
    assert calibration.written(once, "new") == once


@pytest.mark.parametrize(
    "page",
    [
        "none",
        f"{calibration.END} {calibration.BEGIN}",
        f"{calibration.BEGIN} {calibration.END} {calibration.END}",
    ],
)
def test_written__page_without_each_comment_once_is_an_error(page):
    with pytest.raises(ValueError, match="once"):
        calibration.written(page, "new")


@pytest.mark.parametrize(
    "table",
    [UNITS, UNIT_CLASSES, LAYERS, CLASS_PAIRS, DEPTH_TRENDS, UNIT_TARGETS],
    ids=lambda table: table.name,
)
def test_page__tells_every_column_in_the_section_of_its_table(table):
    page = calibration.PAGE.read_text(encoding="utf-8")
    _, _, rest = page.partition(f"\n## `{table.name}`")
    section, _, _ = rest.partition("\n## ")
    names = {column.name for column in table.columns} - COORDINATES
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_page__tables_have_as_many_cells_as_headings():
    width = 0
    for line in calibration.PAGE.read_text(encoding="utf-8").splitlines():
        cells = line.count("|") - line.count("\\|") if line.startswith("|") else 0
        assert width in {0, cells} or not cells, line
        width = cells
