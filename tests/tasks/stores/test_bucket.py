"""Recordings in a bucket, on a real local server: whole, resumed, checked, and what goes wrong."""

from __future__ import annotations

import pickle
import socket
import threading
import traceback
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layout import ROOT
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.reporting.listing import list_recordings
from activarium.tasks.stores import bucket_tries
from activarium.tasks.stores.bucket import Bucket
from activarium.tasks.stores.places import Folder, place_at, recording_names
from activarium.tasks.stores.recording import Recording, open_recording
from activarium.tasks.stores.recording_repair import (
    drop_receipts,
    faulty_shards,
    repair_created,
    restore_root,
)
from activarium.tasks.stores.recording_store import (
    finalise,
    is_final,
    pending_shards,
    read_attributes,
    write_shard,
)
from activarium.tasks.stores.store_check import check_store
from activarium.tasks.stores.verify import verify

from .store_making import ROWS, Makers, coordinates_of, create, fill, layout_of, make, rows_of

LAYOUT = layout_of()
SHARDS = LAYOUT.shards()


@pytest.fixture
def place(s3_address):
    return place_at(f"{s3_address}/recordings/a.zarr")


def contents(place):
    return {key: place.read(key) for key in place.sizes()}


def problems(place):
    return {each.object: each.problem for each in check_store(place) if each.problem}


def fails(act, *parts):
    """Return the one line that tells of a fault, in which no credential stands."""
    with pytest.raises(UserError) as caught:
        act()
    shown = "".join(traceback.format_exception(caught.value))
    assert "testing-key" not in shown
    assert "testing-secret" not in shown
    assert "Authorization" not in shown
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


# --- objects --------------------------------------------------------------------------------


def test_place__objects_come_and_go(place):
    assert (place.sizes(), place.names(), place.size("a/b")) == ({}, [], None)
    with pytest.raises(FileNotFoundError):
        place.read("a/b")
    place.write("a/b", b"123")
    place.write("a/b", memoryview(b"1234"))
    place.write("a/bc/d", b"")
    place.write("e", b"1")
    assert place.read("a/b") == b"1234"
    assert place.sizes() == {"a/b": 4, "a/bc/d": 0, "e": 1}
    assert place.keys("a/b") == ["a/b", "a/bc/d"]
    assert place.keys("a/bc") == ["a/bc/d"]
    assert place.names() == ["a", "e"]
    assert place.child("a").names() == ["b", "bc"]
    place.delete("e")
    place.delete("e")
    assert place.keys() == ["a/b", "a/bc/d"]
    place.delete_all()
    assert place.keys() == []


def test_place__create_is_for_the_first_alone(place):
    assert place.create("a", b"first")
    assert not place.create("a", b"second")
    assert place.read("a") == b"first"


def test_place__is_handed_to_other_processes_without_credentials(place):
    place.write("a", b"1")  # the client is made
    packed = pickle.dumps(place)
    assert b"testing" not in packed
    assert pickle.loads(packed) == place  # noqa: S301 - our own bytes
    assert str(place).endswith("/some/atlas/recordings/a.zarr")
    assert (place.name, place.absolute(), place.free_bytes()) == ("a.zarr", place, None)


@pytest.mark.parametrize(
    "address",
    [
        *("s3://", "s3:///a", "s3:bucket/a", "s3:/bucket/a", "S3:bucket", "s3://[bucket/a"),
        *("s3://-b/a", "s3://b:80/a", "s3://b c/a", "gs://bucket/a", "https://bucket/a"),
    ],
)
def test_place__other_addresses_are_refused(address):
    with pytest.raises(UserError, match="expected a folder or s3://bucket/prefix"):
        place_at(address)


