"""One recording whose analysis uses everything: permutations, both controls, copies, samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import analyse

STUDY = AnalyseConfig(
    scheduler="synchronous",
    fdr=0.05,
    confidence=0.9,
    permutations=199,
    controls=("shuffle", "untrained"),
    top_images=10,
    bins=4,
    redundancy=0.9,
    sample_images=40,
    knn_queries=30,
    knn_images=50,
    knn_neighbours=5,
)


def planted(raw):
    """Let two units of the middle layer copy a third, and one unit follow the class closely."""
    rng = np.random.default_rng(7)
    for copy, scale in ((11, -2), (13, 0.5)):
        raw.responses[:, copy] = 3 + scale * raw.responses[:, 9]
        raw.responses[:, copy] += 0.1 * rng.normal(size=len(raw.label))
    raw.responses[:, 17] = 4.0 * raw.label + rng.normal(size=len(raw.label))
    raw.responses[~raw.valid] = np.nan
    return raw


@pytest.fixture(scope="session")
def study(tmp_path_factory, make_raw, write_recording):
    """Return an atlas with the recordings `toy` and `untrained`, both analysed; only to read."""
    atlas = Atlas(tmp_path_factory.mktemp("study"))
    raw = planted(make_raw(seed=3, images=83))
    control = replace(raw, responses=make_raw(seed=4, images=83).responses)
    analyse(
        atlas,
        write_recording(atlas, control, "untrained"),
        config=STUDY.model_copy(update={"controls": ()}),
    )
    analyse(atlas, write_recording(atlas, raw, "toy"), config=STUDY)
    return atlas


@pytest.fixture(scope="session")
def studied(study, stored):
    """Return the analysed recording as plain arrays and data frames."""
    return stored(study)


@pytest.fixture(scope="session")
def study_config():
    """Return the settings of the study."""
    return STUDY


@pytest.fixture(scope="session")
def wide_store(tmp_path_factory, wide, write_recording, stored):
    """Return the analysed recording of more than one block, with a copy across blocks."""
    atlas = Atlas(tmp_path_factory.mktemp("wide"))
    raw = replace(wide, responses=wide.responses.copy())
    raw.responses[:, 280] = 2 - 3 * raw.responses[:, 4]
    config = AnalyseConfig(scheduler="synchronous", permutations=99)
    analyse(atlas, write_recording(atlas, raw), config=config)
    return stored(atlas)
