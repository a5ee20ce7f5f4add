"""The tables: what other programs rely on."""

from __future__ import annotations

import keyword

import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

from activarium.schemas.columns import FORMAT_VERSION, integer, p_value, real
from activarium.schemas.tables import TABLES

RELIED_ON = {
    "recordings": "model checkpoint series step test_set split images units accuracy fingerprint",
    "images": "image label class predicted confidence margin entropy loss correct valid",
    "layers": "layer depth kind units dead_fraction selective_fraction knn_purity "
    "effective_dimension redundant_fraction probe_accuracy within_similarity between_similarity "
    "permanova_r2 permanova_p silhouette anosim_r",
    "depth_trends": "measure spearman_rho spearman_p spearman_verdict",
    "class_pairs": "layer class other_class centroid_cosine centroid_distance fisher_ratio "
    "best_auroc best_unit separating_units",
    "layer_changes": "layer depth series step response_mean response_sd dead_fraction "
    "selectivity_mean class_kept cka_to_last health health_reason",
    "densities": "layer class bin bin_low bin_high activations",
    "units": "layer channel unit depth response_mean response_sd response_min response_max "
    "active_fraction is_dead preferred_class runner_up_class selectivity auroc anova_f anova_p "
    "kruskal_h kruskal_p q_value eta2 epsilon2 sparseness redundancy_group permutation_p fwer_p "
    "mutual_information omega2 welch_f welch_p top_precision ccmas "
    "average_precision average_precision_crossfit auroc_crossfit preferred_p strongest_effect",
    "unit_classes": "layer channel unit class n response_mean response_sd z auroc auroc_low auroc_high u "
    "p_value q_value hedges_g hedges_g_low hedges_g_high class_rank",
    "unit_targets": "layer channel unit target n spearman_rho spearman_p q_value "
    "distance_correlation",
    "exemplars": "layer channel unit class exemplar_rank image response",
    "embeddings": "layer method image x y z",
    "embedding_quality": "layer method trustworthiness knn_purity",
    "similarities": "layer other_recording other_layer features images cka cka_debiased rsa "
    "rsa_images procrustes alignment_r2",
    "unit_matches": "unit layer channel other_recording same_r preferred_class "
    "other_preferred_class kept_class best_unit best_r assigned_unit assigned_r",
}
COLUMNS = [(table, column) for table in TABLES.values() for column in table.columns]
NAMES = [f"{table.name}.{column.name}" for table, column in COLUMNS]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=NAMES)
def test_columns__are_described(table, column):
    assert len(column.description) > 3
    assert column.field().metadata[b"description"].decode() == column.description


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=NAMES)
def test_columns__clash_with_no_attribute_of_a_data_frame_or_dataset(table, column):
    assert column.name.isidentifier()
    assert not hasattr(pd.DataFrame, column.name)
    assert not hasattr(xr.Dataset, column.name)
    # The design names the class of an image and of a unit `class`.
    assert column.name == "class" or not keyword.iskeyword(column.name)


@pytest.mark.parametrize("name", RELIED_ON)
def test_tables__hold_the_columns_that_other_programs_rely_on(name):
    held = [column.name for column in TABLES[name].columns]
    assert set(RELIED_ON[name].split()) <= set(held)
    assert len(set(held)) == len(held)


def test_tables__are_those_that_are_relied_on():
    assert set(TABLES) == set(RELIED_ON)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables__say_what_a_row_is_and_sort_by_their_own_columns(table):
    assert table.row
    assert table.description.endswith(".")
    assert {table.column(name).name for name in table.sort} == set(table.sort)
    # The folder's name adds it.
    assert "recording" not in table.schema().names


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_schema__carries_table_version_and_what_is_added(table):
    metadata = table.schema({"more": "this"}).metadata
    assert metadata[b"activarium.table"].decode() == table.name
    assert metadata[b"activarium.format_version"].decode() == str(FORMAT_VERSION)
    assert metadata[b"activarium.row"].decode() == table.row
    assert metadata[b"more"] == b"this"


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=NAMES)
def test_columns__probabilities_end_in_p_or_value_and_logarithms_say_so(table, column):
    if column.unit == "probability":
        assert (column.low, column.high) == (0, 1)
        assert column.name.endswith(("_p", "p_value", "q_value"))
    if column.unit == "log10 probability":
        assert column.high == 0
        assert "log10" in column.name


def test_range_text__shows_the_closed_and_the_open_end():
    assert p_value("p", "").range_text == "[0, 1]"
    assert integer("n", "").range_text == "[0, inf)"
    assert real("r", "", high=0).range_text == "(-inf, 0]"
    assert real("r", "").range_text == ""


def test_field__null_is_allowed_only_where_the_column_says_so():
    assert pa.types.is_float64(real("r", "").field().type)
    assert not real("r", "").field().nullable
    assert real("r", "", nullable=True).field().nullable