@pytest.mark.parametrize(
    "prefix", ["a//b", "..", "a/../b", "a/.", "./a", "a///b/", "a\nb/c", "a/\x1b[2J"]
)
def test_place__prefixes_that_name_no_place_are_one_line(prefix):
    with pytest.raises(UserError, match=r"expected (s3|a folder)") as e:
        place_at(f"s3://bucket/{prefix}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("prefix", ["", "a b/c", "a%2e/ü", "a\\b", "~a/..b", "a/"])
def test_place__other_prefixes_are_taken_as_they_are(prefix, place):
    made = place.child("x") if not prefix else place_at(f"s3://{place.bucket}/{prefix}")
    made.write("k", b"1")
    assert (made.read("k"), made.keys()) == (b"1", ["k"])


def test_place__credentials_in_an_address_are_refused_and_not_repeated():
    with pytest.raises(UserError, match="credentials come from the environment") as caught:
        place_at("s3://key:secret@bucket/a")
    assert "secret" not in str(caught.value)


# --- recordings -----------------------------------------------------------------------------


def test_store__in_a_bucket_is_byte_for_byte_the_one_in_a_folder(place, tmp_path):
    folder = Folder(tmp_path / "a.zarr")
    make(place)
    make(folder)
    assert contents(place) == contents(folder)
    assert (problems(place), is_final(place)) == ({}, True)
    found = Recording(place)
    np.testing.assert_array_equal(found.read("channel_mean"), ROWS["channel_mean"])
    np.testing.assert_array_equal(
        found.columns("channel_mean", 250, 270), ROWS["channel_mean"][:, 250:270]
    )


def test_store__made_by_several_processes_at_once_is_the_one_that_one_makes(place, tmp_path):
    makers = Makers(3)
    try:
        for trial in range(2):
            made = place.child(f"{trial}.zarr")
            (shard_images,) = makers.make(made)
            assert (problems(made), is_final(made)) == ({}, True)
            alone = Folder(tmp_path / f"{trial}.zarr")
            make(alone, turn=1 if shard_images == 20 else 0)
            assert contents(made) == contents(alone)
    finally:
        makers.close()


@pytest.mark.parametrize("stored", [1, 5, 20])
def test_create__that_was_stopped_is_unfinished_not_damaged(s3_address, tmp_path, stored):
    atlas = Atlas(tmp_path / "atlas", s3_address)
    whole, begun = Folder(tmp_path / "whole.zarr"), place_at(atlas.recording("toy"))
    create(whole)
    first = "receipts/store.json"
    keys = [first, *(key for key in whole.sizes() if key not in (first, ROOT))]
    for key in keys[:stored]:
        begun.write(key, whole.read(key))
    found = verify(atlas, ["toy"])
    assert found.faults == ()
    (unfinished,) = found.unfinished
    assert "its creation was stopped: run the same `activarium record` again" in unfinished.problem
    (row,) = list_recordings(atlas)
    assert row["status"] == "recording"
    fails(lambda: open_recording(atlas, "toy"), "its creation was stopped")
    begun.write(keys[stored - 1], b"half")
    assert [each.object for each in verify(atlas, ["toy"]).faults] == [keys[stored - 1]]


@pytest.mark.parametrize("stored", [1, 5, 20])
def test_create__killed_half_way_goes_on_with_the_settings_it_was_begun_with(
    place, tmp_path, stored
):
    whole = Folder(tmp_path / "whole.zarr")
    create(whole, shard_images=20)
    first = "receipts/store.json"
    keys = [first, *(key for key in whole.sizes() if key not in (first, ROOT))]
    for key in keys[:stored]:
        place.write(key, whole.read(key))
    create(place, shard_images=25)
    assert read_attributes(place)["shard_images"] == 20
    assert contents(place) == contents(whole)


def test_store__interrupted_goes_on_and_damage_is_repaired(place):
    create(place)
    fill(place, LAYOUT, SHARDS[1])
    assert pending_shards(place, SHARDS) == [SHARDS[0], SHARDS[2]]
    make(place)
    before = contents(place)
    for key in (ROOT, "label/c/0", "channel_mean/c/2/1"):
        damaged = bytearray(before[key])
        damaged[len(damaged) // 2] ^= 1
        place.write(key, bytes(damaged))
        assert set(problems(place)) == {key}
        restore_root(place)
        repair_created(place, LAYOUT, coordinates=coordinates_of(LAYOUT))
        damaged_shards = faulty_shards(place, SHARDS)
        drop_receipts(place, damaged_shards)
        for shard in damaged_shards:
            fill(place, LAYOUT, shard)
        finalise(place)
        assert contents(place) == before


def test_recording__in_a_bucket_is_analysed_and_verified(
    s3_address, tmp_path, make_raw, write_recording
):
    atlas = Atlas(tmp_path / "atlas", s3_address)
    assert (list_recordings(atlas), recording_names(atlas)) == ([], [])
    recording = write_recording(atlas, make_raw())
    assert recording_names(atlas) == ["toy"]
    receipt = analyse(atlas, open_recording(atlas, "to"), config=AnalyseConfig())
    assert all(file.is_relative_to(atlas.root) for file in receipt.files)
    (row,) = list_recordings(atlas)
    assert (row["status"], row["shards"], row["images"]) == ("complete", 3, 61)
    assert verify(atlas, ["toy"]).faults == ()
    content = bytearray(recording.place.read("logits/c/1/0"))
    content[3] ^= 1
    recording.place.write("logits/c/1/0", bytes(content))
    (fault,) = verify(atlas, ["toy"]).faults
    assert fault.where == f"shard 1, logits/c/1/0, bytes 0-{len(content) - 1}"
    with pytest.raises(UserError, match=r"cannot be read .*checksum"):
        open_recording(atlas, "toy").read("logits")


# --- what goes wrong ------------------------------------------------------------------------


def test_fault__missing_bucket_is_told_from_a_missing_recording(place):
    lost = replace(place, bucket="no-such-bucket")
    for act in (
        lost.check,
        lost.names,
        lambda: lost.read("a"),
        lambda: lost.write("a", b"1"),
        lambda: create(lost),
        lambda: check_store(lost),
        lambda: read_attributes(lost),
    ):
        fails(act, "s3://no-such-bucket/", "there is no bucket 'no-such-bucket'")
    place.check()
    fails(lambda: read_attributes(place), f"no recording at {place}: `activarium list`")


def test_fault__a_server_that_is_not_there_is_one_line(place, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:testing-secret@127.0.0.1:{port}")
    for act in (place.check, lambda: place.read("a"), lambda: read_attributes(place)):
        fails(act, f"127.0.0.1:{port} cannot be reached", "run the same command again")


def test_fault__wrong_credentials_are_one_line(strict_s3_server, s3_address, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", strict_s3_server.endpoint)
    place = Bucket("bucket", "a.zarr")
    for act in (
        place.check,
        place.keys,
        lambda: place.read("a"),
        lambda: place.size("a"),
        lambda: place.create("a", b""),
        lambda: create(place),
    ):
        fails(act, "s3://bucket/a.zarr: access was refused", "check the credentials")
    fails(place.check, "(InvalidAccessKeyId)")


class CuttingProxy:
    """Passes bytes on to a server, and hangs up on chosen connections."""

    def __init__(self, port):
        self.server_port = port
        self.is_away = False
        """Whether it hangs up before the server hears of a request, as one that starts again."""
        self.cut = lambda _: None
        """From the number of a connection to the bytes of the answer after which it ends."""
        self.connections = 0
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.is_away:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.server_port))
            limit = self.cut(self.connections)
            self.open += [client, server]
            for source, target, most in ((client, server, None), (server, client, limit)):
                threading.Thread(
                    target=self._pass, args=(source, target, most), daemon=True
                ).start()

    def _pass(self, source, target, most):
        passed = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                if most is not None and passed + len(data) > most:
                    target.sendall(data[: most - passed])
                    break
                target.sendall(data)
                passed += len(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def end_all(self):
        """End the connections that wait for their next request."""
        for each in self.open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.open.clear()

    def hang_up(self):
        """End all connections, and each that comes."""
        self.cut = lambda _: 0
        for each in self.open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def go_away(self, seconds):
        """Be away for a while, as a server that is started again."""
        self.is_away = True
        for each in self.open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        threading.Timer(seconds, lambda: setattr(self, "is_away", False)).start()

    def close(self):
        self.listener.close()


@pytest.fixture
def proxy(s3_server, s3_address, monkeypatch):
    made = CuttingProxy(s3_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    yield made
    made.close()


def test_fault__dropped_connections_are_tried_again(proxy, place, tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "60")
    proxy.cut = lambda number: (0, 90, 20_000, None, None, None)[number % 6]
    make(place)
    folder = Folder(tmp_path / "a.zarr")
    make(folder)
    assert contents(place) == contents(folder)
    assert proxy.connections > 4


def test_fault__every_kind_of_request_is_tried_again(proxy, place, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "60")
    chances = np.random.default_rng(0)
    lengths = (0, 40, 130, 400)  # before the answer, in its head, in its body
    drops = {n: lengths[n % 4] for n in range(4_000) if chances.random() < 0.4}
    proxy.cut = drops.get
    text = {f"k{n}": bytes(500) + bytes([n]) for n in range(12)}
    for key, content in text.items():
        proxy.end_all()  # each of them on a connection of its own
        assert place.create(key, content)
        proxy.end_all()
        assert not place.create(key, b"another")
        proxy.end_all()
        place.write(f"{key}w", content)
        proxy.end_all()
        assert place.read(key) == content
        proxy.end_all()
        assert place.size(key) == 501
        proxy.end_all()
        assert place.names() == place.keys()
        proxy.end_all()
        place.delete(f"{key}w")
        proxy.end_all()
        assert place.size(f"{key}w") is None
    assert place.sizes() == dict.fromkeys(sorted(text), 501)
    place.delete_all()
    assert place.keys() == []
    assert proxy.connections > 100


@pytest.mark.parametrize("cut", [0, 30, 150])
def test_create__whose_answer_was_lost_is_found_by_its_content(proxy, place, monkeypatch, cut):
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "60")
    first = proxy.connections + 1
    proxy.cut = lambda number: cut if number == first else None
    assert place.create("a", b"mine")
    assert proxy.connections > first
    proxy.end_all()
    first = proxy.connections + 1
    assert not place.create("a", b"theirs")
    proxy.cut = lambda _: None
    assert place.read("a") == b"mine"


def test_fault__a_server_that_starts_again_stops_nobody(proxy, place, tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "60")
    create(place)
    for shard in SHARDS:
        proxy.go_away(0.3)
        fill(place, LAYOUT, shard)
    proxy.go_away(0.3)
    assert pending_shards(place, SHARDS) == []
    proxy.go_away(0.3)
    finalise(place)
    proxy.go_away(0.3)
    found = Recording(place).read("channel_mean")
    np.testing.assert_array_equal(found, ROWS["channel_mean"])
    folder = Folder(tmp_path / "a.zarr")
    make(folder)
    assert contents(place) == contents(folder)


def test_fault__patience_is_short_with_what_has_never_answered(monkeypatch, place):
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "1000")
    monkeypatch.setattr(bucket_tries, "FIRST_SECONDS", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        fails(place.check, "cannot be reached")


def test_fault__no_sentence_stands_twice(proxy, place):
    create(place)
    proxy.hang_up()
    message = fails(lambda: write_shard(place, LAYOUT, SHARDS[1], rows_of(SHARDS[1])), "shard 1: ")
    assert message.count("run the same command again") == 1


def test_fault__a_connection_that_is_gone_loses_nothing(proxy, place, tmp_path):
    create(place)
    fill(place, LAYOUT, SHARDS[0])
    proxy.hang_up()
    fails(
        lambda: fill(place, LAYOUT, SHARDS[1]),
        f"{proxy.endpoint.removeprefix('http://')} cannot be reached, or hangs up",
        "run the same command again",
    )
    proxy.cut = lambda _: None
    assert pending_shards(place, SHARDS) == list(SHARDS[1:])
    make(place)
    folder = Folder(tmp_path / "a.zarr")
    make(folder)
    assert contents(place) == contents(folder)


def test_fault__a_server_that_does_not_answer_is_one_line(place, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_S3_TIMEOUT", "1")
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
        fails(place.check, f"{endpoint} did not answer in time", "also when asked again")


def test_fault__settings_that_are_no_numbers_are_named(place, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_S3_PATIENCE", "many")
    fails(place.check, "ACTIVARIUM_S3_PATIENCE: expected a whole number above 0, got 'many'")
