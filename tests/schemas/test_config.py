"""The configuration: frozen, strict, and documented where it is typed."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from activarium.schemas import config as module
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import (
    AnalyseConfig,
    Config,
    EmbedConfig,
    ModelConfig,
    PreprocessingConfig,
    RecordConfig,
    RunConfig,
    TestSetConfig,
    TrainingConfig,
)

MODELS = [
    each
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Config) and each is not Config
]
RUN = {"name": "a", "test_set": {"source": "digits"}, "training": {}}


@pytest.mark.parametrize("model", MODELS)
def test_fields__are_all_documented(model):
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("model", MODELS)
def test_configurations__refuse_unknown_keys(model):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model.model_validate({**RUN, "source": "digits", "no_such_key": 1})


def test_configurations__are_frozen():
    run = RunConfig.model_validate(RUN)
    with pytest.raises(ValidationError, match="frozen"):
        run.name = "b"
    with pytest.raises(ValidationError, match="frozen"):
        run.analyse.fdr = 0.5


def test_run__survives_json():
    run = RunConfig.model_validate(RUN)
    assert RunConfig.model_validate(json.loads(run.model_dump_json())) == run


def test_run__trained_weights_need_a_training_section():
    with pytest.raises(ValidationError, match="no `training` section"):
        RunConfig.model_validate({"name": "a", "test_set": {"source": "digits"}})
    untrained = {"name": "a", "test_set": {"source": "digits"}, "model": {"weights": "untrained"}}
    assert RunConfig.model_validate(untrained).training is None


def test_run__series_of_files_needs_no_training():
    run = {"name": "a", "test_set": {"source": "digits"}}
    assert RunConfig.model_validate({**run, "model": {"checkpoints": "files"}}).training is None
    with pytest.raises(ValidationError, match="no `training` section"):
        RunConfig.model_validate({**run, "model": {"checkpoints": "trained"}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"series": "a"}, "series names a series of checkpoints"),
        ({"checkpoints": "files", "checkpoint": "best"}, "leave it out with checkpoints"),
        ({"checkpoints": "trained", "weights": "untrained"}, "trained needs weights: trained, got"),
    ],
)
def test_model__state_and_series_do_not_mix(settings, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(settings)


def test_training__head_is_trained_alone():
    with pytest.raises(ValidationError, match="freezes all other modules: leave frozen out"):
        TrainingConfig(train_only="head", frozen=("conv1",))


def test_record__mean_is_always_kept():
    with pytest.raises(ValidationError, match="reductions must contain mean"):
        RecordConfig(reductions=("max",))


def test_preprocessing__resize_holds_the_crop():
    with pytest.raises(ValidationError, match=r"resize \(20\) must be at least size \(32\)"):
        PreprocessingConfig(resize=20, size=32)
    assert PreprocessingConfig(resize=32, size=32).size == 32


def test_preprocessing__sd_is_positive():
    with pytest.raises(ValidationError, match="greater than or equal"):
        PreprocessingConfig(sd=(0.5, 0.0, 0.5))


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (AnalyseConfig, {"fdr": 0.0}),
        (AnalyseConfig, {"fdr": 1.0}),
        (AnalyseConfig, {"exemplars": 0}),
        (AnalyseConfig, {"class_exemplars": -1}),
        (EmbedConfig, {"dimensions": 4}),
        (EmbedConfig, {"perplexity": 1}),
        (EmbedConfig, {"methods": ("mds",)}),
        (EmbedConfig, {"max_images": 9}),
        (RecordConfig, {"thumbnail": 257}),
        (RecordConfig, {"precision": "float64"}),
        (RecordConfig, {"shard_images": 0}),
        (ModelConfig, {"width": 0}),
        (TrainingConfig, {"momentum": 1.0}),
        (TrainingConfig, {"learning_rate": 0.0}),
        (TrainingConfig, {"checkpoint_steps": 0}),
        (TrainingConfig, {"schedule": "linear"}),
        (TestSetConfig, {"source": "cifar1000"}),
        (TestSetConfig, {"source": "digits", "limit": 1}),
    ],
)
def test_configurations__refuse_values_out_of_range(model, values):
    with pytest.raises(ValidationError):
        model(**values)


@pytest.mark.parametrize("model", [AnalyseConfig, EmbedConfig, CompareConfig])
def test_configurations__every_number_of_what_is_made_of_recordings_has_a_limit(model):
    numbers = [
        name for name, field in model.model_fields.items() if field.annotation in (int, int | None)
    ]
    assert "seed" in numbers
    for name in numbers:
        with pytest.raises(ValidationError, match="less than or equal to"):
            model(**{name: 10**21})


def test_analyse__name_is_one_that_files_can_have():
    with pytest.raises(ValidationError, match="at most 100 characters"):
        AnalyseConfig(name="a" * 101)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "foo"}, "name 'foo' is for a selection: give where, classes or target"),
        ({"name": "a/b", "where": "correct"}, "lower-case letters, digits, dot, dash, underscore"),
        ({"where_of": "toy"}, "where_of 'toy' needs the condition"),
    ],
)
def test_analyse__names_belong_to_a_selection(values, message):
    with pytest.raises(ValidationError, match=message):
        AnalyseConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "entry-point"}, "needs entry_point: package.module:function"),
        (
            {"source": "mnist", "entry_point": "a:b"},
            "entry_point is a setting of the source entry-",
        ),
        ({"source": "parquet", "version": "1"}, "version is a setting of the source entry-point"),
        ({"source": "svhn", "image_column": "img"}, "image_column is a setting of the source parq"),
        ({"source": "cifar10", "label_column": "x"}, "of the source parquet and cifar100, got"),
        ({"source": "cifar100", "label_column": "x"}, "fine_labels or coarse_labels, got x"),
    ],
)
def test_test_set__settings_belong_to_their_source(values, message):
    with pytest.raises(ValidationError, match=message):
        TestSetConfig(**values)


def test_test_set__survives_json_with_every_setting_at_its_default():
    for settings in (
        {"source": "mnist"},
        {"source": "entry-point", "entry_point": "a:b", "options": {"size": 3}},
    ):
        config = TestSetConfig.model_validate(settings)
        assert TestSetConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("name", ["./runs/x", "..", "a" * 300, ""])
@pytest.mark.parametrize(
    "place", [("name",), ("model", "name"), ("model", "checkpoint"), ("test_set", "name")]
)
def test_names__that_no_file_can_have_are_refused(place, name):
    settings = {"name": "run", "test_set": {"source": "digits"}, "model": {"weights": "untrained"}}
    section = settings if len(place) == 1 else settings[place[0]]
    section[place[-1]] = name
    with pytest.raises(
        ValidationError, match=r"expected a (name of 1 to 100 letters|text that is not empty)"
    ):
        RunConfig.model_validate(settings)
