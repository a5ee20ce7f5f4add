"""Feeding: every image once and in order, few buffers, nothing copied without need."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from activarium.tasks.images.preprocessing import Preprocessing
from activarium.tasks.recording.feeding import BATCHES_AHEAD, PixelFeed, ReadFeed, fits_device
from activarium.tasks.recording.normalising import normalise

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (103, 5, 4, 3), np.uint8)


def ranges(size=10):
    images = len(PIXELS)
    return [(start, min(start + size, images)) for start in range(0, images, size)]


class Reader:
    """Reads from memory, slowly, and notes what was read."""

    def __init__(self, delay=0.0):
        self.delay = delay
        self.lock = threading.Lock()
        self.read = []

    def __call__(self, start, stop, conversions):
        time.sleep(self.delay)
        with self.lock:
            self.read += range(start, stop)
        conversions["grey"] += stop - start
        valid = np.arange(start, stop) % 7 != 0
        return np.where(valid[:, None, None, None], PIXELS[start:stop], 0), valid


def read_feed(reader, **settings):
    return ReadFeed(reader, PIXELS.shape[1:], CPU, **{"threads": 3, **settings})


@pytest.mark.parametrize("ahead", [0, 1, BATCHES_AHEAD, 50])
def test_read_feed__gives_every_image_once_and_in_order(ahead):
    reader = Reader()
    conversions = Counter()
    with read_feed(reader, ahead=ahead) as feed:
        seen = []
        for batch in feed.batches(ranges()):
            valid = np.arange(batch.start, batch.stop) % 7 != 0
            np.testing.assert_array_equal(batch.valid, valid)
            np.testing.assert_array_equal(
                batch.images.numpy()[valid], PIXELS[batch.start : batch.stop][valid]
            )
            np.testing.assert_array_equal(batch.pixels, batch.images.numpy())
            conversions += batch.conversions
            seen.append((batch.start, batch.stop))
    assert seen == ranges()
    assert sorted(reader.read) == list(range(len(PIXELS)))
    assert conversions == {"grey": len(PIXELS)}


def test_read_feed__uses_few_buffers_again_and_again():
    with read_feed(Reader(), ahead=2) as feed:
        buffers = {batch.images.data_ptr() for batch in feed.batches(ranges(size=5))}
    assert len(buffers) <= 4


def test_read_feed__reads_ahead_while_the_model_works():
    reader = Reader()
    with read_feed(reader, ahead=3) as feed:
        batches = feed.batches(ranges())
        next(batches)
        for _ in range(100):
            if len(reader.read) == 40:
                break
            time.sleep(0.02)
        assert len(reader.read) == 40
        batches.close()


def test_read_feed__takes_ranges_only_when_they_are_read():
    taken = []

    def lazily():
        for each in ranges():
            taken.append(each)
            yield each

    with read_feed(Reader(), ahead=1) as feed:
        batches = feed.batches(lazily())
        next(batches)
        assert len(taken) == 2
        batches.close()


def test_read_feed__a_fault_of_a_reader_is_raised_in_its_place():
    def read(start, stop, conversions):
        if start <= 57 < stop:
            raise OSError("no such image")
        return PIXELS[start:stop], np.ones(stop - start, bool)

    seen = []
    with read_feed(read) as feed, pytest.raises(OSError, match="no such image"):
        seen.extend(batch.start for batch in feed.batches(ranges()))
    assert seen == [0, 10, 20, 30, 40]


def test_pixel_feed__copies_nothing_on_the_cpu():
    with PixelFeed(PIXELS, CPU) as feed:
        for batch in feed.batches(ranges()):
            assert np.shares_memory(batch.images.numpy(), PIXELS)
            assert np.shares_memory(batch.pixels, PIXELS)
            assert batch.valid.all()


def test_pixel_feed__read_only_pixels_are_fed_too():
    pixels = PIXELS.copy()
    pixels.flags.writeable = False
    with PixelFeed(pixels, CPU) as feed:
        batches = list(feed.batches(ranges()))
    np.testing.assert_array_equal(np.concatenate([each.images.numpy() for each in batches]), pixels)


def test_fits_device__the_cpu_holds_what_lies_there():
    assert fits_device(2**60, CPU)


def test_normalise__equals_the_plain_formula():
    preprocessing = Preprocessing(None, 5, 4, 3, (0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
    found = normalise(torch.from_numpy(PIXELS), preprocessing)
    expected = (PIXELS / 255 - np.array([0.1, 0.5, 0.9])) / np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


ALONE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others}:
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
from activarium.tasks.recording import batch_size, feeding, normalising, shard_writer
from activarium.tasks.capture import capture, engines, layers
"""


def test_device_path__needs_torch_torchvision_numpy_and_zarr_alone():
    others = {"pydantic", "prefect", "dask", "distributed", "pyarrow", "PIL", "numba", "scipy"}
    subprocess.run([sys.executable, "-c", ALONE.format(others=others)], check=True)


class Streams:
    """Stands in for a GPU's streams, whose copies end only when the host waits for them."""

    def __init__(self, monkeypatch):
        self.pending = {}
        self.order = []
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: self)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: self)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
        monkeypatch.setattr(torch.Tensor, "to", lambda host, _, **__: self.copy(host))

    def copy(self, host):
        """Begin a copy, whose source has to stay as it is until it ends."""
        self.copied = host
        return host.clone()

    def record_event(self):
        source = self.copied
        self.pending[source.data_ptr()] = source, source.clone()
        return SimpleNamespace(synchronize=partial(self.end, source.data_ptr()))

    def end(self, memory):
        source, before = self.pending.pop(memory)
        self.order.append("ended")
        assert torch.equal(source, before), "memory was written while a GPU copied from it"

    def wait_stream(self, _):
        self.order.append("computing waits")


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_read_feed__no_memory_is_written_before_the_gpu_has_copied_it(monkeypatch, ahead):
    streams = Streams(monkeypatch)
    gpu = SimpleNamespace(type="cuda")
    images = []
    with ReadFeed(Reader(), PIXELS.shape[1:], gpu, threads=3, ahead=ahead) as feed:
        for batch in feed.batches(ranges()):
            assert streams.order[-1] == "computing waits"
            images.append(batch.images)
    assert streams.order.count("computing waits") == len(ranges())
    assert streams.order.count("ended") == len(ranges()) - len(streams.pending)
    assert len(streams.pending) <= ahead + 2
    for source, before in streams.pending.values():
        assert torch.equal(source, before)
    known = np.arange(len(PIXELS)) % 7 != 0
    np.testing.assert_array_equal(torch.cat(images).numpy()[known], PIXELS[known])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("resident", [True, False])
def test_feed__gives_the_same_on_a_gpu(resident):
    device = torch.device("cuda", 0)
    feed = (
        PixelFeed(PIXELS, device)
        if resident
        else ReadFeed(Reader(), PIXELS.shape[1:], device, threads=3)
    )
    with feed:
        for batch in feed.batches(ranges()):
            known = np.arange(batch.start, batch.stop) % 7 != 0
            known |= resident
            np.testing.assert_array_equal(
                batch.images.cpu().numpy()[known], PIXELS[batch.start : batch.stop][known]
            )
