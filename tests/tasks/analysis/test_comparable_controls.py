"""A control must be comparable: the same images and classes, chosen by the model's own answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr

from activarium.flows.pipeline import analyse_with_controls
from activarium.flows.stages import PlainStages
from activarium.schemas.config import AnalyseConfig, RunConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layers import Layer
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting.summary import summarise
from activarium.tasks.stores.recording import Recording

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=0)
BESIDE = CONFIG.model_copy(update={"controls": ("untrained",)})


def of(config=CONFIG, **settings):
    return config.model_copy(update=settings)


@pytest.fixture
def raws(make_raw):
    """Return a model and a control over the same images that answers differently."""
    raw, other = make_raw(), make_raw(seed=1)
    # No class of one image, which would be told each time.
    raw.label[raw.label == 4] = 0
    raw.logits[raw.valid, :] *= 3
    logits = np.where(raw.valid[:, None], np.nan_to_num(other.logits) * 0.01, np.nan)
    responses = np.where(raw.valid[:, None], np.nan_to_num(other.responses), np.nan)
    control = replace(raw, logits=logits.astype(np.float32), responses=responses.astype(np.float32))
    return raw, control


@pytest.fixture
def pair(atlas, raws, write_recording):
    """Return both as recordings, toy and untrained."""
    return [write_recording(atlas, *each) for each in zip(raws, ("toy", "untrained"), strict=True)]


def refused(atlas, recording, config):
    with pytest.raises(UserError) as caught:
        analyse(atlas, recording, config=config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(atlas, **settings):
    config = RunConfig.model_validate(
        {
            "name": "trial",
            "test_set": {"source": "digits"},
            "model": {"architecture": "two-block-cnn", "weights": "untrained"},
            "analyse": {"scheduler": "synchronous", "permutations": 0, **settings},
        }
    )
    return analyse_with_controls(
        config, ["toy", "untrained"], atlas.root, PlainStages(), draws=["untrained"]
    )


@pytest.mark.parametrize("where", ["correct", "correct AND confidence > 0.9"])
def test_run__control_takes_the_images_that_the_model_answered_so(where, atlas, pair, stored):
    main, control = run(atlas, where=where)
    tables = [stored(atlas, each.recording) for each in (main, control)]
    images, beside = (each.frame("images") for each in tables)
    assert 5 < len(images) < 40
    assert images.correct.all()
    assert images.image.tolist() == beside.image.tolist()
    assert not beside.correct.all()
    assert (beside.confidence < 0.9).all()
    layers, others = (each.frame("layers") for each in tables)
    np.testing.assert_allclose(layers.eta2_mean_untrained, others.eta2_mean, rtol=1e-9)
    np.testing.assert_allclose(layers.eta2_mean_sampled, layers.eta2_mean, rtol=1e-9)
    assert layers.draw_images.tolist() == [(images["class"].notna()).sum()] * len(layers)
    (row,) = tables[1].table("recordings").to_pylist()
    assert json.loads(row["selection"]) == {"where": where, "where_of": "toy"}
    assert not any(each.made for each in run(atlas, where=where))


def test_analyse__control_takes_the_images_of_the_selection_and_its_classes(
    atlas, pair, tmp_path, stored
):
    (tmp_path / "one.csv").write_text("class,group\nant,a\nbee,a\ncat's,b\n", encoding="utf-8")
    chosen = {"classes": str(tmp_path / "one.csv"), "name": "kinds", "where": "image_index < 40"}
    analyse(atlas, pair[1], config=of(**chosen))
    analyse(atlas, pair[0], config=of(BESIDE, **chosen))
    found, control = (stored(atlas, f"{name}~kinds") for name in ("toy", "untrained"))
    np.testing.assert_allclose(
        found.frame("layers").eta2_mean_untrained, control.frame("layers").eta2_mean, rtol=1e-9
    )


def test_analyse__images_chosen_by_another_recording_follow_its_answers(
    atlas, raws, pair, write_recording
):
    config = of(where="correct", where_of="toy")
    assert analyse(atlas, pair[1], config=config).made
    assert not analyse(atlas, pair[1], config=config).made
    own = analyse(atlas, pair[0], config=config)
    assert not analyse(atlas, pair[0], config=of(where="correct")).made
    assert own.recording == "toy~" + analyse(atlas, pair[1], config=config).recording[-8:]


def test_analyse__where_of_other_images_is_refused(atlas, pair):
    zarr.open_group(pair[0].place.path, mode="r+").attrs["images_sha256"] = "other"
    message = refused(atlas, pair[1], of(where="correct", where_of="toy"))
    assert message.startswith("--where-of toy: expected a recording of the same images")


def test_analyse__control_that_is_the_recording_itself_is_refused(atlas, pair):
    analyse(atlas, pair[0], config=CONFIG)
    message = refused(atlas, pair[0], of(controls=("toy",)))
    assert message.startswith("control toy is the recording itself: give a recording of the untr")


def test_analyse__control_over_other_images_is_refused(atlas, pair):
    zarr.open_group(pair[1].place.path, mode="r+").attrs["images_sha256"] = "other"
    analyse(atlas, Recording(pair[1].place), config=CONFIG)
    message = refused(atlas, pair[0], BESIDE)
    assert message.startswith("control untrained was recorded over other images or labels than toy")


def test_analyse__control_of_other_image_ids_is_refused(atlas, raws, pair, write_recording):
    class Renamed(type(raws[1])):
        @property
        def image_names(self):
            return [f"other/{index}" for index in range(len(self.label))]

    write_recording(atlas, Renamed(**vars(raws[1])), "renamed")
    message = refused(atlas, pair[0], of(controls=("renamed",)))
    assert message.startswith("control renamed holds none of the 55 labelled images")


def test_analyse__control_that_is_not_whole_is_refused(atlas, raws, pair, write_recording):
    write_recording(atlas, raws[0], "part", complete=False)
    message = refused(atlas, pair[0], of(controls=("part",)))
    assert message.startswith("control part is not complete")


def test_analyse__control_without_a_common_layer_is_refused(atlas, raws, pair, write_recording):
    layers = tuple(Layer(f"x{i}", "conv", i, n, 1, 1, "") for i, n in enumerate((6, 9, 5)))
    other = replace(raws[1], layers=layers)
    analyse(atlas, write_recording(atlas, other, "other"), config=CONFIG)
    message = refused(atlas, pair[0], of(controls=("other",)))
    assert message.startswith(
        "control other has no layer in common with toy (it has x0, ..., not c"
    )


def test_analyse__tells_the_controls_that_the_tables_lose(atlas, pair):
    analyse(atlas, pair[1], config=CONFIG)
    both = of(controls=("shuffle", "untrained"))
    assert analyse(atlas, pair[0], config=both).notices == ()
    assert analyse(atlas, pair[0], config=of(controls=("shuffle",))).notices == (
        "the tables had the control untrained, which these lack: give --control untrained to keep "
        "it",
    )
    (lost,) = analyse(atlas, pair[0], config=BESIDE).notices
    assert lost.startswith("the tables had the control shuffle")
    assert analyse(atlas, pair[0], config=both).notices == ()


def test_analyse__tells_the_selection_that_it_replaces(atlas, pair):
    analyse(atlas, pair[0], config=of(where="correct", name="sure"))
    found = analyse(atlas, pair[0], config=of(where="confidence > 0.5", name="sure"))
    (notice,) = found.notices
    assert notice == 'replaces the selection {"where": "correct"} of the name toy~sure'


def test_analyse__damaged_tables_are_made_anew_without_a_notice(atlas, pair):
    files = analyse(atlas, pair[0], config=CONFIG).files
    (file,) = [file for file in files if file.stem == "recordings"]
    file.write_bytes(b"PAR1")
    found = analyse(atlas, pair[0], config=CONFIG)
    assert (found.made, found.notices) == (True, ())


def test_analyse__target_tells_that_controls_are_left_out(atlas, pair):
    found = analyse(atlas, pair[0], config=of(target="confidence", controls=("shuffle",)))
    (notice,) = found.notices
    assert notice.startswith("controls stand beside statistics of classes: left out")
    assert analyse(atlas, pair[1], config=of(target="confidence")).notices == ()


@pytest.mark.parametrize(
    ("code", "said"), [(-1, "no image has a class"), (2, "are of one, cat's")], ids=["none", "one"]
)
def test_analyse__without_two_classes_notice_and_summary_say_so(
    code, said, atlas, raws, write_recording
):
    raw = replace(raws[0], label=np.full_like(raws[0].label, code))
    config = AnalyseConfig(scheduler="synchronous", permutations=9)
    (notice,) = analyse(atlas, write_recording(atlas, raw), config=config).notices
    assert said in notice
    found = summarise(atlas, ["toy"])
    assert found["answer"] == notice
    assert "beyond" not in found["answer"]
    assert found["strongest"] == []


def test_summarise__counts_the_images_that_were_analysed(atlas, pair):
    name = analyse(atlas, pair[0], config=of(where="correct")).recording
    found = summarise(atlas, [name])
    assert (found["accuracy"], found["images"]) == (1, 61)
    assert 5 < found["analysed_images"] < 40
    assert "not tested against permuted labels" in found["answer"]
