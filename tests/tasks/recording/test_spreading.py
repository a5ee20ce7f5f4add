"""One recording made by several processes: of this machine, and of a Dask cluster."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordCall, RunConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layout import RecordingLayout
from activarium.tasks.cluster import cluster
from activarium.tasks.models.architectures import TwoBlockCNN
from activarium.tasks.progress import silent
from activarium.tasks.recording.checkpoints import choose_checkpoint
from activarium.tasks.recording.devices import device_per_process, processor_model
from activarium.tasks.recording.share import Share, even_shards, parse_part
from activarium.tasks.recording.spreading import record_spread
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.recording_store import read_attributes, read_receipts

IMAGES = 200
SHARDS = 8


def config_of(**record):
    settings = {"device": "cpu", "batch_size": 10, "shard_images": 25, "threads": 1, **record}
    return RunConfig.model_validate(
        {
            "name": "spread",
            "test_set": {"source": "digits", "limit": IMAGES},
            "preprocessing": {"size": 16},
            "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
            "record": settings,
        }
    )


def spread(root, config=None, *, progress=silent, **call):
    config = config or config_of()
    return record_spread(
        Atlas(root),
        config,
        choose_checkpoint(config.model),
        call=RecordCall(**call),
        progress=progress,
    )


def stored(receipt):
    path = Path(receipt.path)
    files = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "receipts"]
    objects = [each.objects for each in read_receipts(place_at(path))]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}, objects


def workers():
    """Return the processes that record for this one."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if "record_worker" in " ".join(each.cmdline())]


