"""Recording a tiny model: values, interruption, damage, and what users are told."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torch import nn

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordConfig, TestSetConfig
from activarium.schemas.errors import IncompleteRecordingError, UserError
from activarium.tasks.images.preprocessing import Preprocessing
from activarium.tasks.images.test_sets import TestSet, load_test_set
from activarium.tasks.models.model_weights import weights_sha256
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.recording.record import record
from activarium.tasks.recording.record_plan import ModelIdentity
from activarium.tasks.recording.share import Share
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.recording import open_recording
from activarium.tasks.stores.recording_store import read_attributes, read_receipts

IMAGES = 26
CONFIG = RecordConfig(
    device="cpu",
    kinds=("conv", "linear"),
    reductions=("mean", "max", "sd", "active"),
    batch_size=3,
    shard_images=7,
    thumbnail=4,
    threads=1,
)
PREPROCESSING = Preprocessing(None, 8, 8, 1, (0.5,), (0.25,))


class TinyNet(nn.Module):
    """Two convolutions, the second wider than one block of columns, and a linear layer."""

    def __init__(self, *, colours=1):
        super().__init__()
        self.conv1 = nn.Conv2d(colours, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 260, 3, stride=2)
        self.fc = nn.Linear(260, 3)

    def forward(self, images):
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.fc(maps.mean(dim=(2, 3)))


class LogNet(TinyNet):
    """Returns NaN for images with a pixel darker than a quarter."""

    def forward(self, images):
        return super().forward(torch.log(images + 1))


def make_model(kind=TinyNet, seed=0, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind(**settings).eval()


def make_set(images=IMAGES, *, low=0, labels=None):
    rng = np.random.default_rng(0)
    pixels = rng.integers(low, 256, (images, 8, 8, 1), dtype=np.uint8)
    if labels is None:
        labels = np.arange(images) % 3
    ids = tuple(f"shape-{index:02d}" for index in range(images))
    classes = ("disc", "square", "star")
    return TestSet("shapes", "test", classes, ids, labels.astype(np.int32), "x", 1, pixels=pixels)


def run(atlas, *, model=None, test_set=None, config=CONFIG, preprocessing=PREPROCESSING, **others):
    model = make_model() if model is None else model
    return record(
        atlas,
        model,
        make_set() if test_set is None else test_set,
        preprocessing=preprocessing,
        config=config,
        identity=ModelIdentity("tiny", "start", "tiny", weights_sha256(model)),
        **others,
    )


def changed(**settings):
    return CONFIG.model_copy(update=settings)


class PulledPlugError(Exception):
    pass


def at_image(images, act):
    """Return a progress that acts as soon as this many images have been through the model."""

    @contextmanager
    def progress(description, total):
        done = 0

        def advance(more):
            nonlocal done
            done += more
            if done >= images:
                act()

        yield advance

    return progress


def pull_plug():
    raise PulledPlugError


def interrupt(atlas, *, shards, **settings):
    """Record until the first batch of the shard after `shards` whole ones."""
    with pytest.raises(PulledPlugError):
        run(atlas, progress=at_image(shards * CONFIG.shard_images + 1, pull_plug), **settings)


def stored(path):
    """Return every file of a store but the receipts, which hold durations."""
    path = Path(path)
    files = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "receipts"]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def receipts_of(path):
    return read_receipts(place_at(str(path)))


@pytest.fixture
def atlas(tmp_path):
    return Atlas(tmp_path / "atlas")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Run the tiny model on one thread: more would wait for one another longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the receipt of an uninterrupted recording; nobody may change it."""
    return run(Atlas(tmp_path_factory.mktemp("whole") / "atlas"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Return the root of an atlas whose recording stopped in its last shard, as `whole`."""
    root = tmp_path_factory.mktemp("interrupted") / "atlas"
    interrupt(Atlas(root), shards=3)
    return root


@pytest.fixture
def finished(atlas, whole):
    """Return an atlas that holds a copy of the uninterrupted recording."""
    shutil.copytree(Path(whole.path).parents[1], atlas.root)
    return atlas


# --- values ---------------------------------------------------------------------------------


def expected_maps(model, test_set):
    """Return the maps of both convolutions and the output, from a plain forward pass."""
    with torch.inference_mode():
        images = normalise(torch.from_numpy(test_set.pixels), PREPROCESSING)
        first = model.conv1(images)
        second = model.conv2(first.relu())
        return first, second, model.fc(second.relu().mean(dim=(2, 3)))


def test_record__reductions_equal_a_direct_computation(whole):
    first, second, output = expected_maps(make_model(), make_set())
    group = zarr.open_group(whole.path, mode="r")
    reductions = {
        "mean": lambda maps: maps.mean(dim=(2, 3)),
        "max": lambda maps: maps.amax(dim=(2, 3)),
        "sd": lambda maps: maps.std(dim=(2, 3), correction=0),
        "active": lambda maps: (maps > 0).float().mean(dim=(2, 3)),
    }
    for name, reduce in reductions.items():
        last = reduce(output[:, :, None, None])
        expected = torch.cat([reduce(first), reduce(second), last], dim=1).numpy()
        np.testing.assert_allclose(
            group[f"channel_{name}"][:], expected, rtol=1e-5, atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(group["logits"][:], output.numpy(), rtol=1e-5, atol=1e-5)


def test_record__pooled_features_and_thumbnails_equal_a_direct_computation(whole):
    _, second, _ = expected_maps(make_model(), make_set())
    group = zarr.open_group(whole.path, mode="r")
    pooled = nn.functional.adaptive_avg_pool2d(second, (2, 2)).flatten(1).numpy()
    columns = np.array([str(name) for name in group["feature_layer"][:]]) == "conv2"
    np.testing.assert_allclose(group["pooled"][:][:, columns], pooled, rtol=1e-5, atol=1e-5)
    areas = make_set().pixels.reshape(IMAGES, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(group["thumbnail"][:], areas, atol=0.5)


def test_record__receipt_and_attributes_describe_the_recording(whole):
    assert (whole.images, whole.units, whole.layers) == (IMAGES, 269, 3)
    assert (whole.made, whole.resumed_shards) == (True, 0)
    found = open_recording(Atlas(Path(whole.path).parents[1]), whole.recording)
    assert found.attributes["status"] == "complete"
    assert found.attributes["batch_size"] == 3
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "fc"]
    assert found.labels.tolist() == make_set().labels.tolist()
    assert found.valid.all()


def test_record__shards_cover_an_odd_number_of_images(whole):
    ranges = [(receipt.start, receipt.stop) for receipt in receipts_of(whole.path)]
    assert ranges == [(0, 7), (7, 14), (14, 21), (21, 26)]
    keys = {each.key for receipt in receipts_of(whole.path) for each in receipt.objects}
    assert {"channel_mean/c/0/0", "channel_mean/c/0/1", "channel_mean/c/3/1"} <= keys
    assert all((Path(whole.path) / key).is_file() for key in keys)


@pytest.mark.parametrize(("batch_size", "shard_images"), [(1, 9), (5, 4), (256, None)])
def test_record__batch_and_shard_sizes_change_no_value(atlas, whole, batch_size, shard_images):
    other = run(atlas, config=changed(batch_size=batch_size, shard_images=shard_images))
    assert other.recording == whole.recording
    first, second = zarr.open_group(whole.path, mode="r"), zarr.open_group(other.path, mode="r")
    for name in ("channel_mean", "channel_sd", "pooled", "logits"):
        np.testing.assert_allclose(first[name][:], second[name][:], rtol=1e-4, atol=1e-5)
    for name in ("thumbnail", "valid", "label"):
        np.testing.assert_array_equal(first[name][:], second[name][:])


def test_record__compression_changes_no_value(atlas, whole):
    other = run(atlas, config=changed(compression="zstd"))
    assert other.recording == whole.recording
    for name in ("channel_mean", "channel_active", "pooled"):
        first, second = (zarr.open_group(each.path, mode="r")[name][:] for each in (whole, other))
        np.testing.assert_array_equal(first, second)


def test_record__unlabelled_images_have_no_class(atlas):
    labels = np.where(np.arange(IMAGES) % 4 == 0, -1, np.arange(IMAGES) % 3)
    receipt = run(atlas, test_set=make_set(labels=labels))
    found = open_recording(atlas, receipt.recording)
    assert found.labels.tolist() == labels.tolist()
    assert found.text("image_class")[:3] == ["", "square", "star"]
    assert np.isfinite(found.read("channel_mean")).all()


def test_record__images_that_changed_between_begin_and_resume_are_told(atlas, whole):
    interrupt(atlas, shards=1)
    more = replace(make_set(IMAGES + 1), identity="y")
    told = [line for line in run(atlas, test_set=more).notices if "was begun" in line]
    assert len(told) == 1
    assert told[0].startswith(f"{whole.recording} was begun with 26 images and is not finished")
    assert run(atlas).resumed_shards == 1


def test_record__leaves_the_model_without_hooks(atlas):
    model = make_model()
    run(atlas, model=model)
    assert not any(module._forward_hooks for module in model.modules())


# --- repeated and interrupted ---------------------------------------------------------------


def test_record__second_call_makes_nothing(finished, whole):
    path = Path(finished.recording(whole.recording))
    times = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    again = run(finished)
    assert again.path == str(path)
    assert (again.made, again.resumed_shards) == (False, 0)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == times


@pytest.mark.parametrize(
    ("shards", "asked"),
    [
        (0, {}),
        (1, {"batch_size": 5}),
        (1, {"shard_images": 4}),
        (1, {"compression": "zstd"}),
        (3, {}),
    ],
)
def test_record__interrupted_and_resumed_is_byte_identical(atlas, whole, shards, asked):
    interrupt(atlas, shards=shards)
    resumed = run(atlas, config=changed(**asked))
    assert (resumed.made, resumed.resumed_shards) == (True, shards)
    assert stored(resumed.path) == stored(whole.path)
    assert [receipt.objects for receipt in receipts_of(resumed.path)] == [
        receipt.objects for receipt in receipts_of(whole.path)
    ]


def test_record__interrupted_twice_is_byte_identical(atlas, whole):
    interrupt(atlas, shards=1)
    interrupt(atlas, shards=2)
    resumed = run(atlas)
    assert resumed.resumed_shards == 2
    assert stored(resumed.path) == stored(whole.path)


def test_record__progress_goes_on_where_it_stopped(atlas):
    interrupt(atlas, shards=2)
    seen = []

    @contextmanager
    def progress(description, total):
        seen.append(total)
        yield seen.append

    run(atlas, progress=progress)
    assert seen == [26, 14, 3, 3, 1, 3, 2]


def test_record__interrupted_is_not_opened(interrupted):
    with pytest.raises(
        IncompleteRecordingError, match=r"1 of 4 shards are missing: 3\).*`activarium record`"
    ):
        open_recording(Atlas(interrupted), "tiny")


def test_record__stopped_while_finalising_is_finalised_again(finished, whole):
    path = Path(finished.recording(whole.recording))
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["status"] = "recording"
    (path / "zarr.json").write_text(json.dumps(root))
    (path / "receipts" / "final.json").unlink()
    again = run(finished)
    assert (again.made, again.resumed_shards) == (True, 0)
    assert (path / "receipts" / "final.json").is_file()
    assert stored(path) == stored(whole.path)


# --- damage ---------------------------------------------------------------------------------


def cut_chunk(path):
    file = path / "channel_mean" / "c" / "1" / "0"
    file.write_bytes(file.read_bytes()[:-5])


def empty_chunk(path):
    (path / "logits" / "c" / "1" / "0").write_bytes(b"")


def lose_chunk(path):
    (path / "pooled" / "c" / "1" / "0").unlink()


def tear_receipt(path):
    file = path / "receipts" / "shard-00001.json"
    file.write_bytes(file.read_bytes()[:200])


def foreign_receipt(path):
    file = path / "receipts" / "shard-00001.json"
    file.write_text(file.read_text().replace('"fingerprint": "', '"fingerprint": "0'))


def misplaced_receipt(path):
    shutil.copy(path / "receipts" / "shard-00002.json", path / "receipts" / "shard-00001.json")


def empty_receipt(path):
    (path / "receipts" / "shard-00001.json").write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [
        cut_chunk,
        empty_chunk,
        lose_chunk,
        tear_receipt,
        foreign_receipt,
        misplaced_receipt,
        empty_receipt,
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_record__damaged_shard_is_made_again_and_no_other(
    atlas, whole, interrupted, damage, complete
):
    shutil.copytree(Path(whole.path).parents[1] if complete else interrupted, atlas.root)
    path = Path(atlas.recording(whole.recording))
    others = [path / "receipts" / f"shard-0000{n}.json" for n in (0, 2)]
    times = [file.stat().st_mtime_ns for file in others]
    damage(path)
    assert run(atlas).resumed_shards == (3 if complete else 2)
    assert stored(path) == stored(whole.path)
    assert [file.stat().st_mtime_ns for file in others] == times
    assert not run(atlas).made


def test_record__leftovers_of_a_killed_writer_are_swept(atlas, whole, interrupted):
    shutil.copytree(interrupted, atlas.root)
    path = Path(atlas.recording(whole.recording))
    leftovers = [
        path / ".zarr.json.0a1b2c3d.partial",
        path / "receipts" / ".shard-00003.json.0a1b2c3d.partial",
        path / "channel_mean" / "c" / "3" / "0.0a1b2c3d.partial",
    ]
    for leftover in leftovers:
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.write_bytes(b"half")
    run(atlas)
    assert stored(path) == stored(whole.path)
    assert not [*path.rglob("*.partial")]


def test_record__store_whose_creation_was_killed_is_swept(atlas, whole):
    recordings = Path(atlas.recordings)
    begun = recordings / f".{whole.recording}.zarr.0a1b2c3d.partial"
    (begun / "channel_mean").mkdir(parents=True)
    neighbour = recordings / ".another.zarr.0a1b2c3d.partial"
    neighbour.mkdir()
    path = Path(run(atlas).path)
    assert sorted(recordings.iterdir()) == sorted([path, neighbour])


def test_record__store_of_another_recording_under_the_name_is_refused(finished, whole):
    path = Path(finished.recording(whole.recording))
    file = path / "zarr.json"
    file.write_text(file.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(UserError, match="belongs to another recording: delete it"):
        run(finished)


@pytest.mark.parametrize("content", ["", '{"attributes": '])
def test_record__torn_metadata_is_one_clear_line(finished, whole, content):
    (Path(finished.recording(whole.recording)) / "zarr.json").write_text(content)
    with pytest.raises(UserError, match=r"zarr\.json cannot be read .*record again"):
        run(finished)


# --- another recording ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"model": make_model(seed=1)},
        {"test_set": replace(make_set(), identity="y")},
        {"preprocessing": replace(PREPROCESSING, mean=(0.4,))},
        {"config": changed(reductions=("mean",))},
        {"config": changed(layers=("conv*",))},
        {"config": changed(precision="bfloat16")},
    ],
    ids=["weights", "images", "preprocessing", "reductions", "layers", "precision"],
)
def test_record__another_fingerprint_is_another_store(finished, whole, change):
    other = run(finished, **change)
    assert other.made
    assert recording_names(finished) == sorted([whole.recording, other.recording])
    assert stored(finished.recording(whole.recording)) == stored(whole.path)


# --- images that cannot be decoded ----------------------------------------------------------


def png(value):
    stream = io.BytesIO()
    Image.new("L", (8, 8), value).save(stream, "PNG")
    return stream.getvalue()


def zip_set(tmp_path, broken):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(10):
            content = b"broken" if index in broken else png(200 + index)
            archive.writestr(f"test/class-{index % 2}/{index}.png", content)
    return load_test_set(TestSetConfig(source="imagefolder", path=path), datasets=tmp_path)


@pytest.mark.parametrize("kind", [TinyNet, LogNet])
def test_record__undecodable_images_are_nan_rows_and_listed(atlas, tmp_path, kind):
    images = zip_set(tmp_path, broken={3, 8})
    receipt = run(
        atlas, model=make_model(kind), test_set=images, config=changed(shard_images=4, batch_size=2)
    )
    found = open_recording(atlas, receipt.recording)
    broken = np.array([name in ("test/class-1/3.png", "test/class-0/8.png") for name in images.ids])
    np.testing.assert_array_equal(found.valid, ~broken)
    for name in ("channel_mean", "channel_active", "pooled", "logits"):
        np.testing.assert_array_equal(np.isnan(found.read(name)).all(axis=1), broken)
        np.testing.assert_array_equal(np.isnan(found.read(name)).any(axis=1), broken)
    assert not found.read("thumbnail")[broken].any()
    listed = [name for each in receipts_of(receipt.path) for name in each.invalid]
    assert listed == [name for name, is_broken in zip(images.ids, broken, strict=True) if is_broken]


def test_record__first_image_may_be_undecodable(atlas, tmp_path):
    receipt = run(atlas, test_set=zip_set(tmp_path, broken={0}))
    assert open_recording(atlas, receipt.recording).valid.tolist() == [False] + [True] * 9


def test_record__strict_stops_at_the_first_undecodable_image(atlas, tmp_path):
    images = zip_set(tmp_path, broken={3, 8})
    with pytest.raises(
        UserError, match=r"image 'test/class-0/8\.png' cannot be decoded \(.*\): mend"
    ):
        run(atlas, test_set=images, config=changed(strict=True))
    assert recording_names(atlas) == []
    assert not run(
        atlas, test_set=zip_set(tmp_path, broken=()), config=changed(strict=True)
    ).invalid


def test_record__conversions_are_counted_and_said(atlas, tmp_path):
    settings = {
        "model": make_model(colours=3),
        "test_set": zip_set(tmp_path, broken={3}),
        "preprocessing": replace(PREPROCESSING, colours=3, mean=(0.5,) * 3, sd=(0.25,) * 3),
    }
    receipt = run(atlas, **settings)
    assert sum(each.conversions["grey"] for each in receipts_of(receipt.path)) == 9
    assert receipt.notices[-1].startswith("9 images grey")
    assert run(atlas, **settings).notices == receipt.notices[-1:]


# --- what users are told --------------------------------------------------------------------


def test_record__nan_names_the_first_layer_and_the_image(atlas):
    images = make_set(low=100)
    images.pixels[16, 2, 3] = 0
    with pytest.raises(
        UserError, match=r"layer 'conv1' is the first that is recorded .* image 'shape-16': check"
    ):
        run(atlas, model=make_model(LogNet), test_set=images)
    assert len(receipts_of(atlas.recording(recording_names(atlas)[0]))) == 2


def test_record__nan_weights_name_their_layer(atlas):
    model = make_model()
    with torch.no_grad():
        model.conv2.bias[200] = torch.nan
    with pytest.raises(UserError, match=r"layer 'conv2' is the first .* image 'shape-00'"):
        run(atlas, model=model)


def test_record__nan_names_the_module_too_where_none_of_it_is_recorded(atlas):
    class NormNet(TinyNet):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)
            self.norm.running_var.fill_(-1)

        def forward(self, images):
            return super().forward(self.norm(images))

    with pytest.raises(UserError, match=r"layer 'conv1' .* infinite \(before it, 'norm' is so\)"):
        run(atlas, model=make_model(NormNet))


def test_record__nan_in_the_first_batch_is_told_at_once(atlas):
    images = make_set(low=100)
    images.pixels[1] = 0
    seen = []

    @contextmanager
    def progress(*_):
        yield seen.append

    with pytest.raises(UserError, match=r"layer 'conv1' is the first .* image 'shape-01'"):
        run(atlas, model=make_model(LogNet), test_set=images, progress=progress)
    assert sum(seen) == 0
    assert recording_names(atlas) == []


def test_record__infinite_output_beside_the_recorded_layers_blames_none_of_them(atlas):
    images = make_set(low=100)
    images.pixels[5] = 0

    class LogOutput(TinyNet):
        def forward(self, inputs):
            return super().forward(inputs) + torch.log(inputs.mean(dim=(1, 2, 3)) + 1)[:, None]

    with pytest.raises(UserError, match=r"model's output, and no recorded .* image 'shape-05'"):
        run(atlas, model=make_model(LogOutput), test_set=images)


def test_record__wrong_colours_are_one_clear_line(atlas):
    with pytest.raises(UserError, match=r"forward pass failed .* \(3, 1, 8, 8\)") as error:
        run(atlas, model=make_model(colours=3))
    assert "\n" not in str(error.value)
    assert not Path(atlas.recordings).exists()


def test_record__no_such_layer_lists_the_layers(atlas):
    with pytest.raises(
        UserError,
        match=r"no layer matches 'layer9\.\*' .* conv1 \(conv\), relu \(activation\), conv2",
    ):
        run(atlas, config=changed(layers=("layer9.*",)))


def test_record__file_in_the_place_of_the_atlas_is_one_clear_line(tmp_path):
    (tmp_path / "atlas").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*atlas/recordings.*: Not a directory"):
        run(Atlas(tmp_path / "atlas"))


# --- several at once ------------------------------------------------------------------------


def test_record__two_at_once_make_one_sound_recording(atlas, whole):
    """The second records everything while the first is in its second shard."""
    others = []

    def record_too():
        if not others:
            others.append(None)
            others[0] = run(atlas)

    first = run(atlas, progress=at_image(10, record_too))
    assert (others[0].shards_left, first.shards_left) == (0, 0)
    assert first.recording == others[0].recording == whole.recording
    assert stored(first.path) == stored(whole.path)
    assert receipts_of(first.path)
    assert not run(atlas).made


def test_record__parts_make_the_whole_together(atlas, whole):
    parts = [run(atlas, share=Share(part=part, parts=3, workers=3)) for part in (2, 1)]
    assert [part.shards_left for part in parts] == [3, 1]
    assert read_attributes(place_at(parts[0].path))["status"] == "recording"
    last = run(atlas, share=Share(part=3, parts=3, workers=3))
    assert (last.made, last.shards_left) == (True, 0)
    assert stored(last.path) == stored(whole.path)
    assert not run(atlas, share=Share(part=2, parts=3, workers=3)).made


def test_record__settings_of_whoever_began_are_kept_by_all(atlas, whole):
    run(atlas, share=Share(part=1, parts=2))
    second = run(
        atlas,
        share=Share(part=2, parts=2, processes=2, workers=8),
        config=changed(batch_size=5, shard_images=None, threads=2),
    )
    assert stored(second.path) == stored(whole.path)


# --- memory ---------------------------------------------------------------------------------


class HungryNet(TinyNet):
    """Has memory for so many images at once."""

    most = 4

    def forward(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(images)


@pytest.mark.parametrize("engine", ["hooks", "auto"])
def test_record__out_of_memory_halves_the_batches_and_goes_on(atlas, engine):
    settings = {"batch_size": 16, "engine": engine, "shard_images": 10}
    receipt = run(atlas, model=make_model(HungryNet), config=changed(**settings))
    assert [each.batch_size for each in receipts_of(receipt.path)] == [4, 4, 4]
    said = [line for line in receipt.notices if "out of memory" in line]
    assert said == [
        "out of memory on cpu with 16 images a batch: went on with 8, and with fewer where that "
        "was too much"
    ]
    other = run(Atlas(atlas.root.parent / "other"), config=changed(**settings | {"batch_size": 4}))
    first, second = (zarr.open_group(each.path, mode="r") for each in (receipt, other))
    for name in ("channel_mean", "channel_active", "logits", "thumbnail", "valid"):
        np.testing.assert_array_equal(first[name][:], second[name][:])


def test_record__memory_that_ends_later_begins_only_that_shard_anew(atlas):
    model = make_model(HungryNet)
    model.most = 100
    counted = []

    @contextmanager
    def progress(description, total):
        def advance(images):
            counted.append(images)
            if sum(counted) == 10:
                model.most = 2

        yield advance

    receipt = run(atlas, model=model, config=changed(engine="hooks"), progress=progress)
    assert [each.batch_size for each in receipts_of(receipt.path)] == [3, 1, 1, 1]
    assert sum(counted) == IMAGES
    model.most = 100
    assert run(atlas, model=model).made is False


def test_record__a_damaged_shard_is_made_again_with_the_batches_it_had(atlas):
    model = make_model(HungryNet)
    receipt = run(atlas, model=model, config=changed(batch_size=8, engine="hooks"))
    assert [each.batch_size for each in receipts_of(receipt.path)] == [4, 4, 4, 4]
    before = stored(receipt.path)
    lose_chunk(Path(receipt.path))
    model.most = 100
    assert run(atlas, model=model).made
    assert [each.batch_size for each in receipts_of(receipt.path)] == [4, 4, 4, 4]
    assert stored(receipt.path) == before


def test_record__one_image_that_does_not_fit_is_one_clear_line(atlas):
    model = make_model(HungryNet)
    model.most = 0
    with pytest.raises(UserError, match="out of memory") as error:
        run(atlas, model=model, config=changed(engine="hooks"))
    assert "\n" not in str(error.value)
    assert recording_names(atlas) == []


@pytest.mark.parametrize(("batch_size", "possible"), [(None, {26}), ("auto", {13, 26})])
def test_record__batch_size_by_rule_and_by_trial(atlas, batch_size, possible):
    receipt = run(atlas, config=changed(batch_size=batch_size, shard_images=None))
    noted = read_attributes(place_at(receipt.path))["batch_size"]
    assert noted in possible
    tried = f"batches of {noted} images, the fastest that was tried"
    assert (tried in receipt.notices) == (batch_size == "auto")


def test_record__a_lost_device_is_one_clear_line_and_loses_nothing(atlas, whole):
    class LostNet(TinyNet):
        is_lost = False

        def forward(self, images):
            if self.is_lost:
                raise RuntimeError("CUDA error: unspecified launch failure\nlaunch blocking ...")
            return super().forward(images)

    model = make_model(LostNet)

    def lose():
        model.is_lost = True

    with pytest.raises(UserError, match=r"does not answer any more \(CUDA error") as error:
        run(atlas, model=model, config=changed(engine="hooks"), progress=at_image(10, lose))
    assert "\n" not in str(error.value)
    path = atlas.recording(recording_names(atlas)[0])
    assert [receipt.shard for receipt in receipts_of(path)] == [0]
    resumed = run(atlas, config=changed(engine="hooks"))
    assert (resumed.path, resumed.resumed_shards) == (path, 1)


# --- full disks -----------------------------------------------------------------------------


def test_record__too_little_space_is_told_before_the_work(atlas, whole, monkeypatch):
    usage = shutil.disk_usage(atlas.root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(UserError, match=r"needs \d\.\d MiB, 0\.0 MiB are free at .*recordings"):
        run(atlas)
    monkeypatch.undo()
    assert stored(run(atlas).path) == stored(whole.path)


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with (folder / "filler").open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"\0" * 4_096)
            except OSError:
                return


def test_record__disk_that_fills_up_stops_it_cleanly_and_it_resumes(small_disk, whole):
    atlas = Atlas(small_disk / "atlas")

    def fill_after_the_first_shard():
        while not list(small_disk.rglob("shard-00000.json")):
            time.sleep(0.01)
        fill(small_disk)

    message = r"(No space left on device|stopped before shard 2).*run the same command"
    with pytest.raises(UserError, match=message) as error:
        run(atlas, progress=at_image(12, fill_after_the_first_shard))
    assert "\n" not in str(error.value)
    path = Path(atlas.recording(whole.recording))
    assert [receipt.shard for receipt in receipts_of(path)] == [0]
    (small_disk / "filler").unlink()
    resumed = run(atlas)
    assert resumed.resumed_shards == 1
    assert stored(path) == stored(whole.path)


def test_record__free_space_is_watched_before_every_shard(atlas, whole, monkeypatch):
    usage = shutil.disk_usage(atlas.root.parent)

    def take_space():
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=110_000))

    with pytest.raises(UserError, match=r"stopped before shard 2 .*0\.1 MiB are free; free some"):
        run(atlas, progress=at_image(10, take_space))
    monkeypatch.undo()
    assert [receipt.shard for receipt in receipts_of(atlas.recording(whole.recording))] == [0, 1]
    resumed = run(atlas)
    assert resumed.resumed_shards == 2
    assert stored(resumed.path) == stored(whole.path)


def test_record__disk_that_is_full_from_the_start_is_one_clear_line(small_disk):
    fill(small_disk)
    with pytest.raises(UserError, match="No space left on device"):
        run(Atlas(small_disk / "atlas"))


def test_record__a_complete_recording_with_a_lost_chunk_is_not_complete_until_mended(atlas, whole):
    recording = run(atlas)
    chunk = next((Path(recording.path) / "channel_mean").rglob("c/0/0"))
    content = chunk.read_bytes()
    chunk.unlink()

    def stop(*_):
        raise KeyboardInterrupt

    @contextmanager
    def stopping(*_):
        yield stop

    with pytest.raises(KeyboardInterrupt):
        run(atlas, progress=stopping)
    assert read_attributes(place_at(recording.path))["status"] == "recording"
    assert run(atlas).made
    assert read_attributes(place_at(recording.path))["status"] == "complete"
    assert chunk.read_bytes() == content


def test_record__a_lost_receipt_of_the_store_is_written_again(atlas):
    recording = run(atlas)
    receipt = Path(recording.path) / "receipts" / "final.json"
    receipt.unlink()
    assert run(atlas).made
    assert receipt.is_file()
    assert not run(atlas).made


def test_record__threads_of_a_begun_recording_are_kept(atlas, whole):
    interrupt(atlas, shards=1)
    before = torch.get_num_threads()
    resumed = run(atlas, config=changed(threads=2))
    assert read_attributes(place_at(resumed.path))["threads"] == 1
    assert stored(Path(resumed.path)) == stored(Path(whole.path))
    assert torch.get_num_threads() == before


def test_record__begun_with_other_libraries_is_refused_in_one_line(atlas):
    interrupt(atlas, shards=1)
    (path,) = Path(atlas.recordings).glob("*.zarr")
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["versions"]["torch"] = "1.0"
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(UserError, match=r"was begun with torch 1\.0, here is torch "):
        run(atlas)


@pytest.mark.parametrize(("begun", "here"), [("NVIDIA A100", "NVIDIA H200"), ("NVIDIA A100", "")])
def test_record__another_model_of_gpu_is_refused_in_one_line(atlas, monkeypatch, begun, here):
    interrupt(atlas, shards=1)
    (path,) = Path(atlas.recordings).glob("*.zarr")
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["gpu"] = begun
    (path / "zarr.json").write_text(json.dumps(root))
    monkeypatch.setattr("activarium.tasks.recording.begun.gpu_model", lambda _: here)
    named = here or "none"
    with pytest.raises(UserError, match=rf"begun with gpu {begun}, here is gpu {named}: ") as error:
        run(atlas)
    assert "\n" not in str(error.value)


def test_record__recordings_that_tell_of_no_gpu_are_gone_on_with(atlas):
    interrupt(atlas, shards=1)
    (path,) = Path(atlas.recordings).glob("*.zarr")
    root = json.loads((path / "zarr.json").read_text())
    assert root["attributes"].pop("gpu") == ""
    (path / "zarr.json").write_text(json.dumps(root))
    assert run(atlas).resumed_shards == 1


def test_record__tf32_that_the_cpu_lacks_is_float32_in_name_and_numbers(atlas, whole):
    receipt = run(atlas, config=changed(precision="tf32"))
    assert receipt.recording == whole.recording
    assert "record.precision: cpu has no TF32, so the model is run in float32" in receipt.notices
    assert stored(receipt.path) == stored(whole.path)


class LargeNet(TinyNet):
    """Returns values that float16 cannot hold."""

    def forward(self, images):
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.fc((maps * 1e6).mean(dim=(2, 3)) * 1e-6)


def test_record__what_only_a_low_precision_cannot_hold_is_named(atlas):
    model = make_model(LargeNet)
    config = changed(precision="float16", layers=("fc",))
    with pytest.raises(UserError, match=r"before it, 'mul' is so.*precision float32"):
        run(atlas, model=model, config=config)
