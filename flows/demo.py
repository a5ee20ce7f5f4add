"""The demo: the whole pipeline on scikit-learn's digits, which every machine has."""

from __future__ import annotations

from activarium.schemas.config import (
    ModelConfig,
    PreprocessingConfig,
    RunConfig,
    TestSetConfig,
    TrainingConfig,
)

DEMO = RunConfig(
    name="demo",
    test_set=TestSetConfig(source="digits"),
    preprocessing=PreprocessingConfig(size=32),
    model=ModelConfig(architecture="two-block-cnn"),
    training=TrainingConfig(epochs=5, batch_size=64, learning_rate=0.05, crop=2),
)