def at_image(images, act):
    """Return a progress that acts once, as soon as so many images are recorded."""

    @contextmanager
    def progress(description, total):
        done, acted = 0, False

        def advance(more):
            nonlocal done, acted
            done += more
            if done >= images and not acted:
                acted = True
                act()

        yield advance
        assert done <= total

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process stores."""
    return stored(spread(tmp_path_factory.mktemp("whole")))


# --- shares ---------------------------------------------------------------------------------


def layout_of(images, shard_images):
    sizes = {"units": 4, "features": 0, "layers": 1, "classes": 2, "outputs": 2}
    return RecordingLayout(
        images=images,
        **sizes,
        reductions=("mean",),
        thumbnail=(0, 0, 0),
        shard_images=shard_images,
    )


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "a/b", "1/0", ""])
def test_parse_part__refuses_what_is_no_part(text):
    with pytest.raises(UserError, match="expected i/n with i from 1 to n"):
        parse_part(text)


def test_share__parts_cover_every_shard_once():
    layout = layout_of(1_000, 30)
    parts = [Share(part=part, parts=3).shards(layout) for part in (1, 2, 3)]
    taken = sorted(shard.index for part in parts for shard in part)
    assert taken == list(range(len(layout.shards())))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("images", "shard_images", "workers", "shards"),
    [(10_000, 3_334, 1, 3), (10_000, 3_334, 2, 4), (10_000, 10_000, 8, 8), (3, 3, 8, 3)],
)
def test_even_shards__are_a_multiple_of_the_workers(images, shard_images, workers, shards):
    made = even_shards(layout_of(images, shard_images), workers).shards()
    assert len(made) == shards
    assert made[-1].stop == images


def test_device_per_process__counts_processes_of_the_cpu(monkeypatch):
    monkeypatch.setattr("activarium.tasks.processes.usable_processors", lambda: 3)
    assert device_per_process(["cpu:3"]) == ("cpu", "cpu", "cpu")
    assert device_per_process(["cpu"]) == ("cpu",)
    for devices, message in [(["cpu:0"], "cpu:<processes>"), (["cuda:99"], "is not there")]:
        with pytest.raises(UserError, match=message):
            device_per_process(devices)


# --- processes of this machine --------------------------------------------------------------


@pytest.mark.slow
def test_record_spread__two_processes_store_what_one_stores(tmp_path, whole):
    counted = []

    @contextmanager
    def progress(description, total):
        counted.append(total)
        yield counted.append

    receipt = spread(tmp_path, config_of(devices=["cpu:2"]), progress=progress)
    assert (receipt.made, receipt.shards_left) == (True, 0)
    assert counted[0] == sum(counted[1:]) == IMAGES
    assert stored(receipt) == whole
    assert not workers()
    assert not spread(tmp_path).made


@pytest.mark.slow
def test_record_spread__a_killed_process_is_told_and_the_rest_is_kept(tmp_path, whole):
    def kill():
        os.kill(workers()[0].pid, signal.SIGKILL)

    with pytest.raises(UserError, match=r"on cpu was killed by signal 9: nothing .* is lost"):
        spread(tmp_path, config_of(devices=["cpu:2"]), progress=at_image(120, kill))
    assert not workers()
    place = place_at(Atlas(tmp_path).recording(recording_names(Atlas(tmp_path))[0]))
    kept = len(read_receipts(place))
    assert 0 < kept < SHARDS
    resumed = spread(tmp_path)
    assert resumed.resumed_shards == kept
    assert stored(resumed) == whole


@pytest.mark.slow
def test_record_spread__interruption_stops_every_process(tmp_path, whole):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread(tmp_path, config_of(devices=["cpu:2"]), progress=at_image(100, interrupt))
    assert not workers()
    assert stored(spread(tmp_path)) == whole


@pytest.mark.slow
def test_record_spread__what_fails_in_a_process_is_one_line(tmp_path):
    path = tmp_path / "set.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(30):
            with archive.open(f"test/class-{index % 2}/{index:02d}.png", "w") as file:
                Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(file, "PNG")
        archive.writestr("test/class-0/00.png.png", b"broken")
    settings = config_of(devices=["cpu:2"], strict=True).model_dump()
    settings["test_set"] = {"source": "imagefolder", "path": str(path)}
    with pytest.raises(UserError, match=r"'test/class-0/00.png.png' cannot be decoded") as error:
        spread(tmp_path / "atlas", RunConfig.model_validate(settings))
    assert "\n" not in str(error.value)
    assert not workers()
    assert recording_names(Atlas(tmp_path / "atlas")) == []


@pytest.mark.slow
def test_record_spread__repairs_exactly_the_damaged_shard(tmp_path, whole):
    receipt = spread(tmp_path)
    chunk = next(Path(receipt.path).glob("channel_mean/c/3/0"))
    content = chunk.read_bytes()
    chunk.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert not spread(tmp_path).made, "a flipped bit is not seen without --repair"
    repaired = spread(tmp_path, config_of(devices=["cpu:2"]), repair=True)
    assert [line for line in repaired.notices if "repaired" in line] == ["repaired shard 3"]
    assert stored(repaired) == whole
    sound = spread(tmp_path, repair=True)
    assert (sound.made, sound.notices[0]) == (False, "nothing is damaged")


@pytest.mark.slow
def test_record_spread__shards_of_other_instruction_sets_are_noted_and_said(tmp_path, monkeypatch):
    # Weights of a file: with other instructions torch draws others from the same seed.
    weights = tmp_path / "weights.safetensors"
    save_file(TwoBlockCNN(colours=1, outputs=10, size=(16, 16), width=4).state_dict(), weights)
    config = config_of().model_dump()
    config["model"]["weights"] = str(weights)
    here = RunConfig.model_validate(config)
    config["record"]["devices"] = ["cpu:2"]
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # processes that are started read it
    first = spread(tmp_path / "mixed", RunConfig.model_validate(config), part="1/2")
    monkeypatch.undo()
    mixed = spread(tmp_path / "mixed", here, part="2/2")
    own = processor_model(torch.device("cpu"))
    assert (first.shards_left, mixed.shards_left) == (SHARDS // 2, 0)
    made = {each.processor for each in read_receipts(place_at(mixed.path))}
    other = f"{own.rpartition(', ')[0]}, DEFAULT"
    assert made == {own, other}
    (said,) = [line for line in mixed.notices if "kinds of processors" in line]
    assert f"{SHARDS // 2} on {own}" in said
    assert f"{SHARDS // 2} on {other}" in said
    assert not [line for line in first.notices if "kinds of processors" in line]


# --- a cluster ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", worker_dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


@pytest.mark.slow
def test_record_spread__a_cluster_stores_what_one_process_stores(tmp_path, whole, address):
    receipt = spread(tmp_path, dask=address)
    assert (receipt.made, receipt.shards_left) == (True, 0)
    assert stored(receipt) == whole
    assert not spread(tmp_path, dask=address).made


@pytest.mark.slow
def test_record_spread__shards_of_a_dead_worker_are_made_by_another(tmp_path, whole, address):
    with cluster(address) as client:
        pids = client.run(os.getpid)
        client.run(time.sleep, 0)

        def kill():
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        receipt = spread(tmp_path, dask=address, progress=at_image(25, kill))
    assert stored(receipt) == whole


def test_record_spread__options_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(UserError, match="leave out --part and --devices"):
        spread(tmp_path, part="1/2", dask="tcp://127.0.0.1:1")


def test_record_spread__the_number_of_shards_fits_the_processes(tmp_path):
    receipt = spread(tmp_path, config_of(shard_images=None), part="1/4")
    assert receipt.shards_left == 3
    assert read_attributes(place_at(receipt.path))["shard_images"] == IMAGES // 4
    assert spread(tmp_path).shards_left == 0
